"""Separation of mixtures by the Separator and the Extractor, with averaging and filtering."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from gmsdi import level
from gmsdi.errors import UserError
from gmsdi.inference import (
    Consistency,
    Derivative,
    Extractor,
    Projected,
    Separator,
    Wiener,
)
from gmsdi.level import Rests
from gmsdi.sampling.noise import sample_seeds
from gmsdi.sampling.session import Session
from gmsdi.tasks.signals import checked
from gmsdi.types import Negatives, Progress, Stem


@dataclass(frozen=True)
class Average:
    """The mean of several runs, each with its own noise: an estimate of the posterior mean.

    Attributes:
        runs: number of runs.
        inverted: every other run separates the mixture with its polarity inverted. Polarity does not change a sound,
            but a network's output depends on it; averaging removes this.

    Raises:
        UserError: if the number of runs is not between 1 and 10000.
    """

    runs: int = 1
    inverted: bool = False

    def __post_init__(self) -> None:
        if not 1 <= self.runs <= 10_000:
            raise UserError(f"runs is {self.runs}; it must be at least 1 and at most 10000")

    def repeated(self, y: Tensor) -> Tensor:
        """Repeat each item of `[B, C, T]` once for each run, with the run's polarity: `[B · runs, C, T]`."""
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
        average: the runs that are averaged; None means a single run.
        wiener: filter the mixture with the stems, so that they contain only what is in the mixture; None: no filter.
        negatives: label to negative text; the paper uses none here.
        levels: level of the song that each item is from, in dB relative to full scale (`gmsdi.level`); None measures
            each item on its own.
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
        consistent: solve for all stems together, so that they sum to the mixture (`inference.Extractor`); otherwise
            each is extracted on its own.
        average: see `separate`.
        wiener: see `separate`.
        negatives: label to negative text, for the single stems only; the complementary mixtures have z*. The paper uses
            them for Bass and Drums.
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


def filtered(stems: Tensor, mixture: Tensor, wiener: Wiener, levels: Sequence[float] | None) -> Tensor:
    """Filter stems out of their mixtures; in rests and silence, where the filter would leak, they stay as they are.

    Args:
        stems: `[B, K, C, T]`, on the CPU.
        mixture: `[B, C, T]`, on the CPU.
        wiener: the filter.
        levels: see `separate`.

    Returns:
        `[B, K, C, T]`.
    """
    own = level.levels_of(mixture, wiener.sample_rate)
    rests = Rests.of(mixture, own if levels is None else levels, wiener.sample_rate)
    silent = torch.tensor([mine < level.SILENCE for mine in own]).reshape(-1, 1, 1, 1)
    kept = silent if rests is None else silent | rests.mask.unsqueeze(1)
    return torch.where(kept, stems, wiener(stems, mixture))


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

    mixture = checked(session, mixture, 3, "mixture")
    found = level.separated(
        sample,
        mixture,
        seeds=seeds,
        stems=stems,
        known=session.level,
        levels=levels,
        sample_rate=session.model.sample_rate,
    )
    return found if wiener is None else filtered(found, mixture.cpu(), wiener, levels)
