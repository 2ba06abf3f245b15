"""The rows of Table 2, and of the grid of Table 1, as objects: each knows how to separate, to count and to say itself.

A row is settings and what follows from them, so that nothing else asks of which kind it is. It goes through a job's
parameters and `selection.json` as a mapping (`model_dump`), and comes back by `load_row`. Nothing heavy is imported
before a row separates.

The fields that say what they mean (`About`) are the keys of a row in `separation.rows` of the configuration, which
`gmsdi.study.config.rows` makes from them; the others follow from the configuration (`gmsdi.study.table_rows`).

Adding a method is a class, its name in `AnyRow`, and a test (CONTRIBUTING.md has an example).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Annotated, Any, get_args

from pydantic import Field, TypeAdapter

from gmsdi.study.methods.base import Row, Solved
from gmsdi.study.methods.baselines import DemucsGibbs, Msdm, MsdmGaussian, WeakMsdm
from gmsdi.study.methods.ensemble import Ensemble
from gmsdi.study.methods.gmsdi import NEGATIVES, ByPower, Extractor, Guided, Projected, Separator

__all__ = [
    "METHODS",
    "NEGATIVES",
    "TABLE1",
    "AnyRow",
    "ByPower",
    "DemucsGibbs",
    "Ensemble",
    "Extractor",
    "Guided",
    "Msdm",
    "MsdmGaussian",
    "Projected",
    "Row",
    "Separator",
    "Solved",
    "WeakMsdm",
    "load_row",
    "load_rows",
    "without_steps",
]

AnyRow = Annotated[
    Extractor | Separator | Projected | Msdm | MsdmGaussian | WeakMsdm | DemucsGibbs, Field(discriminator="kind")
]
"""A row of any kind."""
METHODS: dict[str, type[Row]] = {row.kind_name(): row for row in get_args(get_args(AnyRow)[0])}
"""The methods by their kinds."""
TABLE1 = {row.GRID: row.TITLE for row in (Extractor, Separator)}
"""What Table 1 calls the methods of its scores."""
_ROW: TypeAdapter[Any] = TypeAdapter(AnyRow)


def load_row(settings: Mapping[str, Any]) -> Row:
    """A row from what its `model_dump` gave."""
    row: Row = _ROW.validate_python(dict(settings))
    return row


def load_rows(settings: Mapping[str, Mapping[str, Any]]) -> dict[str, Row]:
    """Rows by name, as `selection.json` has them."""
    return {name: load_row(row) for name, row in settings.items()}


def without_steps(rows: Iterable[Row]) -> dict[str, str]:
    """The titles of rows, by name, where their numbers of steps vary: without them, unless two would be the same."""
    import re

    rows = list(rows)
    short = {row.name: re.sub(r",? \(?\d+ steps\)?", "", row.title) for row in rows}
    again = [title for title in short.values() if list(short.values()).count(title) > 1]
    return {row.name: row.title if short[row.name] in again else short[row.name] for row in rows}
