"""The methods of the text-conditioned model: Extractor, Separator, and the projected Separator."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self, final

from pydantic import Field

from gmsdi.sampling.solver import changed
from gmsdi.settings import About, Count, Flag, Number, Positive, Share, check
from gmsdi.stability import LOST, noise_warning, separator_refusal
from gmsdi.study.counting import Run, Taken, taken_by
from gmsdi.study.methods.base import CONSTRAINED, Solved
from gmsdi.study.setups import GmsdiSetup

if TYPE_CHECKING:
    from torch import Tensor

    from gmsdi.inference import Consistency, Wiener
    from gmsdi.sampling.solver import Callback, Solver
    from gmsdi.systems.gmsdi import Gmsdi

NEGATIVES = (
    "negative prompts: maps stem labels to the text that replaces z* in guidance (Section 2.1 of the paper); other "
    "stems use z*"
)
WIENER = "at the end, apply a Wiener filter made from the powers of the stems; null: no filter"


@dataclass(frozen=True)
class Filter:
    """A Wiener filter, see `gmsdi.inference.Wiener`."""

    amount: Annotated[Share, About("share of the filtered stems; the unfiltered stems get the rest")] = 1
    seconds: Annotated[Positive, About("length of the analysis windows in seconds")] = 0.25

    def __post_init__(self) -> None:
        check(self, "wiener")

    def at(self, sample_rate: int) -> Wiener:
        """The filter for a sample rate in Hz."""
        from gmsdi.inference.wiener import Wiener

        return Wiener(sample_rate, **asdict(self))


@dataclass(frozen=True)
class ByPower:
    """How the residual is divided among the stems, see `gmsdi.inference.ShareOut`."""

    amount: Annotated[Share, About("share of the residual that is divided by power; the rest is divided equally")] = 1
    seconds: Annotated[Positive, About("length of the analysis windows in seconds")] = 0.125

    def __post_init__(self) -> None:
        check(self, "by_power")


class Guided(Solved):
    """Base of the methods of the text-conditioned model.

    A method defines how its stems are computed (`_stems`) and what that takes (`runs`). Settings that mean the same for
    all methods are handled here.

    Attributes:
        guidance: settings of `gmsdi.sampling.solver.Guidance` apart from w.
    """

    OPEN: ClassVar[tuple[str, ...]] = ("w",)
    SHARED: ClassVar[bool] = True
    system: GmsdiSetup
    model: Annotated[
        str | None,
        About(
            "use another model: its folder, or the name of one that comes with the package, such as `mini`; such a "
            "row must give w and, for a separator, constrained"
        ),
    ] = None
    w: Annotated[
        Number | None,
        About(
            "guidance strength; null means the best in Table 1 or, unless the row is published, on the validation grid"
        ),
    ] = None
    guidance: dict[str, Any] = Field(default_factory=dict)
    negatives: Annotated[dict[str, str], About(NEGATIVES)] = Field(default_factory=dict)
    samples: Annotated[Count, About("number of runs to average")] = 1
    inverted: Annotated[Flag, About("invert the polarity of the mixture in every other of these runs")] = False
    wiener: Annotated[Filter | None, About(WIENER)] = None

    def refusal(self) -> str | None:
        """See `Row.refusal`."""
        if self.inverted and self.samples < 2:
            return "has inverted, which needs samples of 2 or more; raise samples, or leave inverted out"
        if self.model and self.is_open:
            missing = " and ".join(key for key in self.OPEN if key not in self.fixed)
            return f"has its own model, which Table 1 does not cover; give its {missing}"
        return super().refusal()

    def warning(self, sigma_data: float) -> str | None:
        """See `Solved.warning`."""
        from gmsdi.sampling.solver import Solver

        return noise_warning(Solver(**self.solver), 2, sigma_data)

    def cells(self, w: Sequence[Number], solver: Mapping[str, Any]) -> list[Self]:
        """See `Row.cells`: one row for each w."""
        own = changed(self.solver, solver)
        return [self.model_copy(update={"w": value, "solver": own}) for value in w]

    def together(self, batch: int) -> int:
        """See `Row.together`; all runs of a mixture are sampled together."""
        return max(1, batch // self.samples)

    @final
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
        from gmsdi.tasks import filtered

        stems = self._stems(system, mixture, seeds=seeds, levels=levels, callback=callback, **self.options())
        wiener = self.filter(system.sample_rate)
        return stems if wiener is None else filtered(stems, mixture, wiener, levels)

    @abstractmethod
    def _stems(self, system: Gmsdi, mixture: Tensor, **options: Any) -> Tensor:
        """Separate mixtures, without the filter that may follow.

        Args:
            system: the opened system.
            mixture: `[B, C, T]`.
            options: arguments of every separating method of `gmsdi.systems.gmsdi.Gmsdi`: seeds, levels, callback,
                solver, guidance, negatives and average.

        Returns:
            `[B, K, C, T]`, see `Row.separate`.
        """

    @property
    @abstractmethod
    def runs(self) -> list[Run]:
        """The runs of the solver that the method makes for a mixture, in order."""

    @final
    def taken_of(self, items: int, *, coded: bool = False) -> Taken:
        """See `Row.taken_of`."""
        return taken_by(self.runs, items * self.samples, self.solver, self.guidance, self.w, coded=coded)

    def numbers(self) -> dict[str, int]:
        """See `Row.numbers`."""
        return {**super().numbers(), "samples": self.samples}

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

    def options(self) -> dict[str, Any]:
        """Arguments that all separating methods of `gmsdi.systems.gmsdi.Gmsdi` share, by their names."""
        from gmsdi.sampling.solver import Guidance, Solver
        from gmsdi.tasks import Average

        assert self.w is not None
        return {
            "solver": Solver(**self.solver),
            "guidance": Guidance(w=self.w, **self.guidance),
            "negatives": self.negatives or None,
            "average": Average(self.samples, self.inverted),
        }

    def filter(self, sample_rate: int) -> Wiener | None:
        """The filter of the stems at the end, for a sample rate in Hz; None if there is none."""
        return None if self.wiener is None else self.wiener.at(sample_rate)


class Extractor(Guided):
    """The GMSDI Extractor, Eq. 14: each stem is extracted on its own."""

    GRID: ClassVar[str] = "extractor"
    TITLE: ClassVar[str] = "GMSDI Extractor"
    PAPER: ClassVar[str | None] = "GMSDI Extractor"
    IMPLIES: ClassVar[bool] = True

    kind: Literal["extractor"] = "extractor"
    consistent: Annotated[Flag, About("solve for all stems together, so that they sum to the mixture")] = False
    by_power: Annotated[
        ByPower | None,
        About(
            "consistent extractor: in each step, divide the residual (the mixture minus the sum of the estimates) "
            "among the stems in proportion to their spectrogram power; null divides it equally"
        ),
    ] = None

    def refusal(self) -> str | None:
        """See `Row.refusal`."""
        if self.by_power is not None and not self.consistent:
            return "has by_power, which needs consistent: true; leave it out, or set consistent"
        return super().refusal()

    def _stems(self, system: Gmsdi, mixture: Tensor, **options: Any) -> Tensor:
        return system.extract(mixture, consistent=self.consistency(system.sample_rate), **options)

    @property
    def runs(self) -> list[Run]:
        """See `Guided.runs`: each stem, and the mixture of the others."""
        K = len(self.system.labels)
        coded = K * (2 if self.consistent else 1)
        return [Run([K, K], encoded=coded, decoded=coded, decoded_once=K)]

    def consistency(self, sample_rate: int) -> bool | Consistency:
        """The argument `consistent` of `gmsdi.inference.extractor`, for a sample rate in Hz."""
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

    kind: Literal["separator"] = "separator"
    constrained: Annotated[str | None, About(CONSTRAINED)] = None

    def too_few(self, solver: Solver) -> str | None:
        """See `Solved.too_few`."""
        return separator_refusal(solver, len(self.system.labels), LOST)

    def warning(self, sigma_data: float) -> str | None:
        """See `Solved.warning`: the bound on a Separator's noise is far above what it leaves."""
        return None

    def _stems(self, system: Gmsdi, mixture: Tensor, **options: Any) -> Tensor:
        assert self.constrained is not None
        return system.separate(mixture, constrained=self.constrained, **options)

    @property
    def runs(self) -> list[Run]:
        """See `Guided.runs`: the other stems, then the constrained one."""
        K = len(self.system.labels)
        return [Run([K - 1, 1], encoded=1, decoded=K - 1, decoded_once=K - 1)]


class Projected(Guided):
    """The projected Separator, beyond the paper: instead of constraining one stem, it projects all onto the mixture."""

    GRID: ClassVar[str] = "separator"
    TITLE: ClassVar[str] = "GMSDI Separator, projected"
    IMPLIES: ClassVar[bool] = True

    kind: Literal["projected"] = "projected"

    def _stems(self, system: Gmsdi, mixture: Tensor, **options: Any) -> Tensor:
        return system.separate(mixture, constrained=None, **options)

    @property
    def runs(self) -> list[Run]:
        """See `Guided.runs`: all stems."""
        K = len(self.system.labels)
        return [Run([K], encoded=K, decoded=K, decoded_once=K)]
