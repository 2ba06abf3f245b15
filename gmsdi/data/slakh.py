"""Reader of the folder layout of Slakh2100 (also used by BabySlakh and the composed data set "mini").

Layout: `<root>/<split>/TrackNNNNN/{metadata.yaml,mix.flac,MIDI/Sxx.mid,stems/Sxx.flac}`. A track is described
by its metadata, the headers of its audio files, and the notes of its MIDI files; only `decode` reads audio.

The tracks of a split depend on the data set's version, see `gmsdi.data.versions`.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from gmsdi.data.decoding import FULL_SCALE, to_channels
from gmsdi.data.settings import GAP
from gmsdi.data.versions import VERSIONS, numbers_of
from gmsdi.errors import UserError

if TYPE_CHECKING:
    import symusic

_SUFFIXES = (".flac", ".wav")
# Seconds by which files of a track may differ in length; as in MSDM's reader, the common length is used.
_SLACK = 0.1

_log = logging.getLogger(__name__)


class Unlabelled(UserError):
    """A track has no stem of any class."""


@dataclass(frozen=True)
class Track:
    """A track of a Slakh-layout folder.

    Attributes:
        path: the track's folder.
        sample_rate: sample rate of all its audio files in Hz.
        frames: number of samples common to all its audio files.
        mix: the audio file of the mix.
        stems: the audio files of each label that has any, in the order of the classes.
        activity: for each of these labels the spans in which it plays, float64 `[spans, 2]`, onset and offset in
            seconds, in order and at least `GAP` apart.
    """

    path: Path
    sample_rate: int
    frames: int
    mix: Path
    stems: dict[str, list[Path]]
    activity: dict[str, np.ndarray]


def list_tracks(
    root: str | Path, split: str, *, version: str = "slakh2100_redux", first: int | None = None
) -> list[Path]:
    """List the track folders of a split, in order of name.

    Args:
        root: the folder that holds train, validation, test and omitted, or the tracks; or the folder above it.
        split: "train", "validation" or "test".
        version: one of `gmsdi.data.versions.VERSIONS`.
        first: use only the first `first` track numbers of the split, see `gmsdi.data.versions.numbers_of`.

    Raises:
        UserError: if the split is missing, holds no tracks, or holds a track twice.
    """
    root = find_root(Path(root))
    if VERSIONS[version].folders:
        if not (root / split).is_dir():
            raise UserError(f"{root / split}: no such folder; the root of a data set holds train, validation and test")
        folders = [root / split]
    else:
        folders = [root, *(root / name for name in (*VERSIONS[version].numbers, "omitted"))]
    by_folder = VERSIONS[version].folders and first is None
    wanted = None if by_folder else frozenset(numbers_of(version, split, first))
    found: dict[int, Path] = {}
    for number, path in _numbered(folders):
        if wanted is not None and number not in wanted:
            continue
        if number in found:
            raise UserError(f"{path}: the same track as {found[number]}; remove one of them")
        found[number] = path
    if not found:
        raise UserError(f"{folders[0]}: holds no Track folders of the {split} split of {version}")
    if wanted is not None and not VERSIONS[version].folders and len(found) < len(wanted):
        _log.warning("%s: has %d of the %d tracks of the %s split", root, len(found), len(wanted), split)
    return [found[number] for number in sorted(found)]


def find_root(folder: Path) -> Path:
    """The folder of the splits or tracks: `folder`, or the folder in it that an archive unpacks to."""
    names = {version.folder for version in VERSIONS.values()}
    return next((path for name in sorted(names) if (path := folder / name).is_dir()), folder)


def _numbered(folders: Sequence[Path]) -> Iterator[tuple[int, Path]]:
    for folder in folders:
        for path in folder.iterdir() if folder.is_dir() else ():
            match = re.fullmatch(r"Track(\d{5})", path.name)
            if match and path.is_dir():
                yield int(match[1]), path


def read_track(path: str | Path, classes: Mapping[str, Sequence[str]]) -> Track:
    """Describe a track without decoding its audio.

    Args:
        path: the track's folder.
        classes: for each label, the values of `inst_class` in the metadata that belong to it. Stems without an audio
            file are skipped, since the flag `audio_rendered` in the metadata of Slakh2100 is not reliable.

    Raises:
        Unlabelled: if no stem belongs to a class.
        UserError: if metadata, mix or MIDI files are missing or malformed, or if a stem differs from the mix in its
            sample rate, or by more than a tenth of a second in length.
    """
    path = Path(path)
    mix = _audio(path / "mix")
    if mix is None:
        raise UserError(f"{path}: has no mix.flac or mix.wav; the track is incomplete")
    sample_rate, frames = _header(mix)
    length = frames
    stems: dict[str, list[Path]] = {}
    activity: dict[str, np.ndarray] = {}
    listed = instruments_of(path / "metadata.yaml")
    for label, members in classes.items():
        spans = []
        for stem, inst_class in listed.items():
            audio = _audio(path / "stems" / stem)
            if inst_class not in members or audio is None:
                continue
            rate, own = _header(audio)
            if rate != sample_rate:
                raise UserError(
                    f"{audio}: has a sample rate of {rate} Hz, but its mix has {sample_rate} Hz; replace the file"
                )
            if abs(own - length) > _SLACK * rate:
                raise UserError(f"{audio}: has {own} samples, but its mix has {length}; replace the file")
            frames = min(frames, own)
            stems.setdefault(label, []).append(audio)
            spans.append(_notes(path / "MIDI" / f"{stem}.mid"))
        if label in stems:
            activity[label] = merge_spans(np.concatenate(spans), GAP)
    if not stems:
        raise Unlabelled(f"{path}: has no stem of the classes {', '.join(classes)}; remove the track or add a class")
    return Track(path, sample_rate, frames, mix, stems, activity)


def decode(track: Track, labels: Sequence[str], sample_rate: int, length: int, channels: int = 1) -> np.ndarray:
    """The stems of a track, int16 `[K · C, length]`: the sum over each label's files, clipped to the range of int16."""
    import soxr

    result = np.zeros((len(labels), channels, length), np.int16)
    for row, label in zip(result, labels, strict=True):
        files = track.stems.get(label, [])
        if not files:
            continue
        audio = _decoded(files[0], track.frames, channels)
        for file in files[1:]:
            audio += _decoded(file, track.frames, channels)
        if track.sample_rate != sample_rate:
            audio = soxr.resample(audio, track.sample_rate, sample_rate)[:length]
            audio = np.pad(audio, ((0, length - len(audio)), (0, 0)))
        row[:] = np.clip(np.round(audio.T * FULL_SCALE), -FULL_SCALE, FULL_SCALE - 1)
    return result.reshape(-1, length)


def merge_spans(spans: np.ndarray, gap: float) -> np.ndarray:
    """Union of spans `[n, 2]` (onset, offset), bridging gaps shorter than `gap`; sorted, `[m, 2]` with m ≤ n."""
    spans = spans[np.argsort(spans[:, 0], kind="stable")]
    if not len(spans):
        return spans
    reach = np.maximum.accumulate(spans[:, 1])
    first = np.concatenate([[True], spans[1:, 0] - reach[:-1] >= gap])
    last = np.concatenate([first[1:], [True]])
    return np.stack([spans[first, 0], reach[last]], axis=1)


def instruments_of(file: Path) -> dict[str, str]:
    """The `inst_class` of every stem in a track's metadata.yaml.

    Raises:
        UserError: if it cannot be read or is malformed.
    """
    import yaml

    try:
        stems = yaml.load(file.read_text(), getattr(yaml, "CSafeLoader", yaml.SafeLoader))["stems"]
        return {str(stem): str(entry.get("inst_class", "")) for stem, entry in sorted(stems.items())}
    except OSError as error:
        raise UserError(f"{file}: cannot be read ({error.strerror}); the track is incomplete") from error
    except (yaml.YAMLError, UnicodeDecodeError, AttributeError, KeyError, TypeError) as error:
        raise UserError(f"{file}: malformed; expected 'stems', each with an 'inst_class'") from error


def _audio(stem: Path) -> Path | None:
    return next((file for suffix in _SUFFIXES if (file := stem.with_name(stem.name + suffix)).is_file()), None)


def _header(file: Path) -> tuple[int, int]:
    """Sample rate and number of samples of an audio file."""
    import soundfile

    try:
        info = soundfile.info(file)
    except (soundfile.LibsndfileError, RuntimeError) as error:
        raise UserError(f"{file}: not a readable audio file; it may be corrupt, replace it") from error
    return info.samplerate, info.frames


def _decoded(file: Path, frames: int, channels: int) -> np.ndarray:
    """The first samples of a file, float32 `[frames, C]`."""
    import soundfile

    try:
        audio, _ = soundfile.read(file, frames=frames, dtype="float32", always_2d=True)
    except (soundfile.LibsndfileError, RuntimeError) as error:
        raise UserError(f"{file}: cannot be decoded, the file is corrupt; replace it") from error
    if len(audio) != frames:
        raise UserError(f"{file}: ends after {len(audio)} of {frames} samples, the file is corrupt; replace it")
    if not np.isfinite(audio).all():
        raise UserError(f"{file}: holds samples that are not finite (NaN or infinite); replace it")
    return to_channels(audio, channels)


def _notes(file: Path) -> np.ndarray:
    """Spans `[notes, 2]` of all notes of a MIDI file, in seconds."""
    import symusic

    if not file.is_file():
        raise UserError(f"{file}: no such file; the labels of a stem come from its MIDI file")
    try:
        score = symusic.Score(str(file))
    except Exception as error:  # symusic's parser raises several unrelated types
        raise UserError(f"{file}: malformed MIDI file; replace it") from error
    parts = [track.notes.numpy() for track in score.tracks]
    if not parts:
        return np.zeros((0, 2))
    onsets = np.concatenate([part["time"] for part in parts])
    ends = onsets + np.concatenate([part["duration"] for part in parts])
    return np.stack([_seconds(score, onsets), _seconds(score, ends)], axis=1)


def _seconds(score: symusic.Score, ticks: np.ndarray) -> np.ndarray:
    """Times of ticks under the score's tempo changes.

    symusic's own conversion to seconds lengthens every note to at least one second.
    """
    # A later tempo at the same tick replaces an earlier one; MIDI's default is 120 beats per minute.
    tempi = {0: 500_000} | {int(tempo.time): int(tempo.mspq) for tempo in sorted(score.tempos, key=lambda t: t.time)}
    changes = np.array(list(tempi))
    pace = np.array(list(tempi.values())) * 1e-6 / score.ticks_per_quarter  # seconds per tick
    reached = np.concatenate([[0.0], np.cumsum(np.diff(changes) * pace[:-1])])
    index = np.searchsorted(changes, ticks, side="right") - 1
    return reached[index] + (ticks - changes[index]) * pace[index]
