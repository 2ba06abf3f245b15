"""The row of Table 2 that is made from the scores of other rows."""

from __future__ import annotations

from typing import ClassVar, Literal

from gmsdi.study.setups import Frozen


class Ensemble(Frozen):
    """A row of Table 2 that takes the best of other rows for each stem. It uses their scores and separates nothing.

    Attributes:
        name: in the configuration.
        title: in tables.
        of: the names of the other rows.
        paper: as `Row.paper`.
        chosen_on: the split whose chunks decide which row is best.
    """

    TITLE: ClassVar[str] = "Ensemble"
    PAPER: ClassVar[str] = "Ensemble"

    name: str
    title: str
    of: tuple[str, ...]
    paper: str | None = None
    chosen_on: Literal["test", "validation"] = "test"
