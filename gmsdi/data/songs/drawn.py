"""Songs drawn at random, for domain randomisation: any scale, density, register, length and style of playing.

Most of these songs are not what people would write, but a model trained on them has met the sounds and densities of
much of the music that people do write.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from gmsdi.data.notes import TICKS_PER_BEAT, Note, pick, weighted
from gmsdi.data.songs import drumming
from gmsdi.data.songs.harmony import SCALES, Harmony, Symbol, harmony, positions, progression
from gmsdi.data.songs.playing import REGISTERS, SINGLE, STYLES
from gmsdi.data.songs.playing.passages import Meter, Passage, Span, Style
from gmsdi.data.songs.score import (
    EXPRESSION,
    KITS,
    PAN,
    PEDAL,
    PROGRAMS,
    VOLUME,
    Part,
    Song,
    once_each,
    played,
)

METERS: dict[Meter, float] = {
    Meter((4, 4), (4, 4, 4, 4)): 0.62, Meter((3, 4), (4, 4, 4)): 0.12, Meter((6, 8), (6, 6)): 0.12,
    Meter((5, 4), (4, 4, 4, 4, 4)): 0.03, Meter((5, 4), (6, 6, 4, 4)): 0.03, Meter((7, 8), (4, 4, 6)): 0.04,
    Meter((7, 8), (6, 4, 4)): 0.04,
}  # fmt: skip


@dataclass(frozen=True)
class DrawnSettings:
    """Settings of songs drawn at random.

    Attributes:
        seconds: shortest and longest length of a song, rounded up to whole bars.
        tempos: slowest and fastest tempo, in quarters per minute.
        present: probability that a class plays in a song.
        second: probability that a class that plays has a second track.
    """

    seconds: tuple[float, float] = (30.0, 60.0)
    tempos: tuple[float, float] = (50.0, 200.0)
    present: float = 0.94
    second: float = 0.3


def draw(rng: np.random.Generator, settings: DrawnSettings) -> Song:
    """Draw a song."""
    tempo = round(float(np.exp(rng.uniform(*np.log(settings.tempos)))), 1)
    if rng.random() < 0.6:  # most music is in the middle of the range
        tempo = round(float(np.clip(rng.normal(112, 24), *settings.tempos)), 1)
    meter = weighted(rng, METERS)
    seconds = float(rng.uniform(*settings.seconds))
    bars = max(4, int(np.ceil(seconds * tempo / 60 * TICKS_PER_BEAT / meter.bar)))
    passages, letters = _form(rng, meter, bars, tempo)
    end = passages[-1].end

    present = [name for name in REGISTERS if rng.random() < settings.present]
    drums = rng.random() < settings.present
    if not present:
        present = ["Guitar"]
    swing = _swing(rng, meter)
    parts = []
    for name in present:
        count = 2 if rng.random() < (settings.second if name != "Bass" else settings.second / 4) else 1
        for number in range(count):
            program = int(rng.integers(PROGRAMS[name].start, PROGRAMS[name].stop))
            parts.append(
                pitched_part(
                    rng, f"{name} {number + 1}", name, program, passages, letters, swing=swing, low=number == 0
                )
            )
    if drums:
        parts += _drums(rng, passages, letters, swing, 2 if rng.random() < settings.second else 1)
    tempos = [(0, tempo)]
    if rng.random() < 0.12:  # a tempo that drifts by up to 4 %
        drift = np.cumsum(rng.normal(0, 0.012, len(passages)))
        tempos += [
            (passage.start, round(tempo * float(np.exp(np.clip(by, -0.04, 0.04))), 2))
            for passage, by in zip(passages[1:], drift.tolist(), strict=False)
        ]
    song = Song(tempos, meter.signature, [part for part in parts if part.notes], "drawn")
    assert all(note.end <= end for part in song.parts for note in part.notes)
    return song


# --- Form and harmony -----------------------------------------------------------------------------------------------


def _form(rng: np.random.Generator, meter: Meter, bars: int, tempo: float) -> tuple[list[Passage], list[int]]:
    """Draw the passages of a song, and for each the number of its kind (verse, chorus, …)."""
    kinds = int(rng.choice((1, 2, 2, 3)))
    tonic = int(rng.integers(12))
    make = [_harmonies(rng, tonic if rng.random() < 0.8 else int(rng.integers(12))) for _ in range(kinds)]
    passages: list[Passage] = []
    letters: list[int] = []
    done = 0
    while done < bars:
        kind = int(rng.integers(kinds))
        length = min(int(rng.choice((4, 4, 8, 8, 6))), bars - done)
        passages.append(passage(meter, make[kind], length, done * meter.bar, tempo))
        letters.append(kind)
        done += length
    return passages, letters


def passage(meter: Meter, bars: Sequence[Sequence[Harmony]], length: int, start: int, tempo: float) -> Passage:
    """A passage of `length` bars of repeating chords from tick `start`, which change on the beats of the signature."""
    beats = meter.signature[0]
    beat = meter.bar // beats
    spans = []
    for index in range(length):
        bar = bars[index % len(bars)]
        base = start + index * meter.bar
        places = positions(len(bar), beats)
        ends = [*places[1:], beats]
        for chord, place, stop in zip(bar, places, ends, strict=False):
            spans.append(Span(base + place * beat, base + stop * beat, chord))
    return Passage(meter, tuple(spans), tempo)


def realise(bars: Sequence[Sequence[Symbol]], tonic: int, scale: Sequence[int]) -> list[list[Harmony]]:
    """The chords of a progression in a key; equal chords are the same object, so that players see no change."""
    made: dict[Symbol, Harmony] = {}
    key = [(tonic + degree) % 12 for degree in scale]
    for symbol in (s for bar in bars for s in bar):
        if symbol not in made:
            bass = None if symbol.bass is None else (tonic + symbol.bass) % 12
            made[symbol] = harmony((tonic + symbol.root) % 12, symbol.quality, key, bass)
    return [[made[symbol] for symbol in bar] for bar in bars]


def _harmonies(rng: np.random.Generator, tonic: int) -> list[list[Harmony]]:
    """Draw bars of chords: a progression as people write them, or chords stacked at random from any scale."""
    if rng.random() < 0.45:
        bars, mode = progression(rng)
        return realise(bars, tonic, SCALES[mode])
    name = pick(rng, tuple(SCALES))
    scale = tuple((tonic + degree) % 12 for degree in SCALES[name])
    size = len(scale)
    stack = int(weighted(rng, {2: 0.65, 3: 0.15, 1: 0.08, 4: 0.12})) if name != "chromatic" else pick(rng, (3, 4, 5))
    count = int(rng.integers(2, 6))
    degree = int(rng.integers(size))
    result = []
    for _ in range(int(rng.choice((1, 2, 4, 4, 8)))):
        bar = []
        for _ in range(int(weighted(rng, {1: 0.7, 2: 0.22, 4: 0.08}))):
            tones = tuple(dict.fromkeys(scale[(degree + k * stack) % size] for k in range(count)))
            root = tones[0]
            tones = tones if len(tones) > 1 else (root, (root + 7) % 12)
            bass = root if rng.random() < 0.9 else pick(rng, tones)
            bar.append(Harmony(root, tones, bass, tuple(sorted(set(scale) | set(tones)))))
            degree = (degree + int(rng.integers(1, size))) % size if rng.random() < 0.85 else degree
        result.append(bar)
    return result


# --- Parts ----------------------------------------------------------------------------------------------------------


def pitched_part(
    rng: np.random.Generator,
    title: str,
    name: str,
    program: int,
    passages: Sequence[Passage],
    letters: Sequence[int],
    *,
    swing: tuple[int, float] | None,
    low: bool = True,
    styles: dict[Style, float] | None = None,
    present: float | None = None,
) -> Part:
    """Draw the track of a pitched instrument through a song.

    Args:
        rng: source of randomness.
        title: the track's name.
        name: "Bass", "Guitar" or "Piano".
        program: General MIDI program.
        passages: the song's sections.
        letters: the kind of each section; sections of one kind are played in one style.
        swing: see `swung`.
        low: whether the part uses the whole register; otherwise its lowest pitch is often raised by an octave.
        styles: styles by weight; None uses those of the class.
        present: probability of playing in a section; None draws one.
    """
    styles = styles or STYLES[name]
    chosen: dict[int, tuple[Style, int, tuple[int, int]]] = {}
    usual = weighted(rng, styles)
    shift = 0 if low or rng.random() < 0.4 else 12
    rate = present if present is not None else float(rng.choice((1.0, 1.0, 0.85, 0.7)))
    jitter = passages[0].ticks(float(rng.choice((0.0, 0.003, 0.007, 0.012))))
    lag = passages[0].ticks(float(rng.normal(0, 0.006)))
    accent = float(rng.choice((0.0, 3.0, 6.0, 10.0)))
    notes: list[Note] = []
    bent: list[tuple[int, int]] = []
    end = passages[-1].end
    for section, letter in zip(passages, letters, strict=True):
        if letter not in chosen:
            style = usual if rng.random() < 0.6 else weighted(rng, styles)
            bottom, top = REGISTERS[name]
            if style.__name__ not in ("two_hands", "strum", "picking", "power_chords") and rng.random() < 0.5:
                width = max(14, int((top - bottom) * rng.uniform(0.4, 1.0)))
                bottom += int(rng.integers(0, max(1, top - bottom - width)))
                top = bottom + width
            chosen[letter] = (style, int(rng.integers(1 << 62)), (min(bottom + shift, top - 14), top))
        if rng.random() >= rate and notes:
            continue
        style, seed, register = chosen[letter]
        # The same stream gives the same music, except for what the chords change.
        own = np.random.default_rng(seed) if rng.random() < 0.8 else rng
        bottom, top = REGISTERS[name]
        written = [
            Note(swung(note.start, swing), min(swung(note.end, swing), section.end), note.pitch, note.velocity)
            for note in style(own, section, register)
            if bottom <= note.pitch <= top and section.start <= note.start < section.end
        ]
        notes += written
        if style in SINGLE:
            bent.append((section.start, section.end))
    finished = played(rng, notes, jitter=jitter, lag=lag, accent=accent, end=end)
    part = Part(title, program, finished)
    _manners(rng, part, name, passages, bent)
    return part


def _manners(
    rng: np.random.Generator, part: Part, name: str, passages: Sequence[Passage], bent: Sequence[tuple[int, int]]
) -> None:
    """Add pan, volume, expression, pedal and bends, each to some parts."""
    end = passages[-1].end
    if rng.random() < 0.5:
        part.controls.append((0, PAN, int(np.clip(rng.normal(64, 26), 0, 127))))
    if rng.random() < 0.2:
        part.controls.append((0, VOLUME, int(rng.integers(80, 128))))
    if rng.random() < 0.18:  # swells and fades
        grid = TICKS_PER_BEAT // 2
        period = float(rng.choice((4, 8, 16, 32))) * TICKS_PER_BEAT
        phase, depth = float(rng.uniform(0, 2 * np.pi)), float(rng.uniform(8, 45))
        last = -1
        for tick in range(0, end, grid):
            value = round(127 - depth / 2 * (1 + float(np.sin(2 * np.pi * tick / period + phase))))
            if value != last:
                part.controls.append((tick, EXPRESSION, value))
                last = value
    if name == "Piano" and rng.random() < 0.3:
        for section in passages:
            for span in section.spans:
                length = span.end - span.start
                if length >= TICKS_PER_BEAT // 2:
                    part.controls.append((span.start + min(60, length // 8), PEDAL, 127))
                    part.controls.append((span.end - min(20, length // 10), PEDAL, 0))
    if name in ("Guitar", "Bass") and bent and rng.random() < 0.35:
        part.bends += bends(rng, part.notes, bent, passages[0])


def bends(
    rng: np.random.Generator, notes: Sequence[Note], where: Sequence[tuple[int, int]], passage: Passage
) -> list[tuple[int, int]]:
    """Bends up to the note, slides and vibrato, for notes that sound alone; back at 0 where each note ends."""
    rate, depth = float(rng.uniform(0.1, 0.6)), float(rng.uniform(0.1, 0.45))
    vibrato, hertz = rng.random() < 0.6, float(rng.uniform(4, 7))
    events: list[tuple[int, int]] = []
    until = 0
    for index, note in enumerate(notes):
        alone = note.start >= until and (index + 1 == len(notes) or notes[index + 1].start >= note.end)
        until = max(until, note.end)
        inside = any(start <= note.start and note.end <= end for start, end in where)
        length = note.end - note.start
        if not alone or not inside or length < passage.ticks(0.15) or rng.random() >= rate:
            continue
        start = note.start
        rise = max(20, round(passage.ticks(float(rng.uniform(0.04, 0.14)))))
        semitones = pick(rng, (-1, -2, -2, 0, 1))
        if semitones:
            steps = 6
            for k in range(steps):
                events.append((start + k * rise // steps, round(4096 * semitones * (1 - k / steps))))
            events.append((start + rise, 0))
        if vibrato and length > passage.ticks(0.4):
            begin = start + max(rise + 1, round(passage.ticks(0.25)))
            unit = max(12, round(passage.ticks(0.02)))
            for tick in range(begin, note.end - unit, unit):
                seconds = (tick - begin) * 60 / (passage.tempo * TICKS_PER_BEAT)
                events.append((tick, round(4096 * depth * float(np.sin(2 * np.pi * hertz * seconds)))))
            events.append((note.end - 1, 0))
    return [(tick, min(8191, max(-8192, value))) for tick, value in events]


def _drums(
    rng: np.random.Generator,
    passages: Sequence[Passage],
    letters: Sequence[int],
    swing: tuple[int, float] | None,
    count: int,
) -> list[Part]:
    """Draw the kit's track; if `count` is 2, its extra keys are a separate track."""
    program = int(rng.choice(KITS)) if rng.random() < 0.6 else 0
    drums = drumming.kit(rng)
    usual = weighted(rng, drumming.BEATS)
    patterns: dict[int, list[drumming.Beat]] = {}
    rate = float(rng.choice((1.0, 1.0, 0.9, 0.75)))
    fills = float(rng.uniform(0.2, 0.9))
    notes: list[Note] = []
    for section, letter in zip(passages, letters, strict=True):
        if letter not in patterns:
            style = usual if rng.random() < 0.7 else weighted(rng, drumming.BEATS)
            patterns[letter] = [drumming.beat(rng, section.meter, drums, style) for _ in range(2)]
        if rng.random() >= rate and notes:
            continue
        pattern = patterns[letter][int(rng.random() < 0.2)]
        notes += [
            Note(swung(n.start, swing), max(swung(n.start, swing) + 20, swung(n.end, swing)), n.pitch, n.velocity)
            for n in drumming.perform(rng, section, drums, pattern, fill=rng.random() < fills)
        ]
    jitter = passages[0].ticks(float(rng.choice((0.0, 0.002, 0.005, 0.009))))
    accent = float(rng.choice((0.0, 3.0, 6.0, 9.0)))
    notes = played(rng, once_each(notes), jitter=jitter, lag=0.0, accent=accent, end=passages[-1].end)
    extras = set(drums.extras) - {drums.kick, drums.snare, drums.time}
    if count == 2 and extras:
        own = [note for note in notes if note.pitch in extras]
        notes = [note for note in notes if note.pitch not in extras]
        return [Part("Drums 1", program, notes, True), Part("Drums 2", program, own, True)]
    return [Part("Drums 1", program, notes, True)]


# --- Swing ----------------------------------------------------------------------------------------------------------


def _swing(rng: np.random.Generator, meter: Meter) -> tuple[int, float] | None:
    """Draw the length of the pair of steps that swings, in ticks, and the share of the first one; None: no swing."""
    if rng.random() < 0.7:
        return None
    pair = int(pick(rng, (2 * meter.step, 4 * meter.step, 4 * meter.step)))
    if meter.bar % pair:
        pair = 2 * meter.step
    return pair, float(rng.uniform(0.54, 0.7))


def swung(tick: int, swing: tuple[int, float] | None) -> int:
    """Where swing puts a tick of the straight grid."""
    if swing is None:
        return tick
    pair, share = swing
    base, place = divmod(tick, pair)
    half = pair / 2
    moved = place / half * share * pair if place <= half else (share + (place - half) / half * (1 - share)) * pair
    return base * pair + round(moved)
