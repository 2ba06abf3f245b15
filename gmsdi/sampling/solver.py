"""Typed settings of sampling: how a derivative is integrated, and how a model is guided.

Each sampler has a class of settings, `Euler`, `Heun`, `ADPM2` or `DPMpp2M`, with the options of that sampler and no
others. `Solver("heun", steps=20)` makes an instance of the right one. torch is not imported: a configuration is read,
and its evaluations are counted, without it.

Adding a sampler is a function in `gmsdi.sampling.samplers`, a class, its name in `SAMPLERS`, and a test
(CONTRIBUTING.md has an example).
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from itertools import pairwise
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, TypeAlias

from annotated_types import Len

from gmsdi.errors import UserError
from gmsdi.sampling import samplers
from gmsdi.sampling.samplers import Callback
from gmsdi.sampling.schedules import ancestral, churned, karras, middle
from gmsdi.settings import About, Level, NonNegative, Number, Positive, Steps, check

if TYPE_CHECKING:
    from torch import Tensor

    from gmsdi.inference.base import Derivative
    from gmsdi.sampling.samplers import Noise

Rate: TypeAlias = Callable[[float, float], float]
"""A derivative of a number, by its value and σ."""

CHURN = "noise added back while sampling, S_churn of Karras et al."


class Solver:
    """How a derivative is integrated: the base class of all samplers' settings.

    `Solver(name, ...)` makes an instance of the class of the sampler `name`, by default `Euler`.

    Raises:
        UserError: if there is no such sampler, it lacks one of the options, or a value is out of range.
    """

    name: str
    steps: int
    sigma_min: float
    sigma_max: float
    rho: float
    __dataclass_fields__: ClassVar[dict[str, Any]]  # of each sampler's class

    def __new__(cls, name: str = "euler", *args: Any, **options: Any) -> Solver:  # noqa: D102
        if cls is not Solver:
            return super().__new__(cls)
        kind = sampler(name)
        refuse_unknown(kind, options, f"solver {name}")
        return object.__new__(kind)  # Python calls its __init__ next, with the same arguments

    def __post_init__(self) -> None:
        own = type(self).__dataclass_fields__["name"].default
        if self.name != own:
            raise UserError(f"solver name is {self.name!r}; {type(self).__name__} is {own}")
        check(self, "solver")
        self.sigmas()

    def sigmas(self) -> list[float]:
        """The noise schedule, ending with 0."""
        return karras(self.steps, self.sigma_min, self.sigma_max, self.rho)

    def evaluated_at(self) -> list[float]:
        """The noise levels at which a run evaluates its derivative, in order."""
        raise NotImplementedError

    @property
    def evaluations(self) -> int:
        """Evaluations of the derivative in one run."""
        return len(self.evaluated_at())

    @property
    def estimated_at(self) -> float | None:
        """The noise level of the estimates that a run ends at; None if its last step is like the others."""
        return None

    def sample(self, derivative: Derivative, x: Tensor, *, noise: Noise, callback: Callback | None = None) -> Tensor:
        """Integrate `derivative` from `x`, the state at `sigma_max`, to 0.

        Raises:
            UserError: if `last` is "estimate" and the derivative does not imply an estimate.
        """
        raise NotImplementedError

    def step(self, derivative: Rate, x: float, sigmas: Sequence[float]) -> float:
        """Take one step of a run, without noise and with a number in place of a state, for `gmsdi.stability`."""
        raise NotImplementedError


@dataclass(frozen=True)
class Scheduled(Solver):
    """The settings that all samplers have; the name comes first."""

    name: str
    steps: Annotated[Steps, About("steps of the noise schedule")] = 25
    sigma_min: Annotated[Positive, About("last noise level above 0")] = 2e-3
    sigma_max: Annotated[Positive, About("first noise level")] = 0.5
    rho: Annotated[Positive, About("curvature of the Karras schedule")] = 7.0


@dataclass(frozen=True)
class Euler(Scheduled):
    """First order, with noise added back ("AEuler" of the paper); see `gmsdi.sampling.samplers.euler`.

    With `last` = "estimate", the last step ends at the signals that the derivative implies (`last_gain` of the
    sampler), which schedules of few steps need. Only the Extractor and the projected Separator imply such signals.
    """

    name: Annotated[Literal["euler"], About("sampler")] = "euler"
    s_churn: Annotated[NonNegative, About(CHURN)] = 0.0
    resamples: Annotated[Steps, About("how often each step is taken")] = 1
    last: Annotated[
        Literal["step", "estimate"],
        About(
            "step: the last step is like the others; estimate: it ends at the signals that the derivative implies, for "
            "schedules of few steps (Extractor and projected Separator only)"
        ),
    ] = "step"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.last not in ("step", "estimate"):
            raise UserError(f"solver last is {self.last!r}; choose step or estimate")

    def evaluated_at(self) -> list[float]:
        """See `Solver.evaluated_at`; each step is taken as often as it is resampled."""
        return [churned(sigma, self.s_churn, self.steps) for sigma in self.sigmas()[:-1] for _ in range(self.resamples)]

    @property
    def estimated_at(self) -> float | None:
        """See `Solver.estimated_at`."""
        return self.evaluated_at()[-1] if self.last == "estimate" else None

    def sample(self, derivative: Derivative, x: Tensor, *, noise: Noise, callback: Callback | None = None) -> Tensor:
        """Integrate `derivative` from `x` to 0, see `Solver.sample`."""
        gain = 1.0 if self.last == "step" else derivative.gain
        if gain is None:
            raise UserError("solver last is estimate, which only Extractor and projected Separator support; use step")
        options: dict[str, Any] = {"s_churn": self.s_churn, "resamples": self.resamples, "last_gain": gain}
        return samplers.euler(derivative, x, self.sigmas(), noise=noise, callback=callback, **options)

    def step(self, derivative: Rate, x: float, sigmas: Sequence[float]) -> float:
        """Take one step of a run, without noise, see `Solver.step`."""
        stepped: Any = samplers.euler
        return float(stepped(derivative, x, sigmas, s_churn=self.s_churn / self.steps, noise=_silent))


@dataclass(frozen=True)
class Heun(Scheduled):
    """Second order, two evaluations a step; see `gmsdi.sampling.samplers.heun`."""

    name: Annotated[Literal["heun"], About("sampler")] = "heun"
    s_churn: Annotated[NonNegative, About(CHURN)] = 0.0

    def evaluated_at(self) -> list[float]:
        """See `Solver.evaluated_at`: two in a step, but one in the step to 0."""
        found = []
        for sigma, sigma_next in pairwise(self.sigmas()):
            found.append(churned(sigma, self.s_churn, self.steps))
            found += [sigma_next] if sigma_next > 0 else []
        return found

    def sample(self, derivative: Derivative, x: Tensor, *, noise: Noise, callback: Callback | None = None) -> Tensor:
        """Integrate `derivative` from `x` to 0, see `Solver.sample`."""
        return samplers.heun(derivative, x, self.sigmas(), s_churn=self.s_churn, noise=noise, callback=callback)

    def step(self, derivative: Rate, x: float, sigmas: Sequence[float]) -> float:
        """Take one step of a run, without noise, see `Solver.step`."""
        stepped: Any = samplers.heun
        return float(stepped(derivative, x, sigmas, s_churn=self.s_churn / self.steps, noise=_silent))


@dataclass(frozen=True)
class ADPM2(Scheduled):
    """Ancestral midpoint sampler of second order; see `gmsdi.sampling.samplers.adpm2`."""

    name: Annotated[Literal["adpm2"], About("sampler")] = "adpm2"
    midpoint: Annotated[Literal["power", "geometric"], About("power: power mean, see midpoint_rho; or geometric")] = (
        "power"
    )
    midpoint_rho: Annotated[Positive, About("the paper's rho; 1 is the arithmetic mean")] = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.midpoint not in ("power", "geometric"):
            raise UserError(f"solver midpoint is {self.midpoint!r}; choose power or geometric")

    def evaluated_at(self) -> list[float]:
        """See `Solver.evaluated_at`: two in a step, but one in the step to 0."""
        found = []
        for sigma, sigma_next in pairwise(self.sigmas()):
            found.append(sigma)
            sigma_down, _ = ancestral(sigma, sigma_next)
            if sigma_down > 0:
                found.append(middle(sigma, sigma_down, self.midpoint, self.midpoint_rho))
        return found

    def sample(self, derivative: Derivative, x: Tensor, *, noise: Noise, callback: Callback | None = None) -> Tensor:
        """Integrate `derivative` from `x` to 0, see `Solver.sample`."""
        return self._integrate(derivative, x, self.sigmas(), noise, callback)

    def step(self, derivative: Rate, x: float, sigmas: Sequence[float]) -> float:
        """Take one step of a run, without noise, see `Solver.step`."""
        return float(self._integrate(derivative, x, sigmas, _silent, None))

    def _integrate(
        self, derivative: Any, x: Any, sigmas: Sequence[float], noise: Any, callback: Callback | None
    ) -> Any:
        options: dict[str, Any] = {"rho": self.midpoint_rho, "midpoint": self.midpoint}
        return samplers.adpm2(derivative, x, sigmas, noise=noise, callback=callback, **options)


@dataclass(frozen=True)
class DPMpp2M(Scheduled):
    """DPM-Solver++(2M): second order, one evaluation a step, no noise; see `gmsdi.sampling.samplers.dpmpp_2m`."""

    name: Annotated[Literal["dpmpp_2m"], About("sampler")] = "dpmpp_2m"

    def evaluated_at(self) -> list[float]:
        """See `Solver.evaluated_at`: one in a step."""
        return self.sigmas()[:-1]

    def sample(self, derivative: Derivative, x: Tensor, *, noise: Noise, callback: Callback | None = None) -> Tensor:
        """Integrate `derivative` from `x` to 0, see `Solver.sample`."""
        return samplers.dpmpp_2m(derivative, x, self.sigmas(), noise=noise, callback=callback)

    def step(self, derivative: Rate, x: float, sigmas: Sequence[float]) -> float:
        """Take one step of a run, without noise, see `Solver.step`."""
        stepped: Any = samplers.dpmpp_2m
        return float(stepped(derivative, x, sigmas, noise=_silent))


def _silent(x: float) -> float:
    """Noise that is none."""
    return 0.0 * x


SAMPLERS: dict[str, type[Solver]] = {"euler": Euler, "adpm2": ADPM2, "heun": Heun, "dpmpp_2m": DPMpp2M}
"""The class of each sampler."""


def sampler(name: str) -> type[Solver]:
    """The class of a sampler.

    Raises:
        UserError: if there is no sampler of this name.
    """
    if name not in SAMPLERS:
        raise UserError(f"solver name is {name!r}; choose {', '.join(SAMPLERS)}")
    return SAMPLERS[name]


def options_of(kind: type[Solver]) -> list[str]:
    """The options of a sampler, including `name`."""
    return [field.name for field in fields(kind)]


def refuse_unknown(kind: type[Solver], options: Mapping[str, Any], what: str) -> None:
    """Refuse options that a sampler does not have.

    Raises:
        UserError: for the first such option, naming the samplers that have it.
    """
    known = options_of(kind)
    for option in options:
        if option in known:
            continue
        others = [name for name, other in SAMPLERS.items() if option in options_of(other)]
        if others:
            raise UserError(f"{what} has no {option}; use {' or '.join(others)}, or leave it out")
        near = difflib.get_close_matches(option, known, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"known options: {', '.join(known)}"
        raise UserError(f"{what} has no {option}; {hint}")


def changed(base: Mapping[str, Any], *changes: Mapping[str, Any]) -> dict[str, Any]:
    """Apply changes to the settings of a solver, one after the other.

    If a change names another sampler, earlier options that this sampler lacks are dropped. Options that the change
    itself lists are the user's own and stay, so that `Solver` can refuse them.
    """
    result = dict(base)
    for change in changes:
        name = change.get("name", result.get("name", "euler"))
        if name in SAMPLERS and name != result.get("name", "euler"):
            known = options_of(SAMPLERS[name])
            result = {key: value for key, value in result.items() if key in known}
        result |= change
    return result


@dataclass(frozen=True)
class Guidance:
    """Classifier-free guidance, see `gmsdi.sampling.guidance.guided`.

    Raises:
        UserError: if a value is out of range.
    """

    w: Annotated[Number, About("strength, in the convention below")] = 0.0
    convention: Annotated[
        Literal["paper", "adp"], About("paper: D(z) + w (D(z) - D(z*)); adp: D(z*) + w (D(z) - D(z*))")
    ] = "paper"
    interval: Annotated[
        Annotated[Sequence[Level], Len(2, 2)] | None,
        About("range of noise levels [low, high] in which guidance acts; null: everywhere"),
    ] = None
    clamp: Annotated[Positive | None, About("limit the denoised signal to [-clamp, clamp]; null: no limit")] = None

    def __post_init__(self) -> None:
        if isinstance(self.w, bool) or not isinstance(self.w, int | float) or not math.isfinite(self.w):
            raise UserError(f"guidance w is {self.w!r}; it must be a number")
        if self.convention not in ("paper", "adp"):
            raise UserError(f"guidance convention is {self.convention!r}; choose paper or adp")
        if self.interval is not None and (len(self.interval) != 2 or not self.interval[0] <= self.interval[1]):
            raise UserError(f"guidance interval is {self.interval!r}; it must be [low, high] in sigma")
        if self.clamp is not None and not self.clamp > 0:
            raise UserError(f"guidance clamp is {self.clamp!r}; it must be positive or null")
