"""The row of Table 2 that is made of others' scores."""

from __future__ import annotations

from typing import ClassVar, Literal

from gmsdi.study.setups import Frozen


class Ensemble(Frozen):
    """A row of Table 2 that takes for each stem the best of other rows; it has their scores, and separates nothing.

    Attributes:
        name: in the configuration.
        title: in tables.
        of: the names of these rows.
        paper: as `Row.paper`.
        chosen_on: the split on whose chunks the best are chosen.
    """

    TITLE: ClassVar[str] = "Ensemble"
    PAPER: ClassVar[str] = "Ensemble"

    name: str
    title: str
    of: tuple[str, ...]
    paper: str | None = None
    chosen_on: Literal["test", "validation"] = "test"
