"""Noise that belongs to an item, not to the batch that the item happens to be in."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor


class SeededNoise:
    """Standard Gaussian noise with one random stream per item.

    Item i's noise depends on `seeds[i]` and on how often and with which shape it was asked for, never on the other
    items: it is the same in a batch of 1 or 8, in any order and on any shard. It is drawn on the CPU in float32, so it
    does not depend on the device or on the type of the state either.

    Args:
        seeds: one integer per item, 0 or more.
    """

    def __init__(self, seeds: Sequence[int]) -> None:
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


def sample_seeds(seeds: Sequence[int], samples: int) -> list[int]:
    """Seeds of `samples` independent runs of each item, item by item; the first run has the item's own seed."""
    return [
        int(seed) if number == 0 else int(np.random.SeedSequence([int(seed), number]).generate_state(1, np.uint32)[0])
        for seed in seeds
        for number in range(samples)
    ]
