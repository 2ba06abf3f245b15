"""Which γ and steps are stable."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
from torch import Tensor

from gmsdi.errors import UserError
from gmsdi.inference.base import Derivative


def check_stability(
    derivative: Derivative, sigmas: Sequence[float], *, step: Callable[..., Tensor] | None = None
) -> None:
    """Refuse a schedule whose explicit steps would make the likelihood terms of Eq. 10–12 diverge.

    The terms move the mixture's error e = y − Σx by de/dσ = λ(σ)·e (`Derivative.coupling`), so an Euler step over Δσ
    multiplies it by 1 − λ·Δσ: it shrinks only if λ·Δσ < 2, with γ_x = γ_y = γ and K sources (K + 1)·Δσ·σ/γ² < 2.

    For γ = c·σ the bound is (K + 1)·Δσ/(c²·σ) < 2. Every schedule that ends at 0 has a step with Δσ = σ, so it needs
    c² > (K + 1)/2 whatever the number of steps (c² > K/2 with γ_y = ∞). With c = √(K + 1) that step removes the error
    exactly, which makes it the natural choice. The bound is on the terms alone: where σ is above the data's scale the
    denoiser contracts too, and (1 + (K + 1)/c²)·Δσ/σ < 2 keeps both together from overshooting.

    An implicit treatment would not pull harder: backward Euler, e/(1 + λ·Δσ), equals the explicit step with
    γ² + (K + 1)·Δσ·σ in place of γ², that is with c² + (K + 1)·Δσ/σ in place of c². A constant γ is stable if it is
    large against the steps at high σ; it lets go of the error where σ falls below it.

    Args:
        derivative: of any procedure; those without a coupling pass.
        sigmas: the schedule.
        step: the sampler, to test what its own stages make of e, called as `step(derivative, x, sigmas)` with
            schedules of one step; None is Euler without churn.

    Raises:
        UserError: names the first step that diverges and a γ that does not.
    """
    coupling = derivative.coupling
    for i, (sigma, sigma_next) in enumerate(pairwise(sigmas)):
        amount = (sigma - sigma_next) * coupling(sigma)
        growth = 1 - amount
        if step is not None:
            one = torch.ones(1, dtype=torch.float64)
            growth = step(lambda e, s: coupling(s) * e, one, [sigma, sigma_next]).item()
        if growth <= -1 or growth > 1 + 1e-9:
            what = (
                f"step {i + 1} of {len(sigmas) - 1} (sigma {sigma:.4g} to {sigma_next:.4g}) multiplies the mixture's "
                f"error by {growth:.3g}: it is unstable"
            )
            if amount <= 0:
                raise UserError(f"{what}; beta must be positive")
            raise UserError(
                f"{what}; raise gamma: {math.sqrt(derivative.rows):.3g}*sigma is stable in every schedule, and a "
                f"constant gamma may also take more steps"
            )
