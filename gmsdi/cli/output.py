"""What a command says: progress bars and files."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from gmsdi.batch import Job, Outcome
    from gmsdi.types import Progress


@contextmanager
def bar(name: str) -> Iterator[Progress]:
    """A progress bar as a callback; Ctrl-C ends in a line."""
    from tqdm import tqdm

    with tqdm(desc=name, unit="step") as bar:

        def update(step: int, steps: int) -> None:
            bar.total = steps
            bar.update(step - bar.n)

        try:
            yield update
        except KeyboardInterrupt:
            print("gmsdi: interrupted, nothing is written", file=sys.stderr)
            raise typer.Exit(130) from None


class Bars(ExitStack):
    """A progress bar for each song that is at work, and one for all of several."""

    def __init__(self, songs: int) -> None:
        super().__init__()
        from tqdm import tqdm

        self.bar, self.several, self.lock = tqdm, songs > 1, threading.Lock()
        self.all = self.enter_context(tqdm(total=songs, desc="songs", unit="song", disable=not self.several))
        self.bars: dict[str, Any] = {}

    def watch(self, job: Job) -> Progress:
        """The progress of a song."""
        with self.lock:
            bar = self.bar(desc=job.track, unit="step", leave=not self.several)
            self.bars[job.source.name] = self.enter_context(bar)

        def update(step: int, steps: int) -> None:
            bar.total = steps
            bar.update(step - bar.n)

        return update

    def finished(self, job: Job, outcome: Outcome) -> None:
        """A song has come to its end."""
        with self.lock:
            self.bars.pop(job.source.name).close()
            self.all.update()


def echo(files: Sequence[Path]) -> None:
    """Print the names of files, one a line."""
    for file in files:
        typer.echo(file)
