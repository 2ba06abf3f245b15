"""Reader of the folder layout of Slakh2100 (also BabySlakh and the composed dataset "mini").

Layout: `<root>/<split>/TrackNNNNN/{metadata.yaml,mix.flac,MIDI/Sxx.mid,stems/Sxx.flac}`. Nothing is decoded here: a
track is described by its metadata, the headers of its audio files and the notes of its MIDI files.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from gmsdi.errors import UserError

if TYPE_CHECKING:
    import symusic

GAP = 1.0  # rests shorter than this many seconds do not interrupt an instrument's activity
_SUFFIXES = (".flac", ".wav")


@dataclass(frozen=True)
class Track:
    """A track of a Slakh-layout folder.

    Attributes:
        path: the track's folder.
        sample_rate: of all its audio files, in Hz.
        frames: length of all its audio files, in samples.
        mix: the audio file of the mix.
        stems: audio files of each label that has any, in the order of the classes.
        activity: for each of these labels the spans in which it plays, float64 [spans, 2], onset and offset in
            seconds, in order and apart by at least `GAP`.
    """

    path: Path
    sample_rate: int
    frames: int
    mix: Path
    stems: dict[str, list[Path]]
    activity: dict[str, np.ndarray]


def list_tracks(root: str | Path, split: str) -> list[Path]:
    """Track folders of a split, in order of name.

    Raises:
        UserError: if the split is missing or holds no tracks.
    """
    folder = Path(root) / split
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; a dataset root holds train, validation and test")
    tracks = sorted(path for path in folder.iterdir() if path.is_dir() and path.name.startswith("Track"))
    if not tracks:
        raise UserError(f"{folder}: holds no Track folders")
    return tracks


def read_track(path: str | Path, classes: Mapping[str, Sequence[str]]) -> Track:
    """Describe a track without decoding its audio.

    Args:
        path: the track's folder.
        classes: for each label the values of `inst_class` in the metadata that belong to it. Stems that the metadata
            lists but that have no audio file are skipped, since in Slakh2100 the flag `audio_rendered` is not reliable.

    Raises:
        UserError: if metadata, mix, or MIDI are missing or malformed, if no stem belongs to a class, or if a stem
            differs from the mix in length or sample rate.
    """
    path = Path(path)
    mix = _audio(path / "mix")
    if mix is None:
        raise UserError(f"{path}: has no mix.flac or mix.wav; the track is incomplete")
    sample_rate, frames = _header(mix)
    stems: dict[str, list[Path]] = {}
    activity: dict[str, np.ndarray] = {}
    listed = _metadata(path)
    for label, members in classes.items():
        spans = []
        for stem, inst_class in listed.items():
            audio = _audio(path / "stems" / stem)
            if inst_class not in members or audio is None:
                continue
            rate, length = _header(audio)
            if rate != sample_rate:
                raise UserError(f"{audio}: has a sample rate of {rate} Hz, its mix of {sample_rate} Hz")
            if length != frames:
                raise UserError(f"{audio}: has {length} samples, its mix {frames}; replace the file")
            stems.setdefault(label, []).append(audio)
            spans.append(_notes(path / "MIDI" / f"{stem}.mid"))
        if label in stems:
            activity[label] = merge_spans(np.concatenate(spans), GAP)
    if not stems:
        raise UserError(f"{path}: has no stem of the classes {', '.join(classes)}; remove the track or add a class")
    return Track(path, sample_rate, frames, mix, stems, activity)


def merge_spans(spans: np.ndarray, gap: float) -> np.ndarray:
    """Union of spans [n, 2] (onset, offset), gaps shorter than `gap` bridged; sorted, [m, 2] with m ≤ n."""
    spans = spans[np.argsort(spans[:, 0], kind="stable")]
    if not len(spans):
        return spans
    reach = np.maximum.accumulate(spans[:, 1])
    first = np.concatenate([[True], spans[1:, 0] - reach[:-1] >= gap])
    last = np.concatenate([first[1:], [True]])
    return np.stack([spans[first, 0], reach[last]], axis=1)


def _metadata(path: Path) -> dict[str, str]:
    """The `inst_class` of every stem listed."""
    import yaml

    file = path / "metadata.yaml"
    try:
        stems = yaml.load(file.read_text(), getattr(yaml, "CSafeLoader", yaml.SafeLoader))["stems"]
        return {str(stem): str(entry.get("inst_class", "")) for stem, entry in sorted(stems.items())}
    except OSError as error:
        raise UserError(f"{file}: cannot be read ({error.strerror}); the track is incomplete") from error
    except (yaml.YAMLError, UnicodeDecodeError, AttributeError, KeyError, TypeError) as error:
        raise UserError(f"{file}: malformed; 'stems' with an 'inst_class' each is expected") from error


def _audio(stem: Path) -> Path | None:
    return next((file for suffix in _SUFFIXES if (file := stem.with_name(stem.name + suffix)).is_file()), None)


def _header(file: Path) -> tuple[int, int]:
    """Sample rate and number of samples."""
    import soundfile

    try:
        info = soundfile.info(file)
    except (soundfile.LibsndfileError, RuntimeError) as error:
        raise UserError(f"{file}: not a readable audio file; it may be corrupt, replace it") from error
    return info.samplerate, info.frames


def _notes(file: Path) -> np.ndarray:
    """Spans [notes, 2] of all notes of a MIDI file, in seconds."""
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
    # A later tempo at the same tick replaces an earlier one; without any, MIDI plays 120 beats a minute.
    tempi = {0: 500_000} | {int(tempo.time): int(tempo.mspq) for tempo in sorted(score.tempos, key=lambda t: t.time)}
    changes = np.array(list(tempi))
    pace = np.array(list(tempi.values())) * 1e-6 / score.ticks_per_quarter  # seconds a tick
    reached = np.concatenate([[0.0], np.cumsum(np.diff(changes) * pace[:-1])])
    index = np.searchsorted(changes, ticks, side="right") - 1
    return reached[index] + (ticks - changes[index]) * pace[index]
