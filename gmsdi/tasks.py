"""The four tasks on tensors of audio, one seed per item: separate, extract, generate, accompany.

They take and return signals `[..., C, T]` at the model's rate: what its space is, waveform or latent, is settled here.
A `Session` says how the model is sampled. For files of any rate see `gmsdi.song`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
import torch
from torch import Tensor

from gmsdi import level
from gmsdi.errors import UserError
from gmsdi.inference import (
    Conditioned,
    Consistency,
    Derivative,
    Extractor,
    Gamma,
    Partial,
    Projected,
    Separator,
    Single,
    Total,
    Wiener,
    natural_gamma,
)
from gmsdi.inference.base import Mixed, decoded
from gmsdi.level import Rests
from gmsdi.sampling.noise import CoupledNoise, SeededNoise, sample_seeds
from gmsdi.sampling.session import Session
from gmsdi.types import Negatives, Progress, Prompt, Stem

GivenNoise: TypeAlias = Literal["fixed", "redrawn", "coupled"]
TotalNoise: TypeAlias = Literal["independent", "coupled"]


@dataclass(frozen=True)
class Average:
    """The mean of several runs with noises of their own, an estimate of the posterior mean.

    Attributes:
        runs: how many.
        inverted: every other run separates the mixture with its polarity inverted, so that the mean takes out what the
            network makes of the polarity, which is no property of a sound.

    Raises:
        UserError: if there is no run.
    """

    runs: int = 1
    inverted: bool = False

    def __post_init__(self) -> None:
        if self.runs < 1:
            raise UserError(f"samples is {self.runs}; it must be at least 1")

    def repeated(self, y: Tensor) -> Tensor:
        """The runs of each item `[B, C, T]` in a row, each with its polarity: `[B · runs, C, T]`."""
        return (y.unsqueeze(1) * self._signs(y)).flatten(0, 1)

    def mean(self, stems: Tensor) -> Tensor:
        """Average the stems of all runs: `[B · runs, K, C, T]` to `[B, K, C, T]`."""
        found = stems.unflatten(0, (-1, self.runs))
        return (found * self._signs(stems).unsqueeze(-1)).mean(dim=1)

    def _signs(self, like: Tensor) -> Tensor:
        signs = [-1.0 if self.inverted and run % 2 else 1.0 for run in range(self.runs)]
        return like.new_tensor(signs).reshape(-1, 1, 1)


def separate(
    session: Session,
    mixture: Tensor,
    stems: Sequence[Stem],
    *,
    seeds: Sequence[int],
    constrained: int | str | None = None,
    average: Average | None = None,
    wiener: Wiener | None = None,
    negatives: Negatives = None,
    levels: Sequence[float] | None = None,
    progress: Progress | None = None,
) -> Tensor:
    """Separate mixtures with the GMSDI Separator (Eq. 13).

    Args:
        session: the model and how it is sampled.
        mixture: `[B, C, T]`.
        stems: the K labels, or prompts.
        seeds: one per item.
        constrained: the stem that is the mixture minus the others, by index or label; None constrains none of them and
            projects all onto the mixture (`inference.Projected`).
        average: of how many runs; None is one.
        wiener: filter the mixture by the result; stems then hold only what the mixture has.
        negatives: label to negative text; the paper uses none here.
        levels: of the piece that each item is from, in dB relative to full scale (`gmsdi.level`); None measures each
            item by itself.
        progress: called with (step, steps).

    Returns:
        `[B, K, C, T]` float32 on the CPU; the stems sum to the mixture, and are silent where it is.

    Raises:
        UserError: for input that is not finite, of another shape, or does not fit the stems.
    """
    prompts = session.labels.prompts(stems, negatives)

    def derivative(model: Session, y: Tensor) -> Derivative:
        if constrained is None:
            return Projected(model, y, prompts, space=model.space)
        return Separator(model, y, prompts, constrained, space=model.space)

    return _separated(session, derivative, mixture, len(prompts), seeds, average, wiener, levels, progress)


def extract(
    session: Session,
    mixture: Tensor,
    stems: Sequence[Stem],
    *,
    seeds: Sequence[int],
    consistent: bool | Consistency = False,
    average: Average | None = None,
    wiener: Wiener | None = None,
    negatives: Negatives = None,
    levels: Sequence[float] | None = None,
    progress: Progress | None = None,
) -> Tensor:
    """Separate mixtures with the GMSDI Extractor (Eq. 14).

    Args:
        session: the model and how it is sampled.
        mixture: `[B, C, T]`.
        stems: the K labels, or prompts.
        seeds: one per item.
        consistent: solve for the stems together, so that they sum to the mixture (`inference.Extractor`); otherwise
            each is extracted by itself.
        average: see `separate`.
        wiener: see `separate`.
        negatives: label to negative text, of the stems alone: the complementary mixtures have z*. The paper uses them
            for Bass and Drums.
        levels: see `separate`.
        progress: called with (step, steps).

    Returns:
        `[B, K, C, T]` float32 on the CPU, silent where the mixture is.

    Raises:
        UserError: see `separate`.
    """
    prompts = session.labels.prompts(stems, negatives)

    def derivative(model: Session, y: Tensor) -> Derivative:
        return Extractor(model, y, prompts, consistent=consistent, join=model.labels.join, space=model.space)

    return _separated(session, derivative, mixture, len(prompts), seeds, average, wiener, levels, progress)


def sample(
    session: Session,
    prompts: Sequence[Stem],
    *,
    seeds: Sequence[int],
    length: int | None = None,
    progress: Progress | None = None,
) -> Tensor:
    """Plain text-to-music: one signal per prompt, `[B, C, T]` float32 on the CPU, as loud as in training.

    Args:
        session: the model and how it is sampled.
        prompts: one per item; with a negative text as `Prompt(text, negative)`.
        seeds: one per item.
        length: samples; None is the model's window.
        progress: called with (step, steps).
    """
    derivative = Single(session, session.labels.prompts(prompts))
    _require_seeds(seeds, len(prompts))
    state = session.sample(derivative, session.shape(length), seeds, progress=progress)
    return session.space.decode(state[:, 0]).cpu()


def generate(
    session: Session,
    stems: Sequence[Stem],
    *,
    seeds: Sequence[int],
    gamma_x: Gamma | None = None,
    gamma_y: Gamma = math.inf,
    noise: TotalNoise = "independent",
    consistent: bool = False,
    groups: Sequence[Sequence[int]] | None = None,
    negatives: Negatives = None,
    length: int | None = None,
    progress: Progress | None = None,
) -> tuple[Tensor, Tensor]:
    """Total generation (Eq. 10 and, with `groups`, 11): coherent stems from nothing.

    Args:
        session: the model and how it is sampled.
        stems: the K labels, or prompts.
        seeds: one per item; their number is the batch size B.
        gamma_x: γ of the stems; None is √(K + 1)·σ, see `gmsdi.inference.check_stability`.
        gamma_y: γ of the mixture; the paper sets it to ∞.
        noise: of the rows: "independent", or beyond the paper "coupled", so that the mixture row's noise is the sum of
            the stems', at the start and wherever the solver adds noise (`gmsdi.sampling.noise.CoupledNoise`).
        consistent: the stems sum to the mixture row exactly (`inference.Total`).
        groups: stems that are generated as one signal, as lists of indices.
        negatives: label to negative text.
        length: samples; None is the model's window.
        progress: called with (step, steps).

    Returns:
        The stems (or groups) `[B, K, C, T]` and the mixture row `[B, C, T]`, float32 on the CPU, as loud as the
        mixtures that the model was trained on.

    Raises:
        UserError: if the steps are unstable with these γ, among others.
    """
    if noise not in ("independent", "coupled"):
        raise UserError(f"noise is {noise!r}; choose independent or coupled")
    derivative = Total(
        session,
        session.labels.prompts(stems, negatives),
        groups=groups,
        gamma_x=natural_gamma(len(stems if groups is None else groups)) if gamma_x is None else gamma_x,
        gamma_y=gamma_y,
        consistent=consistent,
        join=session.labels.join,
        space=session.space,
    )
    drawn = CoupledNoise(seeds) if noise == "coupled" else SeededNoise(seeds)
    return _with_mixture(session, derivative, session.shape(length), drawn, progress)


def generate_sequential(
    session: Session,
    stems: Sequence[Stem],
    *,
    seeds: Sequence[int],
    order: Sequence[int] | None = None,
    share: float = 0.3,
    lags: int | None = 16,
    negatives: Negatives = None,
    length: int | None = None,
    progress: Progress | None = None,
) -> tuple[Tensor, Tensor]:
    """Total generation beyond the paper: one stem after the other, each to go with those that are there.

    The first is sampled from its label alone, every other one by `inference.Conditioned`, so that no two stems have a
    part in the same sound by construction.

    Args:
        session: the model and how it is sampled.
        stems: the K labels, or prompts.
        seeds: one per item; their number is the batch size B.
        order: in which stems are generated, as indices; None draws an order for each item by its seed, so that a mean
            over items is one over orders, too.
        share: see `accompany_conditioned`.
        lags: see there.
        negatives: label to negative text.
        length: samples; None is the model's window.
        progress: called with (step, steps), over all stems.

    Returns:
        The stems `[B, K, C, T]` and their sum `[B, C, T]`, float32 on the CPU.

    Raises:
        UserError: if `order` does not have every stem once, among others.
    """
    prompts, K = session.labels.prompts(stems, negatives), len(stems)
    if order is not None and sorted(order) != list(range(K)):
        raise UserError(f"order {list(order)} does not name each of the {K} stems once, by indices from 0")
    orders = [drawn_order(seed, K) if order is None else list(order) for seed in seeds]
    shape, noise, steps = session.shape(length), SeededNoise(seeds), session.solver.steps
    made = torch.empty(len(seeds), 0, *shape, device=session.device)
    for place in range(K):
        following = [prompts[turns[place]] for turns in orders]
        derivative: Derivative
        if place == 0:
            derivative = Single(session, following)
        else:
            known = [[prompts[k] for k in turns[:place]] for turns in orders]
            derivative = Conditioned(
                session, made, known, [[x] for x in following], share=share, gamma_x=math.inf, lags=lags,
                join=session.labels.join, space=session.space,
            )  # fmt: skip
        state = session.sample(derivative, shape, noise, progress=_part(progress, place * steps, K * steps))
        made = torch.cat([made, derivative.stems(state)], dim=1)
    signals = decoded(session.space, made)
    found = torch.stack([item[torch.tensor(turns).argsort()] for item, turns in zip(signals, orders, strict=True)])
    return found.cpu(), found.sum(dim=1).cpu()


def generate_extracted(
    session: Session,
    stems: Sequence[Stem],
    *,
    separation: Session,
    seeds: Sequence[int],
    consistent: bool | Consistency = True,
    average: Average | None = None,
    negatives: Negatives = None,
    length: int | None = None,
    progress: Progress | None = None,
) -> tuple[Tensor, Tensor]:
    """Total generation beyond the paper: a mixture from the joint prompt alone, taken apart by the Extractor.

    Args:
        session: the model and how the mixture is sampled.
        stems: the K labels, or prompts.
        separation: how the Extractor is sampled (`Session.using`).
        seeds: one per item; their number is the batch size B.
        consistent: see `extract`.
        average: see `separate`, of the Extractor.
        negatives: label to negative text, for the Extractor.
        length: samples; None is the model's window.
        progress: called with (step, steps), over both.

    Returns:
        The stems `[B, K, C, T]` and the mixture `[B, C, T]`, float32 on the CPU; consistent stems sum to it.
    """
    first, steps = session.solver.steps, session.solver.steps + separation.solver.steps
    joint = session.labels.join(session.labels.prompts(stems))
    state = session.sample(Single(session, [joint]), session.shape(length), seeds, progress=_part(progress, 0, steps))
    mixture = session.space.decode(state[:, 0])
    found = extract(
        separation,
        mixture,
        stems,
        seeds=sample_seeds(seeds, 2)[1::2],  # not the noise that the mixture is made of
        consistent=consistent,
        average=average,
        negatives=negatives,
        levels=None if session.level is None else [session.level] * len(seeds),
        progress=_part(progress, first, steps),
    )
    return found, mixture.cpu()


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
    """Partial generation (Eq. 12): stems that go with the given ones, which stay as they are.

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
        given_noise: of the given stems: drawn once ("fixed"), in every evaluation ("redrawn"), or once and together
            with that of the others, so that the noises of all stems sum to the mixture's ("coupled", beyond the paper,
            see `gmsdi.sampling.noise.CoupledNoise`).
        levels: of the mixture that each item's stems are part of, in dB relative to full scale; None infers it from the
            given ones, see `gmsdi.level.accompanied`.
        progress: called with (step, steps).

    Returns:
        The generated stems `[B, J, C, T]` and the mixture row `[B, C, T]`, float32 on the CPU, as loud as goes with the
        given ones.

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
    """Partial generation beyond the paper: stems that are heard together with the clean given ones.

    Args:
        session: the model and how it is sampled.
        given: `[B, I, C, T]`.
        given_stems: the I labels, or prompts.
        stems: the J labels, or prompts, to generate.
        seeds: one per item.
        share: a of `inference.Conditioned`, the weight of the whole mixture.
        gamma_x: γ of the stems; None is √J·σ, see `check_stability`.
        lags: how far copies of the given stems are looked for, to leave them out: in steps of a state (samples of a
            waveform), see `inference.Conditioned`; None leaves them in.
        negatives: label to negative text.
        levels: see `accompany`.
        progress: called with (step, steps).

    Returns:
        The generated stems `[B, J, C, T]` and, with the given ones, the mixture that they were drawn to `[B, C, T]`,
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


def drawn_order(seed: int, stems: int) -> list[int]:
    """The order of an item's stems in `generate_sequential`, a function of its seed."""
    order: list[int] = np.random.default_rng([seed, stems]).permutation(stems).tolist()
    return order


def _separated(
    session: Session,
    derivative: Callable[[Session, Tensor], Derivative],
    mixture: Tensor,
    stems: int,
    seeds: Sequence[int],
    average: Average | None,
    wiener: Wiener | None,
    levels: Sequence[float] | None,
    progress: Progress | None,
) -> Tensor:
    """The stems `[B, K, C, T]` on the CPU, averaged over runs, at the level of the mixture."""
    mean = average or Average()

    def sample(y: Tensor, seeds: Sequence[int], rests: Rests | None) -> Tensor:
        y = mean.repeated(y)
        model = session.resting(None if rests is None else rests.repeated(mean.runs))
        separation = derivative(model, y)
        noises = sample_seeds(seeds, mean.runs)
        state = model.sample(separation, session.shape(y.shape[-1]), noises, progress=progress)
        return mean.mean(separation.signals(state))

    mixture = _signals(session, mixture, 3, "mixture")
    found = level.separated(
        sample,
        mixture,
        seeds=seeds,
        stems=stems,
        known=session.level,
        levels=levels,
        sample_rate=session.model.sample_rate,
    )
    if wiener is None:
        return found
    heard = mixture.cpu()
    filtered = wiener(found, heard)
    pieces = level.levels_of(heard, session.model.sample_rate) if levels is None else levels
    rests = Rests.of(heard, pieces, session.model.sample_rate)  # into which the filter leaks
    return filtered if rests is None else torch.where(rests.mask.unsqueeze(1), found, filtered)


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
    """Stems for given ones and the mixture, at their level; a joint prompt counts as its parts."""
    heard, prompts = session.labels.prompts(given_stems, negatives), session.labels.prompts(stems, negatives)
    counts = [sum(len(prompt.text.split(", ")) for prompt in some) for some in (heard, prompts)]

    def sample(x: Tensor) -> tuple[Tensor, Tensor]:
        known = session.space.encode(x.flatten(0, 1)).unflatten(0, x.shape[:2])
        derivative, noise = build(known, heard, prompts)
        return _with_mixture(session, derivative, known.shape[2:], noise, progress)

    given = _signals(session, given, 4, "given stems")
    _require_seeds(seeds, len(given))
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


def _with_mixture(
    session: Session, derivative: Mixed, shape: Sequence[int], noise: SeededNoise, progress: Progress | None
) -> tuple[Tensor, Tensor]:
    """The stems and the mixture of a derivative that has one, as signals on the CPU."""
    state = session.sample(derivative, shape, noise, progress=progress)
    mixture = session.space.decode(derivative.mixture_row(state))
    return derivative.signals(state).cpu(), mixture.cpu()


def _signals(session: Session, x: Tensor, axes: int, name: str) -> Tensor:
    """Checked float32 signals on the device."""
    channels = session.model.channels
    if x.ndim != axes or x.shape[-2] != channels or 0 in x.shape:
        raise UserError(f"{name} has shape {tuple(x.shape)}; {axes} axes, with {channels} channels, expected")
    if not torch.isfinite(x).all():
        raise UserError(f"{name}: holds NaN or infinite samples; repair or exclude it")
    return x.to(session.device, torch.float32)


def _require_seeds(seeds: Sequence[int], items: int) -> None:
    if len(seeds) != items:
        raise UserError(f"{len(seeds)} seeds for {items} items; give one each")


def _part(progress: Progress | None, before: int, whole: int) -> Progress | None:
    """The progress of one of several runs that together have `whole` steps."""
    return None if progress is None else lambda step, steps: progress(before + step, whole)
