"""What two hands play."""

from __future__ import annotations

import numpy as np

from gmsdi.data.notes import Note, near, pick
from gmsdi.data.songs.playing.chords import arpeggio, chords, held_chords
from gmsdi.data.songs.playing.lines import bass_arpeggio, bass_held, bass_octaves, bass_walking, lead
from gmsdi.data.songs.playing.passages import Passage, onsets, pulse
from gmsdi.data.songs.playing.pitches import Touch, above, ladder, part_of, touch, voicing, within


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
    low, high = part_of(register, rng, int(rng.integers(18, 40)))
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
