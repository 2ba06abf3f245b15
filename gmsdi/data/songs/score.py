"""Songs as MIDI: parts with notes, controllers and pitch bends, human timing, and writing the file."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from gmsdi.data.notes import TICKS_PER_BEAT, Note
from gmsdi.io.files import atomic

PROGRAMS = {"Bass": range(32, 40), "Guitar": range(24, 32), "Piano": range(8)}  # General MIDI, counted from 0
KITS = (0, 8, 16, 24, 25, 32, 40)  # kits on which General MIDI 2 and Roland GS agree
DRUM_KEYS = range(27, 88)  # the percussion keys of General MIDI 2
VOLUME, PAN, EXPRESSION, PEDAL = 7, 10, 11, 64  # controllers
_MOST_PARTS = 15  # each part has its own channel, and one of the 16 is for drums
_LONGEST = 40.0  # beats of the longest note


@dataclass
class Part:
    """One instrument.

    Attributes:
        name: name of the track.
        program: General MIDI program, or that of the drum kit.
        notes: notes, in ticks.
        drums: whether it plays on channel 10.
        controls: (tick, controller, value).
        bends: (tick, value), −8192 to 8191 for two semitones down and up.
    """

    name: str
    program: int
    notes: list[Note]
    drums: bool = False
    controls: list[tuple[int, int, int]] = field(default_factory=list)
    bends: list[tuple[int, int]] = field(default_factory=list)

    @property
    def instrument(self) -> str | None:
        """The class of its General MIDI program; None if it belongs to no class."""
        if self.drums:
            return "Drums"
        return next((name for name, programs in PROGRAMS.items() if self.program in programs), None)


@dataclass
class Song:
    """A song; `tempos` are (tick, beats per minute), `meter` is (numerator, denominator), `about` is its origin."""

    tempos: list[tuple[int, float]]
    meter: tuple[int, int]
    parts: list[Part]
    about: str = ""

    @property
    def classes(self) -> set[str]:
        """The classes that play."""
        return {part.instrument for part in self.parts if part.notes and part.instrument}


def once_each(notes: Iterable[Note], least: int = 10) -> list[Note]:
    """The notes in order, none shorter than `least` ticks, each ending by the start of the next note of its key.

    A key of a MIDI channel cannot be pressed twice at once.
    """
    following: dict[int, int] = {}
    kept = []
    for note in sorted(notes, key=lambda n: (n.start, n.pitch, n.velocity), reverse=True):
        end = min(note.end, following.get(note.pitch, note.end), note.start + round(_LONGEST * TICKS_PER_BEAT))
        if end - note.start >= least:
            kept.append(Note(note.start, end, note.pitch, note.velocity))
            following[note.pitch] = note.start
    return kept[::-1]


def played(
    rng: np.random.Generator, notes: Sequence[Note], *, jitter: float, lag: float, accent: float, end: int
) -> list[Note]:
    """Notes with the timing and velocities of a human player.

    Args:
        rng: source of randomness.
        notes: as written.
        jitter: standard deviation of the timing, in ticks. Notes that start together share it; each also has a
            deviation of its own of a quarter of this.
        lag: ticks by which all notes are late (or, if negative, early).
        accent: standard deviation of the velocity.
        end: tick after which nothing sounds.
    """
    if not notes:
        return []
    starts = np.array([note.start for note in notes])
    _, together = np.unique(starts, return_inverse=True)
    shift = rng.normal(0, jitter, together.max() + 1)[together] + rng.normal(0, jitter / 4, len(notes)) + lag
    shift = np.clip(shift, -3 * jitter - abs(lag), 3 * jitter + abs(lag)).round().astype(int).tolist()
    louder = np.clip(rng.normal(0, accent, len(notes)), -3 * accent, 3 * accent).round().astype(int).tolist()
    result = []
    for note, by, more in zip(notes, shift, louder, strict=True):
        start, stop = max(0, note.start + by), min(end, note.end + by)
        if stop > start:
            result.append(Note(start, stop, note.pitch, min(127, max(8, note.velocity + more))))
    return once_each(result)


def write(song: Song, path: str | Path) -> None:
    """Write a song as a standard MIDI file of type 1, with a track and a channel for each part.

    At most fifteen parts are written; parts that belong to a class come first.
    """
    import symusic

    score = symusic.Score(TICKS_PER_BEAT)
    for tick, tempo in song.tempos:
        score.tempos.append(symusic.Tempo(tick, tempo))
    score.time_signatures.append(symusic.TimeSignature(0, *song.meter))
    if song.about:
        score.markers.append(symusic.TextMeta(0, song.about))
    parts = sorted((part for part in song.parts if part.notes), key=lambda part: part.instrument is None)
    for part in parts[:_MOST_PARTS]:
        track = symusic.Track(part.name, part.program, part.drums)
        for note in part.notes:
            track.notes.append(symusic.Note(note.start, note.end - note.start, note.pitch, note.velocity))
        # The pedal is written as a controller, since symusic 0.5.8 does not write a track's `pedals`.
        for tick, number, value in sorted(part.controls):
            track.controls.append(symusic.ControlChange(tick, number, value))
        for tick, value in sorted(part.bends):
            track.pitch_bends.append(symusic.PitchBend(tick, value))
        score.tracks.append(track)
    with atomic(path) as temporary:
        score.dump_midi(temporary)
