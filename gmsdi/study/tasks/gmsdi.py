"""The tasks of the text-conditioned model: single stems, total and partial generation, and those beyond the paper."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from gmsdi.errors import UserError
from gmsdi.settings import Number
from gmsdi.stability import check_steps, coupling_of, gamma_from_config, natural_gamma
from gmsdi.study.chunks import ALL, given_in, joined
from gmsdi.study.counting import Run, Taken, taken_by
from gmsdi.study.methods import Extractor
from gmsdi.study.setups import GmsdiSetup
from gmsdi.study.tasks.base import Accompanied, Alone, Clips, Task, with_mixture

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from gmsdi.systems.gmsdi import Gmsdi

Gamma = int | float | dict[str, Number]
"""γ as `gmsdi.inference.gamma_from_config` takes it."""


class Guided(Task):
    """Base of the tasks of the text-conditioned model.

    Attributes:
        model: folder or name of the task's own model; None means the system's model.
        title: ends the names of its series, if it has its own model.
        guidance: settings of `gmsdi.sampling.solver.Guidance`.
        negatives: negative prompts by label.
    """

    system: GmsdiSetup
    model: str | None = None
    title: str = ""
    guidance: dict[str, Any]
    negatives: dict[str, str] = Field(default_factory=dict)

    @property
    def series(self) -> str:
        """See `Task.series`."""
        return self._titled(self.SERIES)

    def _titled(self, series: str) -> str:
        return f"{series}, {self.title}" if self.title else series

    @abstractmethod
    def runs(self, bars: Sequence[str]) -> list[Run]:
        """The runs of the solver that the task makes for a clip, in order.

        Args:
            bars: the bars of the clips that are sampled together.
        """

    def taken_of(self, bars: Sequence[str], *, coded: bool = False) -> Taken:
        """See `Task.taken_of`."""
        return taken_by(self.runs(bars), len(bars), self.solver, self.guidance, self.guidance["w"], coded=coded)

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
        series = self._titled(f"{'with' if self.negative else 'without'} negative prompts, w = {self.w:g}")
        return f"curve, {series}" if self.curve else series

    @property
    def stems_series(self) -> str:
        """See `Task.stems_series`."""
        name = self._titled(f"GMSDI, single stems{', negative prompts' * self.negative}, w = {self.w:g}")
        return f"curve, {name}" if self.curve else name

    def point(self) -> dict[str, Any]:
        """See `Alone.point`."""
        own = {"series": self.series, "w": self.w, "negative": self.negative, "curve": self.curve}
        return {**own, "model": self.title or None}

    def generate(self, system: Gmsdi, clips: Clips) -> np.ndarray:
        """See `Task.generate`."""
        from gmsdi.sampling.guidance import Prompt

        prompts = [Prompt(label, self.negatives.get(label)) for label in clips.bars]
        made = system.sample(prompts, seeds=clips.seeds, callback=clips.callback, **self._options())
        return made.unsqueeze(1).numpy()

    def runs(self, bars: Sequence[str]) -> list[Run]:
        """See `Guided.runs`."""
        return [Run([1], decoded_once=1)]


class Mixed(Guided):
    """Base of the tasks that generate all stems; they have one bar."""

    FAMILY: ClassVar[str] = "total"

    def bars(self) -> list[str]:
        """See `Task.bars`."""
        return [ALL]


class Total(Mixed):
    """Total generation, Eq. 10.

    Attributes:
        gamma_x: γ of the stems; None is the method's default.
        gamma_y: γ of the mixture; None is the method's default.
        noise: "independent" or "coupled", see `gmsdi.tasks.generate`.
        consistent: whether the final stems sum exactly to the mixture.
    """

    SERIES: ClassVar[str] = "GMSDI"

    kind: Literal["total"] = "total"
    gamma_x: Gamma | None = None
    gamma_y: Gamma | None = None
    noise: Literal["independent", "coupled"] = "independent"
    consistent: bool = False

    def refusal(self) -> str | None:
        """See `Task.refusal`: steps that are unstable with γ."""
        sources = len(self.rows)
        gammas = {"gamma_x": natural_gamma(sources), "gamma_y": math.inf, **_gammas(self)}
        return _unstable(self.solver, sources, **gammas)

    def generate(self, system: Gmsdi, clips: Clips) -> np.ndarray:
        """See `Task.generate`."""
        return with_mixture(*system.generate(seeds=clips.seeds, callback=clips.callback, **self._coupled()))

    def runs(self, bars: Sequence[str]) -> list[Run]:
        """See `Guided.runs`: the stems and the mixture."""
        rows = len(self.rows)
        coupled = _acts(self.gamma_x, math.inf if self.gamma_y is None else self.gamma_y)
        return [
            Run(
                [rows + 1],
                encoded=1 if coupled else 0,
                decoded=rows if coupled else 0,
                decoded_once=rows + 1 + self.consistent,
            )
        ]

    def _coupled(self) -> dict[str, Any]:
        return {**self._stems(), **_gammas(self), "noise": self.noise, "consistent": self.consistent}


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

    def generate(self, system: Gmsdi, clips: Clips) -> np.ndarray:
        """See `Task.generate`."""
        own: dict[str, Any] = {"order": self.order, "share": self.share, "lags": self.lags}
        own |= {"seeds": clips.seeds, "callback": clips.callback}
        return with_mixture(*system.generate_sequential(**own, **self._stems()))

    def runs(self, bars: Sequence[str]) -> list[Run]:
        """See `Guided.runs`: the first stem alone, then each further stem alone and in the mixture.

        Before each run, the stems generated so far are decoded; after the last run, all of them.
        """
        K = len(self.labels)
        further = (Run([1, 1], encoded=2, decoded=2, decoded_once=place) for place in range(1, K))
        return [Run([1], decoded_once=K), *further]


class Extracted(Mixed):
    """Total generation beyond the paper: a mixture generated from the joint prompt, separated by the Extractor.

    Attributes:
        extraction: settings of the Extractor; the task's own negative prompts, if there are any, replace its own.
    """

    PLACE: ClassVar[int] = 2
    SERIES: ClassVar[str] = "GMSDI, extracted"

    kind: Literal["total_extracted"] = "total_extracted"
    extraction: Extractor

    def generate(self, system: Gmsdi, clips: Clips) -> np.ndarray:
        """See `Task.generate`."""
        own = self.extraction
        separation = own.options()
        made = system.generate_extracted(
            **self._options(),
            seeds=clips.seeds,
            callback=clips.callback,
            separation_solver=separation["solver"],
            separation_guidance=separation["guidance"],
            consistent=own.consistency(system.sample_rate),
            average=separation["average"],
            wiener=own.filter(system.sample_rate),
            negatives=self.negatives or separation["negatives"],
        )
        return with_mixture(*made)

    def runs(self, bars: Sequence[str]) -> list[Run]:
        """See `Guided.runs`: the mixture."""
        return [Run([1], decoded_once=1)]

    def taken_of(self, bars: Sequence[str], *, coded: bool = False) -> Taken:
        """See `Task.taken_of`: the mixture and its extraction, which has a solver of its own."""
        return super().taken_of(bars, coded=coded) + self.extraction.taken_of(len(bars), coded=coded)


class Partial(Guided, Accompanied):
    """Partial generation, Eq. 12.

    Attributes:
        gamma_x: γ of the stems; None is the method's default.
        gamma_y: γ of the mixture; None is the method's default.
        alpha: see `gmsdi.tasks.accompany`.
        beta: see `gmsdi.tasks.accompany`.
        given_noise: see `gmsdi.tasks.accompany`.
    """

    SERIES: ClassVar[str] = "GMSDI"

    kind: Literal["partial"] = "partial"
    gamma_x: Gamma | None = None
    gamma_y: Gamma | None = None
    alpha: Number = 1
    beta: Number = 1
    given_noise: Literal["fixed", "redrawn", "coupled"] = "fixed"

    def refusal(self) -> str | None:
        """See `Task.refusal`: steps that are unstable with γ, for any number of stems to generate."""
        for sources in reversed(range(1, len(self.labels))):  # most of them need the largest
            natural = natural_gamma(sources)
            gammas = {"gamma_x": natural, "gamma_y": natural, **_gammas(self)}
            if why := _unstable(self.solver, sources, **gammas, beta=self.beta):
                return why
        return None

    def accompany(self, system: Gmsdi, clips: Clips) -> tuple[Tensor, Tensor]:
        """See `Accompanied.accompany`."""
        own: dict[str, Any] = {"alpha": self.alpha, "beta": self.beta, "given_noise": self.given_noise}
        return system.accompany(**clips.accompanied(), **own, **_gammas(self), **self._stems())

    def runs(self, bars: Sequence[str]) -> list[Run]:
        """See `Guided.runs`: the generated stems and the mixture; the given stems are encoded and decoded once."""
        given = len(given_in(bars[0]))
        stems, coupled = len(self.labels) - given, _acts(self.gamma_x, self.gamma_y)
        return [
            Run(
                [stems + 1],
                encoded=1 if coupled else 0,
                decoded=stems if coupled else 0,
                encoded_once=given,
                decoded_once=given + stems + 1,
            )
        ]


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

    def accompany(self, system: Gmsdi, clips: Clips) -> tuple[Tensor, Tensor]:
        """See `Accompanied.accompany`."""
        own = {**clips.accompanied(), **self._stems()}
        return system.accompany_conditioned(**own, share=self.share, lags=self.lags)

    def runs(self, bars: Sequence[str]) -> list[Run]:
        """See `Guided.runs`: the stems, the accompaniment if it has more than one of them, then the mixture.

        The given stems, and at the end the mixture that contains them, are encoded and decoded once.
        """
        given = len(given_in(bars[0]))
        stems = len(self.labels) - given
        several = stems > 1
        return [
            Run(
                [stems + several, 1],
                encoded=2 + several,
                decoded=2 + several * stems,
                encoded_once=given + 1,
                decoded_once=given + 1 + stems + several + 1,
            )
        ]


def _acts(*gammas: Gamma | None) -> bool:
    """Whether a likelihood term acts at some noise level; one with the default γ (None) does."""
    return any(gamma != float("inf") for gamma in gammas)


def _gammas(task: Total | Partial) -> dict[str, Any]:
    """The γ that are given, as keyword arguments."""
    given = {"gamma_x": task.gamma_x, "gamma_y": task.gamma_y}
    return {name: gamma_from_config(gamma) for name, gamma in given.items() if gamma is not None}


def _unstable(solver: Mapping[str, Any], sources: int, **own: Any) -> str | None:
    """Why the likelihood terms of so many sources are unstable with a solver; `own` are arguments of `coupling_of`."""
    from gmsdi.sampling.solver import Solver

    try:
        made = Solver(**solver)
        check_steps(lambda sigma: coupling_of(sigma, sources, **own), sources + 1, made.sigmas(), step=made.step)
    except UserError as error:
        return str(error)
    return None
