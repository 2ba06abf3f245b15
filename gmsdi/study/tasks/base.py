"""What every task of Figures 2 and 3 can do: name its bars, generate, and count its evaluations."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Sequence
from itertools import combinations
from typing import TYPE_CHECKING, Any, ClassVar

from gmsdi.study.chunks import given_in, joined
from gmsdi.study.counting import batches
from gmsdi.study.setups import Frozen, Setup

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from gmsdi.sampling.solver import Callback


class Task(Frozen, ABC):
    """A task with its settings.

    Attributes:
        FAMILY: what its clips' seeds are drawn for, so that the same clips of related tasks share their noise.
        PLACE: where its bars stand in Figure 3: those of the paper's model first.
        mixed: whether it makes several stems.
        given: whether it is given stems of test chunks.
        by_bar: whether the clips of a batch share their bar: what is given, or the network, is that of the bar.
        kind: the task.
        name: of its files.
        system: what it runs on.
        solver: settings of `gmsdi.sampling.solver.Solver`.
        clips: of each bar.
        shown: whether the gallery has examples.
    """

    FAMILY: ClassVar[str]
    PLACE: ClassVar[int] = 0
    SERIES: ClassVar[str]
    mixed: ClassVar[bool] = True
    given: ClassVar[bool] = False
    by_bar: ClassVar[bool] = False

    kind: str
    name: str
    system: Setup
    solver: dict[str, Any]
    clips: int
    shown: bool = True

    @property
    def labels(self) -> list[str]:
        """The K labels."""
        return list(self.system.labels)

    @property
    def series(self) -> str:
        """What Figure 2 or 3 calls it."""
        return self.SERIES

    @property
    def stems_series(self) -> str:
        """What the table of the stems of mixtures calls it."""
        return f"{self.series}, {self.FAMILY} generation"

    @property
    def rows(self) -> list[str]:
        """What its stems are called, in the order of its audio, which has the mixture's row after them."""
        return self.labels

    @property
    def signals(self) -> int:
        """Rows of its audio."""
        return len(self.rows) + 1

    @abstractmethod
    def bars(self) -> list[str]:
        """The bars of its figure."""

    @abstractmethod
    def generate(
        self,
        system: Any,
        bars: Sequence[str],
        *,
        seeds: Sequence[int],
        given: np.ndarray | None = None,
        levels: Sequence[float] | None = None,
        callback: Callback | None = None,
    ) -> np.ndarray:
        """Generate clips.

        Args:
            system: what `system.open` gives.
            bars: the bar of each clip; the same of all where `by_bar`.
            seeds: one per clip.
            given: `[B, I, 1, T]`, the given stems.
            levels: of the mixture that each clip's stems are part of, see `gmsdi.systems.base.Accompany`.
            callback: called with (step, steps).

        Returns:
            float32 `[B, R, T]`, the rows of its audio, see `rows`.
        """

    def evaluations(self, bars: Sequence[str], batch: int) -> int:
        """Signals that the network denoises in a job, the rows that fill up a call included.

        Args:
            bars: the bar of each clip.
            batch: clips that are sampled together.
        """
        groups = [[bar] * count for bar, count in Counter(bars).items()] if self.by_bar else [list(bars)]
        return sum(self.evaluations_of(part) for group in groups for part in batches(group, batch))

    @abstractmethod
    def evaluations_of(self, bars: Sequence[str]) -> int:
        """Signals that the network denoises for clips that are sampled together."""

    def _solver(self) -> Any:
        from gmsdi.sampling.solver import Solver

        return Solver(**self.solver)


class Alone(Task):
    """What the tasks of single stems share: a bar for each label, and no mixture."""

    FAMILY: ClassVar[str] = "single"
    mixed: ClassVar[bool] = False

    @property
    def stems_series(self) -> str:
        """See `Task.stems_series`."""
        return f"{self.series}, single stems"

    @property
    def signals(self) -> int:
        """See `Task.signals`: the stem."""
        return 1

    def bars(self) -> list[str]:
        """See `Task.bars`."""
        return self.labels

    def point(self) -> dict[str, Any]:
        """What tables say of it: series, w, negative (whether there are negative prompts), and curve (over w)."""
        return {"series": self.series, "w": None, "negative": None, "curve": False}


class Accompanied(Task):
    """What the tasks of partial generation share: a bar for every non-empty proper subset of given stems."""

    FAMILY: ClassVar[str] = "partial"
    given: ClassVar[bool] = True
    by_bar: ClassVar[bool] = True

    def bars(self) -> list[str]:
        """See `Task.bars`."""
        labels = self.labels
        return [joined(given) for size in range(1, len(labels)) for given in combinations(labels, size)]

    def generate(
        self,
        system: Any,
        bars: Sequence[str],
        *,
        seeds: Sequence[int],
        given: np.ndarray | None = None,
        levels: Sequence[float] | None = None,
        callback: Callback | None = None,
    ) -> np.ndarray:
        """See `Task.generate`; the given stems are returned unchanged."""
        import numpy as np
        import torch

        assert given is not None
        labels, known = self.labels, given_in(bars[0])
        others, mixture = self.accompany(
            system, torch.from_numpy(given), known, seeds=seeds, levels=levels, callback=callback
        )
        audio = np.zeros((len(bars), self.signals, given.shape[-1]), np.float32)
        audio[:, [labels.index(label) for label in known]] = given[:, :, 0]
        audio[:, [k for k, label in enumerate(labels) if label not in known]] = others[:, :, 0].numpy()
        audio[:, -1] = mixture[:, 0].numpy()
        return audio

    @abstractmethod
    def accompany(
        self,
        system: Any,
        given: Tensor,
        known: Sequence[str],
        *,
        seeds: Sequence[int],
        levels: Sequence[float] | None = None,
        callback: Callback | None = None,
    ) -> tuple[Tensor, Tensor]:
        """The other stems and the mixture, see `gmsdi.systems.base.Accompany`."""


def with_mixture(stems: Tensor, mixture: Tensor) -> np.ndarray:
    """Stems `[B, R, 1, T]` and their mixture `[B, 1, T]` as the rows of a clip's audio."""
    import torch

    return torch.cat([stems, mixture[:, None]], dim=1)[:, :, 0].numpy()
