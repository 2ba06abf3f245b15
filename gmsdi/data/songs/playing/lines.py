"""Melodies, riffs and bass lines."""

from __future__ import annotations

import numpy as np

from gmsdi.data.notes import TICKS_PER_BEAT, Note, near, pick, weighted
from gmsdi.data.songs.playing.passages import Passage, chord_changes, motif, onsets, pulse
from gmsdi.data.songs.playing.pitches import Touch, above, ladder, part_of, touch, within


def lead(rng: np.random.Generator, passage: Passage, register: tuple[int, int]) -> list[Note]:
    """A melodic line: phrases and rests, steps and leaps, chord tones on strong beats."""
    low, high = part_of(register, rng, int(rng.integers(12, 30)))
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
    low, high = part_of(register, rng, 24)
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
    return lead(rng, passage, part_of(register, rng, 24))
