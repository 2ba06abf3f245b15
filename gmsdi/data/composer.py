"""A composer of short band pieces for bass, drums, guitar and piano.

A piece has a key, a tempo, a groove and two chord progressions of four bars (verse and chorus), shared by all its
instruments. It is a sequence of sections of four bars, in each of which a set of instruments plays, so that the notes
say which instruments sound when. All randomness comes from the generator that is passed in.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from gmsdi.data.instruments import BAR, BARS, STEP, Section, chord_on, patterns_of
from gmsdi.data.notes import TICKS_PER_BEAT, Note, pick
from gmsdi.data.settings import INSTRUMENTS

_MODES = {"major": (0, 2, 4, 5, 7, 9, 11), "minor": (0, 2, 3, 5, 7, 8, 10)}
# Scale degrees (0 = tonic) of the four bars.
_PROGRESSIONS = {
    "major": (
        (0, 4, 5, 3), (0, 5, 3, 4), (0, 3, 0, 4), (5, 3, 0, 4), (0, 2, 3, 4), (1, 4, 0, 5), (0, 3, 5, 4), (3, 0, 4, 5),
        (0, 5, 1, 4), (3, 4, 2, 5),
    ),
    "minor": (
        (0, 5, 2, 6), (0, 3, 4, 0), (0, 6, 5, 4), (0, 5, 3, 4), (0, 2, 6, 3), (5, 6, 0, 0), (0, 3, 5, 6), (0, 6, 5, 6),
        (0, 4, 5, 3), (3, 0, 5, 4),
    ),
}  # fmt: skip
# The groove of a piece: onsets shared by kick drum, bass, strums and comping.
_GROOVES = (
    (0, 8), (0, 6, 8), (0, 6, 10), (0, 3, 8, 11), (0, 7, 8, 10), (0, 3, 6, 10), (0, 8, 11, 14), (0, 4, 7, 10, 12),
    (0, 6, 12), (0, 5, 8, 10),
)  # fmt: skip


@dataclass
class Piece:
    """A composed piece; `notes` maps each instrument to its notes in order of start."""

    tempo: int
    key: str
    groove: tuple[int, ...]
    sections: list[tuple[str, ...]]
    programs: dict[str, int]
    notes: dict[str, list[Note]] = field(default_factory=dict)

    @property
    def ticks(self) -> int:
        """Length of the piece in ticks."""
        return len(self.sections) * BARS * BAR

    def seconds(self, ticks: int) -> float:
        """Convert ticks to seconds."""
        return ticks * 60 / (self.tempo * TICKS_PER_BEAT)


def compose(
    rng: np.random.Generator,
    *,
    sections: tuple[int, int],
    section_sizes: Mapping[int, float],
    programs: Mapping[str, Sequence[int]],
    kits: Sequence[int],
) -> Piece:
    """Compose a piece.

    Args:
        rng: source of all randomness.
        sections: smallest and largest number of sections.
        section_sizes: probability of each number of instruments in a section. At least one section has all four.
        programs: General MIDI programs to choose from for "Bass", "Guitar" and "Piano".
        kits: programs of the drum bank to choose from.
    """
    mode = pick(rng, ("major", "minor"))
    tonic = int(rng.integers(12))
    scale = tuple((tonic + degree) % 12 for degree in _MODES[mode])
    progressions = [_PROGRESSIONS[mode][i] for i in rng.permutation(len(_PROGRESSIONS[mode]))[:2]]
    sevenths = rng.random() < 0.3
    harmony = [tuple(chord_on(scale, degree, sevenths) for degree in progression) for progression in progressions]
    groove = pick(rng, _GROOVES)
    lineup = _lineup(rng, int(rng.integers(sections[0], sections[1] + 1)), section_sizes)
    chosen = {name: int(pick(rng, programs[name])) for name in INSTRUMENTS if name != "Drums"}
    chosen["Drums"] = int(pick(rng, kits))
    names = ("C", "Db", "D", "Eb", "E", "F", "Gb", "G", "Ab", "A", "Bb", "B")
    piece = Piece(int(rng.integers(90, 141)), f"{names[tonic]} {mode}", groove, lineup, chosen)
    piece.notes = {name: [] for name in INSTRUMENTS}

    # Verse and chorus each have a pattern, from which a section sometimes departs.
    usual = {name: [pick(rng, patterns_of(name, chosen[name])) for _ in harmony] for name in INSTRUMENTS}
    kind = int(rng.integers(2))
    for index, active in enumerate(lineup):
        intensity = 0.75 + 0.25 * len(active) / len(INSTRUMENTS)
        section = Section(rng, scale, harmony[kind], groove, intensity, index == len(lineup) - 1)
        for name in active:
            part = usual[name][kind] if rng.random() < 0.7 else pick(rng, patterns_of(name, chosen[name]))
            swing = 4 if name == "Drums" else 8
            piece.notes[name] += _perform(rng, part(section), index * BARS * BAR, swing)
        kind = 1 - kind if rng.random() < 0.6 else kind
    return piece


def _lineup(rng: np.random.Generator, count: int, sizes: Mapping[int, float]) -> list[tuple[str, ...]]:
    """The instruments of each section: all four at least once, and no set twice in a row if avoidable."""
    numbers = sorted(sizes)
    weights = np.array([sizes[n] for n in numbers], float)
    drawn = [int(n) for n in rng.choice(numbers, size=count, p=weights / weights.sum())]
    if len(INSTRUMENTS) not in drawn:
        drawn[int(rng.integers(count))] = len(INSTRUMENTS)
    result: list[tuple[str, ...]] = []
    for size in drawn:
        for _ in range(4):
            chosen = tuple(INSTRUMENTS[i] for i in sorted(rng.permutation(len(INSTRUMENTS))[:size]))
            if not result or chosen != result[-1]:
                break
        result.append(chosen)
    return result


def _perform(rng: np.random.Generator, notes: list[Note], offset: int, jitter: float) -> list[Note]:
    """Place a section's notes at `offset`, with human timing (σ `jitter` ticks) and velocity, within its end."""
    end = BARS * BAR
    shifts = np.clip(rng.normal(0, jitter, len(notes)), -2 * jitter, 2 * jitter).round().astype(int)
    accents = rng.normal(0, 5, len(notes)).round().astype(int)
    placed = []
    for note, shift, accent in zip(notes, shifts.tolist(), accents.tolist(), strict=True):
        start = max(0, note.start + shift)
        stop = min(end, note.end + shift)
        if stop - start >= STEP // 4:
            velocity = min(127, max(20, note.velocity + accent))
            placed.append(Note(offset + start, offset + stop, note.pitch, velocity))
    placed.sort(key=lambda note: (note.start, note.pitch))
    # A MIDI key cannot be pressed twice at once, so a note ends where the next one of its pitch begins.
    following: dict[int, int] = {}
    result = []
    for note in reversed(placed):
        stop = min(note.end, following.get(note.pitch, note.end))
        if stop > note.start:
            result.append(Note(note.start, stop, note.pitch, note.velocity))
            following[note.pitch] = note.start
    return result[::-1]
