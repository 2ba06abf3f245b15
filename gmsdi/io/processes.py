"""Work in several processes."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

_Job = TypeVar("_Job")
_Result = TypeVar("_Result")


def in_processes(function: Callable[[_Job], _Result], jobs: Sequence[_Job], workers: int) -> Iterator[_Result]:
    """Yield the result of `function` for every job as soon as it is ready, in any order.

    Args:
        function: defined at module level, so that other processes can import it.
        jobs: its arguments.
        workers: number of processes; with one worker or one job, this process does the work itself.
    """
    if workers > 1 and len(jobs) > 1:
        # "spawn", because the caller may have torch threads, which do not survive a fork.
        with multiprocessing.get_context("spawn").Pool(min(workers, len(jobs))) as pool:
            yield from pool.imap_unordered(function, jobs, chunksize=4)
    else:
        yield from map(function, jobs)
