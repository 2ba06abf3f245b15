"""Noise levels as Python floats, so that no step waits for the device: schedules, and levels within a step."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Literal

from gmsdi.errors import UserError

MAX_CHURN = math.sqrt(2) - 1
"""Karras et al. 2022 at most double the noise variance: σ̂ ≤ √2·σ."""


def karras(steps: int, sigma_min: float, sigma_max: float, rho: float = 7.0) -> list[float]:
    """The schedule of Karras et al. 2022 (their Eq. 5), with 0 appended.

    σ_i = (σ_max^(1/ρ) + i/(n−1)·(σ_min^(1/ρ) − σ_max^(1/ρ)))^ρ for i < n, and σ_n = 0.

    Args:
        steps: n, the number of steps; the last one goes from `sigma_min` to 0.
        sigma_min: the last σ above 0.
        sigma_max: the first σ.
        rho: how strongly the steps concentrate at small σ; 1 spaces them evenly.

    Returns:
        `steps + 1` values, from high to low. A single step goes straight from `sigma_max` to 0.

    Raises:
        UserError: if there is no step, the bounds are not 0 < sigma_min <= sigma_max, or rho is not positive or so far
            from 1 that floating point numbers cannot tell the steps apart.
    """
    if steps < 1:
        raise UserError(f"steps is {steps}; a schedule needs at least 1")
    if not 0 < sigma_min <= sigma_max < float("inf"):
        raise UserError(f"sigma_min {sigma_min} and sigma_max {sigma_max} must satisfy 0 < sigma_min <= sigma_max")
    if steps > 1 and sigma_min == sigma_max:
        raise UserError(f"sigma_min and sigma_max are both {sigma_min}; more than one step needs sigma_min < sigma_max")
    if not rho > 0:
        raise UserError(f"rho is {rho}; it must be positive")
    if steps == 1:
        return [float(sigma_max), 0.0]
    try:
        high, low = sigma_max ** (1 / rho), sigma_min ** (1 / rho)
        inner = [(high + i / (steps - 1) * (low - high)) ** rho for i in range(1, steps - 1)]
    except OverflowError:
        inner = [math.inf]
    schedule = [float(sigma_max), *inner, float(sigma_min), 0.0]
    if any(not after < before for before, after in pairwise(schedule)):
        raise UserError(f"rho {rho:g} leaves no distance between some of {steps} steps; the usual value is 7")
    return schedule


def churned(sigma: float, s_churn: float, steps: int) -> float:
    """σ̂ = σ·(1 + min(s_churn/steps, √2 − 1)) of Karras et al. 2022, Algorithm 2."""
    return sigma * (1 + min(s_churn / steps, MAX_CHURN))


def ancestral(sigma: float, sigma_next: float, eta: float = 1.0) -> tuple[float, float]:
    """Split a step into a deterministic part, to σ_down, and noise of standard deviation σ_up.

    σ_down² + σ_up² = σ_next²; with `eta` = 1, σ_up² = σ_next²·(σ² − σ_next²)/σ², the variance of the exact reverse
    transition given the clean signal; `eta` = 0 is deterministic.
    """
    up = min(sigma_next, eta * math.sqrt(max(sigma_next**2 * (sigma**2 - sigma_next**2) / sigma**2, 0.0)))
    return math.sqrt(sigma_next**2 - up**2), up


def middle(sigma: float, sigma_down: float, kind: Literal["power", "geometric"], rho: float) -> float:
    """The level between σ and σ_down at which ADPM2 evaluates, see `gmsdi.sampling.samplers.adpm2`."""
    if kind == "geometric":
        return math.sqrt(sigma * sigma_down)
    return ((sigma ** (1 / rho) + sigma_down ** (1 / rho)) / 2) ** rho
