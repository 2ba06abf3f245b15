"""Samplers: integrate dx/dσ from the first σ of a schedule to its last, which is 0 for a clean signal.

They are pure functions of a derivative and know nothing of denoisers, prompts or music, nor of torch: the state may be
a number, as in `gmsdi.stability`. For the probability-flow ODE of
a denoiser D the derivative is dx/dσ = (x − D(x, σ))/σ (Karras et al. 2022, Eq. 3), but any other works too: those of
`gmsdi.inference` couple several signals.

All samplers take

- `derivative(x, sigma)`, where `sigma` is a Python float above 0;
- `x`: the state at `sigmas[0]`, usually `sigmas[0] · noise`; its dtype is kept;
- `sigmas`: Python floats, strictly decreasing; the schedules of `gmsdi.sampling.schedules` end with 0, a list that ends
  at a higher noise level stops there;
- `noise(x)`: standard Gaussian noise shaped like `x`; needed only if the settings add noise;
- `callback(step, steps)`: called after each step, counted from 1.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Literal, TypeAlias

if TYPE_CHECKING:
    from torch import Tensor

from gmsdi.sampling.schedules import ancestral, churned, middle

Derivative: TypeAlias = "Callable[[Tensor, float], Tensor]"
Noise: TypeAlias = "Callable[[Tensor], Tensor]"
Callback: TypeAlias = Callable[[int, int], None]


def euler(
    derivative: Derivative,
    x: Tensor,
    sigmas: Sequence[float],
    *,
    s_churn: float = 0.0,
    resamples: int = 1,
    last_gain: float = 1.0,
    noise: Noise | None = None,
    callback: Callback | None = None,
) -> Tensor:
    """First-order sampler of Karras et al. 2022, Algorithm 2: the paper's "AEuler" with s_churn.

    Each step raises the noise level to σ̂ = σ(1 + min(s_churn/n, √2 − 1)) and then takes an Euler step from σ̂ to
    σ_next. With `resamples` = R > 1 the step is taken R times: after each but the last, noise brings the state back
    from σ_next to σ.

    With a derivative g·(x − D)/σ, an Euler step to 0 ends at D − (g − 1)·(x − D); for g = 2 this reverses the noise
    instead of removing it. `last_gain` = g makes the step end at D. The difference hardly matters if the last σ above 0
    is small, as in schedules of many steps.

    Returns:
        The state at the last σ. One evaluation per step and resample.
    """
    steps = _check(sigmas, noise, s_churn > 0 or resamples > 1)
    for i in range(steps):
        sigma, sigma_next = sigmas[i], sigmas[i + 1]
        sigma_hat = churned(sigma, s_churn, steps)
        for repeat in range(resamples):
            x = _add_noise(x, sigma, sigma_hat, noise)
            width = sigma_next - sigma_hat if sigma_next > 0 else -sigma_hat / last_gain
            x = x + width * derivative(x, sigma_hat)
            if repeat < resamples - 1:
                x = _add_noise(x, sigma_next, sigma, noise)
        _report(callback, i, steps)
    return x


def heun(
    derivative: Derivative,
    x: Tensor,
    sigmas: Sequence[float],
    *,
    s_churn: float = 0.0,
    noise: Noise | None = None,
    callback: Callback | None = None,
) -> Tensor:
    """Second-order sampler of Karras et al. 2022, Algorithm 2: an Euler step corrected by the trapezoidal rule.

    Returns:
        The state at the last σ. Two evaluations per step, but one in a step to 0, where the derivative is undefined.
    """
    steps = _check(sigmas, noise, s_churn > 0)
    for i in range(steps):
        sigma, sigma_next = sigmas[i], sigmas[i + 1]
        sigma_hat = churned(sigma, s_churn, steps)
        x = _add_noise(x, sigma, sigma_hat, noise)
        slope = derivative(x, sigma_hat)
        predicted = x + (sigma_next - sigma_hat) * slope
        if sigma_next > 0:
            slope = (slope + derivative(predicted, sigma_next)) / 2
            predicted = x + (sigma_next - sigma_hat) * slope
        x = predicted
        _report(callback, i, steps)
    return x


def adpm2(
    derivative: Derivative,
    x: Tensor,
    sigmas: Sequence[float],
    *,
    rho: float = 1.0,
    midpoint: Literal["power", "geometric"] = "power",
    eta: float = 1.0,
    noise: Noise | None = None,
    callback: Callback | None = None,
) -> Tensor:
    """Ancestral midpoint sampler (Lu et al. 2022's second-order solver with ancestral noise): the paper's ADPM2.

    Each step goes from σ to σ_down through a midpoint and adds noise up to σ_next. The midpoint "power" is the power
    mean ((σ^(1/ρ) + σ_down^(1/ρ))/2)^ρ (arithmetic for ρ = 1), as in audio-diffusion-pytorch and in the paper;
    "geometric" is √(σ·σ_down), as in k-diffusion's `sample_dpm_2_ancestral`. The two give different results. A step to
    0 is an Euler step.

    Args:
        derivative: see the module.
        x: see the module.
        sigmas: see the module.
        rho: ρ of the power mean.
        midpoint: "power" or "geometric".
        eta: 1 for ancestral noise, 0 for the deterministic midpoint method.
        noise: see the module.
        callback: see the module.

    Returns:
        The state at the last σ. Two evaluations per step, but one in a step to 0.
    """
    if midpoint not in ("power", "geometric"):
        raise ValueError(f"midpoint is {midpoint!r}; choose power or geometric")
    steps = _check(sigmas, noise, eta > 0)
    for i in range(steps):
        sigma, sigma_next = sigmas[i], sigmas[i + 1]
        sigma_down, sigma_up = ancestral(sigma, sigma_next, eta)
        slope = derivative(x, sigma)
        if sigma_down > 0:
            sigma_mid = middle(sigma, sigma_down, midpoint, rho)
            slope = derivative(x + (sigma_mid - sigma) * slope, sigma_mid)
        x = x + (sigma_down - sigma) * slope
        x = _add_noise(x, sigma_down, math.hypot(sigma_down, sigma_up), noise)
        _report(callback, i, steps)
    return x


def dpmpp_2m(
    derivative: Derivative,
    x: Tensor,
    sigmas: Sequence[float],
    *,
    noise: Noise | None = None,
    callback: Callback | None = None,
) -> Tensor:
    """DPM-Solver++(2M) (Lu et al. 2022b, Algorithm 2) in σ: second order, deterministic, one evaluation per step.

    It works on D = x − σ·dx/dσ, the denoised signal that the derivative implies, and extrapolates D linearly in
    λ = −ln σ from the previous step. The first step and a step to 0 are of first order.

    Returns:
        The state at the last σ.
    """
    steps = _check(sigmas, noise, False)
    previous: Tensor | None = None
    width_before = 0.0
    for i in range(steps):
        sigma, sigma_next = sigmas[i], sigmas[i + 1]
        denoised = x - sigma * derivative(x, sigma)
        extrapolated = denoised
        if sigma_next > 0:
            width = math.log(sigma / sigma_next)
            if previous is not None:
                extrapolated = denoised + width / (2 * width_before) * (denoised - previous)
            width_before = width
        x = (sigma_next / sigma) * x + (1 - sigma_next / sigma) * extrapolated
        previous = denoised
        _report(callback, i, steps)
    return x


def _check(sigmas: Sequence[float], noise: Noise | None, noisy: bool) -> int:
    """Check a schedule and its noise, and return the number of steps."""
    if len(sigmas) < 2 or sigmas[-1] < 0 or any(a <= b for a, b in pairwise(sigmas)):
        raise ValueError("a schedule must have at least two values, decrease strictly and not go below 0")
    if noisy and noise is None:
        raise ValueError("these settings add noise: pass noise=..., for instance SeededNoise(seeds)")
    return len(sigmas) - 1


def _add_noise(x: Tensor, sigma: float, sigma_new: float, noise: Noise | None) -> Tensor:
    """Raise the noise level of `x` from `sigma` to `sigma_new`."""
    if sigma_new <= sigma or noise is None:
        return x
    return x + math.sqrt(sigma_new**2 - sigma**2) * noise(x)


def _report(callback: Callback | None, i: int, steps: int) -> None:
    if callback is not None:
        callback(i + 1, steps)
