"""Many songs into files: all names are decided before any work, and a file appears when it is complete."""

from __future__ import annotations

import os
import string
import threading
import time
import unicodedata
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from gmsdi.errors import UserError
from gmsdi.io.audio import SUFFIXES, Encoding, Samples, Source, Target, mark_of, marked, opened, writing
from gmsdi.io.files import require_space, require_writable
from gmsdi.song import Separation
from gmsdi.types import Progress, file_names

NAME = "{track}/{stem}.{ext}"
"""Names of files by default."""
_FIELDS = ("track", "stem", "ext", "model")


@dataclass(frozen=True)
class Job:
    """A song, and the files that its stems are written to.

    Attributes:
        source: the song.
        track: its name.
        files: stem to file.
        residual: the name, among `files`, of the song minus its stems; None writes no residual.
    """

    source: Source
    track: str
    files: Mapping[str, Path]
    residual: str | None = None

    @property
    def done(self) -> bool:
        """Whether all of its files exist."""
        return all(file.is_file() for file in self.files.values())


@dataclass(frozen=True)
class Outcome:
    """How a song ended.

    Attributes:
        song: its file.
        status: "done", "skipped", "failed", or "left" if the run was interrupted before its end.
        files: stem to file, of the files that exist.
        seconds: of audio.
        took: seconds of work.
        error: why it failed.
    """

    song: str
    status: str
    files: Mapping[str, str] = field(default_factory=dict)
    seconds: float = 0.0
    took: float = 0.0
    error: str | None = None


def plan(
    paths: Sequence[Path],
    stems: Iterable[str],
    *,
    out: Path,
    encoding: Encoding,
    residual: str | None = None,
    name: str = NAME,
    model: str = "",
    again: bool = True,
    unusable: Callable[[Path, UserError], None] | None = None,
) -> list[Job]:
    """The songs and their files, checked as far as they can be without the model.

    Args:
        paths: audio files, and folders, whose audio files are taken with all below; their tracks are named by where
            they lie in the folder.
        stems: labels.
        out: folder of the files.
        encoding: of them.
        residual: what the file of the residual is called; None is without.
        name: of the files below `out`, with the fields track, stem, ext and model.
        model: the model's name, for that field.
        again: whether songs whose files are there are separated again.
        unusable: called with each song of a folder that cannot be used, and why, in place of the error; a song that is
            named itself is refused.

    Raises:
        UserError: if a song cannot be read or is cut off, there is none, two files would have one name or one that of a
            song, a place cannot be written to, the format cannot hold a song, or the disk is too small.
    """
    called = file_names([*stems, *([] if residual is None else [residual])])
    _require_fields(name)
    whole, jobs = 0, []
    for path, track, found in _songs(paths):
        files = {}
        for stem, word in called.items():
            told = {"track": track, "stem": word, "ext": encoding.format, "model": model}
            below = Path(name.format(**told))
            if below.is_absolute() or ".." in below.parts or not below.name.strip(". "):
                raise UserError(f"--name {name!r} makes {str(below)!r}, which is not inside the folder of --out")
            if (suffix := below.suffix.lower()) in SUFFIXES and suffix != f".{encoding.format}":
                raise UserError(
                    f"--name {name!r} makes {str(below)!r}, but {encoding.format} is written; end it with .{{ext}}, or "
                    "choose another --format"
                )
            files[stem] = out / below
        jobs.append((path, track, found, files))
    marks, below_out = {mark_of(path) for path, *_ in jobs}, Path(os.path.realpath(out))
    # What an earlier run has written into a folder of songs is no song, and is marked as such.
    jobs = [
        (path, track, found, files)
        for path, track, found, files in jobs
        if not (found and Path(os.path.realpath(path)).is_relative_to(below_out) and marked(path) in marks)
    ]
    songs = {(status.st_dev, status.st_ino) for path, *_ in jobs if os.path.exists(path) and (status := path.stat())}
    taken: dict[str, Path] = {}
    result = []
    for path, track, found, files in jobs:
        for file in files.values():
            real = os.path.realpath(file)
            if os.path.exists(file) and (file.stat().st_dev, file.stat().st_ino) in songs:
                raise UserError(
                    f"{file}: this song would be overwritten by a stem of {path}; choose another place with --out or "
                    "--name, or name the songs instead of their folder"
                )
            if (other := taken.setdefault(_folded(real), path)) is not path:
                mend = (
                    "separate them one at a time, each with an --out of its own"
                    if "{track}" in name
                    else "add {track} to --name"
                )
                raise UserError(f"{other} and {path} would both be written to {file}; {mend}")
        if len({_folded(os.path.realpath(file)) for file in files.values()}) < len(files):
            raise UserError(f"--name {name!r} gives several stems of {path} the same name; add {{stem}}")
        try:
            source = opened(path)
            encoding.require(source.sample_rate, source.channels, str(path))
        except UserError as error:
            if unusable is None or not found:
                raise
            unusable(path, error)
            continue
        job = Job(source, track, files, residual)
        if again or not job.done:
            whole += len(files) * encoding.size(source.frames, source.sample_rate, source.channels)
        result.append(job)
    require_writable(*(file for job in result if again or not job.done for file in job.files.values()))
    separating = "separating 1 song" if len(result) == 1 else f"separating {len(result)} songs"
    require_space(out.absolute(), whole, separating, advice="or choose another folder with --out")
    return result


def run(
    jobs: Sequence[Job],
    made: Separation,
    encoding: Encoding,
    *,
    at_once: int = 1,
    watch: Callable[[Job], Progress] | None = None,
    finished: Callable[[Job, Outcome], None] | None = None,
) -> list[Outcome]:
    """Separate songs. A song that fails is reported, and the next one is begun.

    On an interruption (Ctrl-C), what has been begun is given up, without a trace; the outcomes say what is done.

    Args:
        jobs: see `plan`.
        made: how.
        encoding: of the files.
        at_once: songs at a time, each with its share of the cores.
        watch: makes the progress of a song.
        finished: called with each song that has come to its end.
    """
    stop = threading.Event()
    threads = torch.get_num_threads()

    def work(job: Job) -> Outcome:
        torch.set_num_threads(max(1, threads // at_once))  # of this thread
        shown = None if watch is None else watch(job)

        def progress(step: int, steps: int) -> None:
            if stop.is_set():
                raise KeyboardInterrupt
            if shown is not None:
                shown(step, steps)

        progress(0, 1)
        began = time.monotonic()
        try:
            _write(job, made, encoding, progress)
        except UserError as error:
            outcome = Outcome(job.source.name, "failed", error=str(error), took=time.monotonic() - began)
        else:
            outcome = _done(job, "done", time.monotonic() - began)
        if finished is not None:
            finished(job, outcome)
        return outcome

    outcomes = {job.source.name: Outcome(job.source.name, "left") for job in jobs}
    try:
        if at_once == 1:
            for job in jobs:
                outcomes[job.source.name] = work(job)
        else:
            with ThreadPoolExecutor(at_once) as pool:
                futures = [pool.submit(work, job) for job in jobs]
                try:
                    for future in as_completed(futures):
                        outcome = future.result()
                        outcomes[outcome.song] = outcome
                except BaseException:
                    stop.set()
                    pool.shutdown(cancel_futures=True)
                    raise
    except KeyboardInterrupt:
        pass
    finally:
        torch.set_num_threads(threads)
    return list(outcomes.values())


def skipped(job: Job) -> Outcome:
    """The outcome of a song whose files are there already."""
    return _done(job, "skipped", 0.0)


def _done(job: Job, status: str, took: float) -> Outcome:
    files = {stem: str(file) for stem, file in job.files.items()}
    return Outcome(job.source.name, status, files, round(job.source.seconds, 3), round(took, 3))


def _write(job: Job, made: Separation, encoding: Encoding, progress: Progress) -> None:
    source, channels = job.source, made.channels(job.source)
    mark = mark_of(source.name)
    targets = [
        Target(file, source.sample_rate, channels, source.frames, stem, mark) for stem, file in job.files.items()
    ]
    with writing(targets, encoding) as functions:
        add = dict(zip(job.files, functions, strict=True))
        song = _Pieces(made.mixture(source))
        for stems in made(source, progress):
            for label, part in zip(made.labels, stems, strict=True):
                add[label](part)
            if job.residual is not None:
                add[job.residual](song.next(stems.shape[-1]) - stems.sum(axis=0, dtype=np.float32))


class _Pieces:
    """A signal that comes in blocks `[C, n]`, in pieces of other lengths."""

    def __init__(self, blocks: Iterator[Samples]) -> None:
        self.blocks = blocks
        self.waiting: list[Samples] = []

    def next(self, length: int) -> Samples:
        while sum(block.shape[1] for block in self.waiting) < length:
            self.waiting.append(next(self.blocks))
        whole = np.concatenate(self.waiting, axis=1)
        self.waiting = [whole[:, length:]]
        return whole[:, :length]


def _folded(name: str) -> str:
    """What is alike for names that some file systems take for one: in another case, or of letters in parts (NFD)."""
    return unicodedata.normalize("NFC", name.casefold())


def _songs(paths: Sequence[Path]) -> Iterator[tuple[Path, str, bool]]:
    """Songs, their tracks, and whether they were found in a folder; each song once."""
    seen = set()
    for path in paths:
        if not os.path.isdir(path):  # which, unlike `Path.is_dir`, takes names of any length
            found = [(path, path.stem, False)]
        else:
            inside = sorted(file for file in _below(path) if file.suffix.lower() in SUFFIXES)
            if not inside:
                raise UserError(f"{path}: a folder without audio files ({', '.join(SUFFIXES)})")
            found = [(file, str(file.relative_to(path).with_suffix("")), True) for file in inside]
        for song in found:
            if (real := os.path.realpath(song[0])) not in seen:
                seen.add(real)
                yield song


def _below(folder: Path) -> Iterator[Path]:
    """All files below a folder, but for hidden ones; warns of links to folders, which may lead anywhere.

    Raises:
        UserError: if one of its folders cannot be read.
    """

    def unreadable(error: OSError) -> None:
        raise UserError(f"{error.filename}: this folder cannot be read ({error.strerror}); name its songs one by one")

    for place, folders, files in os.walk(folder, onerror=unreadable):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for link in (path for name in folders if os.path.islink(path := os.path.join(place, name))):
            warnings.warn(f"{link}: a link to a folder, which is not followed; name it, too, to take it", stacklevel=2)
        yield from (Path(place, name) for name in files if not name.startswith("."))


def _require_fields(name: str) -> None:
    """Refuse a template that cannot be filled in.

    Raises:
        UserError: if it cannot.
    """
    try:
        used = [(found, spec, how) for _, found, spec, how in string.Formatter().parse(name) if found is not None]
    except ValueError as error:
        raise UserError(f"--name {name!r}: {error}; write it like {NAME!r}") from error
    for found, spec, how in used:
        if found in _FIELDS and (spec or how):
            raise UserError(f"--name {name!r} says how {{{found}}} is to be formatted; write {{{found}}} alone")
        if found not in _FIELDS:
            raise UserError(f"--name {name!r} has {{{found}}}; known are {', '.join(f'{{{x}}}' for x in _FIELDS)}")
