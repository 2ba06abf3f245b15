"""Chords: held, repeated and broken, and as a guitar plays them."""

from __future__ import annotations

import numpy as np

from gmsdi.data.notes import TICKS_PER_BEAT, Note, weighted
from gmsdi.data.songs.harmony import Harmony
from gmsdi.data.songs.playing.passages import Passage, chord_changes, onsets, pulse, spaced
from gmsdi.data.songs.playing.pitches import VOICINGS, Touch, above, part_of, touch, voicing


def chords(rng: np.random.Generator, passage: Passage, register: tuple[int, int]) -> list[Note]:
    """Chords in a rhythm: repeated, comped, or off the beat."""
    hand = touch(rng, 78)
    count = int(rng.integers(2, 6))
    kind = weighted(rng, VOICINGS)
    span = part_of(register, rng, int(rng.integers(14, 30)))
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
