"""Noise that depends on the item, not on the batch that the item is in."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from gmsdi.errors import UserError


def require_seed(seed: int) -> None:
    """Refuse what is no seed.

    Raises:
        UserError: if it is not a whole number of at least 0 and below 2⁶³.
    """
    if not isinstance(seed, int | np.integer) or isinstance(seed, bool) or not 0 <= seed < 2**63:
        raise UserError(f"seed is {seed!r}; it must be a whole number of at least 0 and below 2**63")


class SeededNoise:
    """Standard Gaussian noise with one random stream per item.

    Item i's noise depends on `seeds[i]` and on the number and shapes of the draws so far, never on the other items: it
    is the same in a batch of 1 or 8, in any order and on any shard. It is drawn on the CPU in float32, so it does not
    depend on the device or dtype of the state either.

    Args:
        seeds: one integer per item, 0 or more and below 2⁶³.

    Raises:
        UserError: for another seed.
    """

    def __init__(self, seeds: Sequence[int]) -> None:
        for seed in seeds:
            require_seed(seed)
        self.generators = [torch.Generator().manual_seed(int(seed)) for seed in seeds]

    def __call__(self, x: Tensor) -> Tensor:
        """Draw noise like `x`, whose first axis runs over the items.

        Raises:
            ValueError: if the numbers of items and seeds differ.
        """
        if x.shape[0] != len(self.generators):
            raise ValueError(f"{x.shape[0]} items but {len(self.generators)} seeds")
        # Pinned memory lets the copy overlap with the network's work.
        noise = torch.empty(x.shape, dtype=torch.float32, pin_memory=x.is_cuda)
        for item, generator in zip(noise, self.generators, strict=True):
            item.normal_(generator=generator)
        return noise.to(x.device, x.dtype, non_blocking=True)


class CoupledNoise(SeededNoise):
    """Noise whose rows add up, for states whose last row is the mixture of the others.

    Every row is standard Gaussian and the mixture's noise is the sum of the sources' noise, so any two of the K sources
    are correlated by −1/K. With independent noise, the sum of K noisy sources would be √K times as noisy as the noisy
    mixture. The likelihood terms of the paper's Eq. 10–12, which pull the two together, would then take noise out of
    rows whose denoiser expects the full amount and removes signal instead. With coupled noise they act on the signals
    alone.

    Args:
        seeds: see `SeededNoise`.
    """

    def __init__(self, seeds: Sequence[int]) -> None:
        super().__init__(seeds)
        self._joint: tuple[Tensor, int] | None = None

    def given(self, x: Tensor, others: int) -> Tensor:
        """Draw noise for given sources `[B, I, ...]`, coupled to that of the first state (`others` and the mixture)."""
        joint = self._sources(x, x.shape[1] + others)
        self._joint = joint, x.shape[1]
        return joint[:, : x.shape[1]]

    def __call__(self, x: Tensor) -> Tensor:
        """Draw noise for a state `[B, S, ...]` of S − 1 sources and their mixture."""
        sources, known = self._joint or (self._sources(x, x.shape[1] - 1), 0)
        self._joint = None
        return torch.cat([sources[:, known:], sources.sum(dim=1, keepdim=True)], dim=1)

    def _sources(self, x: Tensor, count: int) -> Tensor:
        independent = super().__call__(x[:, :1].expand(-1, count, *x.shape[2:]))
        mean = independent.mean(dim=1, keepdim=True)
        return (1 + 1 / count) ** 0.5 * (independent - mean) + count**-0.5 * mean


def sample_seeds(seeds: Sequence[int], samples: int) -> list[int]:
    """Seeds for `samples` independent runs of each item, item by item; the first run uses the item's own seed."""
    return [
        int(seed) if number == 0 else int(np.random.SeedSequence([int(seed), number]).generate_state(1, np.uint32)[0])
        for seed in seeds
        for number in range(samples)
    ]
