"""What every task of Figures 2 and 3 can do: name its bars, generate, and count its evaluations."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING, Any, ClassVar

from gmsdi.study.chunks import given_in, joined
from gmsdi.study.counting import Taken, batches
from gmsdi.study.setups import Frozen, Setup

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from gmsdi.sampling.solver import Callback, Solver


@dataclass(frozen=True)
class Clips:
    """Clips to be generated together.

    Attributes:
        bars: the bar of each clip.
        seeds: one per clip.
        given: float32 `[B, I, C, T]`, the given stems of the bar, if the task is given any.
        levels: level of the mixture that each clip's given stems are from (see `gmsdi.systems.base.Accompany`).
        callback: called with (step, steps).
    """

    bars: Sequence[str]
    seeds: Sequence[int]
    given: np.ndarray | None = None
    levels: Sequence[float] | None = None
    callback: Callback | None = None

    @property
    def known(self) -> list[str]:
        """The labels of the given stems."""
        return given_in(self.bars[0])

    def accompanied(self) -> dict[str, Any]:
        """The arguments of `gmsdi.systems.base.Accompany`."""
        import torch

        assert self.given is not None
        known = {"given": torch.from_numpy(self.given), "given_stems": self.known}
        return {**known, "seeds": self.seeds, "levels": self.levels, "callback": self.callback}


class Task(Frozen, ABC):
    """A task with its settings.

    Attributes:
        FAMILY: tasks of one family draw the same seeds, so that their clips start from the same noise.
        PLACE: order of the series in Figure 3; the paper's model comes first.
        mixed: whether it generates several stems.
        given: whether it is given stems from test chunks.
        by_bar: whether all clips of a batch belong to one bar, as each bar has its own given stems or network.
        kind: name of the task's class in stored settings.
        name: name of the task in file names.
        system: the system that it runs on.
        solver: settings of `gmsdi.sampling.solver.Solver`.
        clips: number of clips per bar.
        shown: whether the gallery shows examples.
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

    def refusal(self) -> str | None:
        """Why a job would refuse the combination of settings; None if it would not.

        A search may contain such a task; its table shows which variants were refused (`gmsdi.study.tuning`).
        """
        return None

    @property
    def labels(self) -> list[str]:
        """The K labels."""
        return list(self.system.labels)

    @property
    def series(self) -> str:
        """Name of the series in Figure 2 or 3."""
        return self.SERIES

    @property
    def stems_series(self) -> str:
        """Name of the series in the table on the stems of mixtures."""
        return f"{self.series}, {self.FAMILY} generation"

    @property
    def rows(self) -> list[str]:
        """Names of the stems, in the order of the rows of its audio; the mixture is the last row."""
        return self.labels

    @property
    def signals(self) -> int:
        """Number of rows of its audio."""
        return len(self.rows) + 1

    @abstractmethod
    def bars(self) -> list[str]:
        """The bars of its figure."""

    @abstractmethod
    def generate(self, system: Any, clips: Clips) -> np.ndarray:
        """Generate clips.

        Args:
            system: the opened system, from `system.open`; each task names its class.
            clips: the clips; all of one bar if `by_bar`.

        Returns:
            float32 `[B, R, C, T]`: the stems in the order of `rows`, and the mixture if there is one.
        """

    def taken(self, bars: Sequence[str], batch: int, *, coded: bool = False) -> Taken:
        """What a job takes.

        Args:
            bars: the bar of each clip.
            batch: number of clips sampled together.
            coded: see `taken_of`.
        """
        groups = [[bar] * count for bar, count in Counter(bars).items()] if self.by_bar else [list(bars)]
        parts = (part for group in groups for part in batches(group, batch))
        return sum((self.taken_of(part, coded=coded) for part in parts), Taken())

    @abstractmethod
    def taken_of(self, bars: Sequence[str], *, coded: bool = False) -> Taken:
        """What clips that are sampled together take.

        Args:
            bars: the bar of each clip.
            coded: whether the model's states are latents that do not add up (`gmsdi.study.counting`).
        """

    def _solver(self) -> Solver:
        from gmsdi.sampling.solver import Solver

        return Solver(**self.solver)


class Alone(Task):
    """Base of the tasks that generate single stems: one bar for each label, and no mixture."""

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
        """Its columns in tables.

        series, w, negative (with negative prompts?), curve (part of the curve over w?), and model (title of another
        model than the run's own).
        """
        return {"series": self.series, "w": None, "negative": None, "curve": False, "model": None}


class Accompanied(Task):
    """Base of the tasks of partial generation: one bar for every non-empty proper subset of given stems."""

    FAMILY: ClassVar[str] = "partial"
    given: ClassVar[bool] = True
    by_bar: ClassVar[bool] = True

    def bars(self) -> list[str]:
        """See `Task.bars`."""
        labels = self.labels
        return [joined(given) for size in range(1, len(labels)) for given in combinations(labels, size)]

    def generate(self, system: Any, clips: Clips) -> np.ndarray:
        """See `Task.generate`; the given stems are returned unchanged."""
        import numpy as np

        assert clips.given is not None
        labels, known = self.labels, clips.known
        others, mixture = self.accompany(system, clips)
        audio = np.zeros((len(clips.bars), self.signals, *clips.given.shape[-2:]), np.float32)
        audio[:, [labels.index(label) for label in known]] = clips.given
        audio[:, [k for k, label in enumerate(labels) if label not in known]] = others.numpy()
        audio[:, -1] = mixture.numpy()
        return audio

    @abstractmethod
    def accompany(self, system: Any, clips: Clips) -> tuple[Tensor, Tensor]:
        """Generate the other stems and the mixture (see `gmsdi.systems.base.Accompany`)."""


def with_mixture(stems: Tensor, mixture: Tensor) -> np.ndarray:
    """Join stems `[B, R, C, T]` and their mixture `[B, C, T]` into clips `[B, R + 1, C, T]`."""
    import torch

    return torch.cat([stems, mixture[:, None]], dim=1).numpy()
