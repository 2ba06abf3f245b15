"""How bass, guitar and keyboards play a passage of chords: many styles, each with randomly drawn parameters.

A style is a function of a random generator, a passage and a register; it returns notes as written, on the grid. The
sections of one kind are played alike because they use the same style and random stream.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from gmsdi.data.composer import TICKS_PER_BEAT, Note
from gmsdi.data.songs.harmony import Harmony, pick, weighted


@dataclass(frozen=True)
class Meter:
    """A bar of `sum(groups)` steps of `step` ticks; each group begins with an accent."""

    signature: tuple[int, int]
    groups: tuple[int, ...]
    step: int = TICKS_PER_BEAT // 4

    @property
    def steps(self) -> int:
        """Steps per bar."""
        return sum(self.groups)

    @property
    def bar(self) -> int:
        """Ticks per bar."""
        return self.steps * self.step

    @cached_property
    def accents(self) -> tuple[int, ...]:
        """The steps on which a group begins."""
        return tuple(int(at) for at in np.cumsum((0, *self.groups[:-1])))

    @cached_property
    def weights(self) -> np.ndarray:
        """How strong each step is, from 0 to 1."""
        weights = np.full(self.steps, 0.2)
        for at, size in zip(self.accents, self.groups, strict=True):
            weights[at + 2 : at + size : 2] = 0.5
            weights[at] = 0.85
        weights[0] = 1.0
        return weights


@dataclass(frozen=True)
class Span:
    """A chord from `start` to `end`, in ticks."""

    start: int
    end: int
    harmony: Harmony


@dataclass(frozen=True)
class Passage:
    """A section's metre, chords and tempo, shared by all its players."""

    meter: Meter
    spans: tuple[Span, ...]
    tempo: float

    @property
    def start(self) -> int:
        """The first tick."""
        return self.spans[0].start

    @property
    def end(self) -> int:
        """The tick after the last one."""
        return self.spans[-1].end

    @cached_property
    def _starts(self) -> list[int]:
        return [span.start for span in self.spans]

    def at(self, tick: int) -> Harmony:
        """The chord at a tick."""
        return self.spans[max(0, bisect_right(self._starts, tick) - 1)].harmony

    def after(self, tick: int) -> int:
        """The tick at which the chord at `tick` ends."""
        return self.spans[max(0, bisect_right(self._starts, tick) - 1)].end

    def ticks(self, seconds: float) -> float:
        """Convert seconds to ticks."""
        return seconds * self.tempo / 60 * TICKS_PER_BEAT


Onset = tuple[int, int, float]  # start, ticks to the next, strength 0 to 1
Style = Callable[[np.random.Generator, Passage, tuple[int, int]], list[Note]]


# --- Rhythm -------------------------------------------------------------------------------------------------------


def motif(rng: np.random.Generator, meter: Meter, density: float | None = None) -> tuple[list[float], int]:
    """Draw a pattern of one or two bars: its onsets in steps, and its length in bars.

    Args:
        rng: source of randomness.
        meter: the bar.
        density: share of steps with an onset; None draws one, rarely near 0 or 1.
    """
    bars = int(weighted(rng, {1: 0.55, 2: 0.45}))
    if density is None:
        density = float(rng.beta(1.6, 2.6))
    size = meter.steps * bars
    kind = weighted(rng, {"weighted": 0.42, "pulse": 0.26, "even": 0.14, "triplets": 0.08, "accents": 0.10})
    if kind == "pulse":
        gap = min((1, 2, 3, 4, 6, 8), key=lambda g: (abs(1 / g - density), g))
        first = int(rng.integers(gap)) if rng.random() < 0.2 else 0
        onsets = [float(at) for at in range(first, size, gap)]
        onsets = [at for at in onsets if rng.random() < 0.9]
    elif kind == "even":  # spread as evenly as possible, a Euclidean rhythm
        count = max(1, round(density * meter.steps))
        turn = int(rng.integers(meter.steps)) if rng.random() < 0.3 else 0
        one = sorted((k * meter.steps // count + turn) % meter.steps for k in range(count))
        onsets = [float(at + bar * meter.steps) for bar in range(bars) for at in one]
    elif kind == "triplets":
        gap3 = pick(rng, (4 / 3, 8 / 3, 4 / 3, 2 / 3))
        onsets = [k * gap3 for k in range(int(size / gap3)) if rng.random() < min(1.0, 0.35 + density)]
    elif kind == "accents":
        onsets = [float(at + bar * meter.steps) for bar in range(bars) for at in meter.accents if rng.random() < 0.85]
    else:
        chance = np.tile(meter.weights, bars) ** float(rng.choice((0.3, 1.0, 2.0)))
        chance *= density / chance.mean()
        onsets = [float(at) for at in np.flatnonzero(rng.random(size) < chance)]
    if not onsets:
        onsets = [0.0]
    return onsets, bars


def onsets(
    rng: np.random.Generator,
    passage: Passage,
    density: float | None = None,
    *,
    fixed: tuple[list[float], int] | None = None,
) -> list[Onset]:
    """The onsets of a passage: a repeated motif with occasional variation."""
    meter = passage.meter
    pattern, bars = fixed or motif(rng, meter, density)
    other, _ = motif(rng, meter, density) if rng.random() < 0.4 else (pattern, bars)
    every = int(rng.choice((2, 4, 4, 8)))
    loosen = 0.12 if rng.random() < 0.3 else 0.0
    ticks: list[int] = []
    length = bars * meter.bar
    for count, base in enumerate(range(passage.start, passage.end, length)):
        chosen = other if count % every == every - 1 else pattern
        for at in chosen:
            tick = base + round(at * meter.step)
            if at < bars * meter.steps and tick < passage.end and (not loosen or rng.random() > loosen):
                ticks.append(tick)
    ticks = sorted(set(ticks)) or [passage.start]
    return spaced(passage, ticks)


def spaced(passage: Passage, ticks: Sequence[int]) -> list[Onset]:
    """Onsets at these ticks, which must be ascending."""
    meter = passage.meter
    weights = meter.weights
    result = []
    for tick, following in zip(ticks, [*ticks[1:], passage.end], strict=True):
        place, off = divmod((tick - passage.start) % meter.bar, meter.step)
        result.append((tick, following - tick, float(weights[place]) if not off else 0.3))
    return result


def chord_changes(passage: Passage, *, each_bar: bool = False) -> list[Onset]:
    """An onset for each chord, or for each chord and bar."""
    ticks = {span.start for span in passage.spans}
    if each_bar:
        ticks |= set(range(passage.start, passage.end, passage.meter.bar))
    return spaced(passage, sorted(ticks))


def pulse(passage: Passage, steps: int) -> list[Onset]:
    """An onset every `steps` steps, starting again with each bar."""
    bar = passage.meter.bar
    ticks = [
        base + at for base in range(passage.start, passage.end, bar) for at in range(0, bar, steps * passage.meter.step)
    ]
    return spaced(passage, [tick for tick in ticks if tick < passage.end])


# --- Pitch --------------------------------------------------------------------------------------------------------


def near(pitch_class: int, centre: float) -> int:
    """The pitch of this class nearest to `centre`."""
    return pitch_class + 12 * round((centre - pitch_class) / 12)


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


def _subset(register: tuple[int, int], rng: np.random.Generator, width: int) -> tuple[int, int]:
    """A part of a register, `width` semitones wide, or all of it."""
    low, high = register
    if high - low <= width:
        return register
    start = low + int(rng.integers(0, high - low - width + 1))
    return start, start + width


# --- Lines --------------------------------------------------------------------------------------------------------


def lead(rng: np.random.Generator, passage: Passage, register: tuple[int, int]) -> list[Note]:
    """A melodic line: phrases and rests, steps and leaps, chord tones on strong beats."""
    low, high = _subset(register, rng, int(rng.integers(12, 30)))
    hand = touch(rng, 92)
    density = float(rng.beta(1.8, 3.0))
    leaps = float(rng.uniform(0, 0.4))
    rest = float(rng.choice((0.0, 0.15, 0.35)))
    double = weighted(rng, {0: 0.78, 12: 0.08, 2: 0.08, 5: 0.06})  # octaves, thirds, sixths
    grace = 0.08 if rng.random() < 0.3 else 0.0
    runs = 0.12 if rng.random() < 0.3 else 0.0
    place = float(rng.uniform(low, high))
    notes: list[Note] = []
    silent_until = -1
    for start, gap, strength in onsets(rng, passage, density):
        if start < silent_until:
            continue
        if rest and (start - passage.start) % (2 * passage.meter.bar) < passage.meter.step and rng.random() < rest:
            silent_until = start + passage.meter.bar
            continue
        chord = passage.at(start)
        steps = ladder(chord.tones if strength > 0.8 else chord.scale, (low, high))
        move = float(rng.normal(0, 7 if rng.random() < leaps else 2.5))
        place = min(high, max(low, place + move))
        pitch = min(steps, key=lambda p: abs(p - place))
        if rng.random() < 0.85:
            place = pitch
        velocity = hand.velocity(strength)
        if runs and gap >= 2 * passage.meter.step and rng.random() < runs:
            notes += _run(rng, passage, start, gap, pitch, (low, high), velocity)
            place = notes[-1].pitch
            continue
        end = hand.end(start, gap)
        notes.append(Note(start, end, pitch, velocity))
        if double == 12:
            notes.append(Note(start, end, within(pitch - 12, (register[0], high)), velocity))
        elif double:
            scale = ladder(chord.scale, (max(register[0], pitch - 14), pitch))
            notes.append(Note(start, end, scale[-1 - min(double, len(scale) - 1)], velocity - 6))
        if grace and rng.random() < grace and start - 40 >= passage.start:
            notes.append(Note(start - 40, start, pitch - 1 if pitch > low else pitch + 1, velocity - 10))
    return notes


def _run(
    rng: np.random.Generator,
    passage: Passage,
    start: int,
    gap: int,
    pitch: int,
    register: tuple[int, int],
    velocity: int,
) -> list[Note]:
    """A fast run through the scale from `pitch`."""
    steps = ladder(passage.at(start).scale, register)
    at = min(range(len(steps)), key=lambda i: abs(steps[i] - pitch))
    unit = passage.meter.step // 2 if passage.tempo < 130 and rng.random() < 0.5 else passage.meter.step * 2 // 3
    direction = 1 if rng.random() < 0.5 else -1
    notes = []
    for tick in range(start, start + gap - unit // 2, unit):
        notes.append(Note(tick, tick + round(0.95 * unit), steps[at], velocity))
        if not 0 <= at + direction < len(steps):
            direction = -direction
        at = min(len(steps) - 1, max(0, at + direction))
    return notes


def riff(rng: np.random.Generator, passage: Passage, register: tuple[int, int]) -> list[Note]:
    """A repeating motif of scale degrees, starting from the chord's root or from that of the first chord."""
    low, high = register
    centre = float(rng.uniform(low + 4, max(low + 5, min(high - 6, low + 24))))
    hand = touch(rng, 90)
    pattern, bars = motif(rng, passage.meter)
    spread = int(rng.choice((2, 3, 5, 8)))
    degrees = [0, *np.cumsum(rng.integers(-spread, spread + 1, max(0, len(pattern) - 1))).tolist()]
    follow = rng.random() < 0.7
    home = passage.spans[0].harmony
    notes = []
    place = {round(at * passage.meter.step): degree for at, degree in zip(pattern, degrees, strict=True)}
    length = bars * passage.meter.bar
    for start, gap, strength in onsets(rng, passage, fixed=(pattern, bars)):
        chord = passage.at(start)
        root = near(chord.root if follow else home.root, centre)
        steps = ladder(chord.scale, (low, high))
        base = min(range(len(steps)), key=lambda i: abs(steps[i] - root))
        degree = place.get((start - passage.start) % length, 0)
        pitch = steps[min(len(steps) - 1, max(0, base + degree))]
        notes.append(Note(start, hand.end(start, gap), pitch, hand.velocity(strength)))
    return notes


def tremolo(rng: np.random.Generator, passage: Passage, register: tuple[int, int]) -> list[Note]:
    """Fast repeated notes, of one pitch or two alternating ones."""
    hand = touch(rng, 80)
    unit = max(40, round(passage.ticks(float(rng.uniform(0.06, 0.12)))))
    spread = int(rng.choice((0, 0, 12, 7, 4)))
    low, high = _subset(register, rng, 24)
    place = float(rng.uniform(low, high))
    notes = []
    for start, gap, strength in onsets(rng, passage, float(rng.uniform(0.03, 0.2))):
        chord = passage.at(start)
        place = min(high, max(low, place + float(rng.normal(0, 3))))
        pitch = min(ladder(chord.tones, (low, high)), key=lambda p: abs(p - place))
        for k, tick in enumerate(range(start, start + max(unit, round(0.95 * gap) - unit // 2), unit)):
            key = within(pitch + (spread if k % 2 else 0), register)
            notes.append(Note(tick, tick + round(0.9 * unit), key, hand.velocity(strength, -8 if k % 2 else 0)))
    return notes


# --- Bass ---------------------------------------------------------------------------------------------------------


def bass_roots(rng: np.random.Generator, passage: Passage, register: tuple[int, int]) -> list[Note]:
    """Roots in a rhythm, with occasional fifths, octaves and passing tones."""
    hand = touch(rng, 94)
    other = float(rng.choice((0.0, 0.1, 0.3, 0.6)))
    centre = float(rng.uniform(register[0] + 4, register[0] + 18))
    steady = rng.random() < 0.4
    beat = (
        pulse(passage, int(rng.choice((1, 2, 2, 4)))) if steady else onsets(rng, passage, float(rng.uniform(0.1, 0.5)))
    )
    notes = []
    for start, gap, strength in beat:
        chord = passage.at(start)
        pitch = near(chord.bass, centre)
        if strength < 0.99 and rng.random() < other:
            fifth, third = near(chord.fifth, centre + 3), near(pick(rng, chord.tones), centre + 4)
            pitch = pick(rng, (fifth, pitch + 12, third, near(pick(rng, chord.scale), centre + 2)))
        notes.append(Note(start, hand.end(start, gap), within(pitch, register), hand.velocity(strength)))
    return notes


def bass_walking(rng: np.random.Generator, passage: Passage, register: tuple[int, int]) -> list[Note]:
    """A walking bass in quarters: chord and scale tones, with a step towards each new root."""
    hand = Touch(float(rng.uniform(76, 104)), float(rng.uniform(0, 20)), float(rng.choice((0.75, 0.9, 1.0))))
    low, high = register[0], min(register[1], register[0] + int(rng.integers(16, 26)))
    beat = pulse(passage, 4 if passage.meter.step == TICKS_PER_BEAT // 4 else 2)
    skip = float(rng.choice((0.0, 0.0, 0.08, 0.2)))
    place = (low + high) / 2
    notes = []
    for index, (start, gap, strength) in enumerate(beat):
        chord = passage.at(start)
        new = not index or passage.at(beat[index - 1][0]) is not chord
        goal = passage.at(beat[index + 1][0]) if index + 1 < len(beat) else None
        if new:
            pitch = min(ladder((chord.bass,), (low, high)), key=lambda p: abs(p - place))
        elif goal is not None and goal is not chord and rng.random() < 0.7:
            pitch = near(goal.bass, place) + pick(rng, (-2, -1, 1, 2, 7))
        else:
            steps = ladder(chord.tones if rng.random() < 0.6 else chord.scale, (low, high))
            nearest = sorted(steps, key=lambda p: (abs(p - place), p))[1:5] or steps
            pitch = pick(rng, nearest)
        pitch = within(pitch, register)
        place = 0.8 * pitch + 0.2 * (low + high) / 2
        velocity = hand.velocity(strength)
        if skip and gap > 300 and rng.random() < skip:  # a note between the beats, long then short
            long = gap * 2 // 3
            notes.append(Note(start, hand.end(start, long), pitch, velocity))
            notes.append(Note(start + long, hand.end(start + long, gap - long), pitch, velocity - 18))
        else:
            notes.append(Note(start, hand.end(start, gap), pitch, velocity))
    return notes


def bass_octaves(rng: np.random.Generator, passage: Passage, register: tuple[int, int]) -> list[Note]:
    """Alternating root and octave."""
    hand = touch(rng, 94)
    gap_steps = int(rng.choice((1, 2, 2, 2)))
    order = pick(rng, ((0, 1), (0, 0, 1), (0, 1, 1), (0, 0, 0, 1), (0, 1, 0, 0)))
    notes = []
    for k, (start, gap, strength) in enumerate(pulse(passage, gap_steps)):
        root = above(passage.at(start).bass, register[0])
        pitch = within(root + 12 * order[k % len(order)], (register[0], register[1]))
        notes.append(Note(start, hand.end(start, gap), pitch, hand.velocity(strength)))
    return notes


def bass_held(rng: np.random.Generator, passage: Passage, register: tuple[int, int]) -> list[Note]:
    """One long note per chord or bar."""
    hand = Touch(float(rng.uniform(66, 104)), 8.0, float(rng.choice((0.6, 0.9, 1.0))))
    centre = float(rng.uniform(register[0] + 4, register[0] + 16))
    fifth = rng.random() < 0.2
    notes = []
    for start, gap, strength in chord_changes(passage, each_bar=rng.random() < 0.6):
        chord = passage.at(start)
        pitch = within(near(chord.bass, centre), register)
        notes.append(Note(start, hand.end(start, gap, 1e9), pitch, hand.velocity(strength)))
        if fifth:
            notes.append(
                Note(start, hand.end(start, gap, 1e9), within(pitch + 7, register), hand.velocity(strength, -6))
            )
    return notes


def bass_pedal(rng: np.random.Generator, passage: Passage, register: tuple[int, int]) -> list[Note]:
    """One pitch throughout, whatever the chords."""
    hand = touch(rng, 90)
    pitch = within(near(passage.spans[0].harmony.root, register[0] + 8), register)
    beat = pulse(passage, int(rng.choice((1, 2, 4)))) if rng.random() < 0.6 else onsets(rng, passage)
    return [Note(start, hand.end(start, gap), pitch, hand.velocity(strength)) for start, gap, strength in beat]


def bass_slap(rng: np.random.Generator, passage: Passage, register: tuple[int, int]) -> list[Note]:
    """Short hard roots, popped octaves and sevenths, soft ghost notes."""
    hand = Touch(float(rng.uniform(96, 116)), 16.0, float(rng.uniform(0.3, 0.7)))
    ghost = float(rng.uniform(0.05, 0.3))
    notes = []
    for start, gap, strength in onsets(rng, passage, float(rng.uniform(0.3, 0.7))):
        chord = passage.at(start)
        root = above(chord.bass, register[0])
        at = rng.random()
        if strength < 0.8 and at < ghost:
            notes.append(
                Note(start, start + 40, within(root + pick(rng, (0, 5, 12)), register), int(rng.integers(28, 50)))
            )
            continue
        popped = strength < 0.9 and at > 0.6
        pitch = (
            pick(rng, (root + 12, near(chord.tones[-1], root + 11), near(chord.fifth, root + 10))) if popped else root
        )
        end = min(hand.end(start, gap), start + 2 * passage.meter.step)
        notes.append(Note(start, end, within(pitch, register), hand.velocity(strength, 8 if popped else 0)))
    return notes


def bass_arpeggio(rng: np.random.Generator, passage: Passage, register: tuple[int, int]) -> list[Note]:
    """The chord's tones, one after the other."""
    hand = touch(rng, 90)
    order = rng.integers(0, 5, int(rng.choice((3, 4, 6, 8)))).tolist()
    order[0] = 0
    beat = pulse(passage, int(rng.choice((1, 2, 2, 4)))) if rng.random() < 0.7 else onsets(rng, passage)
    notes = []
    for k, (start, gap, strength) in enumerate(beat):
        chord = passage.at(start)
        base = above(chord.bass, register[0])
        steps = [base, *[p for p in ladder(chord.tones, (base + 1, max(base + 13, register[1]))) if p > base]]
        pitch = steps[min(order[k % len(order)], len(steps) - 1)]
        notes.append(Note(start, hand.end(start, gap), within(pitch, register), hand.velocity(strength)))
    return notes


def bass_random(rng: np.random.Generator, passage: Passage, register: tuple[int, int]) -> list[Note]:
    """A random walk over the scale, in any rhythm."""
    return lead(rng, passage, _subset(register, rng, 24))


# --- Chords -------------------------------------------------------------------------------------------------------


def chords(rng: np.random.Generator, passage: Passage, register: tuple[int, int]) -> list[Note]:
    """Chords in a rhythm: repeated, comped, or off the beat."""
    hand = touch(rng, 78)
    count = int(rng.integers(2, 6))
    kind = weighted(rng, VOICINGS)
    span = _subset(register, rng, int(rng.integers(14, 30)))
    mood = weighted(rng, {"rhythm": 0.5, "pulse": 0.3, "off": 0.2})
    if mood == "pulse":
        beat = pulse(passage, int(rng.choice((1, 2, 2, 4, 4))))
    elif mood == "off":
        beat = [onset for onset in pulse(passage, 2) if onset[2] < 0.8]
    else:
        beat = onsets(rng, passage)
    roll = int(rng.choice((0, 0, 0, 6, 15)))
    notes: list[Note] = []
    previous: list[int] | None = None
    current: tuple[Harmony, list[int]] | None = None
    for start, gap, strength in beat:
        chord = passage.at(start)
        if current is None or current[0] is not chord or rng.random() < 0.05:
            previous = voicing(rng, kind, chord, span, count, previous)
            current = (chord, previous)
        end = hand.end(start, gap, 4 * TICKS_PER_BEAT)
        velocity = hand.velocity(strength)
        notes += [
            Note(start + k * roll, max(end, start + k * roll + 24), pitch, velocity)
            for k, pitch in enumerate(current[1])
        ]
    return notes


def held_chords(rng: np.random.Generator, passage: Passage, register: tuple[int, int]) -> list[Note]:
    """One held chord per change, sometimes rolled."""
    hand = Touch(float(rng.uniform(50, 96)), 10.0, float(rng.choice((0.8, 0.95, 1.0))))
    count = int(rng.integers(2, 7))
    kind = weighted(rng, VOICINGS)
    roll = int(passage.ticks(float(rng.choice((0, 0, 0.02, 0.06)))))
    previous: list[int] | None = None
    notes = []
    for start, gap, strength in chord_changes(passage, each_bar=rng.random() < 0.5):
        previous = voicing(rng, kind, passage.at(start), register, count, previous)
        for k, pitch in enumerate(previous):
            begin = start + min(k * roll, gap // 2)
            notes.append(
                Note(begin, max(begin + 24, hand.end(start, gap, 1e9)), pitch, hand.velocity(strength, -2 * k))
            )
    return notes


def arpeggio(rng: np.random.Generator, passage: Passage, register: tuple[int, int]) -> list[Note]:
    """Broken chords: up, down or in any order, close or wide; tones may ring into each other."""
    hand = touch(rng, 80)
    ring = float(rng.choice((1.0, 1.0, 2.0, 3.0)))
    kind = weighted(rng, {"close": 0.4, "open": 0.2, "spread": 0.2, "guitar": 0.1, "quartal": 0.1})
    count = int(rng.integers(3, 8))
    shape = weighted(rng, {"up": 0.25, "down": 0.15, "both": 0.2, "alberti": 0.15, "any": 0.25})
    any_order = rng.permutation(8).tolist()
    unit = int(rng.choice((1, 1, 2, 2, 2)))
    beat = pulse(passage, unit) if rng.random() < 0.8 else onsets(rng, passage, float(rng.uniform(0.3, 0.8)))
    if rng.random() < 0.12:  # triplets
        gap3 = TICKS_PER_BEAT // 3
        beat = spaced(passage, list(range(passage.start, passage.end, gap3)))
    notes = []
    pitches: list[int] = []
    chord: Harmony | None = None
    k = 0
    for start, gap, strength in beat:
        if passage.at(start) is not chord:
            chord = passage.at(start)
            pitches = voicing(rng, kind, chord, register, count, pitches or None)
            k = 0
        size = len(pitches)
        if shape == "up":
            index = k % size
        elif shape == "down":
            index = size - 1 - k % size
        elif shape == "both":
            index = (size - 1) - abs(k % max(1, 2 * size - 2) - (size - 1))
        elif shape == "alberti":
            index = (0, size - 1, size // 2, size - 1)[k % 4]
        else:
            index = any_order[k % 8] % size
        k += 1
        end = min(passage.after(start) if ring > 1 else 1 << 40, round(start + gap * max(hand.legato, 0.5) * ring))
        notes.append(Note(start, max(start + 24, end), pitches[index], hand.velocity(strength)))
    return notes


# --- Guitar -------------------------------------------------------------------------------------------------------


def strum(rng: np.random.Generator, passage: Passage, register: tuple[int, int]) -> list[Note]:
    """Strummed chords: strings follow each other, down from the lowest and up from the highest."""
    hand = touch(rng, 82)
    delay = max(2, round(passage.ticks(float(rng.uniform(0.004, 0.03)))))
    count = int(rng.integers(3, 7))
    kind = weighted(rng, {"guitar": 0.7, "close": 0.3})
    mute = float(rng.choice((0.0, 0.0, 0.1, 0.3)))
    notes = []
    chord: Harmony | None = None
    pitches: list[int] = []
    for start, gap, strength in onsets(rng, passage, float(rng.uniform(0.15, 0.7))):
        if passage.at(start) is not chord:
            chord = passage.at(start)
            pitches = voicing(rng, kind, chord, register, count)
        down = strength >= 0.5
        strings = pitches if down else pitches[::-1][: max(2, len(pitches) - 1)]
        muted = rng.random() < mute
        end = start + 30 if muted else hand.end(start, gap, 6 * TICKS_PER_BEAT)
        for k, pitch in enumerate(strings):
            begin = start + min(k * delay, gap // 2)
            velocity = hand.velocity(strength, -25 if muted else -2 * k)
            notes.append(Note(begin, max(begin + 24, end), pitch, velocity))
    return notes


def power_chords(rng: np.random.Generator, passage: Passage, register: tuple[int, int]) -> list[Note]:
    """Root, fifth and octave; driven, palm-muted or held."""
    hand = touch(rng, 98)
    count = int(rng.choice((2, 3, 3)))
    palm = rng.random() < 0.4
    low = max(register[0], int(rng.integers(36, 46)))
    beat = (
        pulse(passage, int(rng.choice((1, 2, 2))))
        if rng.random() < 0.5
        else onsets(rng, passage, float(rng.uniform(0.15, 0.7)))
    )
    notes = []
    for start, gap, strength in beat:
        chord = passage.at(start)
        root = above(chord.root, low)
        muted = palm and strength < 0.8
        end = start + round(0.35 * gap) + 24 if muted else hand.end(start, gap, 6 * TICKS_PER_BEAT)
        for k, pitch in enumerate((root, root + 7, root + 12)[: 1 if muted and count == 2 else count]):
            notes.append(Note(start + 4 * k, end, pitch, hand.velocity(strength, -14 if muted else 0)))
    return notes


def picking(rng: np.random.Generator, passage: Passage, register: tuple[int, int]) -> list[Note]:
    """Fingerpicking: the thumb alternates between root and fifth, the fingers play the strings above."""
    hand = touch(rng, 80)
    unit = int(rng.choice((1, 2, 2)))
    order = rng.permutation(4).tolist()
    pinch = rng.random() < 0.5
    notes = []
    pitches: list[int] = []
    chord: Harmony | None = None
    for k, (start, gap, strength) in enumerate(pulse(passage, unit)):
        if passage.at(start) is not chord:
            chord = passage.at(start)
            pitches = voicing(rng, "guitar", chord, register, 6)
        bass, treble = pitches[:2], pitches[2:] or pitches
        ring = min(passage.after(start), start + 4 * gap)
        if k % 2 == 0:
            notes.append(Note(start, ring, bass[k // 2 % len(bass)], hand.velocity(strength, 6)))
            if pinch and k % 8 == 0:
                notes.append(Note(start, ring, treble[-1], hand.velocity(strength)))
        else:
            notes.append(Note(start, ring, treble[order[k // 2 % 4] % len(treble)], hand.velocity(strength, -4)))
    return notes


def chops(rng: np.random.Generator, passage: Passage, register: tuple[int, int]) -> list[Note]:
    """Short high chords, off the beat as in reggae and ska, or in sixteenths with muted strings as in funk."""
    base = float(rng.uniform(70, 104))
    funk = rng.random() < 0.5
    count = int(rng.integers(2, 5))
    beat = onsets(rng, passage, float(rng.uniform(0.4, 0.9))) if funk else pulse(passage, 2)
    length = float(rng.uniform(0.25, 0.8))
    span = (max(register[0], 52), min(register[1], 79))
    notes = []
    chord: Harmony | None = None
    pitches: list[int] = []
    for start, gap, strength in beat:
        if not funk and strength >= 0.8:
            continue
        if passage.at(start) is not chord:
            chord = passage.at(start)
            pitches = voicing(rng, "close", chord, span, count, pitches or None)
        muted = funk and rng.random() < 0.35
        end = start + (28 if muted else max(30, round(min(gap, 240) * length)))
        velocity = round(base - 30 if muted else base + 10 * (strength - 0.5))
        notes += [Note(start + 3 * k, end + 3 * k, pitch, max(10, velocity)) for k, pitch in enumerate(pitches)]
    return notes


# --- Keyboards ------------------------------------------------------------------------------------------------------


def two_hands(rng: np.random.Generator, passage: Passage, register: tuple[int, int]) -> list[Note]:
    """A left hand (roots, octaves, arpeggios, walking or stride) and a right hand (chords, arpeggios or a melody)."""
    split = int(rng.integers(52, 64))
    left = pick(rng, (_left_roots, bass_octaves, bass_held, bass_arpeggio, bass_walking, stride))
    right = pick(rng, (chords, chords, arpeggio, lead, lead, held_chords))
    lower = (max(register[0], int(rng.integers(28, 40))), split - 1)
    return left(rng, passage, lower) + right(rng, passage, (split, register[1]))


def _left_roots(rng: np.random.Generator, passage: Passage, register: tuple[int, int]) -> list[Note]:
    hand = touch(rng, 76)
    octave = rng.random() < 0.5
    notes = []
    beat = pulse(passage, int(rng.choice((4, 8)))) if rng.random() < 0.6 else onsets(rng, passage, 0.2)
    for start, gap, strength in beat:
        root = above(passage.at(start).bass, register[0])
        for pitch in (root, root + 12) if octave and root + 12 <= register[1] else (root,):
            notes.append(Note(start, hand.end(start, gap), pitch, hand.velocity(strength)))
    return notes


def stride(rng: np.random.Generator, passage: Passage, register: tuple[int, int]) -> list[Note]:
    """Low root and higher chord in turn; in bars of three, the chord twice."""
    hand = touch(rng, 78)
    count = int(rng.integers(2, 5))
    wide = (register[0], max(register[1], register[0] + 26))
    unit = int(rng.choice((2, 4, 4)))
    accents = set(passage.meter.accents) if unit == 4 else None
    notes = []
    for k, (start, gap, strength) in enumerate(pulse(passage, unit)):
        chord = passage.at(start)
        place = (start - passage.start) % passage.meter.bar // passage.meter.step
        low = (place == 0 or place * 2 == passage.meter.steps) if accents is not None else k % 2 == 0
        if low:
            pitch = within(near(chord.bass if place == 0 else chord.fifth, register[0] + 6), wide)
            notes.append(Note(start, hand.end(start, gap), pitch, hand.velocity(strength, 6)))
        else:
            for pitch in voicing(rng, "close", chord, (register[0] + 14, wide[1]), count, (register[0] + 18,)):
                notes.append(Note(start, hand.end(start, gap), pitch, hand.velocity(strength, -6)))
    return notes


def montuno(rng: np.random.Generator, passage: Passage, register: tuple[int, int]) -> list[Note]:
    """Syncopated broken chords in octaves."""
    hand = Touch(float(rng.uniform(76, 108)), 14.0, float(rng.uniform(0.5, 0.95)))
    beat = onsets(rng, passage, float(rng.uniform(0.4, 0.65)))
    order = rng.integers(0, 5, 8).tolist()
    low = max(register[0], int(rng.integers(48, 64)))
    notes = []
    for k, (start, gap, strength) in enumerate(beat):
        steps = ladder(passage.at(start).tones, (low, low + 20))
        pitch = steps[min(order[k % 8], len(steps) - 1)]
        for key in (pitch, pitch + 12):
            notes.append(Note(start, hand.end(start, gap), within(key, register), hand.velocity(strength)))
    return notes


def locked_hands(rng: np.random.Generator, passage: Passage, register: tuple[int, int]) -> list[Note]:
    """A melody with a chord beneath each note."""
    tune = lead(rng, passage, (max(register[0], 60), register[1]))
    count = int(rng.integers(2, 5))
    notes = []
    for note in tune:
        tones = ladder(passage.at(note.start).tones, (max(register[0], note.pitch - 16), note.pitch - 2))
        under = [p for p in tones[::-1][: count - 1] if p < note.pitch]
        notes += [note, *(Note(note.start, note.end, p, max(8, note.velocity - 8)) for p in under)]
    return notes


def fast_runs(rng: np.random.Generator, passage: Passage, register: tuple[int, int]) -> list[Note]:
    """Fast scales and broken chords, up and down, with rests."""
    hand = touch(rng, 80)
    unit = passage.meter.step if passage.tempo > 100 else passage.meter.step // int(rng.choice((1, 2)))
    share = float(rng.uniform(0.4, 1.0))
    low, high = _subset(register, rng, int(rng.integers(18, 40)))
    notes: list[Note] = []
    direction, place = 1, (low + high) // 2
    stride_by = int(rng.choice((1, 1, 1, 2)))
    for base in range(passage.start, passage.end, passage.meter.bar):
        if rng.random() > share:
            continue
        for tick in range(base, min(base + passage.meter.bar, passage.end), unit):
            chord = passage.at(tick)
            steps = ladder(chord.scale if stride_by == 1 else chord.tones, (low, high))
            at = min(range(len(steps)), key=lambda i: abs(steps[i] - place))
            if rng.random() < 0.08 or not 0 <= at + direction < len(steps):
                direction = -direction
            at = min(len(steps) - 1, max(0, at + direction))
            place = steps[at]
            notes.append(Note(tick, tick + max(24, round(unit * min(hand.legato, 1))), place, hand.velocity(0.5)))
    return notes


STYLES: dict[str, dict[Style, float]] = {
    "Bass": {
        bass_roots: 0.26, bass_walking: 0.12, riff: 0.14, bass_octaves: 0.07, bass_held: 0.1, bass_pedal: 0.05,
        bass_slap: 0.08, bass_arpeggio: 0.08, bass_random: 0.1,
    },
    "Guitar": {
        strum: 0.2, power_chords: 0.13, arpeggio: 0.12, picking: 0.1, lead: 0.15, riff: 0.1, chops: 0.07,
        held_chords: 0.04, chords: 0.05, tremolo: 0.02, fast_runs: 0.02,
    },
    "Piano": {
        chords: 0.17, held_chords: 0.1, arpeggio: 0.15, two_hands: 0.24, lead: 0.1, montuno: 0.05, locked_hands: 0.05,
        riff: 0.05, tremolo: 0.02, fast_runs: 0.04, stride: 0.03,
    },
}  # fmt: skip

# Lowest and highest pitch of each class. `SINGLE` are the styles of one voice, which may have pitch bends.
REGISTERS = {"Bass": (24, 62), "Guitar": (40, 86), "Piano": (24, 100)}
SINGLE = (lead, riff, bass_roots, bass_walking, bass_octaves, bass_held, bass_pedal, bass_slap, bass_random)
