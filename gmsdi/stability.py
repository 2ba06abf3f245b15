"""The width γ of likelihood terms, and which γ and steps are stable.

No torch is imported, so that a configuration can be checked without it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING, TypeAlias, TypeGuard

from gmsdi.errors import UserError

if TYPE_CHECKING:
    from gmsdi.inference.base import Derivative
    from gmsdi.sampling.solver import Solver

Gamma: TypeAlias = float | Callable[[float], float]
Coupling: TypeAlias = Callable[[float], float]
"""λ(σ) of likelihood terms, which move the error e of a sum by de/dσ = λ·e."""
Step: TypeAlias = Callable[[Callable[[float, float], float], float, Sequence[float]], float]
"""A sampler as `step(derivative, e, sigmas)`, with a number e in place of a state."""

LOUDEST = 2.0
"""Relative to full scale: what noise may leave of itself in stems that have a use (measured in `check_separator`)."""
LOST = 1000.0
"""The same for stems that are only measured: what searches and figures of costs show of few steps lies far below."""


def positive(name: str, gamma: Gamma) -> Gamma:
    """Check that γ is positive, unless it is a function of σ, and return it."""
    if not callable(gamma) and not (_is_number(gamma) and gamma > 0):
        raise UserError(f"{name} is {gamma!r}; it must be positive (inf drops the term), or a function of sigma")
    return gamma


def pull(gamma: Gamma, sigma: float) -> float:
    """σ/γ², the factor of a likelihood term in derivative form; 0 for γ = ∞."""
    value = gamma(sigma) if callable(gamma) else gamma
    try:
        return 0.0 if math.isinf(value) else sigma / value**2
    except OverflowError:
        return 0.0
    except ZeroDivisionError:  # γ² is too small for a number
        return math.inf


def natural_gamma(sources: int) -> Gamma:
    """γ = √(K + 1)·σ, with which a step to 0 makes K sources sum to the mixture row (`check_stability`)."""
    return lambda sigma: math.sqrt(sources + 1) * sigma


def gaussian_gamma(sigma: float) -> float:
    """γ = 0.75·σ, MSDM's width of the Gaussian likelihood."""
    return 0.75 * sigma


def coupling_of(sigma: float, sources: int, gamma_x: Gamma, gamma_y: Gamma = math.inf, beta: float = 1.0) -> float:
    """λ(σ) = (β·K/γ_x² + 1/γ_y²)·σ, by which the likelihood terms of K sources and their mixture move e: de/dσ = λ·e.

    Args:
        sigma: σ.
        sources: K.
        gamma_x: γ of the sources.
        gamma_y: γ of the mixture.
        beta: β, the scale of the sources in the mixture.
    """
    return beta * sources * pull(gamma_x, sigma) + pull(gamma_y, sigma)


def gamma_from_config(value: float | str | Mapping[str, float]) -> Gamma:
    """γ as configurations write it: a number, "inf", or `{"sigma": c}` for γ = c·σ.

    With c·σ the likelihood may be limited to a range of noise levels: `{"sigma": c, "above": s, "below": t}` (or one of
    the two) limits it to s ≤ σ < t; elsewhere γ = ∞. The notes of a clip and their instruments are settled at high
    noise levels; at lower ones the term only shifts the input of each row's denoiser.

    Raises:
        UserError: for anything else, or if a number is not positive, or no noise level is left.
    """
    if isinstance(value, Mapping):
        c, above, below = value.get("sigma"), value.get("above", 0.0), value.get("below", math.inf)
        known = value.keys() <= {"sigma", "above", "below"}
        if known and _is_number(c) and c > 0 and _is_number(above) and _is_number(below) and 0 <= above < below:
            if math.isinf(c):
                return math.inf
            return lambda sigma: c * sigma if above <= sigma < below else math.inf
    elif value == "inf":
        return math.inf
    elif _is_number(value) and float(value) > 0:
        return float(value)
    raise UserError(
        f'gamma is {value!r}; write a positive number, "inf", or {{sigma: c}} for gamma = c*sigma, maybe with above '
        "and below, the noise levels between which it acts"
    )


def gamma_from_text(text: str, name: str = "gamma") -> Gamma:
    """γ as a user writes it: a number, "inf", or "2*sigma", also "2*sigma above 0.1 below 1".

    Args:
        text: what is written.
        name: what it is for, for the message.

    Raises:
        UserError: for anything else.
    """
    number, star, rest = text.partition("*sigma")
    words = rest.split()
    try:
        value = float(number)
        limits = {key: float(level) for key, level in zip(words[::2], words[1::2], strict=True)}
        return gamma_from_config({"sigma": value, **limits} if star else value)
    except (ValueError, UserError):
        raise UserError(
            f'{name} {text!r}: write a positive number, "inf", or "2*sigma" (also "2*sigma above 0.1 below 1")'
        ) from None


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool) and not math.isnan(value)


def check_stability(derivative: Derivative, sigmas: Sequence[float], *, step: Step | None = None) -> None:
    """Refuse a schedule whose explicit steps would make the likelihood terms of a derivative diverge.

    Args:
        derivative: of any procedure; those without a coupling pass.
        sigmas: the schedule.
        step: see `check_steps`.

    Raises:
        UserError: see `check_steps`.
    """
    check_steps(derivative.coupling, derivative.rows, sigmas, step=step)


def check_steps(coupling: Coupling, rows: int, sigmas: Sequence[float], *, step: Step | None = None) -> None:
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
        coupling: λ(σ).
        rows: the number of signals that are coupled: the K sources, and the mixture.
        sigmas: the schedule.
        step: the sampler, to test what its own stages make of e, called with schedules of one step; None is Euler
            without churn.

    Raises:
        UserError: names the first step that diverges and a γ that does not.
    """
    found = _growing(coupling, sigmas, step)
    if found is None:
        return
    i, growth = found
    sigma, sigma_next = sigmas[i], sigmas[i + 1]
    what = (
        f"step {i + 1} of {len(sigmas) - 1} (sigma {sigma:.4g} to {sigma_next:.4g}) multiplies the mixture's error by "
        f"{growth:.3g}: it is unstable"
    )
    if coupling(sigma) <= 0:
        raise UserError(f"{what}; beta must be positive")
    raise UserError(
        f"{what}; raise gamma: {math.sqrt(rows):.3g}*sigma is stable in every schedule, and a constant gamma may also "
        "take more steps"
    )


def _growing(coupling: Coupling, sigmas: Sequence[float], step: Step | None) -> tuple[int, float] | None:
    """The first step that multiplies e by more than 1, and by how much; None if there is none."""
    for i, (sigma, sigma_next) in enumerate(pairwise(sigmas)):
        if step is None:
            growth = 1 - (sigma - sigma_next) * coupling(sigma)
        else:
            growth = step(lambda e, s: coupling(s) * e, 1.0, [sigma, sigma_next])
        if not -1 < growth <= 1 + 1e-9:  # or is none
            return i, growth
    return None


def check_separator(solver: Solver, sources: int) -> None:
    """Refuse a schedule whose steps make the Separator of Eq. 13 diverge, before anything is sampled.

    With fixed estimates D, the derivative of its K − 1 free rows is (I + 11ᵀ)·x/σ + const., whose largest eigenvalue is
    K/σ: an Euler step over Δσ multiplies what all rows have in common by 1 − K·Δσ/σ. The rows of the Extractor and of
    the projected Separator have 2 in place of K, so that no step to a σ above 0 multiplies by more than 1 in magnitude.
    Noise of the size of σ at any step must not be louder than music after all the later steps.

    Args:
        solver: how it is sampled.
        sources: K.

    Raises:
        UserError: if it would be; the message names a number of steps that is enough.
    """
    if why := separator_refusal(solver, sources, LOUDEST):
        raise UserError(f"{why}, or the consistent Extractor (preset best or fast)")


def separator_refusal(solver: Solver, sources: int, loudest: float) -> str | None:
    """Why a schedule has too few steps for the Separator, and what to do; None if it has enough.

    Args:
        solver: how it is sampled.
        sources: K.
        loudest: what noise may leave of itself in the stems, relative to full scale: `LOUDEST` or `LOST`.
    """
    left = noise_left(solver, sources)
    if left <= loudest:
        return None
    advice = more_steps(solver, lambda other: noise_left(other, sources) <= loudest)
    return (
        f"{solver.steps} steps are too few for the Separator of {sources} stems, which leaves noise of up to "
        f"{left:.3g} times full scale in them; {advice}"
    )


def gaussian_refusal(solver: Solver, sources: int) -> str | None:
    """Why MSDM's Gaussian separator is unstable with a schedule, and what to do; None if it is stable.

    Its γ is 0.75·σ, and MSDM halves the pull of the likelihood. The step to 0 is not counted: it overshoots once, by no
    more than what is left at `sigma_min`.

    Args:
        solver: how it is sampled.
        sources: K.
    """

    def growing(other: Solver) -> tuple[int, float] | None:
        return _growing(lambda s: coupling_of(s, sources, gaussian_gamma) / 2, other.sigmas()[:-1], other.step)

    if (found := growing(solver)) is None:
        return None
    advice = more_steps(solver, lambda other: growing(other) is None)
    return (
        f"{solver.steps} steps are too few for the Gaussian separator of {sources} stems: step {found[0] + 1} "
        f"multiplies the mixture's error by {found[1]:.3g}; {advice}"
    )


def more_steps(solver: Solver, enough: Callable[[Solver], bool]) -> str:
    """The smallest larger number of steps that is enough, as advice."""
    tried = (replace(solver, steps=steps) for steps in range(solver.steps + 1, 1001))
    found = next((other.steps for other in tried if enough(other)), None)
    return f"take {found} steps or more" if found else "change the schedule"


def check_noise(solver: Solver, rows: int, sigma_data: float) -> None:
    """Refuse steps that leave noise louder than the music in the stems, before anything is sampled.

    Args:
        solver: how the stems are sampled.
        rows: see `noise_left`.
        sigma_data: level of the music that the model knows.

    Raises:
        UserError: if they do; the message names a number of steps that leaves little.
    """
    if noise_left(solver, rows) > sigma_data:
        raise UserError(str(noise_warning(solver, rows, sigma_data)))


def noise_warning(solver: Solver, rows: int, sigma_data: float) -> str | None:
    """Say that steps leave noise in the stems, which their sum does not show; None if it is below half of the music.

    Args:
        solver: how the stems are sampled.
        rows: see `noise_left`.
        sigma_data: level of the music that the model knows.
    """
    limit = sigma_data / 2
    if (left := noise_left(solver, rows)) <= limit:
        return None
    return (
        f"{solver.steps} steps leave noise in the stems, up to {left / sigma_data:.0%} of the music's level; "
        f"{more_steps(solver, lambda other: noise_left(other, rows) <= limit)}"
    )


def noise_left(solver: Solver, rows: int) -> float:
    """The most that noise of the size of σ, at whichever step, leaves in the stems after all the later steps.

    The estimates D are taken to be fixed, up to the last step. If that one ends at D (`last` of `Euler`), what counts
    is the noise that D itself keeps. The denoiser expects noise of the size σ̂; of a state whose noise has the size
    e ≥ σ̂ it takes the excess for music. A linear denoiser that does so best multiplies by 1 − σ̂²/e² (Wiener).

    Args:
        solver: how they are sampled.
        rows: what takes the place of K in `check_separator`: the number of stems of the Separator, or 2.
    """
    *before, (last, end) = pairwise(solver.sigmas())

    def shrink(sigma: float, sigma_next: float) -> float:
        return abs(solver.step(lambda e, s: rows * e / s, 1.0, [sigma, sigma_next]))

    loudest, gain = last, 1.0
    for sigma, sigma_next in reversed(before):
        gain *= shrink(sigma, sigma_next)
        loudest = max(loudest, sigma * gain)
    raised = solver.estimated_at
    if raised is None:
        return loudest * shrink(last, end)
    heard = math.sqrt(loudest**2 + raised**2 - last**2)
    return heard * (1 - (raised / heard) ** 2)
