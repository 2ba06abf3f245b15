"""What rows and tasks take of a model of latents whose space is not additive (`gmsdi.models.protocol.Space`).

Sums of sources are then taken of decoded signals, so that a run also encodes and decodes (`gmsdi.inference` says how
often in an evaluation), and procedures whose rows depend on what others have become call the model twice.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from gmsdi.study import methods, tasks
from gmsdi.study.chunks import given_in
from gmsdi.study.counting import batch_sizes, batches, evaluation_sigmas, filled, passes


@dataclass(frozen=True)
class Taken:
    """What a run takes.

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


def of_row(row: methods.Row, items: int, batch: int) -> Taken:
    """What a job of a row of Table 2 takes, see `Row.evaluations`."""
    parts = [_of_mixtures(row, count) for count in batch_sizes(items, row.together(batch))]
    return sum(parts, Taken())


def of_task(task: tasks.Task, bars: Sequence[str], batch: int) -> Taken:
    """What a job of a task takes, see `Task.evaluations`."""
    groups = [[bar] * count for bar, count in Counter(bars).items()] if task.by_bar else [list(bars)]
    parts = [_of_clips(task, part) for group in groups for part in batches(group, batch)]
    return sum(parts, Taken())


def _of_mixtures(row: Any, items: int) -> Taken:
    K, runs = len(row.system.labels), items * row.samples
    if isinstance(row, methods.Separator):
        return _run(row, runs, calls=[K - 1, 1], encoded=1, decoded=K - 1, last=K - 1)
    if isinstance(row, methods.Projected):
        return _run(row, runs, calls=[K], encoded=K, decoded=K, last=K)
    if isinstance(row, methods.Extractor):
        each = K * (2 if row.consistent else 1)
        return _run(row, runs, calls=[K, K], encoded=each, decoded=each, last=K)
    raise TypeError(f"{row.kind} is no method of the text-conditioned model")


def _of_clips(task: Any, bars: Sequence[str]) -> Taken:
    n, K = len(bars), len(task.labels)
    if isinstance(task, tasks.Single):
        return _run(task, n, calls=[1], last=1)
    if isinstance(task, tasks.Sequential):
        first = _run(task, n, calls=[1])
        others = [_run(task, n, calls=[1, 1], encoded=2, decoded=2, before=place) for place in range(1, K)]
        return sum(others, first) + Taken(decoded=K * n)
    if isinstance(task, tasks.Extracted):
        return _run(task, n, calls=[1], last=1) + _of_mixtures(task.extraction, n)
    if isinstance(task, tasks.Total):
        rows = len(task.rows)
        coupled = not _dropped(task.gamma_x, task.gamma_y)
        sums = {"encoded": 1, "decoded": rows} if coupled else {}
        return _run(task, n, calls=[rows + 1], **sums, last=rows + 1 + task.consistent)
    given = len(given_in(bars[0]))
    J = K - given
    known = Taken(encoded=given * n, decoded=given * n)
    if isinstance(task, tasks.Partial):
        sums = {} if _dropped(task.gamma_x, task.gamma_y) else {"encoded": 1, "decoded": J}
        return known + _run(task, n, calls=[J + 1], **sums, last=J + 1)
    if isinstance(task, tasks.Conditioned):
        several = J > 1
        more = {"encoded": 2 + several, "decoded": 2 + several * J}
        end = Taken(encoded=n, decoded=n)  # the mixture with the given stems
        return known + end + _run(task, n, calls=[J + several, 1], **more, last=J + several + 1)
    raise TypeError(f"{task.kind} is no task of the text-conditioned model")


def _run(
    own: Any, items: int, *, calls: Sequence[int], encoded: int = 0, decoded: int = 0, before: int = 0, last: int = 0
) -> Taken:
    """A run of a solver.

    Args:
        own: with its solver and guidance.
        items: side by side.
        calls: rows of an item in each call of the model of an evaluation.
        encoded: signals of an item that an evaluation encodes.
        decoded: signals that it decodes.
        before: signals that are decoded before the first.
        last: signals that are decoded after the last.
    """
    w = own.w if isinstance(own, methods.Guided) else own.guidance["w"]
    times = len(evaluation_sigmas(own.solver))
    denoised = passes(own.solver, own.guidance, w) * sum(filled(rows * items) for rows in calls)
    return Taken(denoised, times * encoded * items, (times * decoded + before + last) * items)


def _dropped(*gammas: Any) -> bool:
    """Whether no likelihood acts at any noise level."""
    return all(gamma == float("inf") for gamma in gammas)
