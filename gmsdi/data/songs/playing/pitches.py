"""Pitches within a register, voicings of chords, and how hard and long notes are played."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from gmsdi.data.notes import TICKS_PER_BEAT
from gmsdi.data.songs.harmony import Harmony


def above(pitch_class: int, low: int) -> int:
    """The lowest pitch of this class that is not below `low`."""
    return low + (pitch_class - low) % 12


def ladder(pitch_classes: Sequence[int], register: tuple[int, int]) -> list[int]:
    """All pitches of these classes within a register, including its ends; never empty."""
    wanted = {p % 12 for p in pitch_classes}
    pitches = [p for p in range(register[0], register[1] + 1) if p % 12 in wanted]
    return pitches or [above(pitch_classes[0] % 12, register[0])]


def within(pitch: int, register: tuple[int, int]) -> int:
    """The pitch, moved by octaves into the register, which must be at least an octave wide."""
    low, high = register
    if pitch < low:
        pitch += 12 * -((pitch - low) // 12)
    if pitch > high:
        pitch -= 12 * -((high - pitch) // 12)
    return pitch


VOICINGS = {
    "close": 0.3, "open": 0.14, "spread": 0.12, "shell": 0.1, "quartal": 0.08, "cluster": 0.04, "power": 0.07,
    "octave": 0.04, "thirds": 0.06, "any": 0.05,
}  # fmt: skip


def voicing(
    rng: np.random.Generator,
    kind: str,
    chord: Harmony,
    register: tuple[int, int],
    count: int,
    previous: Sequence[int] | None = None,
) -> list[int]:
    """The pitches of a chord in a register, from the lowest up.

    Args:
        rng: source of randomness.
        kind: a key of `VOICINGS`, or "guitar": six strings, low to high.
        chord: the chord.
        register: lowest and highest pitch.
        count: largest number of voices.
        previous: the pitches of the chord before; the voices move to nearby pitches.
    """
    low, high = register
    if previous and kind in ("close", "open"):
        centre = sum(previous) / len(previous)
        low = int(max(low, min(high - 12, centre - 2.2 * count)))
    else:
        low = low + int(rng.integers(0, max(1, (high - low) // 2)))
    tones = list(chord.tones)
    if kind in ("close", "open"):
        pitches = ladder(tones, (low, low + 30))[:count]
        if kind == "open" and len(pitches) >= 3:  # the second-highest voice moves down an octave
            pitches = sorted([*pitches[:-2], pitches[-2] - 12, pitches[-1]])
    elif kind == "spread":
        base = above(chord.bass, register[0])
        upper = ladder(tones, (base + 12, base + 40))[: max(1, count - 2)]
        pitches = [base, above(chord.fifth, base + 3), *upper]
    elif kind == "shell":
        base = above(chord.root, register[0])
        rest = [above(tone, base + 3) for tone in (*tones[1:2], *tones[3:])] or [base + 7]
        pitches = [base, *rest]
    elif kind == "quartal":
        steps = ladder(chord.scale, (low, low + 40))
        pitches = steps[0 : 3 * count : 3]
    elif kind == "cluster":
        steps = ladder(chord.scale, (low, low + 20))
        pitches = steps[:count]
    elif kind == "power":
        base = above(chord.root, register[0])
        fifth = above(chord.fifth, base + 1)
        pitches = [base, fifth, base + 12, fifth + 12][: max(2, count)]
    elif kind == "octave":
        base = above(tones[int(rng.integers(len(tones)))], low)
        pitches = [base, base + 12]
    elif kind == "thirds":
        steps = ladder(chord.scale, (low, low + 20))
        start = min(range(len(steps)), key=lambda i: (steps[i] % 12 not in tones, i))
        pitches = steps[start : start + 3 : 2]
    elif kind == "guitar":
        base = above(chord.bass, 40)
        pitches = [base, above(chord.fifth, base + 5), *ladder(tones, (base + 11, base + 31))][: max(3, count)]
    else:
        steps = ladder(chord.scale, (low, high))
        pitches = [steps[int(rng.integers(len(steps)))] for _ in range(count)]
    return sorted({p if kind == "guitar" and p <= high else within(p, register) for p in pitches})


# --- Strength and length --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Touch:
    """How hard and long a player plays: velocity `base` plus `depth` times the strength; share `legato` of the gap."""

    base: float
    depth: float
    legato: float

    def velocity(self, strength: float, more: float = 0.0) -> int:
        """MIDI velocity, 8 to 127."""
        return min(127, max(8, round(self.base + self.depth * (strength - 0.5) + more)))

    def end(self, start: int, gap: int, most: float = 8 * TICKS_PER_BEAT) -> int:
        """The tick at which a note ends."""
        return start + max(24, round(min(gap * self.legato, most)))


def touch(rng: np.random.Generator, level: float = 84) -> Touch:
    """Draw a touch, from staccato to overlapping notes, soft to loud."""
    base = float(np.clip(rng.normal(level, 14), 40, 116))
    legato = float(rng.choice((0.2, 0.35, 0.5, 0.7, 0.85, 0.95, 0.95, 1.0, 1.1)))
    return Touch(base, float(rng.uniform(0, 36)), legato)


def part_of(register: tuple[int, int], rng: np.random.Generator, width: int) -> tuple[int, int]:
    """A part of a register, `width` semitones wide, or all of it."""
    low, high = register
    if high - low <= width:
        return register
    start = low + int(rng.integers(0, high - low - width + 1))
    return start, start + width
