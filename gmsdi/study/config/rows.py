"""The rows of `separation.rows`: a section for each kind, made from the methods' classes.

Rows are a mapping of names to rows, not a list, so that files lie over each other by the merge that all sections have:
a file adds a row by its name, changes one key of one, or leaves one out by `null`, and Snakemake's own merge of several
files does the same, where it replaces lists as a whole. Names are told apart by being keys, and the order is kept: new
rows come last.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias, Union, get_type_hints

from annotated_types import Len
from pydantic import Discriminator, Tag, create_model

from gmsdi.settings import About, Flag
from gmsdi.study.config.base import GuidanceChanges, Model, SolverChanges, Unique, about, choice, key_of, section
from gmsdi.study.methods import METHODS, Row

TITLE = choice(
    None,
    "in tables, where no other row has it; null is what the method is called. `{steps}` and `{samples}` in it become "
    "the row's own numbers, and another number of either is an error",
)

PAPER = choice(
    None,
    "the paper's numbers of this method stand beside the row; null: if it is published, unless its model has seen no "
    "labels",
)


def section_of(method: type[Row]) -> type[Model]:
    """The section of a row's settings: those fields of its class that say what they mean."""
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
            keys[name] = (GuidanceChanges, section(GuidanceChanges, "keys of `separation.guidance` that differ"))
        elif name == "solver":
            keys[name] = (SolverChanges, section(SolverChanges, "keys of `separation.solver` that differ"))
    told = (method.__doc__ or "").split("\n")[0]
    return create_model(f"{method.__name__}Row", __base__=Model, __module__=__name__, __doc__=told, **keys)


class ValidatedRow(Model):
    """A row of Table 1's methods with settings that the test split has not seen."""

    kind: Literal["validated"] = about("the method")
    twin: str = about("the published row that this one is like, but for its settings, which validation chunks choose")
    title: str | None = TITLE


class EnsembleRow(Model):
    """For each stem the best of several rows by scores on test chunks, or on validation chunks for validated rows."""

    kind: Literal["ensemble"] = about("the method")
    of: Annotated[list[str], Len(2), Unique] = about("the names of these rows")
    title: str | None = TITLE


SECTIONS = {kind: section_of(method) for kind, method in METHODS.items()}
SECTIONS |= {"validated": ValidatedRow, "ensemble": EnsembleRow}
"""The sections by their kinds."""


def _kind(given: Any) -> Any:
    """The kind of a row; of what is no mapping any, which refuses it."""
    return str(given.get("kind")) if isinstance(given, Mapping) else getattr(given, "kind", "extractor")


if TYPE_CHECKING:
    AnyRowSection: TypeAlias = Any
else:
    AnyRowSection = Annotated[
        Union[tuple(Annotated[kind, Tag(name)] for name, kind in SECTIONS.items())],  # noqa: UP007
        Discriminator(_kind, custom_error_type="wrong_kind", custom_error_message="choose " + ", ".join(SECTIONS)),
    ]
"""A row of any kind."""
