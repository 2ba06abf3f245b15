"""Counts the signals that a network denoises: noise levels of solvers, passes of guidance, and padded calls.

Counts are made without torch before anything runs, and equal those of the networks' own counters (`evaluations`).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeVar

from gmsdi.sampling.solver import Solver

CALL = 8
"""Signals in every network call of the workflow's jobs: a fixed size, so that sharding does not change results."""

Item = TypeVar("Item")


def evaluation_sigmas(solver: Mapping[str, Any]) -> list[float]:
    """The noise levels at which a run evaluates its derivative, in order.

    Args:
        solver: settings of `gmsdi.sampling.solver.Solver`.
    """
    return Solver(**solver).evaluated_at()


def passes(solver: Mapping[str, Any], guidance: Mapping[str, Any], w: float | None) -> int:
    """How many times a run of a guided model denoises each of its rows (`gmsdi.sampling.guidance.guided`).

    Args:
        solver: settings of `gmsdi.sampling.solver.Solver`.
        guidance: `convention` and `interval` of `gmsdi.sampling.solver.Guidance`.
        w: guidance strength; None, not known yet, counts as guidance.
    """
    strength = 1.0 if w is None else w if guidance.get("convention", "paper") == "paper" else w - 1
    low, high = guidance.get("interval") or (0.0, math.inf)
    double = strength not in (0, -1)
    return sum(2 if double and low <= sigma <= high else 1 for sigma in evaluation_sigmas(solver))


def filled(rows: int, size: int = CALL) -> int:
    """Number of signals in the calls, of `size` each, that denoise so many rows."""
    return math.ceil(rows / size) * size


def batches(items: Sequence[Item], size: int) -> Iterator[Sequence[Item]]:
    """Divide items into batches."""
    return (items[start : start + size] for start in range(0, len(items), size))


def batch_sizes(items: int, size: int) -> list[int]:
    """The sizes of the `batches` of so many items."""
    return [len(batch) for batch in batches(range(items), size)]


def share(items: Sequence[Any], shard: int, shards: int) -> Sequence[Any]:
    """The items of job `shard` (from 1) of `shards`; all shards in order make up the whole."""
    bounds = [len(items) * k // shards for k in (shard - 1, shard)]
    return items[bounds[0] : bounds[1]]
