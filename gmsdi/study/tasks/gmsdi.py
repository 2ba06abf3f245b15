"""The tasks of the text-conditioned model: single stems, total and partial generation, and those beyond the paper."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from gmsdi.settings import Number
from gmsdi.study.chunks import ALL, given_in, joined
from gmsdi.study.counting import filled, passes
from gmsdi.study.methods import Extractor
from gmsdi.study.setups import GmsdiSetup
from gmsdi.study.tasks.base import Accompanied, Alone, Task, with_mixture

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from gmsdi.sampling.solver import Callback
    from gmsdi.systems.gmsdi import Gmsdi

Gamma = int | float | dict[str, Number]
"""γ as `gmsdi.inference.gamma_from_config` takes it."""


class Guided(Task):
    """Base of the tasks of the text-conditioned model.

    Attributes:
        guidance: settings of `gmsdi.sampling.solver.Guidance`.
        negatives: negative prompts by label.
    """

    system: GmsdiSetup
    guidance: dict[str, Any]
    negatives: dict[str, str] = Field(default_factory=dict)

    @property
    def passes(self) -> int:
        """How many times a run denoises each of its rows."""
        return passes(self.solver, self.guidance, self.guidance["w"])

    def _options(self) -> dict[str, Any]:
        from gmsdi.sampling.solver import Guidance

        return {"solver": self._solver(), "guidance": Guidance(**self.guidance)}

    def _stems(self) -> dict[str, Any]:
        """Options of tasks that generate several stems."""
        return {**self._options(), "negatives": self.negatives or None}


class Single(Guided, Alone):
    """Single stems, generated from their labels.

    Attributes:
        negative: whether it uses negative prompts.
        curve: whether it belongs to the curve over w, which has fewer clips, instead of Figure 2.
    """

    kind: Literal["single"] = "single"
    negative: bool = False
    curve: bool = False

    @property
    def w(self) -> float:
        """Its guidance strength."""
        return float(self.guidance["w"])

    @property
    def series(self) -> str:
        """See `Task.series`."""
        series = f"{'with' if self.negative else 'without'} negative prompts, w = {self.w:g}"
        return f"curve, {series}" if self.curve else series

    @property
    def stems_series(self) -> str:
        """See `Task.stems_series`; for other w than the first, the task's name."""
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
    """Base of the tasks that generate all stems; they have one bar."""

    FAMILY: ClassVar[str] = "total"

    def bars(self) -> list[str]:
        """See `Task.bars`."""
        return [ALL]


class Total(Mixed):
    """Total generation, Eq. 10.

    Attributes:
        gamma_x: γ of the stems.
        gamma_y: γ of the mixture.
        noise: "independent" or "coupled", see `gmsdi.tasks.generate`.
        consistent: whether the final stems sum exactly to the mixture.
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
        return with_mixture(*system.generate(seeds=seeds, callback=callback, **self._coupled()))

    def evaluations_of(self, bars: Sequence[str]) -> int:
        """See `Task.evaluations_of`: the stems and the mixture."""
        return self.passes * filled(len(bars) * self.signals)

    def _coupled(self) -> dict[str, Any]:
        from gmsdi.inference import gamma_from_config

        gammas = {"gamma_x": gamma_from_config(self.gamma_x), "gamma_y": gamma_from_config(self.gamma_y)}
        return {**self._stems(), **gammas, "noise": self.noise, "consistent": self.consistent}


class Groups(Total):
    """Total generation in groups, Eq. 11: the stems of a group are generated as one signal.

    Attributes:
        groups: lists of labels.
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
        order: order of the labels; None draws an order for each clip.
        share: see `gmsdi.tasks.generate_sequential`.
        lags: see `gmsdi.tasks.generate_sequential`.
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
        return with_mixture(*system.generate_sequential(seeds=seeds, callback=callback, **own, **self._stems()))

    def evaluations_of(self, bars: Sequence[str]) -> int:
        """See `Task.evaluations_of`: the first stem alone, each further one alone and in the mixture."""
        return self.passes * (filled(len(bars)) + (len(self.labels) - 1) * filled(2 * len(bars)))


class Extracted(Mixed):
    """Total generation beyond the paper: a mixture generated from the joint prompt, separated by the Extractor.

    Attributes:
        extraction: settings of the Extractor.
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
        from gmsdi.tasks import Average

        own = self.extraction
        assert own.w is not None
        made = system.generate_extracted(
            seeds=seeds,
            callback=callback,
            separation_solver=Solver(**own.solver),
            separation_guidance=Guidance(w=own.w, **own.guidance),
            consistent=own.consistency(system.sample_rate),
            average=Average(own.samples),
            **self._stems(),
        )
        return with_mixture(*made)

    def evaluations_of(self, bars: Sequence[str]) -> int:
        """See `Task.evaluations_of`."""
        return self.passes * filled(len(bars)) + self.extraction.evaluations_of(len(bars))


class Partial(Guided, Accompanied):
    """Partial generation, Eq. 12.

    Attributes:
        gamma_x: γ of the stems.
        gamma_y: γ of the mixture.
        alpha: see `gmsdi.tasks.accompany`.
        beta: see `gmsdi.tasks.accompany`.
        given_noise: see `gmsdi.tasks.accompany`.
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
        """See `Task.evaluations_of`: the generated stems and the mixture."""
        return self.passes * filled(len(bars) * (self.signals - len(given_in(bars[0]))))


class Conditioned(Guided, Accompanied):
    """Partial generation beyond the paper: the accompaniment is denoised together with the clean given stems.

    Attributes:
        share: see `gmsdi.tasks.accompany_conditioned`.
        lags: see `gmsdi.tasks.accompany_conditioned`.
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
        """See `Task.evaluations_of`: the stems, the mixture, and the accompaniment if it has more than one stem."""
        stems = len(self.labels) - len(given_in(bars[0]))
        return self.passes * filled(len(bars) * (stems + 1 + (stems > 1)))
