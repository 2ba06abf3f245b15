"""The rows of Table 2 that separate nothing themselves: they combine the scores, or the estimates, of other rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar, Literal

from gmsdi.study.methods.gmsdi import Filter
from gmsdi.study.setups import Frozen

if TYPE_CHECKING:
    from torch import Tensor


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


class MeanOfRows(Frozen):
    """A row of Table 2 whose stems are the means of other rows' stems, beyond the paper.

    The mean of several estimates has a smaller error than they have on average, by the mean of their squared distances
    from it (Krogh and Vedelsby 1995), so systems gain most from each other that err in different ways.

    Attributes:
        GRID: as `Row.GRID`.
        name: in the configuration.
        title: in tables.
        of: the other rows: their names, each with its title.
        wiener: a filter of the mean stems, or None.
        published: as `Row.published`.
        paper: as `Row.paper`.
    """

    GRID: ClassVar[str] = "average"

    name: str
    title: str
    of: dict[str, str]
    wiener: Filter | None = None
    published: Literal[False] = False
    paper: None = None

    def bare(self) -> MeanOfRows:
        """As `Row.bare`."""
        return self.model_copy(update={"title": "", "of": dict.fromkeys(self.of, "")})

    def combine(
        self, estimates: Mapping[str, Tensor], mixture: Tensor, sample_rate: int, levels: Sequence[float] | None = None
    ) -> Tensor:
        """Average the stems of the other rows.

        Args:
            estimates: for each of the other rows, by name, its stems `[B, K, C, T]`.
            mixture: `[B, C, T]`.
            sample_rate: in Hz.
            levels: see `gmsdi.tasks.separate`.

        Returns:
            `[B, K, C, T]`.
        """
        import torch

        from gmsdi.tasks import filtered

        stems = torch.stack([estimates[name] for name in self.of]).mean(dim=0)
        return stems if self.wiener is None else filtered(stems, mixture, self.wiener.at(sample_rate), levels)

    def summary(self) -> str:
        """The settings in a few words, for notes below tables."""
        *first, last = (f"“{title}”" for title in self.of.values())
        said = f"mean of {', '.join(first)} and {last}"
        return said if self.wiener is None else f"{said}, {self.wiener.amount:.0%} filtered"
