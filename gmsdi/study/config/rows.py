"""The rows of `separation.rows`: a section for each kind, made from the methods' classes.

Rows are a mapping from names to rows, not a list, so that files are merged as in all other sections: a file adds a row
under a new name, changes single keys of a row, or removes a row by `null`. Snakemake's own merge of several files does
the same, but replaces whole lists. As keys, names are unique. Order is kept, and new rows come last.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias, Union, get_type_hints

from annotated_types import Len
from pydantic import Discriminator, Tag, create_model

from gmsdi.settings import About, Flag
from gmsdi.study.config.base import (
    GuidanceChanges,
    Model,
    SolverChanges,
    Unique,
    about,
    choice,
    key_of,
    model_of,
    section,
)
from gmsdi.study.methods import METHODS, WIENER, Filter, Row

if TYPE_CHECKING:
    FilterSection: TypeAlias = Any
else:
    FilterSection = model_of(Filter)

TITLE = choice(
    None,
    "name of the row in tables, which no other row may have; null means the name of the method or, for an average, "
    "those of its rows. `{steps}` and `{samples}` are replaced by the row's own numbers, which ensembles and averages "
    "do not have; any other number of steps or samples in it is an error",
)

PAPER = choice(
    None,
    "show the paper's numbers for this method beside the row; null means yes for published rows whose model was "
    "trained with labels",
)


def section_of(method: type[Row]) -> type[Model]:
    """The section of a kind of row: the fields of its class that carry a description."""
    keys: dict[str, Any] = {"kind": (Literal[method.kind_name()], about("the method")), "title": (str | None, TITLE)}
    if method.PAPER is not None:
        keys["paper"] = (Flag | None, PAPER)
    hints = get_type_hints(method, include_extras=True)
    for name, field in method.model_fields.items():
        if name == "published" and method.PAPER is None:
            continue
        if any(isinstance(part, About) for part in field.metadata):
            default = {} if field.is_required() else {"default": field.get_default(call_default_factory=True)}
            keys[name] = key_of(hints[name], default)
        elif name == "guidance":
            keys[name] = (GuidanceChanges, section(GuidanceChanges, "overrides keys of `separation.guidance`"))
        elif name == "solver":
            keys[name] = (SolverChanges, section(SolverChanges, "overrides keys of `separation.solver`"))
    told = (method.__doc__ or "").split("\n")[0]
    return create_model(f"{method.__name__}Row", __base__=Model, __module__=__name__, __doc__=told, **keys)


class ValidatedRow(Model):
    """A repeat of a published row, with settings chosen on validation chunks instead of test chunks."""

    kind: Literal["validated"] = about("the method")
    twin: str = about("the published row that this row repeats, with settings chosen on validation chunks")
    title: str | None = TITLE


class EnsembleRow(Model):
    """The best of several rows for each stem, chosen on test chunks or, for validated rows, on validation chunks."""

    kind: Literal["ensemble"] = about("the method")
    of: Annotated[list[str], Len(2), Unique] = about("names of the rows that it combines")
    title: str | None = TITLE


class AverageRow(Model):
    """The mean of the stems of several rows, beyond the paper: best if they are of different systems."""

    kind: Literal["average"] = about("the method")
    of: Annotated[list[str], Len(2), Unique] = about("names of the rows that it combines")
    title: str | None = TITLE
    wiener: FilterSection | None = choice(None, WIENER)


SECTIONS = {kind: section_of(method) for kind, method in METHODS.items()}
SECTIONS |= {"validated": ValidatedRow, "ensemble": EnsembleRow, "average": AverageRow}
"""The sections by their kinds."""


def _kind(given: Any) -> Any:
    """The kind of a row. What is no mapping gets an arbitrary kind, which then refuses it."""
    return str(given.get("kind")) if isinstance(given, Mapping) else getattr(given, "kind", "extractor")


if TYPE_CHECKING:
    AnyRowSection: TypeAlias = Any
else:
    AnyRowSection = Annotated[
        Union[tuple(Annotated[kind, Tag(name)] for name, kind in SECTIONS.items())],  # noqa: UP007
        Discriminator(_kind, custom_error_type="wrong_kind", custom_error_message="choose " + ", ".join(SECTIONS)),
    ]
"""A row of any kind."""
