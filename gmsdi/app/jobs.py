"""Runs in the background, with progress; they can be cancelled. One at a time, since each uses the whole machine."""

from __future__ import annotations

import logging
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as NotYet
from dataclasses import dataclass, field
from pathlib import Path
from typing import Generic, TypeVar

from gmsdi.errors import UserError
from gmsdi.types import Progress

T = TypeVar("T")
_log = logging.getLogger(__name__)


class Cancelled(Exception):
    """Raised inside a run that was cancelled."""


@dataclass
class Job(Generic[T]):
    """A run and its progress.

    Attributes:
        state: "waiting", "running", "done", "cancelled" or "failed".
        step: steps done.
        steps: number of steps in all; 0 before the first is done.
        seconds: how long the steps have taken.
        error: one line, if the run failed.
        warnings: those given during the run, one line each.
        result: what the run returned, once it is done.
    """

    state: str = "waiting"
    step: int = 0
    steps: int = 0
    seconds: float = 0.0
    error: str = ""
    warnings: list[str] = field(default_factory=list)
    result: T | None = None
    cancelled: threading.Event = field(default_factory=threading.Event)

    @property
    def remaining(self) -> float | None:
        """Estimated seconds left, judging by the steps so far."""
        return self.seconds / self.step * (self.steps - self.step) if self.step else None


class Jobs:
    """The runs of all visitors. Each tab of a visitor's page has one run at a time."""

    def __init__(self) -> None:
        self._worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="gmsdi")
        self._jobs: dict[str, Job] = {}

    def run(self, owner: str, work: Callable[[Progress], T], *, interval: float = 0.25) -> Iterator[Job[T]]:
        """Run `work(progress)`, yielding the job now and then, and at last when it has ended or was cancelled.

        If the iterator is closed, because the visitor has left, the run is cancelled. What is cancelled ends with the
        step that it is at.
        """
        self.cancel(owner)
        job: Job[T] = Job()
        self._jobs[owner] = job
        future: Future[None] = self._worker.submit(_work, job, work)
        try:
            while True:
                try:
                    future.result(timeout=interval)
                    break
                except NotYet:
                    if job.cancelled.is_set():
                        future.cancel()  # if it has not begun
                        job.state = "cancelled"
                        break
                    yield job
            yield job
        finally:
            job.cancelled.set()
            if self._jobs.get(owner) is job:
                del self._jobs[owner]

    def cancel(self, owner: str) -> None:
        """Cancel the run of an owner, if there is one."""
        job = self._jobs.get(owner)
        if job is not None:
            job.cancelled.set()

    def close(self) -> None:
        """Cancel all runs."""
        for owner in list(self._jobs):
            self.cancel(owner)
        self._worker.shutdown(wait=False, cancel_futures=True)


def _work(job: Job[T], work: Callable[[Progress], T]) -> None:
    started = time.monotonic()

    def progress(step: int, steps: int) -> None:
        if job.cancelled.is_set():
            raise Cancelled
        job.step, job.steps, job.seconds = step, steps, time.monotonic() - started

    try:
        job.state = "running"
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always", UserWarning)
            job.result = work(progress)
        job.warnings = list(dict.fromkeys(str(warning.message) for warning in said))
        job.state = "done"
    except Cancelled:
        job.state = "cancelled"
    except UserError as error:
        job.state, job.error = "failed", str(error)
    except Exception as error:
        _log.exception("a run of the page failed")
        job.state, job.error = "failed", f"{type(error).__name__}: {error}".splitlines()[0]


def without_folder(message: str, *files: str | Path | None) -> str:
    """A message with the names that files had when they were uploaded, instead of where they lie now."""
    for file in files:
        if file:
            message = message.replace(str(file), Path(file).name)
    return message
