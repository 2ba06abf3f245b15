"""The methods of the text-conditioned model: Extractor, Separator, and the projected Separator."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self

from pydantic import Field

from gmsdi.sampling.solver import changed
from gmsdi.settings import About, Count, Flag, Number, Positive, Share, check
from gmsdi.study.counting import filled, passes
from gmsdi.study.methods.base import CONSTRAINED, Solved
from gmsdi.study.setups import GmsdiSetup

if TYPE_CHECKING:
    from torch import Tensor

    from gmsdi.inference import Consistency
    from gmsdi.sampling.solver import Callback
    from gmsdi.systems.gmsdi import Gmsdi

NEGATIVES = (
    "stem label to the text that takes the place of z* in guidance (Section 2.1 of the paper); stems not named use z*"
)


@dataclass(frozen=True)
class Filter:
    """A Wiener filter, `gmsdi.inference.Wiener`."""

    amount: Annotated[Share, About("part of the filtered stems, the rest is the stems as they were")] = 1
    seconds: Annotated[Positive, About("length of its windows")] = 0.25

    def __post_init__(self) -> None:
        check(self, "wiener")


@dataclass(frozen=True)
class ByPower:
    """How what is missing is shared out, `gmsdi.inference.ShareOut`."""

    amount: Annotated[Share, About("part of it, the rest goes to the stems in equal parts")] = 1
    seconds: Annotated[Positive, About("length of its windows")] = 0.125

    def __post_init__(self) -> None:
        check(self, "by_power")


class Guided(Solved):
    """What the methods of the text-conditioned model share.

    Attributes:
        guidance: settings of `gmsdi.sampling.solver.Guidance` apart from w.
    """

    OPEN: ClassVar[tuple[str, ...]] = ("w",)
    SHARED: ClassVar[bool] = True
    MODELS: ClassVar[int]
    """Signals that are denoised for each stem."""

    system: GmsdiSetup
    model: Annotated[
        str | None,
        About(
            "another model: its folder, or `bundled` for the one that comes with the package; needs w and, of a "
            "separator, constrained"
        ),
    ] = None
    w: Annotated[
        Number | None,
        About("guidance; null takes the best of Table 1 or, of a row that is not published, of the validation grid"),
    ] = None
    guidance: dict[str, Any] = Field(default_factory=dict)
    negatives: Annotated[dict[str, str], About(NEGATIVES)] = Field(default_factory=dict)
    samples: Annotated[Count, About("runs whose mean is taken")] = 1
    inverted: Annotated[Flag, About("every other of these runs takes the mixture with its polarity inverted")] = False
    wiener: Annotated[Filter | None, About("a Wiener filter with the stems' powers, at the end; null is none")] = None

    def refusal(self) -> str | None:
        """See `Row.refusal`."""
        if self.inverted and self.samples < 2:
            return "has inverted, which is for samples of 2 or more; give them, or leave it out"
        if self.model and self.is_open:
            missing = " and ".join(key for key in self.OPEN if key not in self.fixed)
            return f"has a model of its own, of which Table 1 says nothing; give its {missing}"
        return None

    def cells(self, w: Sequence[Number], solver: Mapping[str, Any]) -> list[Self]:
        """See `Row.cells`: one for each w."""
        own = changed(self.solver, solver)
        return [self.model_copy(update={"w": value, "solver": own}) for value in w]

    def together(self, batch: int) -> int:
        """See `Row.together`; the runs of a mixture are sampled side by side."""
        return max(1, batch // self.samples)

    def evaluations_of(self, items: int) -> int:
        """See `Row.evaluations_of`."""
        rows = items * self.samples * self.MODELS * len(self.system.labels)
        return passes(self.solver, self.guidance, self.w) * filled(rows)

    def summary(self) -> str:
        """See `Row.summary`."""
        parts = [f"w = {self.w:g}" if self.w is not None else "w open"]
        parts += [f"{key} {value}" for key, value in self.fixed.items() if key != "w"]
        parts.append(f"{self.step_count()} steps")
        if self.samples > 1:
            parts.append(f"mean of {self.samples} runs")
        if self.inverted:
            parts.append("every other inverted")
        return ", ".join(parts + self._filters())

    def _filters(self) -> list[str]:
        return [] if self.wiener is None else [f"{self.wiener.amount:.0%} filtered"]

    def _options(self) -> dict[str, Any]:
        """What all methods of `gmsdi.systems.gmsdi.Gmsdi` that separate take."""
        from gmsdi.sampling.solver import Guidance, Solver

        assert self.w is not None
        return {
            "solver": Solver(**self.solver),
            "guidance": Guidance(w=self.w, **self.guidance),
            "negatives": self.negatives or None,
            "samples": self.samples,
            "inverted": self.inverted,
        }

    def _filtered(self, stems: Tensor, mixture: Tensor, sample_rate: int) -> Tensor:
        from gmsdi.inference.wiener import Wiener

        if self.wiener is None:
            return stems
        return Wiener(sample_rate, **asdict(self.wiener))(stems, mixture)


class Extractor(Guided):
    """The GMSDI Extractor, Eq. 14: each stem is extracted by itself."""

    GRID: ClassVar[str] = "extractor"
    TITLE: ClassVar[str] = "GMSDI Extractor"
    PAPER: ClassVar[str | None] = "GMSDI Extractor"
    MODELS: ClassVar[int] = 2  # the stem, and the mixture of the others
    IMPLIES: ClassVar[bool] = True

    kind: Literal["extractor"] = "extractor"
    consistent: Annotated[Flag, About("stems are solved for together and sum to the mixture")] = False
    by_power: Annotated[
        ByPower | None,
        About(
            "consistent extractor: in each step, what the estimates lack to the mixture goes to the stems by their "
            "power in its spectrogram; null: in equal parts"
        ),
    ] = None

    def refusal(self) -> str | None:
        """See `Row.refusal`."""
        if self.by_power is not None and not self.consistent:
            return "has by_power, which is for consistent: true; leave it out"
        return super().refusal()

    def separate(
        self,
        system: Gmsdi,
        mixture: Tensor,
        *,
        seeds: Sequence[int],
        levels: Sequence[float] | None = None,
        callback: Callback | None = None,
    ) -> Tensor:
        """See `Row.separate`."""
        given: dict[str, Any] = {"seeds": seeds, "levels": levels, "callback": callback}
        consistent = self.consistency(system.sample_rate)
        stems = system.extract(mixture, consistent=consistent, **given, **self._options())
        return self._filtered(stems, mixture, system.sample_rate)

    def consistency(self, sample_rate: int) -> bool | Consistency:
        """What `gmsdi.inference.extractor` takes, at a rate in Hz."""
        from gmsdi.inference.wiener import ShareOut

        if not self.consistent or self.by_power is None:
            return self.consistent
        return ShareOut(sample_rate, **asdict(self.by_power))

    def _filters(self) -> list[str]:
        shared = [] if self.by_power is None else [f"{self.by_power.amount:.0%} by power"]
        return shared + super()._filters()


class Separator(Guided):
    """The GMSDI Separator, Eq. 13: one stem is the mixture minus the others."""

    GRID: ClassVar[str] = "separator"
    TITLE: ClassVar[str] = "GMSDI Separator"
    PAPER: ClassVar[str | None] = "GMSDI Separator"
    OPEN: ClassVar[tuple[str, ...]] = ("w", "constrained")
    MODELS: ClassVar[int] = 1

    kind: Literal["separator"] = "separator"
    constrained: Annotated[str | None, About(CONSTRAINED)] = None

    def separate(
        self,
        system: Gmsdi,
        mixture: Tensor,
        *,
        seeds: Sequence[int],
        levels: Sequence[float] | None = None,
        callback: Callback | None = None,
    ) -> Tensor:
        """See `Row.separate`."""
        assert self.constrained is not None
        given: dict[str, Any] = {"seeds": seeds, "levels": levels, "callback": callback}
        stems = system.separate(mixture, constrained=self.constrained, **given, **self._options())
        return self._filtered(stems, mixture, system.sample_rate)


class Projected(Guided):
    """The projected Separator, beyond the paper: no stem is constrained, all are projected onto the mixture."""

    GRID: ClassVar[str] = "separator"
    TITLE: ClassVar[str] = "GMSDI Separator, projected"
    MODELS: ClassVar[int] = 1
    IMPLIES: ClassVar[bool] = True

    kind: Literal["projected"] = "projected"

    def separate(
        self,
        system: Gmsdi,
        mixture: Tensor,
        *,
        seeds: Sequence[int],
        levels: Sequence[float] | None = None,
        callback: Callback | None = None,
    ) -> Tensor:
        """See `Row.separate`."""
        given: dict[str, Any] = {"seeds": seeds, "levels": levels, "callback": callback}
        stems = system.separate(mixture, constrained=None, **given, **self._options())
        return self._filtered(stems, mixture, system.sample_rate)
