"""What the composer's instruments play: patterns of four bars for bass, drums, guitar and piano.

A pattern is a function of a section, which says what its instruments have in common.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from gmsdi.data.notes import TICKS_PER_BEAT, Note, near, pick

STEP = TICKS_PER_BEAT // 4  # a sixteenth note, the grid of all patterns
BAR = 16 * STEP
BARS = 4  # bars per section

KICK, SIDE_STICK, SNARE, CLAP, CLOSED_HAT, OPEN_HAT = 36, 37, 38, 39, 42, 46
LOW_TOM, MID_TOM, HIGH_TOM, CRASH, RIDE = 45, 47, 50, 49, 51
_RINGS = {  # how long a drum rings, in ticks; this is the length of its notes
    KICK: 120, SIDE_STICK: 60, SNARE: 180, CLAP: 120, CLOSED_HAT: 60, OPEN_HAT: 240, LOW_TOM: 240, MID_TOM: 240,
    HIGH_TOM: 240, CRASH: 960, RIDE: 360,
}  # fmt: skip


@dataclass(frozen=True)
class Chord:
    """A triad or seventh chord as pitch classes, root first."""

    tones: tuple[int, ...]

    @property
    def root(self) -> int:
        """Pitch class of the root."""
        return self.tones[0]

    @property
    def fifth(self) -> int:
        """Pitch class of the fifth."""
        return self.tones[2]


@dataclass(frozen=True)
class Section:
    """What the instruments of a section have in common, and the random generator that they draw from."""

    rng: np.random.Generator
    scale: tuple[int, ...]
    chords: tuple[Chord, ...]
    groove: tuple[int, ...]
    intensity: float
    last: bool


Pattern = Callable[[Section], list[Note]]


def chord_on(scale: tuple[int, ...], degree: int, seventh: bool) -> Chord:
    """The chord of stacked thirds on a degree of a scale."""
    return Chord(tuple(scale[(degree + third) % 7] for third in ((0, 2, 4, 6) if seventh else (0, 2, 4))))


def _voicing(chord: Chord, low: int, count: int) -> list[int]:
    """Close position: the `count` lowest chord tones from `low` upwards."""
    pitches = [pitch for pitch in range(low, low + 30) if pitch % 12 in chord.tones]
    return pitches[:count]


def _bars(section: Section) -> list[tuple[int, Chord]]:
    return [(bar * BAR, chord) for bar, chord in enumerate(section.chords)]


def _level(section: Section, velocity: float) -> int:
    return round(velocity * section.intensity)


# --- Bass ---------------------------------------------------------------------------------------------------------


def _bass_line(section: Section, steps: Sequence[int], degrees: Sequence[int], legato: float) -> list[Note]:
    """Notes on `steps` of each bar; `degrees` has one number per step: 0 root, 1 fifth, 2 octave."""
    notes = []
    for at, chord in _bars(section):
        root = near(chord.root, 36)
        pitches = (root, near(chord.fifth, root + 4), root + 12 if root < 40 else root)
        ends = [*steps[1:], 16]
        for step, stop, degree in zip(steps, ends, degrees, strict=True):
            length = max(STEP // 2, round((stop - step) * STEP * legato))
            velocity = _level(section, 104 if step % 8 == 0 else 94)
            notes.append(Note(at + step * STEP, at + step * STEP + length, pitches[degree], velocity))
    return notes


def _bass_eighths(section: Section) -> list[Note]:
    degrees = pick(section.rng, ((0,) * 8, (0, 0, 0, 0, 0, 0, 1, 1), (0, 0, 1, 0, 0, 0, 1, 0), (0, 0, 0, 2) * 2))
    return _bass_line(section, range(0, 16, 2), degrees, 0.85)


def _bass_quarters(section: Section) -> list[Note]:
    return _bass_line(section, (0, 4, 8, 12), pick(section.rng, ((0, 0, 1, 1), (0, 1, 0, 1), (0, 0, 0, 1))), 0.9)


def _bass_groove(section: Section) -> list[Note]:
    steps = sorted({*section.groove, 14}) if section.rng.random() < 0.5 else section.groove
    degrees = [0] + [int(section.rng.choice((0, 0, 1, 2))) for _ in steps[1:]]
    return _bass_line(section, steps, degrees, 0.8)


def _bass_octaves(section: Section) -> list[Note]:
    return _bass_line(section, range(0, 16, 2), (0, 2) * 4, 0.6)


def _bass_held(section: Section) -> list[Note]:
    steps = pick(section.rng, ((0,), (0, 8), (0, 12)))
    return _bass_line(section, steps, (0, 1)[: len(steps)], 0.95)


def _bass_walking(section: Section) -> list[Note]:
    """Quarter notes: root, two tones of the chord or scale, and a step towards the next root."""
    notes = []
    bars = _bars(section)
    for bar, (at, chord) in enumerate(bars):
        root = near(chord.root, 36)
        goal = near(bars[(bar + 1) % len(bars)][1].root, 36)
        middle = [near(int(section.rng.choice(chord.tones)), root + 5) for _ in range(2)]
        approach = goal + int(section.rng.choice((-2, -1, 1, 2)))
        for beat, pitch in enumerate((root, *middle, approach)):
            start = at + beat * TICKS_PER_BEAT
            notes.append(Note(start, start + round(0.9 * TICKS_PER_BEAT), pitch, _level(section, 98)))
    return notes


_BASS: tuple[Pattern, ...] = (
    _bass_eighths, _bass_quarters, _bass_groove, _bass_octaves, _bass_held, _bass_walking,
)  # fmt: skip

# --- Drums --------------------------------------------------------------------------------------------------------


def _beat(section: Section, kick: Sequence[int], snare: Sequence[int], cymbal: int, steps: Sequence[int]) -> list[Note]:
    """Four bars of a beat, sometimes with an opening crash, and a fill at the end."""
    rng = section.rng
    backbeat = int(rng.choice((SNARE, SNARE, SNARE, SIDE_STICK, CLAP))) if section.intensity < 0.9 else SNARE
    fill = _fill(section)
    hits: list[tuple[int, int, int]] = []
    for bar in range(BARS):
        until = 16 if bar < BARS - 1 else fill[0]
        last_kick = [*kick, int(rng.choice((7, 11, 14, 15)))] if rng.random() < 0.35 else kick
        hits += [(bar * 16 + step, KICK, 112) for step in sorted(set(last_kick)) if step < until]
        hits += [(bar * 16 + step, backbeat, 108) for step in snare if step < until]
        if rng.random() < 0.3 and until == 16:
            hits.append((bar * 16 + int(rng.choice((7, 9, 15))), SNARE, 45))
        for step in steps:
            if step < until:
                drum = OPEN_HAT if cymbal == CLOSED_HAT and step == 14 and bar % 2 else cymbal
                hits.append((bar * 16 + step, drum, 98 if step % 4 == 0 else 80))
    if rng.random() < 0.5:
        hits.append((0, CRASH, 100))
    hits += [((BARS - 1) * 16 + step, drum, velocity) for step, drum, velocity in fill[1]]
    return [
        Note(step * STEP, step * STEP + _RINGS[drum], drum, _level(section, velocity)) for step, drum, velocity in hits
    ]


def _fill(section: Section) -> tuple[int, list[tuple[int, int, int]]]:
    """The first step of a fill in the last bar, and its hits (step, drum, velocity)."""
    rng = section.rng
    start = int(rng.choice((16, 14, 12, 12, 8)))
    steps = range(start, 16, int(rng.choice((1, 2))) if start < 14 else 1)
    style = int(rng.integers(3))
    down = (HIGH_TOM, MID_TOM, LOW_TOM)
    hits = []
    for step in steps:
        place = (step - start) / max(1, 16 - start)
        drum = SNARE if style == 0 else down[int(3 * place)] if style == 1 else (SNARE, LOW_TOM)[step // 2 % 2]
        hits.append((step, drum, 88 + int(24 * place)))
    return start, hits


def _drums_rock(section: Section) -> list[Note]:
    return _beat(section, section.groove, (4, 12), CLOSED_HAT, range(0, 16, 2))


def _drums_sixteenths(section: Section) -> list[Note]:
    return _beat(section, section.groove, (4, 12), CLOSED_HAT, range(16))


def _drums_four(section: Section) -> list[Note]:
    return _beat(section, (0, 4, 8, 12), (4, 12), pick(section.rng, (CLOSED_HAT, OPEN_HAT)), (2, 6, 10, 14))


def _drums_half_time(section: Section) -> list[Note]:
    return _beat(section, section.groove[:2], (8,), CLOSED_HAT, range(0, 16, 4))


def _drums_ride(section: Section) -> list[Note]:
    return _beat(section, section.groove, (4, 12), RIDE, (0, 4, 6, 8, 12, 14))


def _drums_toms(section: Section) -> list[Note]:
    rng = section.rng
    notes = _beat(section, section.groove, (12,), CLOSED_HAT, range(0, 16, 4))
    pattern = [(step, pick(rng, (LOW_TOM, LOW_TOM, MID_TOM))) for step in (2, 4, 6, 10) if rng.random() < 0.8]
    for bar in range(BARS - 1):
        for step, drum in pattern:
            start = bar * BAR + step * STEP
            notes.append(Note(start, start + _RINGS[drum], drum, _level(section, 90)))
    return notes


_DRUMS: tuple[Pattern, ...] = (
    _drums_rock, _drums_rock, _drums_sixteenths, _drums_four, _drums_half_time, _drums_ride, _drums_toms,
)  # fmt: skip

# --- Guitar -------------------------------------------------------------------------------------------------------


def _guitar_strum(section: Section) -> list[Note]:
    """Strummed chords: the strings of a stroke sound one after the other, from the lowest in down strokes."""
    rhythms = ((0, 4, 6, 10, 12, 14), (0, 2, 4, 6, 8, 10, 12, 14), (0, 3, 6, 8, 11, 14), (0, 4, 8, 12), (0, 6, 8))
    steps = pick(section.rng, rhythms)
    low = int(section.rng.integers(45, 52))
    count = int(section.rng.integers(4, 6))
    notes = []
    for at, chord in _bars(section):
        pitches = _voicing(chord, low, count)
        for step, stop in zip(steps, [*steps[1:], 16], strict=True):
            down = step % 4 == 0
            velocity = _level(section, 96 if step in section.groove else 82)
            for string, pitch in enumerate(pitches if down else pitches[:0:-1]):
                start = at + step * STEP + string * (10 if down else 7)
                notes.append(Note(start, at + round((step + 0.92 * (stop - step)) * STEP), pitch, velocity))
    return notes


def _guitar_arpeggio(section: Section) -> list[Note]:
    """Broken chords in eighths or sixteenths, with strings that ring for a while."""
    rng = section.rng
    order = pick(rng, ((0, 1, 2, 3, 4, 3, 2, 1), (0, 2, 1, 3, 2, 4, 3, 1), (0, 1, 2, 4, 2, 3, 1, 2), (4, 3, 2, 1) * 2))
    pace = int(rng.choice((2, 2, 1)))
    low = int(rng.integers(47, 56))
    notes = []
    for at, chord in _bars(section):
        pitches = _voicing(chord, low, 5)
        for k in range(16 // pace):
            start = at + k * pace * STEP
            velocity = _level(section, 96 if k % 4 == 0 else 84)
            notes.append(Note(start, start + 3 * pace * STEP // 2, pitches[order[k % 8]], velocity))
    return notes


def _guitar_riff(section: Section) -> list[Note]:
    """A motif of one bar on the pentatonic scale, moved to fit each chord."""
    rng = section.rng
    steps = [0, *sorted(int(s) for s in rng.permutation(np.arange(2, 16))[: rng.integers(3, 7)])]
    walk = np.cumsum([0, *rng.choice((-1, 1, 2, -2, 0), size=len(steps) - 1)])
    center = int(rng.integers(52, 62))
    pentatonic = {section.scale[i] for i in (0, 1, 2, 4, 5)}
    notes = []
    for at, chord in _bars(section):
        root = near(chord.root, center)
        ladder = [p for p in range(root - 12, root + 13) if p % 12 in pentatonic | {chord.root, chord.fifth}]
        base = ladder.index(root)
        for step, stop, degree in zip(steps, [*steps[1:], 16], walk.tolist(), strict=True):
            pitch = ladder[min(len(ladder) - 1, max(0, base + degree))]
            start = at + step * STEP
            notes.append(Note(start, start + round(min(4, stop - step) * 0.9 * STEP), pitch, _level(section, 98)))
    return notes


def _guitar_power(section: Section) -> list[Note]:
    """Root, fifth and octave, in driving eighths or on the groove."""
    steps = tuple(range(0, 16, 2)) if section.rng.random() < 0.4 else section.groove
    legato = float(section.rng.choice((0.55, 0.95)))
    notes = []
    for at, chord in _bars(section):
        root = near(chord.root, 48)
        for step, stop in zip(steps, [*steps[1:], 16], strict=True):
            for pitch in (root, root + 7, root + 12):
                end = at + round((step + legato * (stop - step)) * STEP)
                notes.append(Note(at + step * STEP, end, pitch, _level(section, 94)))
    return notes


def _guitar_offbeats(section: Section) -> list[Note]:
    """Short chords between the beats."""
    low = int(section.rng.integers(52, 58))
    steps = (2, 6, 10, 14) if section.rng.random() < 0.5 else (4, 6, 12, 14)
    return [
        Note(at + step * STEP + 6 * k, at + step * STEP + round(1.3 * STEP), pitch, _level(section, 94))
        for at, chord in _bars(section)
        for step in steps
        for k, pitch in enumerate(_voicing(chord, low, 4))
    ]


_GUITAR: tuple[Pattern, ...] = (
    _guitar_strum, _guitar_strum, _guitar_arpeggio, _guitar_arpeggio, _guitar_riff, _guitar_offbeats,
)  # fmt: skip
_DRIVEN_GUITAR: tuple[Pattern, ...] = (_guitar_power, _guitar_power, _guitar_riff, _guitar_arpeggio)
_DRIVEN = (29, 30)

# --- Piano --------------------------------------------------------------------------------------------------------


def _piano_blocks(section: Section) -> list[Note]:
    """Held chords, one, two or four per bar."""
    steps = pick(section.rng, ((0,), (0, 8), (0, 6), (0, 4, 8, 12)))
    low = int(section.rng.integers(52, 60))
    doubled = section.rng.random() < 0.5
    notes = []
    for at, chord in _bars(section):
        pitches = _voicing(chord, low, 4) + ([near(chord.root, low - 9)] if doubled else [])
        for step, stop in zip(steps, [*steps[1:], 16], strict=True):
            for pitch in pitches:
                end = at + round((step + 0.93 * (stop - step)) * STEP)
                notes.append(Note(at + step * STEP, end, pitch, _level(section, 92)))
    return notes


def _piano_broken(section: Section) -> list[Note]:
    """Broken chords in the style of Alberti."""
    order = pick(section.rng, ((0, 2, 1, 2), (0, 1, 2, 1), (0, 1, 2, 3)))
    pace = int(section.rng.choice((2, 2, 1)))
    low = int(section.rng.integers(53, 64))
    notes = []
    for at, chord in _bars(section):
        pitches = _voicing(chord, low, 4)
        for k in range(16 // pace):
            start = at + k * pace * STEP
            velocity = _level(section, 96 if k % 4 == 0 else 84)
            notes.append(Note(start, start + round(pace * 1.1 * STEP), pitches[order[k % 4]], velocity))
    return notes


def _piano_comping(section: Section) -> list[Note]:
    """Short chords in the right hand on the groove, roots in the left hand on strong beats."""
    steps = sorted({*section.groove, int(section.rng.choice((4, 10, 12)))} - {0} | {2})
    low = int(section.rng.integers(56, 63))
    notes = []
    for at, chord in _bars(section):
        for step in (0, 8):
            root = near(chord.root, 49)
            notes.append(Note(at + step * STEP, at + (step + 5) * STEP, root, _level(section, 88)))
        for step in steps:
            for pitch in _voicing(chord, low, 3):
                notes.append(Note(at + step * STEP, at + round((step + 1.6) * STEP), pitch, _level(section, 92)))
    return notes


def _piano_melody(section: Section) -> list[Note]:
    """A melody that moves along the scale, with chord tones on strong beats, over sparse chords."""
    rng = section.rng
    ladder = [p for p in range(62, 82) if p % 12 in section.scale]
    place = int(rng.integers(4, len(ladder) - 4))
    rhythms = ((0, 4, 6, 8, 12), (0, 3, 6, 8, 10, 12), (0, 2, 4, 8, 12, 14), (0, 6, 8, 14), (0, 4, 8, 10, 12))
    rhythm = pick(rng, rhythms)
    notes = []
    for at, chord in _bars(section):
        for pitch in _voicing(chord, 52, 3):
            notes.append(Note(at, at + round(0.9 * BAR), pitch, _level(section, 76)))
        for step, stop in zip(rhythm, [*rhythm[1:], 16], strict=True):
            place = min(len(ladder) - 1, max(0, place + int(rng.integers(-2, 3))))
            if step % 8 == 0:
                place = min(range(len(ladder)), key=lambda i: (ladder[i] % 12 not in chord.tones, abs(i - place)))
            end = at + round((step + 0.95 * (stop - step)) * STEP)
            notes.append(Note(at + step * STEP, end, ladder[place], _level(section, 102)))
    return notes


def _piano_pulse(section: Section) -> list[Note]:
    """Repeated chords in quarters or eighths."""
    pace = int(section.rng.choice((4, 2)))
    low = int(section.rng.integers(55, 62))
    return [
        Note(at + step * STEP, at + round((step + 0.8 * pace) * STEP), pitch, _level(section, 94 - 8 * (step % 8 > 0)))
        for at, chord in _bars(section)
        for step in range(0, 16, pace)
        for pitch in _voicing(chord, low, 3)
    ]


_PIANO: tuple[Pattern, ...] = (
    _piano_blocks, _piano_broken, _piano_broken, _piano_comping, _piano_melody, _piano_melody, _piano_pulse,
)  # fmt: skip


def patterns_of(name: str, program: int) -> tuple[Pattern, ...]:
    """The patterns that suit an instrument."""
    if name == "Guitar" and program in _DRIVEN:
        return _DRIVEN_GUITAR
    return {"Bass": _BASS, "Drums": _DRUMS, "Guitar": _GUITAR, "Piano": _PIANO}[name]
