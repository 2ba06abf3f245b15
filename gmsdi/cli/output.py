"""What commands print: progress bars and the names of files."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from gmsdi.errors import UserError

if TYPE_CHECKING:
    from gmsdi.batch import Job, Outcome
    from gmsdi.types import Progress


def say(text: str) -> None:
    """A line for the user, above the progress bars if there are any; it stays one, whatever names of files hold."""
    text = "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in text)
    tqdm = sys.modules.get("tqdm")
    if tqdm is None:
        print(f"gmsdi: {text}", file=sys.stderr)
    else:
        tqdm.tqdm.write(f"gmsdi: {text}", file=sys.stderr)


def tell(text: str | bytes) -> None:
    """Print a result.

    Raises:
        UserError: if standard output cannot be written to, as on a full disk; not if its reader has enough.
    """
    try:
        typer.echo(text)
    except BrokenPipeError:
        raise
    except OSError as error:
        raise UserError(f"standard output: cannot be written ({error.strerror})") from error


@contextmanager
def bar(name: str) -> Iterator[Progress]:
    """A progress bar, as a callback. Ctrl-C ends the command with a one-line message."""
    from tqdm import tqdm

    with tqdm(desc=name, unit="step") as bar:
        try:
            yield _progress(bar)
        except KeyboardInterrupt:
            say("interrupted; nothing was written")
            raise typer.Exit(130) from None


def _progress(bar: Any) -> Progress:
    """The callback that moves a bar."""

    def update(step: int, steps: int) -> None:
        bar.total = steps
        bar.update(step - bar.n)

    return update


class Bars(ExitStack):
    """A progress bar for each song in progress and, if there are several songs, one for all of them."""

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
        return _progress(bar)

    def finished(self, job: Job, outcome: Outcome) -> None:
        """Close the bar of a song that is done."""
        with self.lock:
            self.bars.pop(job.source.name).close()
            self.all.update()


def echo(files: Iterable[str | Path]) -> None:
    """Print the names of files, one a line, in the bytes that they have."""
    for file in map(str, files):
        try:
            file.encode(sys.stdout.encoding or "utf-8")
        except UnicodeEncodeError:
            tell(os.fsencode(file))
        else:
            tell(file)
