"""Generation of single signals, each from its prompt, and of stems that belong together."""

from __future__ import annotations

import math
from collections.abc import Sequence
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
    Gamma,
    Single,
    Total,
    Wiener,
    natural_gamma,
)
from gmsdi.inference.base import decoded
from gmsdi.sampling.noise import CoupledNoise, SeededNoise, sample_seeds
from gmsdi.sampling.session import Session
from gmsdi.tasks.separation import Average, extract
from gmsdi.tasks.signals import part_of, require_seeds, with_mixture
from gmsdi.types import Negatives, Progress, Stem

TotalNoise: TypeAlias = Literal["independent", "coupled"]


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
        prompts: one per item; `Prompt(text, negative)` adds a negative text.
        seeds: one per item.
        length: number of samples; None means the model's window.
        progress: called with (step, steps).
    """
    derivative = Single(session, session.labels.prompts(prompts))
    require_seeds(seeds, len(prompts))
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
    """Total generation (Eq. 10 and, with `groups`, Eq. 11): coherent stems from noise alone.

    Args:
        session: the model and how it is sampled.
        stems: the K labels, or prompts.
        seeds: one per item; their number is the batch size B.
        gamma_x: γ of the stems; None is √(K + 1)·σ, see `gmsdi.inference.check_stability`.
        gamma_y: γ of the mixture; the paper sets it to ∞.
        noise: noise of the coupled rows: "independent", the plainest reading of the paper, which does not say; or
            "coupled", beyond the paper, so that the mixture row's noise is the sum of the stems', at the start and
            wherever the solver adds noise (`gmsdi.sampling.noise.CoupledNoise`).
        consistent: the stems sum to the mixture row exactly (`inference.Total`).
        groups: lists of indices; the stems of a list are generated as one signal.
        negatives: label to negative text.
        length: number of samples; None means the model's window.
        progress: called with (step, steps).

    Returns:
        The stems (or groups) `[B, K, C, T]` and the mixture row `[B, C, T]`, float32 on the CPU, as loud as the
        mixtures that the model was trained on.

    Raises:
        UserError: if the steps are unstable with these γ, or an argument is out of range.
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
    return with_mixture(session, derivative, session.shape(length), drawn, progress)


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
    """Total generation beyond the paper: one stem after the other, each to go with those before it.

    The first stem is sampled from its label alone, each further one by `inference.Conditioned`. By construction, no
    sound is divided between two stems.

    Args:
        session: the model and how it is sampled.
        stems: the K labels, or prompts.
        seeds: one per item; their number is the batch size B.
        order: order in which the stems are generated, as indices; None draws an order for each item from its seed, so
            that a mean over items is also a mean over orders.
        share: see `accompany_conditioned`.
        lags: see there.
        negatives: label to negative text.
        length: number of samples; None means the model's window.
        progress: called with (step, steps), over all stems.

    Returns:
        The stems `[B, K, C, T]` and their sum `[B, C, T]`, float32 on the CPU.

    Raises:
        UserError: if `order` does not contain every stem once, or an argument is out of range.
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
        state = session.sample(derivative, shape, noise, progress=part_of(progress, place * steps, K * steps))
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
    wiener: Wiener | None = None,
    negatives: Negatives = None,
    length: int | None = None,
    progress: Progress | None = None,
) -> tuple[Tensor, Tensor]:
    """Total generation beyond the paper: a mixture is sampled from the joint prompt, then separated by the Extractor.

    Args:
        session: the model and how the mixture is sampled.
        stems: the K labels, or prompts.
        separation: how the Extractor is sampled (`Session.using`).
        seeds: one per item; their number is the batch size B.
        consistent: see `extract`.
        average: see `separate`; for the Extractor.
        wiener: filters the mixture by the stems, see `separate`.
        negatives: label to negative text, for the Extractor.
        length: number of samples; None means the model's window.
        progress: called with (step, steps), over both runs.

    Returns:
        The stems `[B, K, C, T]` and the mixture `[B, C, T]`, float32 on the CPU; consistent stems sum to it.

    Raises:
        UserError: if the mixture is not finite.
    """
    first, steps = session.solver.steps, session.solver.steps + separation.solver.steps
    joint = session.labels.join(session.labels.prompts(stems))
    state = session.sample(Single(session, [joint]), session.shape(length), seeds, progress=part_of(progress, 0, steps))
    mixture = session.space.decode(state[:, 0])
    level.require_plausible({"the mixture": mixture.cpu().numpy()}, peak=math.inf, what="")
    found = extract(
        separation,
        mixture,
        stems,
        seeds=sample_seeds(seeds, 2)[1::2],  # other noise than that of the mixture
        consistent=consistent,
        average=average,
        wiener=wiener,
        negatives=negatives,
        levels=None if session.level is None else [session.level] * len(seeds),
        progress=part_of(progress, first, steps),
    )
    return found, mixture.cpu()


def drawn_order(seed: int, stems: int) -> list[int]:
    """The order of an item's stems in `generate_sequential`, a function of its seed."""
    order: list[int] = np.random.default_rng([seed, stems]).permutation(stems).tolist()
    return order
