"""Noise that belongs to an item, not to the batch that the item happens to be in."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from gmsdi.errors import UserError


class SeededNoise:
    """Standard Gaussian noise with one random stream per item.

    Item i's noise depends on `seeds[i]` and on how often and with which shape it was asked for, never on the other
    items: it is the same in a batch of 1 or 8, in any order and on any shard. It is drawn on the CPU in float32, so it
    does not depend on the device or on the type of the state either.

    Args:
        seeds: one integer per item, 0 or more and below 2⁶³.

    Raises:
        UserError: for another seed.
    """

    def __init__(self, seeds: Sequence[int]) -> None:
        for seed in seeds:
            if not 0 <= seed < 2**63:
                raise UserError(f"seed is {seed!r}; it must be a whole number of at least 0 and below 2**63")
        self.generators = [torch.Generator().manual_seed(int(seed)) for seed in seeds]

    def __call__(self, x: Tensor) -> Tensor:
        """Draw noise like `x`, whose first axis runs over the items.

        Raises:
            ValueError: if `x` has another number of items than there are seeds.
        """
        if x.shape[0] != len(self.generators):
            raise ValueError(f"{x.shape[0]} items but {len(self.generators)} seeds")
        # Pinned memory lets the copy overlap with the network's work instead of waiting for it.
        noise = torch.empty(x.shape, dtype=torch.float32, pin_memory=x.is_cuda)
        for item, generator in zip(noise, self.generators, strict=True):
            item.normal_(generator=generator)
        return noise.to(x.device, x.dtype, non_blocking=True)


class CoupledNoise(SeededNoise):
    """Noise of sources and of their mixture that adds up, for states whose last row is the mixture of the others.

    Every row is standard Gaussian, and the mixture's noise is the sum of the sources': K sources are correlated by
    −1/K pairwise. Independent noise makes the sum of K noisy sources √K times as noisy as the noisy mixture, and the
    likelihood terms of the paper's Eq. 10–12, which ask for their equality, take noise out of rows whose denoiser
    expects all of it: it then removes signal instead. With coupled noise they act on the signals alone.

    Args:
        seeds: see `SeededNoise`.
    """

    def __init__(self, seeds: Sequence[int]) -> None:
        super().__init__(seeds)
        self._joint: tuple[Tensor, int] | None = None

    def given(self, x: Tensor, others: int) -> Tensor:
        """Noise of given sources `[B, I, ...]`, coupled to that of the first state: `others` sources and a mixture."""
        joint = self._sources(x, x.shape[1] + others)
        self._joint = joint, x.shape[1]
        return joint[:, : x.shape[1]]

    def __call__(self, x: Tensor) -> Tensor:
        """Draw noise like the state `[B, S, ...]` of S − 1 sources and their mixture."""
        sources, known = self._joint or (self._sources(x, x.shape[1] - 1), 0)
        self._joint = None
        return torch.cat([sources[:, known:], sources.sum(dim=1, keepdim=True)], dim=1)

    def _sources(self, x: Tensor, count: int) -> Tensor:
        independent = super().__call__(x[:, :1].expand(-1, count, *x.shape[2:]))
        mean = independent.mean(dim=1, keepdim=True)
        return (1 + 1 / count) ** 0.5 * (independent - mean) + count**-0.5 * mean


def sample_seeds(seeds: Sequence[int], samples: int) -> list[int]:
    """Seeds of `samples` independent runs of each item, item by item; the first run has the item's own seed."""
    return [
        int(seed) if number == 0 else int(np.random.SeedSequence([int(seed), number]).generate_state(1, np.uint32)[0])
        for seed in seeds
        for number in range(samples)
    ]
