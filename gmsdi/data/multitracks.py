"""Reader of any folder of multi-tracks (MUSDB18-HQ, MoisesDB, …): a folder per track, one or more files per stem.

Patterns relative to the track's folder say which file belongs to which class: `bass.wav`, `vocals/*.wav`, `lead*`. They
work as in a shell, but ignore case: `*`, `?` and `[...]` match within a name, `/` goes one folder down. A folder
anywhere below the root is a track if one of its files matches a class. Files that match no class, such as a mixture,
are left out, and a class that a track lacks is silent.

Files of a track may differ in sample rate, number of channels and length. Each is converted to the requested channels
(`gmsdi.data.decoding.to_channels`) and resampled from its own rate; all start together, and shorter files are padded
with silence to the length of the longest.

Where a class sounds is measured on the audio itself, see `active_spans`.
"""

from __future__ import annotations

import hashlib
import itertools
import os
import unicodedata
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import numpy as np

from gmsdi.data.decoding import Unreadable, header, stream
from gmsdi.data.settings import SPLITS, Activity, Splits
from gmsdi.data.slakh import merge_spans
from gmsdi.errors import UserError
from gmsdi.io.audio import to_int16

SUFFIXES = (".wav", ".flac", ".mp3", ".ogg", ".aif", ".aiff")
"""File name extensions that are read."""


@dataclass(frozen=True)
class Track:
    """A track of multi-track audio.

    Attributes:
        path: its folder.
        name: the folder relative to the root, with `/`.
        stems: the audio files of each class that has any, in the order of the classes.
        unmatched: number of its audio files that belong to no class.
    """

    path: Path
    name: str
    stems: dict[str, list[Path]]
    unmatched: int

    def length(self, sample_rate: int) -> int:
        """Number of samples at a rate, of the longest file.

        Raises:
            Unreadable: if a file has no valid header, or no samples; the message names it.
        """
        lengths = []
        for file in itertools.chain(*self.stems.values()):
            with _named(self, file):
                rate, frames = header(file)
                if not frames:
                    raise Unreadable("holds no samples")
            lengths.append(round(frames * sample_rate / rate))
        return max(lengths)


@dataclass(frozen=True)
class Decoded:
    """The decoded files of a track.

    Attributes:
        stems: int16 `[K · C, T]`, the sums of the files of each class, clipped to the range of int16; the channels of a
            class side by side.
        activity: for each class that has files, the spans in which it sounds, see `active_spans`.
        clipped: number of samples at which a stem or the mixture exceeds that range.
    """

    stems: np.ndarray
    activity: dict[str, np.ndarray]
    clipped: int


# --- Listing ----------------------------------------------------------------------------------------------------------


def list_tracks(root: str | Path, classes: Mapping[str, Sequence[str]]) -> list[Track]:
    """List the tracks below a folder, in order of name. Nothing is decoded.

    Args:
        root: the folder; links are followed.
        classes: for each label, its patterns.

    Raises:
        UserError: if there is no such folder, a pattern is malformed, a class has no file at all, a file matches
            several classes, or a track is inside another.
    """
    root = Path(root)
    if not root.is_dir():
        raise UserError(f"{root}: no such folder; set data.root to the one that holds your tracks")
    patterns = [(label, _parts(str(pattern), label)) for label, members in classes.items() for pattern in members]
    stems: dict[Path, dict[str, list[Path]]] = {}
    files = sorted(_audio_files(root))
    for file in files:
        parts = _folded(file.relative_to(root))
        for label, pattern in patterns:
            if len(pattern) <= len(parts) and _match(parts[-len(pattern) :], pattern):
                same = stems.setdefault(file.parents[len(pattern) - 1], {}).setdefault(label, [])
                same += [file] if file not in same else []
    if not stems:
        what = f"one audio file is {files[0].relative_to(root)}" if files else "it holds no audio files"
        raise UserError(f"{root}: no file matches the patterns of data.classes; {what}; fix data.classes or data.root")
    for label, members in classes.items():
        if not any(label in found for found in stems.values()):
            wanted = ", ".join(map(str, members))
            raise UserError(
                f"config: data.classes.{label}: no file below {root} matches {wanted}; fix the patterns, or set the "
                "class to null to leave it out"
            )
    _drop_nested(root, stems)
    within = Counter(parent for file in files for parent in file.parents)
    tracks = []
    for path, found in sorted(stems.items()):
        taken: dict[Path, str] = {}
        for label, file in ((label, file) for label, own in found.items() for file in own):
            if taken.setdefault(file, label) != label:
                raise UserError(
                    f"{file}: matches the patterns of {taken[file]} and of {label}; narrow those of one in data.classes"
                )
        name = path.relative_to(root).as_posix() if path != root else root.resolve().name
        if any(unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp") for character in name):
            raise UserError(f"{path!r}: the track's name has a control or broken character; rename the folder")
        tracks.append(
            Track(path, name, {label: found[label] for label in classes if label in found}, within[path] - len(taken))
        )
    return tracks


def split_tracks(
    tracks: Sequence[Track], splits: Splits, *, needed: Sequence[str] = SPLITS, root: str | Path = "data.root"
) -> dict[str, list[Track]]:
    """The tracks of each split, in order of name.

    Args:
        tracks: see `list_tracks`.
        splits: which tracks make a split.
        needed: the splits that must have a track.
        root: name of the root, for messages.

    Raises:
        UserError: if a pattern matches no track, a track is in two lists, or a needed split has no track.
    """
    where = f"{root}: data.stems.splits"
    listed: dict[str, str] = {}
    for split, given in (("validation", splits.validation), ("test", splits.test)):
        for name in [] if isinstance(given, int | float) else _listed(tracks, given, f"{where}.{split}"):
            if listed.setdefault(name, split) != split:
                raise UserError(
                    f"{where}: track {name} is in the lists of both validation and test; take it out of one"
                )
    pool = [track.name for track in tracks if track.name not in listed]
    if splits.train is not None:
        wanted = _listed(tracks, splits.train, f"{where}.train")
        pool = [name for name in pool if name in wanted]
    drawn = {
        split: share for split in ("test", "validation") if isinstance(share := getattr(splits, split), int | float)
    }
    for name in pool:
        place, listed[name] = _draw(splits.seed, name), "train"
        for split, share in drawn.items():
            if 0 <= place < share:
                listed[name] = split
            place -= share
    found = {split: [track for track in tracks if listed.get(track.name) == split] for split in SPLITS}
    for split in needed:
        if not found[split]:
            how = (
                f"its share is {drawn[split]}, drawn among {len(pool)} tracks"
                if split in drawn
                else "no list names one"
            )
            if split == "train":
                how = (
                    "validation and test take them all"
                    if splits.train is None
                    else "validation and test take all of its list"
                )
            raise UserError(
                f"{where}.{split}: no track of {len(tracks)} is in the {split} split: {how}; name tracks of it in a "
                "list, or change the shares"
            )
    return found


def find_tracks(data: Mapping[str, Any], needed: Sequence[str] = SPLITS) -> dict[str, list[Track]]:
    """The tracks of each split that a configuration asks for.

    Args:
        data: the section `data`, with all defaults filled in.
        needed: the splits that must have a track.

    Raises:
        UserError: see `list_tracks` and `split_tracks`.
    """
    splits = Splits(**data["stems"]["splits"], seed=data["seed"])
    found = split_tracks(list_tracks(data["root"], data["classes"]), splits, needed=needed, root=data["root"])
    return {split: tracks[: data["tracks"][split]] for split, tracks in found.items()}


def _draw(seed: int, name: str) -> float:
    """The number in [0, 1) that is drawn for a track."""
    text = f"{seed}:{unicodedata.normalize('NFC', name)}"
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8]) / 2**64


def _listed(tracks: Sequence[Track], patterns: Sequence[str], where: str) -> set[str]:
    """Names of the tracks that match patterns, or are below folders that match."""
    found: set[str] = set()
    for text in patterns:
        pattern = _folded(Path(text))
        names = [track.name for track in tracks if _match(_folded(Path(track.name))[: len(pattern)], pattern)]
        if not names:
            raise UserError(f"{where}: no track or folder {text!r}; a track is named {tracks[0].name!r}")
        found.update(names)
    return found


def _parts(pattern: str, label: str) -> tuple[str, ...]:
    parts = _folded(Path(pattern))
    if not parts or Path(pattern).is_absolute() or {"**", ".."} & set(parts):
        raise UserError(
            f"config: data.classes.{label}: {pattern!r} is not a pattern of files below a track's folder; examples "
            'are "bass.wav" and "vocals/*.wav"'
        )
    return parts


def _folded(path: Path) -> tuple[str, ...]:
    """The parts of a path, normalised in case and encoding of accents."""
    return tuple(unicodedata.normalize("NFC", part).casefold() for part in path.parts)


def _match(parts: Sequence[str], pattern: Sequence[str]) -> bool:
    """Whether each part matches its pattern or equals it literally, brackets included."""
    return len(parts) == len(pattern) and all(
        part == own or fnmatchcase(part, own) for part, own in zip(parts, pattern, strict=True)
    )


def _audio_files(root: Path) -> Iterator[Path]:
    """Audio files below a folder, except hidden ones; a folder that several links point to is visited once."""
    seen: set[str] = set()
    for folder, below, names in os.walk(root, followlinks=True):
        real = os.path.realpath(folder)
        if real in seen:
            below.clear()
            continue
        seen.add(real)
        below[:] = sorted(name for name in below if not name.startswith(".") and name != "__MACOSX")
        for name in names:
            if not name.startswith(".") and name.lower().endswith(SUFFIXES) and os.path.isfile(f"{folder}/{name}"):
                yield Path(folder, name)


def _drop_nested(root: Path, stems: dict[Path, dict[str, list[Path]]]) -> None:
    """If one folder is inside another, keep the outer one if the inner one's files also belong to it."""
    for path in sorted(stems):
        outer = next((parent for parent in path.parents if parent in stems and parent.is_relative_to(root)), None)
        if outer is None:
            continue
        own = set(itertools.chain(*stems[outer].values()))
        if more := [file for file in itertools.chain(*stems[path].values()) if file not in own]:
            raise UserError(
                f"{path}: is a track because of {more[0].name}, but is inside {outer}, a track because of "
                f"{min(own).relative_to(outer)}; narrow the patterns of data.classes, or move a file"
            )
        for label, files in stems.pop(path).items():
            found = stems[outer].setdefault(label, [])
            found += [file for file in files if file not in found]


# --- Decoding ---------------------------------------------------------------------------------------------------------


def decode(
    track: Track,
    labels: Sequence[str],
    *,
    sample_rate: int,
    length: int,
    activity: Activity | None = None,
    gain_db: float = 0.0,
    channels: int = 1,
) -> Decoded:
    """Decode the files of a track once, and find where its classes sound.

    Memory: 2 K + 17 bytes per sample and channel of the result, and a few blocks.

    Args:
        track: see `list_tracks`.
        labels: the K classes.
        sample_rate: sample rate of the result, in Hz.
        length: T, see `Track.length`.
        activity: how activity is measured, before the gain.
        gain_db: gain of every file.
        channels: C. Activity is that of their mean, so that it is the same for any number of them.

    Raises:
        Unreadable: if a file cannot be decoded, see `gmsdi.data.decoding.stream`; the message names it.
    """
    stems = np.zeros((len(labels), channels, length), np.int16)
    mix, clipped = np.zeros((channels, length), np.float32), np.zeros(length, bool)
    spans = {}
    for row, label in zip(stems, labels, strict=True):
        if label not in track.stems:
            continue
        own = np.zeros((channels, length), np.float32)
        for file in track.stems[label]:
            with _named(track, file):
                written = 0
                rate, frames = header(file)
                for samples in stream(file, frames, rate, sample_rate, channels):
                    part = samples[: length - written]
                    own[:, written : written + len(part)] += part.T
                    written += len(part)
        spans[label] = active_spans(own.mean(axis=0), sample_rate, activity or Activity())
        own *= np.float32(10 ** (gain_db / 20))
        row[:] = to_int16(own)
        mix += own
        clipped |= (np.abs(own) > 1).any(axis=0)
    return Decoded(stems.reshape(-1, length), spans, int(np.count_nonzero(clipped | (np.abs(mix) > 1).any(axis=0))))


@contextmanager
def _named(track: Track, file: Path) -> Iterator[None]:
    """Put the file's name before the reason why a file is unreadable."""
    try:
        yield
    except Unreadable as error:
        raise Unreadable(f"{file.relative_to(track.path).as_posix()}: {error}") from error


def active_spans(audio: np.ndarray, sample_rate: int, settings: Activity | None = None) -> np.ndarray:
    """Find where a signal sounds.

    The signal is cut into frames. A frame's power is its variance, so that a constant offset does not count. The loud
    level is the mean of the frames' powers weighted by themselves, Σp²/Σp: the level of the loud frames, however few
    they are, but not that of a single click. A frame sounds if its level is within `range_db` of the loud level and
    above `floor_db`, so that fainter background noise does not count.

    Args:
        audio: mono, float `[T]`.
        sample_rate: in Hz.
        settings: how activity is measured.

    Returns:
        float64 `[spans, 2]`, onset and end in seconds, in order and at least `gap` apart.
    """
    settings = settings or Activity()
    size = max(1, round(settings.frame * sample_rate))
    whole = len(audio) // size * size
    frames = audio[:whole].reshape(-1, size)
    powers = np.einsum("ij,ij->i", frames, frames, dtype=np.float64) / size - frames.mean(axis=1, dtype=np.float64) ** 2
    if len(rest := audio[whole:]) > size // 2:
        powers = np.append(powers, np.var(rest, dtype=np.float64))
    powers = np.maximum(powers, 0)  # rounding errors
    total = powers.sum()
    if total <= 0:
        return np.zeros((0, 2))
    loud = (powers**2).sum() / total
    sounds = powers >= max(loud * 10 ** (-settings.range_db / 10), 10 ** (settings.floor_db / 10))
    edges = np.flatnonzero(np.diff(sounds.astype(np.int8), prepend=0, append=0)).reshape(-1, 2)
    return merge_spans(np.minimum(edges * size, len(audio)) / sample_rate, settings.gap)
