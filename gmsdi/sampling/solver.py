"""Typed settings of sampling: how a derivative is integrated, and how a model is guided."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Any, TypeAlias

import torch
from torch import Tensor

from gmsdi.errors import UserError
from gmsdi.sampling import samplers
from gmsdi.sampling.schedules import karras

Callback: TypeAlias = Callable[[int, int], None]

SAMPLERS: dict[str, Callable[..., Tensor]] = {
    "euler": samplers.euler,
    "adpm2": samplers.adpm2,
    "heun": samplers.heun,
    "dpmpp_2m": samplers.dpmpp_2m,
}


@dataclass(frozen=True)
class Solver:
    """How a derivative is integrated.

    Attributes:
        name: euler, adpm2, heun or dpmpp_2m (see `gmsdi.sampling.samplers`).
        steps: of the schedule.
        sigma_min: last noise level above 0.
        sigma_max: first noise level.
        rho: curvature of the Karras schedule.
        s_churn: noise added back (euler and heun).
        resamples: how often each step is taken (euler).
        midpoint: "power" (with `midpoint_rho` = 1 arithmetic, as in the paper) or "geometric" (adpm2).
        midpoint_rho: the paper's ρ of ADPM2.
        last: "step", the last step is like the others; or "estimate", it ends at the signals that the derivative
            implies (`last_gain` of `samplers.euler`), which schedules of few steps need (euler, for the Extractor and
            the projected Separator).

    Raises:
        UserError: if a value is out of range or the sampler does not know the option.
    """

    name: str = "euler"
    steps: int = 25
    sigma_min: float = 2e-3
    sigma_max: float = 0.5
    rho: float = 7.0
    s_churn: float = 0.0
    resamples: int = 1
    midpoint: str = "power"
    midpoint_rho: float = 1.0
    last: str = "step"

    def __post_init__(self) -> None:
        if self.name not in SAMPLERS:
            raise UserError(f"solver name is {self.name!r}; choose {', '.join(SAMPLERS)}")
        for field in fields(self):
            value = getattr(self, field.name)
            if field.type == "int" and (not isinstance(value, int) or isinstance(value, bool) or value < 1):
                raise UserError(f"solver {field.name} is {value!r}; it must be a whole number of at least 1")
            if field.type == "float" and (not isinstance(value, int | float) or not 0 <= value < math.inf):
                raise UserError(f"solver {field.name} is {value!r}; it must be a number of at least 0")
        if self.s_churn and self.name not in ("euler", "heun"):
            raise UserError(f"solver {self.name} has no s_churn; use euler or heun, or leave it out")
        if self.resamples > 1 and self.name != "euler":
            raise UserError(f"solver {self.name} has no resamples; use euler, or leave it out")
        if self.midpoint not in ("power", "geometric") or self.midpoint_rho <= 0:
            raise UserError(f"solver midpoint is {self.midpoint!r} (rho {self.midpoint_rho}); use power or geometric")
        if self.last not in ("step", "estimate") or (self.last == "estimate" and self.name != "euler"):
            raise UserError(f"solver last is {self.last!r} for {self.name}; use step, or estimate with euler")
        self.sigmas()

    def sigmas(self) -> list[float]:
        """The schedule, ending with 0."""
        return karras(self.steps, self.sigma_min, self.sigma_max, self.rho)

    @property
    def evaluations(self) -> int:
        """Evaluations of the derivative in one run."""
        if self.name in ("adpm2", "heun"):
            return 2 * self.steps - 1
        return self.steps * self.resamples

    def sample(
        self, derivative: samplers.Derivative, x: Tensor, *, noise: samplers.Noise, callback: Callback | None = None
    ) -> Tensor:
        """Integrate `derivative` from the state `x` at `sigma_max` to 0.

        Raises:
            UserError: if `last` is "estimate" and the derivative implies none.
        """
        gain = 1.0 if self.last == "step" else getattr(derivative, "gain", None)
        if gain is None:
            raise UserError("solver last is estimate, for the Extractor and the projected Separator; use step")
        return self._integrate(derivative, x, self.sigmas(), self.s_churn, self.resamples, noise, callback, gain)

    def step(self, derivative: samplers.Derivative, x: Tensor, sigmas: Sequence[float]) -> Tensor:
        """One step of a run without its noise, for `check_stability`."""
        return self._integrate(derivative, x, sigmas, self.s_churn / self.steps, 1, torch.zeros_like, None)

    def _integrate(
        self,
        derivative: samplers.Derivative,
        x: Tensor,
        sigmas: Sequence[float],
        s_churn: float,
        resamples: int,
        noise: samplers.Noise,
        callback: Callback | None,
        last_gain: float = 1.0,
    ) -> Tensor:
        options: dict[str, Any] = {}
        if self.name in ("euler", "heun"):
            options["s_churn"] = s_churn
        if self.name == "euler":
            options.update(resamples=resamples, last_gain=last_gain)
        if self.name == "adpm2":
            options.update(rho=self.midpoint_rho, midpoint=self.midpoint)
        return SAMPLERS[self.name](derivative, x, sigmas, noise=noise, callback=callback, **options)


@dataclass(frozen=True)
class Guidance:
    """Classifier-free guidance, see `gmsdi.sampling.guidance.guided`.

    Attributes:
        w: strength, in the convention below.
        convention: "paper" (0 is no guidance) or "adp" (1 is no guidance).
        interval: σ range within which guidance acts; None is everywhere.
        clamp: limit of the denoised signal; None is no limit.

    Raises:
        UserError: if a value is out of range.
    """

    w: float = 0.0
    convention: str = "paper"
    interval: Sequence[float] | None = None
    clamp: float | None = None

    def __post_init__(self) -> None:
        if isinstance(self.w, bool) or not isinstance(self.w, int | float) or not math.isfinite(self.w):
            raise UserError(f"guidance w is {self.w!r}; it must be a number")
        if self.convention not in ("paper", "adp"):
            raise UserError(f"guidance convention is {self.convention!r}; choose paper or adp")
        if self.interval is not None and (len(self.interval) != 2 or not self.interval[0] <= self.interval[1]):
            raise UserError(f"guidance interval is {self.interval!r}; it must be [low, high] in sigma")
        if self.clamp is not None and not self.clamp > 0:
            raise UserError(f"guidance clamp is {self.clamp!r}; it must be positive or null")
