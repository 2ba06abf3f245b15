"""The methods of the paper's other systems: MSDM, weakly supervised MSDM, and Demucs + Gibbs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self

from gmsdi.settings import About, Count, Natural, NonNegative, Number
from gmsdi.stability import LOST, gaussian_refusal, separator_refusal
from gmsdi.study.counting import Taken, evaluation_sigmas, filled
from gmsdi.study.methods.base import CONSTRAINED, Row, Solved
from gmsdi.study.setups import DemucsGibbsSetup, MsdmSetup, WeakMsdmSetup

if TYPE_CHECKING:
    from torch import Tensor

    from gmsdi.sampling.solver import Callback, Solver
    from gmsdi.systems.demucs_gibbs import GibbsSeparator
    from gmsdi.systems.msdm import JointMSDM
    from gmsdi.systems.weak_msdm import WeakMSDM


class Constrained(Solved):
    """Base of MSDM's Dirac separators: one stem is the mixture minus the others."""

    OPEN: ClassVar[tuple[str, ...]] = ("constrained",)

    constrained: Annotated[str | None, About(CONSTRAINED)] = None

    def cells(self, w: Sequence[Number], solver: Mapping[str, Any]) -> list[Self]:
        """See `Row.cells`: one row for each constrained stem; there is no guidance."""
        return [self.model_copy(update={"constrained": label}) for label in self.system.labels]

    def too_few(self, solver: Solver) -> str | None:
        """See `Solved.too_few`; both are the Separator of Eq. 13, with other networks."""
        return separator_refusal(solver, len(self.system.labels), LOST)

    def separate(
        self,
        system: JointMSDM | WeakMSDM,
        mixture: Tensor,
        *,
        seeds: Sequence[int],
        levels: Sequence[float] | None = None,
        callback: Callback | None = None,
    ) -> Tensor:
        """See `Row.separate`."""
        from gmsdi.sampling.solver import Solver

        assert self.constrained is not None
        own: dict[str, Any] = {"solver": Solver(**self.solver), "constrained": self.constrained}
        return system.separate(mixture, seeds=seeds, levels=levels, callback=callback, **own)


class Msdm(Constrained):
    """MSDM with its contextual Dirac separator."""

    GRID: ClassVar[str] = "msdm"
    TITLE: ClassVar[str] = "MSDM"
    PAPER: ClassVar[str | None] = "MSDM"

    kind: Literal["msdm"] = "msdm"
    system: MsdmSetup

    def taken_of(self, items: int, *, coded: bool = False) -> Taken:
        """See `Row.taken_of`; the K stems count as one signal."""
        return Taken(len(evaluation_sigmas(self.solver)) * filled(items))


class MsdmGaussian(Solved):
    """MSDM with its Gaussian separator."""

    GRID: ClassVar[str] = "msdm"
    TITLE: ClassVar[str] = "MSDM, Gaussian likelihood"

    kind: Literal["msdm_gaussian"] = "msdm_gaussian"
    system: MsdmSetup

    def too_few(self, solver: Solver) -> str | None:
        """See `Solved.too_few`."""
        return gaussian_refusal(solver, len(self.system.labels))

    def separate(
        self,
        system: JointMSDM,
        mixture: Tensor,
        *,
        seeds: Sequence[int],
        levels: Sequence[float] | None = None,
        callback: Callback | None = None,
    ) -> Tensor:
        """See `Row.separate`."""
        from gmsdi.sampling.solver import Solver

        solver = Solver(**self.solver)
        return system.separate_gaussian(mixture, solver=solver, seeds=seeds, levels=levels, callback=callback)

    def taken_of(self, items: int, *, coded: bool = False) -> Taken:
        """See `Row.taken_of`; the K stems count as one signal."""
        return Taken(len(evaluation_sigmas(self.solver)) * filled(items))


class WeakMsdm(Constrained):
    """Weakly supervised MSDM, Eq. 4."""

    GRID: ClassVar[str] = "weak_msdm"
    TITLE: ClassVar[str] = "Weakly Supervised MSDM"
    PAPER: ClassVar[str | None] = "Weakly Supervised MSDM"

    kind: Literal["weak_msdm"] = "weak_msdm"
    system: WeakMsdmSetup

    def taken_of(self, items: int, *, coded: bool = False) -> Taken:
        """See `Row.taken_of`; each label has its own network and therefore its own calls."""
        return Taken(len(evaluation_sigmas(self.solver)) * len(self.system.labels) * filled(items))


class DemucsGibbs(Row):
    """Demucs + Gibbs."""

    GRID: ClassVar[str] = "demucs_gibbs"
    TITLE: ClassVar[str] = "Demucs + Gibbs, {steps} steps"
    PAPER: ClassVar[str | None] = "Demucs + Gibbs (512 steps)"

    kind: Literal["demucs_gibbs"] = "demucs_gibbs"
    system: DemucsGibbsSetup
    steps: Annotated[Natural, About("number of Gibbs steps after the network's first pass (512 in the paper)")] = 512
    block: Annotated[
        Count | Literal["uniform", "annealed"],
        About("sources resampled in each step: a fixed number, uniform (a random number) or annealed"),
    ] = "uniform"
    noise: Annotated[
        NonNegative, About("standard deviation of the noise added to resampled sources, relative to the mixture")
    ] = 0

    def refusal(self) -> str | None:
        """See `Row.refusal`."""
        if isinstance(self.block, int) and self.block > len(self.system.labels):
            return f"has block {self.block}; at most all {len(self.system.labels)} stems can be resampled at once"
        return super().refusal()

    def separate(
        self,
        system: GibbsSeparator,
        mixture: Tensor,
        *,
        seeds: Sequence[int],
        levels: Sequence[float] | None = None,
        callback: Callback | None = None,
    ) -> Tensor:
        """See `Row.separate`."""
        given: dict[str, Any] = {"seeds": seeds, "levels": levels, "callback": callback}
        return system.separate(mixture, steps=self.steps, block=self.block, noise=self.noise, **given)

    def step_count(self) -> int:
        """Number of steps of the chain."""
        return self.steps

    def with_steps(self, steps: int) -> Self:
        """The row with another number of steps of the chain."""
        return self.model_copy(update={"steps": steps})

    def taken_of(self, items: int, *, coded: bool = False) -> Taken:
        """See `Row.taken_of`."""
        return Taken((self.steps + 1) * filled(items))
