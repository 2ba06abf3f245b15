"""Counts the signals that a network denoises: noise levels of solvers, passes of guidance, and padded calls.

Counts are made without torch before anything runs, and equal those of the networks' own counters (`evaluations`).

A model of latents whose space is not additive (`gmsdi.models.protocol.Space`) sums sources as decoded signals, so that
its runs also encode and decode (`gmsdi.inference` says how often in an evaluation), and procedures whose rows depend on
what others have become call it twice. A row or a task of the text-conditioned model says both by a `Run`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from gmsdi.sampling.solver import Solver

CALL = 8
"""Signals in every network call of the workflow's jobs: a fixed size, so that sharding does not change results."""

Item = TypeVar("Item")


@dataclass(frozen=True)
class Taken:
    """What a job takes.

    Attributes:
        evaluations: signals that the network denoises, the rows that fill up a call included.
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
        calls: rows in each call of the model of an evaluation. A model whose states add up, such as one of waveforms,
            denoises the rows of all calls in one.
        encoded: signals that an evaluation encodes, if the model is of latents that do not add up.
        decoded: signals that it decodes, likewise.
        encoded_once: signals that are encoded before the first evaluation or after the last, likewise.
        decoded_once: signals that are decoded then, likewise.
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
        runs: one after the other.
        items: number of items that are sampled together.
        solver: settings of `gmsdi.sampling.solver.Solver`.
        guidance: see `passes`.
        w: see `passes`.
        coded: whether the model is of latents that do not add up.
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


def filled(rows: int) -> int:
    """Number of signals in the calls, of `CALL` each, that denoise so many rows."""
    return math.ceil(rows / CALL) * CALL


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
