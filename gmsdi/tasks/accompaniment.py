"""Partial generation: stems that go with given ones."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, TypeAlias

from torch import Tensor

from gmsdi import level
from gmsdi.errors import UserError
from gmsdi.inference import (
    Conditioned,
    Gamma,
    Partial,
    natural_gamma,
)
from gmsdi.inference.base import Mixed
from gmsdi.sampling.noise import CoupledNoise, SeededNoise
from gmsdi.sampling.session import Session
from gmsdi.tasks.signals import checked, require_seeds, with_mixture
from gmsdi.types import Negatives, Progress, Prompt, Stem

GivenNoise: TypeAlias = Literal["fixed", "redrawn", "coupled"]


def accompany(
    session: Session,
    given: Tensor,
    given_stems: Sequence[Stem],
    stems: Sequence[Stem],
    *,
    seeds: Sequence[int],
    gamma_x: Gamma | None = None,
    gamma_y: Gamma | None = None,
    alpha: float = 1.0,
    beta: float = 1.0,
    negatives: Negatives = None,
    given_noise: GivenNoise = "fixed",
    levels: Sequence[float] | None = None,
    progress: Progress | None = None,
) -> tuple[Tensor, Tensor]:
    """Partial generation (Eq. 12): stems that go with the given ones, which stay unchanged.

    Args:
        session: the model and how it is sampled.
        given: `[B, I, C, T]`.
        given_stems: the I labels, or prompts.
        stems: the J labels, or prompts, to generate.
        seeds: one per item.
        gamma_x: γ of the stems; None is √(J + 1)·σ.
        gamma_y: γ of the mixture; None is √(J + 1)·σ.
        alpha: scale of the given stems in the mixture.
        beta: scale of the generated ones.
        negatives: label to negative text.
        given_noise: how the noise of the given stems is drawn: once ("fixed"), in every evaluation of the derivative
            ("redrawn"), or once together with that of the others, so that the noises of all stems sum to the mixture's
            ("coupled", beyond the paper, see `gmsdi.sampling.noise.CoupledNoise`).
        levels: level of the mixture that each item's stems are part of, in dB relative to full scale; None infers it
            from the given stems, see `gmsdi.level.accompanied`.
        progress: called with (step, steps).

    Returns:
        The generated stems `[B, J, C, T]` and the mixture row `[B, C, T]`, float32 on the CPU, at the level of the
        given stems.

    Raises:
        UserError: for input that is not finite or of another shape, or if the steps are unstable with these γ.
    """
    if given_noise not in ("fixed", "redrawn", "coupled"):
        raise UserError(f"given_noise is {given_noise!r}; choose fixed, redrawn or coupled")

    def build(known: Tensor, heard: list[Prompt], prompts: list[Prompt]) -> tuple[Mixed, SeededNoise]:
        noise: SeededNoise = CoupledNoise(seeds) if given_noise == "coupled" else SeededNoise(seeds)
        drawn: Tensor | SeededNoise = noise
        if isinstance(noise, CoupledNoise):
            drawn = noise.given(known, len(stems))
        elif given_noise == "fixed":
            drawn = noise(known)
        derivative = Partial(
            session,
            known,
            heard,
            prompts,
            alpha=alpha,
            beta=beta,
            gamma_x=natural_gamma(len(stems)) if gamma_x is None else gamma_x,
            gamma_y=natural_gamma(len(stems)) if gamma_y is None else gamma_y,
            noise=drawn,
            join=session.labels.join,
            space=session.space,
        )
        return derivative, noise

    return _accompanied(session, build, given, given_stems, stems, seeds, negatives, levels, progress)


def accompany_conditioned(
    session: Session,
    given: Tensor,
    given_stems: Sequence[Stem],
    stems: Sequence[Stem],
    *,
    seeds: Sequence[int],
    share: float = 0.5,
    gamma_x: Gamma | None = None,
    lags: int | None = 16,
    negatives: Negatives = None,
    levels: Sequence[float] | None = None,
    progress: Progress | None = None,
) -> tuple[Tensor, Tensor]:
    """Partial generation beyond the paper: the generated stems are denoised together with the clean given ones.

    Args:
        session: the model and how it is sampled.
        given: `[B, I, C, T]`.
        given_stems: the I labels, or prompts.
        stems: the J labels, or prompts, to generate.
        seeds: one per item.
        share: a of `inference.Conditioned`, the weight of the whole mixture.
        gamma_x: γ of the stems; None is √J·σ, see `check_stability`.
        lags: reach of the filters that find copies of the given stems, which are removed; in time steps of a state (for
            waveforms, samples), see `inference.Conditioned`; None leaves copies in.
        negatives: label to negative text.
        levels: see `accompany`.
        progress: called with (step, steps).

    Returns:
        The generated stems `[B, J, C, T]`, and the mixture of the given stems and the accompaniment, `[B, C, T]`,
        float32 on the CPU.

    Raises:
        UserError: for input that is not finite or of another shape, or if the steps are unstable with this γ.
    """

    def build(known: Tensor, heard: list[Prompt], prompts: list[Prompt]) -> tuple[Mixed, SeededNoise]:
        derivative = Conditioned(
            session,
            known,
            heard,
            prompts,
            share=share,
            gamma_x=natural_gamma(len(stems) - 1) if gamma_x is None else gamma_x,
            lags=lags,
            join=session.labels.join,
            space=session.space,
        )
        return derivative, SeededNoise(seeds)

    return _accompanied(session, build, given, given_stems, stems, seeds, negatives, levels, progress)


def _accompanied(
    session: Session,
    build: Callable[[Tensor, list[Prompt], list[Prompt]], tuple[Mixed, SeededNoise]],
    given: Tensor,
    given_stems: Sequence[Stem],
    stems: Sequence[Stem],
    seeds: Sequence[int],
    negatives: Negatives,
    levels: Sequence[float] | None,
    progress: Progress | None,
) -> tuple[Tensor, Tensor]:
    """Generated stems and the mixture, at the level of the given stems; a joint prompt counts as several stems."""
    heard, prompts = session.labels.prompts(given_stems, negatives), session.labels.prompts(stems, negatives)
    counts = [sum(len(prompt.text.split(", ")) for prompt in some) for some in (heard, prompts)]

    def sample(x: Tensor) -> tuple[Tensor, Tensor]:
        known = session.space.encode(x.flatten(0, 1)).unflatten(0, x.shape[:2])
        derivative, noise = build(known, heard, prompts)
        return with_mixture(session, derivative, known.shape[2:], noise, progress)

    given = checked(session, given, 4, "given stems")
    require_seeds(seeds, len(given))
    made, mixture = level.accompanied(
        sample,
        given,
        stems=counts[0],
        others=counts[1],
        known=session.level,
        levels=levels,
        sample_rate=session.model.sample_rate,
    )
    return made, mixture
