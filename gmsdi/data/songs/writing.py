"""Folders of thousands of songs as MIDI files, reproducible from a seed."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np

from gmsdi.data.settings import SPLITS
from gmsdi.data.songs import arranged, composed, drawn, mma
from gmsdi.data.songs.score import Song, write
from gmsdi.errors import UserError
from gmsdi.io.files import atomic
from gmsdi.io.processes import in_processes

VERSION = 1  # of the music; raise it whenever the music changes, so that no folder mixes two versions
KINDS = ("arranged", "composed", "drawn")
_ATTEMPTS = 40  # charts to try for one song before giving up
_STAMP = "songs.json"

Settings = mma.ArrangedSettings | composed.ComposedSettings | drawn.DrawnSettings
_DEFAULTS: dict[str, type[Settings]] = {
    "arranged": mma.ArrangedSettings,
    "composed": composed.ComposedSettings,
    "drawn": drawn.DrawnSettings,
}


@dataclass
class Written:
    """The outcome of `write_songs`.

    Attributes:
        written: number of songs written in this call.
        kept: number of songs that were there before.
        refused: the grooves of refused charts with MMA's message, and how often each occurred.
    """

    written: int = 0
    kept: int = 0
    refused: Counter[str] = field(default_factory=Counter)


def make_song(
    kind: str, split: str, index: int, *, seed: int, settings: Settings | None = None, refused: list[str] | None = None
) -> Song:
    """Make song `index` (from 0) of a split.

    It is a function of the arguments and `VERSION`, and for arranged songs also of MMA.

    Args:
        kind: one of `KINDS`.
        split: one of `SPLITS`; no two splits share a random stream, nor, for arranged songs, a groove.
        index: number of the song.
        seed: seed of the whole set.
        settings: settings of the kind; None uses the defaults.
        refused: a list to which charts refused by MMA are appended.

    Raises:
        UserError: if the kind or split is unknown, or MMA is needed but is missing or refuses chart after chart.
    """
    settings = _checked(kind, split, settings)
    for attempt in range(_ATTEMPTS):
        key = (KINDS.index(kind), SPLITS.index(split), index, attempt, VERSION)
        rng = np.random.default_rng(np.random.SeedSequence(entropy=seed, spawn_key=key))
        if isinstance(settings, drawn.DrawnSettings):
            return drawn.draw(rng, settings)
        if isinstance(settings, composed.ComposedSettings):
            return composed.write_piece(rng, settings)
        try:
            return arranged.arrange(rng, split, settings)
        except mma.Refused as error:
            last = str(error)
            if refused is not None:
                refused.append(last)
    raise UserError(
        f"MMA refused {_ATTEMPTS} charts in a row, the last one with: {last}; check that its library is complete"
    )


def write_songs(
    folder: str | Path,
    kind: str,
    split: str,
    count: int,
    *,
    seed: int,
    settings: Settings | None = None,
    workers: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> Written:
    """Write songs to `folder`/`split`/00001.mid and so on. Existing songs are kept, so an interrupted run continues.

    A folder holds one kind of songs. With a larger `count` the first songs stay the same.

    Args:
        folder: the folder of the songs.
        kind: "arranged", "composed" or "drawn".
        split: "train", "validation" or "test".
        count: number of songs.
        seed: the same seed, settings and version give the same bytes.
        settings: settings of the kind; None uses the defaults.
        workers: number of processes.
        progress: called with (songs done, songs in all).

    Raises:
        UserError: if the folder holds other songs, MMA is needed but missing, or an argument is out of range.
    """
    settings = _checked(kind, split, settings)
    if count < 0:
        raise UserError(f"songs: count is {count}; give 0 or more")
    folder = Path(folder)
    _stamp(folder, kind, seed, settings)
    paths = [folder / split / f"{index + 1:05d}.mid" for index in range(count)]
    jobs = [(path, kind, split, index, seed, settings) for index, path in enumerate(paths) if not path.exists()]
    result = Written(kept=count - len(jobs))

    if progress:
        progress(result.kept, count)
    for refused in in_processes(_write_song, jobs, workers):
        result.written += 1
        result.refused.update(refused)
        if progress:
            progress(result.kept + result.written, count)
    return result


def _write_song(job: tuple[Path, str, str, int, int, Settings]) -> list[str]:
    path, kind, split, index, seed, settings = job
    refused: list[str] = []
    write(make_song(kind, split, index, seed=seed, settings=settings, refused=refused), path)
    return refused


def _checked(kind: str, split: str, settings: Settings | None) -> Settings:
    if kind not in KINDS:
        raise UserError(f"songs: unknown kind {kind!r}; the kinds are {', '.join(KINDS)}")
    if split not in SPLITS:
        raise UserError(f"songs: unknown split {split!r}; the splits are {', '.join(SPLITS)}")
    settings = settings or _DEFAULTS[kind]()
    if not isinstance(settings, _DEFAULTS[kind]):
        raise UserError(f"songs: {type(settings).__name__} are not settings of {kind} songs")
    for name, value in asdict(settings).items():
        if isinstance(value, tuple) and not 0 < value[0] <= value[1]:
            raise UserError(f"songs: {name} is {value}; give the smallest and the largest, both above 0")
        if isinstance(value, float) and not 0 <= value <= 1:
            raise UserError(f"songs: {name} is {value}; give a probability from 0 to 1")
    if isinstance(settings, mma.ArrangedSettings):
        mma.find_mma(settings)
    return settings


def _stamp(folder: Path, kind: str, seed: int, settings: Settings) -> None:
    """Record in the folder how its songs are made, or check that this is unchanged."""
    values: dict[str, object] = {"kind": kind, "version": VERSION, "seed": seed, **asdict(settings)}
    if isinstance(settings, mma.ArrangedSettings):
        # The path of MMA does not matter, but its version does.
        values = {key: value for key, value in values.items() if key not in ("program", "library")}
        values |= mma.library_stamp(settings)
    text = json.dumps(values, indent=1, sort_keys=True) + "\n"
    path = folder / _STAMP
    if path.exists():
        if path.read_text() != text:
            raise UserError(f"{folder}: holds songs made with other settings; delete it or choose another folder")
    elif folder.is_dir() and next(folder.glob("*/*.mid"), None):
        raise UserError(f"{folder}: holds MIDI files that were not written here; choose another folder")
    else:
        with atomic(path) as temporary:
            temporary.write_text(text)
