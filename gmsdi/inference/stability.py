"""Which γ and steps are stable."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from gmsdi.errors import UserError
from gmsdi.inference.base import Derivative

if TYPE_CHECKING:
    from gmsdi.sampling.solver import Solver

LOUDEST = 2.0
"""The highest level of noise, relative to full scale, at which stems are still usable (see `check_separator`)."""


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
        step: the sampler, so that its own stages are tested, called as `step(derivative, x, sigmas)` with schedules of
            one step; None is Euler without churn.

    Raises:
        UserError: if a step diverges; the message names the first such step and a stable γ.
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


def check_separator(solver: Solver, sources: int) -> None:
    """Refuse a schedule whose steps make the Separator of Eq. 13 diverge, before anything is sampled.

    With fixed estimates D, the derivative of its K − 1 free rows is (I + 11ᵀ)·x/σ + const., whose largest eigenvalue is
    K/σ: an Euler step over Δσ multiplies what all rows have in common by 1 − K·Δσ/σ. The rows of the Extractor and of
    the projected Separator have 2 in place of K, so that no step to a σ above 0 multiplies by more than 1 in magnitude.
    Noise of the size of σ at any step must not be louder than music after all the later steps.

    Args:
        solver: the sampler and its schedule.
        sources: K.

    Raises:
        UserError: if it would be; the message names a number of steps that is enough.
    """
    left = noise_left(solver, sources)
    if left > LOUDEST:
        raise UserError(
            f"{solver.steps} steps are too few for the Separator of {sources} stems, which leaves noise of up to "
            f"{left:.3g} times full scale in them; {more_steps(solver, sources, LOUDEST)}, or the consistent Extractor "
            "(preset best or fast)"
        )


def noise_left(solver: Solver, rows: int) -> float:
    """The most that noise of the size of σ, at whichever step, leaves in the stems after all the later steps.

    Args:
        solver: how they are sampled.
        rows: what takes the place of K in `check_separator`: the number of stems of the Separator, or 2.
    """
    one, loudest, gain = torch.ones(1, dtype=torch.float64), 0.0, 1.0
    for sigma, sigma_next in reversed(list(pairwise(solver.sigmas()))):
        gain *= abs(solver.step(lambda e, s: rows * e / s, one, [sigma, sigma_next]).item())
        loudest = max(loudest, sigma * gain)
    return loudest


def more_steps(solver: Solver, rows: int, limit: float) -> str:
    """Advice on how many steps leave no more noise than `limit`, see `noise_left`."""
    tried = (replace(solver, steps=steps) for steps in range(solver.steps + 1, 1001))
    enough = next((other.steps for other in tried if noise_left(other, rows) <= limit), None)
    return f"take {enough} steps or more" if enough else "change the schedule"
