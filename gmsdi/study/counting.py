"""Counts the signals that a network denoises: noise levels of solvers, passes of guidance, and padded calls.

Counts are made without torch before anything runs, and equal those of the networks' own counters (`evaluations`).

If a model's states are latents that do not add up (`gmsdi.models.protocol.Space`), sources are summed as decoded
signals. Runs then also encode and decode; `gmsdi.inference` says how often in each evaluation of the derivative. And
procedures in which some coupled rows depend on the denoised others call the model twice. Rows and tasks of the
text-conditioned model describe both by `Run`s.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, TypeVar

from gmsdi.sampling.solver import Solver

CALL = 8
"""Signals in every network call of the workflow's jobs: a fixed size, so that sharding does not change results."""

Item = TypeVar("Item")


@dataclass(frozen=True)
class Taken:
    """What a job takes.

    Attributes:
        evaluations: signals that the network denoises, including those that only fill up a call.
        encoded: signals that the autoencoder encodes.
        decoded: signals that it decodes.
    """

    evaluations: int = 0
    encoded: int = 0
    decoded: int = 0

    def __add__(self, other: Taken) -> Taken:
        return Taken(self.evaluations + other.evaluations, self.encoded + other.encoded, self.decoded + other.decoded)


@dataclass(frozen=True)
class Run:
    """What a run of a solver does for each of the items that are sampled together.

    Attributes:
        calls: number of coupled rows in each call of the model that an evaluation of the derivative makes. If the
            states add up, as waveforms do, the rows of all calls are denoised in one.
        encoded: number of signals that each evaluation encodes, if the states do not add up.
        decoded: number of signals that each evaluation decodes, in the same case.
        encoded_once: number of signals encoded before the first evaluation or after the last, in the same case.
        decoded_once: number of signals decoded then, in the same case.
    """

    calls: Sequence[int]
    encoded: int = 0
    decoded: int = 0
    encoded_once: int = 0
    decoded_once: int = 0


def taken_by(
    runs: Iterable[Run],
    items: int,
    solver: Mapping[str, Any],
    guidance: Mapping[str, Any],
    w: float | None,
    *,
    coded: bool = False,
) -> Taken:
    """What runs of the text-conditioned model take.

    Args:
        runs: the runs, in order.
        items: number of items that are sampled together.
        solver: settings of `gmsdi.sampling.solver.Solver`.
        guidance: see `passes`.
        w: see `passes`.
        coded: whether the model's states are latents that do not add up.
    """
    times, denoised = len(evaluation_sigmas(solver)), passes(solver, guidance, w)
    total = Taken()
    for run in runs:
        calls = run.calls if coded else [sum(run.calls)]
        total += Taken(denoised * sum(filled(rows * items) for rows in calls))
        if coded:
            encoded, decoded = times * run.encoded + run.encoded_once, times * run.decoded + run.decoded_once
            total += Taken(encoded=items * encoded, decoded=items * decoded)
    return total


def evaluation_sigmas(solver: Mapping[str, Any]) -> list[float]:
    """The noise levels at which a run evaluates its derivative, in order.

    Args:
        solver: settings of `gmsdi.sampling.solver.Solver`.
    """
    return list(_evaluated_at(tuple(solver.items())))


@cache
def _evaluated_at(settings: tuple[tuple[str, Any], ...]) -> list[float]:
    """Many jobs have the same solver, and each asks several times."""
    return Solver(**dict(settings)).evaluated_at()


def passes(solver: Mapping[str, Any], guidance: Mapping[str, Any], w: float | None) -> int:
    """How many times a run of a guided model denoises each coupled row (`gmsdi.sampling.guidance.guided`).

    Args:
        solver: settings of `gmsdi.sampling.solver.Solver`.
        guidance: `convention` and `interval` of `gmsdi.sampling.solver.Guidance`.
        w: guidance strength; None, which is not known yet, counts as guidance.
    """
    strength = 1.0 if w is None else w if guidance.get("convention", "paper") == "paper" else w - 1
    low, high = guidance.get("interval") or (0.0, math.inf)
    double = strength not in (0, -1)
    return sum(2 if double and low <= sigma <= high else 1 for sigma in evaluation_sigmas(solver))


def filled(rows: int) -> int:
    """Number of signals in the calls that denoise `rows` signals, at `CALL` signals per call."""
    return math.ceil(rows / CALL) * CALL


def batches(items: Sequence[Item], size: int) -> Iterator[Sequence[Item]]:
    """Divide items into batches."""
    return (items[start : start + size] for start in range(0, len(items), size))


def batch_sizes(items: int, size: int) -> list[int]:
    """The sizes of the `batches` of so many items."""
    return [len(batch) for batch in batches(range(items), size)]


def share(items: Sequence[Any], shard: int, shards: int) -> Sequence[Any]:
    """The items of shard `shard` (from 1) of `shards`; all shards in order make up the whole."""
    bounds = [len(items) * k // shards for k in (shard - 1, shard)]
    return items[bounds[0] : bounds[1]]
