"""What a network costs, and the clock that measures it."""

from __future__ import annotations

import statistics
import time
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

BUSY = 0.8
"""Share of a core below which a timing on the CPU includes waiting for other programs."""


@dataclass(frozen=True)
class Seconds:
    """Median and extremes of repeated timings, in seconds."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Seconds:
        """Summarise one or more timings."""
        return cls(statistics.median(values), min(values), max(values))


@dataclass(frozen=True)
class Cost:
    """What a network costs on a device.

    Attributes:
        evaluation: time to denoise one signal.
        encoding: time in which the autoencoder of latents encodes one signal; None if there is none.
        decoding: time in which it decodes one.
        step: time of one training step; None assumes `estimates.BACKWARD` evaluations of each window of its batch.
        parameters: number of parameters, text encoder included; None if unknown.
        memory: peak memory in bytes while sampling; None if unknown.
        training_memory: peak memory in bytes while training; None if unknown.
    """

    evaluation: Seconds
    step: Seconds | None = None
    encoding: Seconds | None = None
    decoding: Seconds | None = None
    parameters: int | None = None
    memory: int | None = None
    training_memory: int | None = None


class Clock:
    """Times repeated steps on a device, and their peak memory; the first step is a warm-up."""

    def __init__(self, device: str) -> None:
        import torch

        self.cuda: torch.device | None = torch.device(device) if device.startswith("cuda") else None
        if self.cuda is not None:
            torch.cuda.reset_peak_memory_stats(self.cuda)
        self.ticks: list[float] = []
        self.worked: list[float] = []

    def tick(self) -> None:
        """Record the end of a step."""
        if self.cuda is not None:
            import torch

            torch.cuda.synchronize(self.cuda)
        self.ticks.append(time.perf_counter())
        self.worked.append(time.process_time())

    def seconds(self, units: float) -> Seconds:
        """Time per unit, with `units` units in a step. Warns if other programs kept the processor busy."""
        busy = (self.worked[-1] - self.worked[0]) / (self.ticks[-1] - self.ticks[0])
        if self.cuda is None and busy < BUSY:
            warnings.warn(
                # The same words from the same line, so that it is said once for all networks.
                f"the processor gave this program less than {BUSY:.0%} of a core during the timing; the hours are "
                "those of a machine as busy as this one",
                stacklevel=1,
            )
        return Seconds.of([(after - before) / units for before, after in pairwise(self.ticks)])

    def memory(self) -> int:
        """Peak memory in bytes."""
        if self.cuda is not None:
            import torch

            return int(torch.cuda.max_memory_allocated(self.cuda))
        import resource
        import sys

        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else 1024 * peak
