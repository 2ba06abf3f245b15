"""Noise schedules: the σ of every step as Python floats, so that no step waits for the device."""

from __future__ import annotations

from gmsdi.errors import UserError


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
        UserError: if there is no step, or the bounds are not 0 < sigma_min <= sigma_max, or rho is not positive.
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
    high, low = sigma_max ** (1 / rho), sigma_min ** (1 / rho)
    inner = [(high + i / (steps - 1) * (low - high)) ** rho for i in range(1, steps - 1)]
    return [float(sigma_max), *inner, float(sigma_min), 0.0]
