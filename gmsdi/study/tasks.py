"""The tasks of Figures 2 and 3 as objects: each knows its bars, how to generate, to count, and what it is called.

A task goes through a job's parameters as a mapping (`model_dump`), and comes back by `load_task`. Nothing heavy is
imported before a task generates.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field, TypeAdapter

from gmsdi.study.chunks import ALL, given_in, joined
from gmsdi.study.counting import CALL, batch_sizes, batches, evaluation_sigmas, filled, passes
from gmsdi.study.methods import Extractor, Number
from gmsdi.study.setups import Frozen, GmsdiSetup, MsdmSetup, Setup, WeakMsdmSetup

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from gmsdi.sampling.solver import Callback
    from gmsdi.systems.gmsdi import Gmsdi
    from gmsdi.systems.msdm import JointMSDM
    from gmsdi.systems.weak_msdm import WeakMSDM

Gamma = int | float | dict[str, Number]
"""γ as `gmsdi.inference.gamma_from_config` takes it."""


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
            given: `[B, I, C, T]`, the given stems.
            levels: of the mixture that each clip's stems are part of, see `gmsdi.systems.base.Accompany`.
            callback: called with (step, steps).

        Returns:
            float32 `[B, R, C, T]`, the rows of its audio, see `rows`.
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


# --- The text-conditioned model ---------------------------------------------------------------------------------------


class Guided(Task):
    """What the tasks of the text-conditioned model share.

    Attributes:
        guidance: settings of `gmsdi.sampling.solver.Guidance`.
        negatives: label to negative text.
    """

    system: GmsdiSetup
    guidance: dict[str, Any]
    negatives: dict[str, str] = Field(default_factory=dict)

    @property
    def passes(self) -> int:
        """How often a run denoises each of its rows."""
        return passes(self.solver, self.guidance, self.guidance["w"])

    def _options(self) -> dict[str, Any]:
        from gmsdi.sampling.solver import Guidance

        return {"solver": self._solver(), "guidance": Guidance(**self.guidance)}

    def _stems(self) -> dict[str, Any]:
        """`_options` of several stems."""
        return {**self._options(), "negatives": self.negatives or None}


class Single(Guided, Alone):
    """Single stems from their labels.

    Attributes:
        negative: whether there are negative prompts.
        curve: whether it belongs to the curve over w, which has fewer clips, and not to Figure 2.
    """

    kind: Literal["single"] = "single"
    negative: bool = False
    curve: bool = False

    @property
    def w(self) -> float:
        """Its guidance."""
        return float(self.guidance["w"])

    @property
    def series(self) -> str:
        """See `Task.series`."""
        series = f"{'with' if self.negative else 'without'} negative prompts, w = {self.w:g}"
        return f"curve, {series}" if self.curve else series

    @property
    def stems_series(self) -> str:
        """See `Task.stems_series`; further w have their own name."""
        return f"GMSDI, single stems{', negative prompts' * self.negative}" if self.shown else self.name

    def point(self) -> dict[str, Any]:
        """See `Alone.point`."""
        return {"series": self.series, "w": self.w, "negative": self.negative, "curve": self.curve}

    def generate(
        self,
        system: Gmsdi,
        bars: Sequence[str],
        *,
        seeds: Sequence[int],
        given: np.ndarray | None = None,
        levels: Sequence[float] | None = None,
        callback: Callback | None = None,
    ) -> np.ndarray:
        """See `Task.generate`."""
        from gmsdi.sampling.guidance import Prompt

        prompts = [Prompt(label, self.negatives.get(label)) for label in bars]
        return system.sample(prompts, seeds=seeds, callback=callback, **self._options()).unsqueeze(1).numpy()

    def evaluations_of(self, bars: Sequence[str]) -> int:
        """See `Task.evaluations_of`."""
        return self.passes * filled(len(bars))


class Mixed(Guided):
    """All stems together, with one bar."""

    FAMILY: ClassVar[str] = "total"

    def bars(self) -> list[str]:
        """See `Task.bars`."""
        return [ALL]


class Total(Mixed):
    """Total generation, Eq. 10.

    Attributes:
        gamma_x: γ of the stems.
        gamma_y: γ of the mixture.
        noise: "independent" or "coupled", see `Pipeline.generate_windows`.
        consistent: whether the stems sum to the mixture row.
    """

    SERIES: ClassVar[str] = "GMSDI"

    kind: Literal["total"] = "total"
    gamma_x: Gamma
    gamma_y: Gamma
    noise: Literal["independent", "coupled"] = "independent"
    consistent: bool = False

    def generate(
        self,
        system: Gmsdi,
        bars: Sequence[str],
        *,
        seeds: Sequence[int],
        given: np.ndarray | None = None,
        levels: Sequence[float] | None = None,
        callback: Callback | None = None,
    ) -> np.ndarray:
        """See `Task.generate`."""
        return _with_mixture(*system.generate(seeds=seeds, callback=callback, **self._coupled()))

    def evaluations_of(self, bars: Sequence[str]) -> int:
        """See `Task.evaluations_of`: the stems, and the mixture's row."""
        return self.passes * filled(len(bars) * self.signals)

    def _coupled(self) -> dict[str, Any]:
        from gmsdi.inference import gamma_from_config

        gammas = {"gamma_x": gamma_from_config(self.gamma_x), "gamma_y": gamma_from_config(self.gamma_y)}
        return {**self._stems(), **gammas, "noise": self.noise, "consistent": self.consistent}


class Groups(Total):
    """Total generation in groups, Eq. 11: several stems are generated as one signal.

    Attributes:
        groups: of labels.
    """

    PLACE: ClassVar[int] = 2
    SERIES: ClassVar[str] = "GMSDI, groups"

    kind: Literal["total_groups"] = "total_groups"  # type: ignore[assignment]
    groups: list[list[str]]

    @property
    def rows(self) -> list[str]:
        """See `Task.rows`."""
        return [joined(group) for group in self.groups]

    def _coupled(self) -> dict[str, Any]:
        return {**super()._coupled(), "groups": self.groups}


class Sequential(Mixed):
    """Total generation beyond the paper: one stem after the other.

    Attributes:
        order: labels; None draws an order for each clip.
        share: see `Pipeline.generate_sequential_windows`.
        lags: see `Pipeline.generate_sequential_windows`.
    """

    PLACE: ClassVar[int] = 2
    SERIES: ClassVar[str] = "GMSDI, one by one"

    kind: Literal["total_sequential"] = "total_sequential"
    order: list[str] | None = None
    share: Number = 0.3
    lags: int | None = 16

    def generate(
        self,
        system: Gmsdi,
        bars: Sequence[str],
        *,
        seeds: Sequence[int],
        given: np.ndarray | None = None,
        levels: Sequence[float] | None = None,
        callback: Callback | None = None,
    ) -> np.ndarray:
        """See `Task.generate`."""
        own: dict[str, Any] = {"order": self.order, "share": self.share, "lags": self.lags}
        return _with_mixture(*system.generate_sequential(seeds=seeds, callback=callback, **own, **self._stems()))

    def evaluations_of(self, bars: Sequence[str]) -> int:
        """See `Task.evaluations_of`: a stem, and then each by itself and in the mixture."""
        return self.passes * (filled(len(bars)) + (len(self.labels) - 1) * filled(2 * len(bars)))


class Extracted(Mixed):
    """Total generation beyond the paper: a mixture from the joint prompt alone, taken apart by the Extractor.

    Attributes:
        extraction: the Extractor.
    """

    PLACE: ClassVar[int] = 2
    SERIES: ClassVar[str] = "GMSDI, extracted"

    kind: Literal["total_extracted"] = "total_extracted"
    extraction: Extractor

    def generate(
        self,
        system: Gmsdi,
        bars: Sequence[str],
        *,
        seeds: Sequence[int],
        given: np.ndarray | None = None,
        levels: Sequence[float] | None = None,
        callback: Callback | None = None,
    ) -> np.ndarray:
        """See `Task.generate`."""
        from gmsdi.sampling.solver import Guidance, Solver

        own = self.extraction
        assert own.w is not None
        made = system.generate_extracted(
            seeds=seeds,
            callback=callback,
            separation_solver=Solver(**own.solver),
            separation_guidance=Guidance(w=own.w, **own.guidance),
            consistent=own.consistency(system.sample_rate),
            samples=own.samples,
            **self._stems(),
        )
        return _with_mixture(*made)

    def evaluations_of(self, bars: Sequence[str]) -> int:
        """See `Task.evaluations_of`."""
        return self.passes * filled(len(bars)) + self.extraction.evaluations_of(len(bars))


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
        audio = np.zeros((len(bars), self.signals, *given.shape[-2:]), np.float32)
        audio[:, [labels.index(label) for label in known]] = given
        audio[:, [k for k, label in enumerate(labels) if label not in known]] = others.numpy()
        audio[:, -1] = mixture.numpy()
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


class Partial(Guided, Accompanied):
    """Partial generation, Eq. 12.

    Attributes:
        gamma_x: γ of the stems.
        gamma_y: γ of the mixture.
        alpha: see `Pipeline.accompany_windows`.
        beta: see `Pipeline.accompany_windows`.
        given_noise: see `Pipeline.accompany_windows`.
    """

    SERIES: ClassVar[str] = "GMSDI"

    kind: Literal["partial"] = "partial"
    gamma_x: Gamma
    gamma_y: Gamma
    alpha: Number = 1
    beta: Number = 1
    given_noise: Literal["fixed", "redrawn", "coupled"] = "fixed"

    def accompany(
        self,
        system: Gmsdi,
        given: Tensor,
        known: Sequence[str],
        *,
        seeds: Sequence[int],
        levels: Sequence[float] | None = None,
        callback: Callback | None = None,
    ) -> tuple[Tensor, Tensor]:
        """See `Accompanied.accompany`."""
        from gmsdi.inference import gamma_from_config

        own: dict[str, Any] = {"alpha": self.alpha, "beta": self.beta, "given_noise": self.given_noise}
        own |= {"gamma_x": gamma_from_config(self.gamma_x), "gamma_y": gamma_from_config(self.gamma_y)}
        return system.accompany(given, known, seeds=seeds, levels=levels, callback=callback, **own, **self._stems())

    def evaluations_of(self, bars: Sequence[str]) -> int:
        """See `Task.evaluations_of`: the stems that are generated, and the mixture's row."""
        return self.passes * filled(len(bars) * (self.signals - len(given_in(bars[0]))))


class Conditioned(Guided, Accompanied):
    """Partial generation beyond the paper: the accompaniment is heard together with the clean given stems.

    Attributes:
        share: see `Pipeline.accompany_conditioned_windows`.
        lags: see `Pipeline.accompany_conditioned_windows`.
    """

    PLACE: ClassVar[int] = 1
    SERIES: ClassVar[str] = "GMSDI, conditioned"

    kind: Literal["partial_conditioned"] = "partial_conditioned"
    share: Number = 0.5
    lags: int | None = 16

    def accompany(
        self,
        system: Gmsdi,
        given: Tensor,
        known: Sequence[str],
        *,
        seeds: Sequence[int],
        levels: Sequence[float] | None = None,
        callback: Callback | None = None,
    ) -> tuple[Tensor, Tensor]:
        """See `Accompanied.accompany`."""
        options: dict[str, Any] = {"share": self.share, "lags": self.lags, **self._stems()}
        return system.accompany_conditioned(given, known, seeds=seeds, levels=levels, callback=callback, **options)

    def evaluations_of(self, bars: Sequence[str]) -> int:
        """See `Task.evaluations_of`: the stems, the mixture, and the accompaniment if it is more than one stem."""
        stems = len(self.labels) - len(given_in(bars[0]))
        return self.passes * filled(len(bars) * (stems + 1 + (stems > 1)))


# --- The paper's other systems ----------------------------------------------------------------------------------------


class SingleWeakMsdm(Alone):
    """Single stems by weakly supervised MSDM."""

    SERIES: ClassVar[str] = "weakly supervised MSDM"
    by_bar: ClassVar[bool] = True  # each label has its own network, whose calls are then full

    kind: Literal["single_weak_msdm"] = "single_weak_msdm"
    system: WeakMsdmSetup

    def generate(
        self,
        system: WeakMSDM,
        bars: Sequence[str],
        *,
        seeds: Sequence[int],
        given: np.ndarray | None = None,
        levels: Sequence[float] | None = None,
        callback: Callback | None = None,
    ) -> np.ndarray:
        """See `Task.generate`."""
        return system.sample(bars, solver=self._solver(), seeds=seeds, callback=callback).unsqueeze(1).numpy()

    def evaluations_of(self, bars: Sequence[str]) -> int:
        """See `Task.evaluations_of`; each label has its own network, and so its own calls."""
        return len(evaluation_sigmas(self.solver)) * sum(filled(count) for count in Counter(bars).values())


class TotalMsdm(Task):
    """Total generation by MSDM, Eq. 3."""

    FAMILY: ClassVar[str] = "total"
    PLACE: ClassVar[int] = 3
    SERIES: ClassVar[str] = "MSDM"

    kind: Literal["total_msdm"] = "total_msdm"
    system: MsdmSetup

    def bars(self) -> list[str]:
        """See `Task.bars`."""
        return [ALL]

    def generate(
        self,
        system: JointMSDM,
        bars: Sequence[str],
        *,
        seeds: Sequence[int],
        given: np.ndarray | None = None,
        levels: Sequence[float] | None = None,
        callback: Callback | None = None,
    ) -> np.ndarray:
        """See `Task.generate`."""
        return _with_mixture(*system.generate(solver=self._solver(), seeds=seeds, callback=callback))

    def evaluations_of(self, bars: Sequence[str]) -> int:
        """See `Task.evaluations_of`; the K stems are one signal."""
        return len(evaluation_sigmas(self.solver)) * filled(len(bars))


class PartialMsdm(Accompanied):
    """Partial generation by MSDM, by imputation.

    Attributes:
        best_of: candidates of which the loudest is taken, see `JointMSDM.accompany`.
    """

    PLACE: ClassVar[int] = 3
    SERIES: ClassVar[str] = "MSDM"

    kind: Literal["partial_msdm"] = "partial_msdm"
    system: MsdmSetup
    best_of: int = 1

    def accompany(
        self,
        system: JointMSDM,
        given: Tensor,
        known: Sequence[str],
        *,
        seeds: Sequence[int],
        levels: Sequence[float] | None = None,
        callback: Callback | None = None,
    ) -> tuple[Tensor, Tensor]:
        """See `Accompanied.accompany`."""
        own: dict[str, Any] = {"solver": self._solver(), "best_of": self.best_of}
        return system.accompany(given, known, seeds=seeds, levels=levels, callback=callback, **own)

    def evaluations_of(self, bars: Sequence[str]) -> int:
        """See `Task.evaluations_of`; the candidates are drawn as many at a time as fit a call."""
        items = len(bars)
        drawn = batch_sizes(self.best_of, max(1, CALL // items))
        return len(evaluation_sigmas(self.solver)) * sum(filled(count * items) for count in drawn)


def _with_mixture(stems: Tensor, mixture: Tensor) -> np.ndarray:
    """Stems `[B, R, C, T]` and their mixture `[B, C, T]` as the rows of a clip's audio."""
    import torch

    return torch.cat([stems, mixture[:, None]], dim=1).numpy()


AnyTask = Annotated[
    Single | Total | Groups | Sequential | Extracted | Partial | Conditioned | SingleWeakMsdm | TotalMsdm | PartialMsdm,
    Field(discriminator="kind"),
]
"""A task of any kind."""
_TASK: TypeAdapter[Any] = TypeAdapter(AnyTask)


def load_task(settings: Mapping[str, Any]) -> Task:
    """A task from what its `model_dump` gave."""
    task: Task = _TASK.validate_python(dict(settings))
    return task
