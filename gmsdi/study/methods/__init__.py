"""The rows of Table 2, and of the grid of Table 1, as objects: each can separate, count its work and describe itself.

A row holds its settings and everything that follows from them, so that no other code needs to ask which kind it is. It
is stored in job parameters and in `selection.json` as a mapping (`model_dump`), which `load_row` turns back into a row.
No heavy library is imported before a row separates.

Fields with a description (`About`) are the keys of a row in `separation.rows` of the configuration
(`gmsdi.study.config.rows`). The other fields follow from the configuration (`gmsdi.study.table_rows`).

Adding a method is a class, its name in `AnyRow`, and a test (CONTRIBUTING.md has an example).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Annotated, Any, get_args

from pydantic import Field, TypeAdapter

from gmsdi.study.methods.base import Row, Solved
from gmsdi.study.methods.baselines import DemucsGibbs, Msdm, MsdmGaussian, WeakMsdm
from gmsdi.study.methods.ensemble import Ensemble, MeanOfRows
from gmsdi.study.methods.gmsdi import NEGATIVES, WIENER, ByPower, Extractor, Filter, Guided, Projected, Separator

__all__ = [
    "METHODS",
    "NEGATIVES",
    "TABLE1",
    "WIENER",
    "AnyRow",
    "ByPower",
    "DemucsGibbs",
    "Ensemble",
    "Extractor",
    "Filter",
    "Guided",
    "MeanOfRows",
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
"""Titles of the methods in Table 1."""
_ROW: TypeAdapter[Any] = TypeAdapter(AnyRow)


def load_row(settings: Mapping[str, Any]) -> Row:
    """Make a row from the mapping that its `model_dump` returned."""
    row: Row = _ROW.validate_python(dict(settings))
    return row


def load_rows(settings: Mapping[str, Mapping[str, Any]]) -> dict[str, Row]:
    """Make rows by name from the content of `selection.json`, or of a job's parameter."""
    return {name: load_row(row) for name, row in settings.items()}


def without_steps(rows: Iterable[Row]) -> dict[str, str]:
    """Titles by row name without their numbers of steps, unless two rows would then have the same title."""
    import re

    rows = list(rows)
    short = {row.name: re.sub(r",? \(?\d+ steps\)?", "", row.title) for row in rows}
    again = [title for title in short.values() if list(short.values()).count(title) > 1]
    return {row.name: row.title if short[row.name] in again else short[row.name] for row in rows}
