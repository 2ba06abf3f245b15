"""Chords, scales and chord progressions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from gmsdi.data.notes import pick

# Semitones above the root for each chord quality, as spelled in chord charts (and by MMA).
QUALITIES: dict[str, tuple[int, ...]] = {
    "": (0, 4, 7), "m": (0, 3, 7), "mb5": (0, 3, 6), "aug": (0, 4, 8), "5": (0, 7), "sus4": (0, 5, 7),
    "sus2": (0, 2, 7), "6": (0, 4, 7, 9), "m6": (0, 3, 7, 9), "add9": (0, 4, 7, 14), "6(add9)": (0, 4, 7, 9, 14),
    "7": (0, 4, 7, 10), "M7": (0, 4, 7, 11), "m7": (0, 3, 7, 10), "mM7": (0, 3, 7, 11), "m7b5": (0, 3, 6, 10),
    "dim7": (0, 3, 6, 9), "aug7": (0, 4, 8, 10), "7sus": (0, 5, 7, 10), "9": (0, 4, 7, 10, 14),
    "M9": (0, 4, 7, 11, 14), "m9": (0, 3, 7, 10, 14), "7b9": (0, 4, 7, 10, 13), "7#9": (0, 4, 7, 10, 15),
    "7#11": (0, 4, 7, 10, 18), "M7#11": (0, 4, 7, 11, 18), "11": (0, 7, 10, 14, 17), "m11": (0, 3, 7, 10, 14, 17),
    "13": (0, 4, 7, 10, 21), "sus9": (0, 5, 7, 10, 14), "7b5": (0, 4, 6, 10),
}  # fmt: skip

SCALES: dict[str, tuple[int, ...]] = {
    "ionian": (0, 2, 4, 5, 7, 9, 11), "dorian": (0, 2, 3, 5, 7, 9, 10), "phrygian": (0, 1, 3, 5, 7, 8, 10),
    "lydian": (0, 2, 4, 6, 7, 9, 11), "mixolydian": (0, 2, 4, 5, 7, 9, 10), "aeolian": (0, 2, 3, 5, 7, 8, 10),
    "locrian": (0, 1, 3, 5, 6, 8, 10), "harmonic minor": (0, 2, 3, 5, 7, 8, 11),
    "melodic minor": (0, 2, 3, 5, 7, 9, 11), "harmonic major": (0, 2, 4, 5, 7, 8, 11),
    "double harmonic": (0, 1, 4, 5, 7, 8, 11), "phrygian dominant": (0, 1, 4, 5, 7, 8, 10),
    "hungarian minor": (0, 2, 3, 6, 7, 8, 11), "whole tone": (0, 2, 4, 6, 8, 10),
    "octatonic": (0, 2, 3, 5, 6, 8, 9, 11), "major pentatonic": (0, 2, 4, 7, 9), "minor pentatonic": (0, 3, 5, 7, 10),
    "blues": (0, 3, 5, 6, 7, 10), "hirajoshi": (0, 2, 3, 7, 8), "chromatic": tuple(range(12)),
}  # fmt: skip

NOTE_NAMES = ("C", "Db", "D", "Eb", "E", "F", "F#", "G", "Ab", "A", "Bb", "B")


@dataclass(frozen=True)
class Harmony:
    """A chord in its key, all as pitch classes.

    Attributes:
        root: root of the chord.
        tones: tones of the chord, root first, in the order of the quality.
        bass: the lowest tone to play.
        scale: the tones that lines may use.
        quality: its spelling in `QUALITIES`, or "" if there is none.
    """

    root: int
    tones: tuple[int, ...]
    bass: int
    scale: tuple[int, ...]
    quality: str = ""

    @property
    def fifth(self) -> int:
        """The tone nearest to a fifth above the root."""
        return min(self.tones[1:] or (self.root + 7,), key=lambda tone: (abs((tone - self.root) % 12 - 7), tone))

    @property
    def name(self) -> str:
        """The chord's name in a chart, such as "Cm7" or "F/A"."""
        slash = "" if self.bass == self.root else f"/{NOTE_NAMES[self.bass]}"
        return f"{NOTE_NAMES[self.root]}{self.quality}{slash}"


def harmony(root: int, quality: str, scale: Sequence[int], bass: int | None = None) -> Harmony:
    """Make a chord of this quality; tones of the key that clash with chord tones are left out of its scale."""
    tones = tuple((root + interval) % 12 for interval in QUALITIES[quality])
    near = {(tone + by) % 12 for tone in tones for by in (1, -1)} - set(tones)
    line = {tone % 12 for tone in scale if tone % 12 not in near or len(scale) > 7} | set(tones)
    return Harmony(root % 12, tones, (root if bass is None else bass) % 12, tuple(sorted(line)), quality)


@dataclass(frozen=True)
class Symbol:
    """A chord relative to the tonic: semitones of the `root`, quality, semitones of the `bass` (None: the root)."""

    root: int
    quality: str
    bass: int | None = None


Bars = list[list[Symbol]]  # the chords of each bar, evenly spread


def parse(text: str) -> Bars:
    """Parse a template: "0:m7 5:7 | 10:M7/2" is two chords in the first bar, and one over its third in the second."""
    bars = []
    for bar in text.split("|"):
        symbols = []
        for word in bar.split():
            root, _, rest = word.partition(":")
            quality, _, bass = rest.partition("/")
            symbols.append(Symbol(int(root), quality, int(bass) if bass else None))
        bars.append(symbols)
    return bars


# Progressions by style, relative to the tonic (semitones:quality), with "|" between bars.
PROGRESSIONS: dict[str, tuple[str, ...]] = {
    "blues": (
        "0:7|0:7|0:7|0:7|5:7|5:7|0:7|0:7|7:7|5:7|0:7|7:7",
        "0:7|5:7|0:7|0:7|5:7|5:7|0:7|0:7|7:7|5:7|0:7 5:7|0:7 7:7",
        "0:7|5:7|0:7|7:m7 0:7|5:7|6:dim7|0:7|4:m7 9:7|2:m7|7:7|0:7 9:7|2:m7 7:7",
        "0:m7|0:m7|0:m7|0:m7|5:m7|5:m7|0:m7|0:m7|8:7|7:7|0:m7|7:7#9",
        "0:7|7:7|5:7|5:7|0:7|7:7|0:7|7:7",
        "0:7|0:7|5:7|6:dim7|0:7 9:7|2:7 7:7|0:7 5:7|0:7 7:7",
        "0:M7|11:m7b5 4:7|9:m7 8:m7|7:m7 0:7|5:M7|5:m7 10:7|4:m7|3:m7 8:7|2:m7|7:7|0:M7 9:7|2:m7 7:7",
    ),
    "jazz": (
        "2:m7|7:7|0:M7|0:M7", "2:m7 7:7|0:M7 9:7b9|2:m7 7:7|0:6", "2:m7b5|7:7b9|0:m7|0:m6",
        "0:M7 9:m7|2:m7 7:7|4:m7 9:7|2:m7 7:7", "0:6|0:7|5:M7|5:m6|0:6/7 9:7|2:9 7:13|0:6|7:7sus 7:7",
        "4:m7b5 9:7b9|2:m7 7:9|0:M9|0:6(add9)", "9:m7|2:m7|7:7|0:M7|5:M7|11:m7b5|4:7b9|9:m7",
        "0:M7|2:m7 7:7|4:m7|3:dim7|2:m7|7:13|0:6(add9)|1:7#11", "6:m7b5 11:7b9|4:m7 9:7|2:m7 7:7|0:M7",
        "0:m7|5:7|10:M7|3:M7|8:M7|2:m7b5|7:7b9|0:m6", "4:7|4:7|9:7|9:7|2:7|2:7|7:7|7:7",
        "0:M7|0:M7|3:m7|8:7|1:M7|1:M7|2:m7|7:7", "0:M7|1:M7#11|0:M7|1:M7#11",
        "0:m9|0:m9|1:m9|1:m9|0:m9|0:m9|7:7#9|0:m9",
        "0:M7|0:m7 5:7|10:M7|10:m7 3:7|8:M7|2:m7b5 7:7b9|0:m7|2:m7 7:7",
    ),
    "pop": (
        "0:|7:|9:m|5:", "9:m|5:|0:|7:", "0:|9:m|5:|7:", "5:|7:|4:m|9:m", "0:|4:m|5:|7:", "0:|5:|9:m|7:",
        "9:m|7:|5:|7:", "0:add9|7:/11|9:m7|5:M7", "0:|7:/11|9:m|4:m/7|5:|0:/4|2:m7|7:sus4 7:", "5:M7|4:m7|2:m7|0:M7",
        "0:|0:M7|0:7|5:|5:m|0:|2:7|7:7", "2:m7|4:m7|5:M7|7:", "0:sus2|0:|5:sus2|5:", "9:m7|2:m7|5:M7|4:7",
        "0:|8:|10:|0:", "0:|9:m|2:m|7:", "0:|2:|5:|0:", "5:|5:m|0:|0:7", "9:m|4:m|5:|0:|5:|0:/4|2:m|7:",
        "0: 7:/11|9:m 4:m|5: 0:/4|2:m7 7:7", "0:|4:|9:m|5:m", "5:6|7:6|0:M7|9:m7", "0:|7:m|5:|10:",
    ),
    "rock": (
        "0:5|10:5|5:5|0:5", "0:5|3:5|5:5|3:5", "0:5|8:5|10:5|0:5", "0:5 3:5|5:5|0:5 10:5|0:5", "0:|10:|5:|5:",
        "0:5|1:5|0:5|10:5", "0:5|6:5|5:5|3:5", "0:5 0:5 10:5 3:5|0:5 0:5 5:5 3:5", "0:|0:|5:|5:|7:|5:|0:|7:",
        "0:7|0:7|3:|5:",
        "0:m|10:|8:|7:", "0:5|0:5|5:5|10:5|8:5|8:5|10:5|10:5", "0:|7:|10:|5:", "0:5 5:5|10:5 5:5",
        "0:sus4 0:|10: 5:/9|0:sus4 0:|3: 10:/2",
        "0:m|3:|10:|5:", "0:|5: 0:|7: 5:|0:", "0:5|7:5|8:5|5:5",
    ),
    "minor": (
        "0:m|10:|8:|7:7", "0:m|5:m|7:7|0:m", "0:m|8:|3:|10:", "0:m7|5:m7|10:7|3:M7|8:M7|2:m7b5|7:7|0:m7",
        "0:m|0:mM7|0:m7|0:m6", "0:m|7:m/10|8:|5:m", "0:m 7:7/11|0:m|5:m 0:m/3|7:7", "0:m|2:mb5|7:7|0:m",
        "8:|10:|0:m|0:m",
        "0:m|5:|0:m|5:", "0:m9|8:M9|5:m9|7:7b9", "0:m|0:m/10|8:M7|7:aug7", "5:m|0:m|7:7|0:m", "0:m|3:aug|3:|5:",
        "0:m|1:|7:7|0:m",
        "0:m|10:m|8:|7:", "0:m|4:m|0:m|4:m", "0:m6|0:m6|5:m6|0:m6|7:7|0:m6|2:7|7:7",
    ),
    "modal": (
        "0:m7|0:m7|5:7|5:7", "0:m7|2:m7|0:m7|2:m7", "0:|1:|0:|1:", "0:|1:|3:|1:", "0:7|10:|0:7|10:",
        "0:M7|2:|0:M7|2:",
        "0:m11|0:m11|3:M7|5:sus9", "0:sus9|3:sus9|5:sus9|10:sus9", "0:m9|0:m9|0:m9|0:m9|3:m9|3:m9|0:m9|0:m9",
        "0:7|0:7|0:7|0:7", "0:m7|0:m7|0:m7|0:m7",
        "0:M7#11|10:M7#11|8:M7#11|10:M7#11", "0:7sus|0:7sus|8:M7/0|10:6/0", "0:5|0:5|0:sus2|0:sus4",
        "0:m|0:sus2|0:m6|0:m",
        "0:aug|2:aug|4:aug|2:aug", "0:dim7|0:dim7|0:m|0:m", "0:m7|3:m7|6:m7|9:m7", "0:M7|4:M7|8:M7|0:M7",
    ),
    "folk": (
        "0:|0:|5:|0:|0:|0:|7:7|7:7|0:|0:|5:|0:|0:|7:7|0:|0:", "0:|5:|0:|7:7", "0:|7:7|7:7|0:",
        "0: 5:|0:|0: 7:7|0:", "0:|0:7|5:|2:7|7:7|7:7|0:|7:7",
        "0:|2:7|7:7|0:", "0: 9:m|2:m 7:|0: 5:|7: 0:", "0:m|10:|0:m|7:", "0:|5:|7:|5:",
        "0:m|7:7|0:m|7:7|5:m|0:m|7:7|0:m",
        "5:|0:|7:7|0:|5:|0:|2:7|7:7", "0:|0:/4|5:|6:dim7|0:/7|7:7|0:|0:",
    ),
    "gospel": (
        "0:|0:7/4|5:|6:dim7|0:/7|9:7|2:7 7:7|0: 7:7", "0: 2:m7/0|0:/4 5:|0:/7 7:7sus|0:",
        "5:M7|4:m7 9:m7|2:m7 7:sus9|0:M9", "5:|7:/5|4:m7|9:7#9|2:m7|5:/7|0:|0:7",
        "0:|4:7|9:m7|7:m7 0:7|5:M7|5:m6|0:/7 9:m7|2:9 7:13", "9:m9|2:13|7:sus9|0:M9",
        "0:M9|11:m7b5 4:7#9|9:m9|7:m7 0:9|5:M9|10:13|0:M9/4 9:7b9|2:m9 7:sus9",
    ),
    "funk": (
        "0:9|0:9|0:9|0:9", "0:m7|5:9|0:m7|5:9", "0:7#9|0:7#9|3:7|5:7", "0:m9|10:m9|8:M9|7:7#9",
        "0:9|0:9|0:9|0:9|5:9|5:9|5:9|5:9", "0:m7 3:7|5:7|0:m7 10:7|0:m7",
        "0:7sus 0:7|0:7|10:7sus 10:7|5:7", "0:13|1:13|0:13|11:13 0:13", "2:m9|2:m9|7:13|7:13",
    ),
    "latin": (
        "0:m|7:7|7:7|0:m", "0:|5:|7:|5:", "2:m7|7:7|2:m7|7:7", "0:6|0:6|2:9|2:9|2:m7|1:7#11|0:6|1:7#11",
        "0:m7|0:m7|5:m7|5:m7|2:m7b5|7:7b9|0:m7|0:m7",
        "0:m|10:|8:|7:7", "0:m 5:m|7:7", "0:M7|7:m7 0:7|5:M7|5:m7 10:7|4:m7|3:dim7|2:m7|7:7b9", "0:|9:7|2:m|7:7",
        "0:6(add9)|0:6(add9)|1:M7|1:M7|0:6(add9)|3:dim7|2:m7|7:13",
        "0:7|10:7|0:7|10:7", "0:m6|9:m7b5|2:m7b5|7:7b9",
    ),
}  # fmt: skip

_RICHER = {  # substitutes for a quality, with the same function but another colour
    "": ("", "6", "add9", "M7", "sus2", "sus4", "M9", "6(add9)", "5"),
    "m": ("m", "m7", "m9", "m6", "sus2", "m11", "5"),
    "7": ("7", "9", "13", "7sus", "7b9", "7#9", "sus9", "aug7", "7b5"),
    "M7": ("M7", "M9", "6", "6(add9)", "M7#11"),
    "m7": ("m7", "m9", "m11", "m"),
    "m7b5": ("m7b5", "dim7"),
    "5": ("5", "", "m", "sus4", "sus2"),
    "mb5": ("mb5", "m7b5", "dim7"),
    "sus4": ("sus4", "7sus", "sus2"),
}  # fmt: skip
_DIATONIC = ("ionian", "dorian", "phrygian", "lydian", "mixolydian", "aeolian", "harmonic minor", "melodic minor",
             "harmonic major", "phrygian dominant", "ionian", "aeolian")  # fmt: skip


def on_scale(scale: Sequence[int], degree: int, tones: int) -> Symbol:
    """The chord of stacked thirds on a degree of a scale of seven tones, with 2 to 5 tones."""
    size = len(scale)
    root = scale[degree % size]
    intervals = [(scale[(degree + 2 * k) % size] - root) % 12 for k in range(tones)]
    wanted = {interval % 12 for interval in intervals}
    best = min(QUALITIES, key=lambda name: len({i % 12 for i in QUALITIES[name]} ^ wanted))
    return Symbol(root, best)


def _walked(rng: np.random.Generator) -> tuple[Bars, str]:
    """Draw bars that walk over the degrees of a mode."""
    mode = pick(rng, _DIATONIC)
    scale = SCALES[mode]
    tones = int(rng.choice((3, 3, 4, 4, 5)))
    length = int(rng.choice((4, 4, 8)))
    degree = int(rng.choice((0, 0, 0, 3, 5)))
    bars: Bars = []
    for _ in range(length):
        count = 2 if rng.random() < 0.2 else 1
        bar = []
        for _ in range(count):
            bar.append(on_scale(scale, degree, tones))
            # In tonal music, roots move by fourths more often than by seconds or thirds.
            degree = (degree + int(rng.choice((3, 3, 3, 4, 4, 1, -1, 5, 2, -3)))) % 7
        bars.append(bar)
    return bars, mode


def progression(rng: np.random.Generator, style: str | None = None) -> tuple[Bars, str]:
    """Draw a progression of 4 to 16 bars, and the scale of its lines.

    Args:
        rng: source of randomness.
        style: a key of `PROGRESSIONS`; None draws one.
    """
    if style is None:
        style = pick(rng, tuple(PROGRESSIONS))
    if rng.random() < 0.15:
        bars, mode = _walked(rng)
    else:
        bars = parse(pick(rng, PROGRESSIONS[style]))
        mode = _mode(bars)
    bars = _coloured(rng, bars)
    if rng.random() < 0.3:
        bars = _substituted(rng, bars)
    return _paced(rng, bars), mode


def _mode(bars: Bars) -> str:
    """The mode that holds most of the chords' tones."""
    tones = [(s.root + i) % 12 for bar in bars for s in bar for i in QUALITIES[s.quality]]
    return max(_DIATONIC[:6], key=lambda mode: (sum(tone in SCALES[mode] for tone in tones), -_DIATONIC.index(mode)))


def _coloured(rng: np.random.Generator, bars: Bars) -> Bars:
    """Replace some qualities by others, the same way for all occurrences of a chord, as bands do."""
    rate = float(rng.choice((0.0, 0.15, 0.4, 0.8)))
    chosen: dict[Symbol, Symbol] = {}
    for symbol in (s for bar in bars for s in bar):
        if symbol not in chosen:
            options = _RICHER.get(symbol.quality)
            chosen[symbol] = replace(symbol, quality=pick(rng, options)) if options and rng.random() < rate else symbol
            if symbol.bass is None and rng.random() < 0.06:
                tones = QUALITIES[chosen[symbol].quality]
                bass = (symbol.root + tones[int(rng.integers(1, min(3, len(tones))))]) % 12
                chosen[symbol] = replace(chosen[symbol], bass=bass)
    return [[chosen[symbol] for symbol in bar] for bar in bars]


def _substituted(rng: np.random.Generator, bars: Bars) -> Bars:
    """End some bars with a chord that leads to the next: its dominant, a tritone substitute or the like."""
    result = []
    for index, bar in enumerate(bars):
        goal = bars[(index + 1) % len(bars)][0].root
        if len(bar) == 1 and bar[0].root != goal and rng.random() < 0.3:
            leading = (
                Symbol((goal + 7) % 12, "7"),
                Symbol((goal + 1) % 12, "7"),
                Symbol((goal - 1) % 12, "dim7"),
                Symbol((goal + 5) % 12, "sus4"),
                Symbol((goal + 1) % 12, "m7"),
            )
            bar = [bar[0], pick(rng, leading)]
        result.append(bar)
    return result


def _paced(rng: np.random.Generator, bars: Bars) -> Bars:
    """Occasionally halve or double the harmonic rhythm."""
    at = rng.random()
    if at < 0.12 and len(bars) <= 8:
        return [half for bar in bars for half in ([bar[: max(1, len(bar) // 2)], bar[len(bar) // 2 :]])]
    if at < 0.24 and len(bars) >= 4 and len(bars) % 2 == 0 and max(len(bar) for bar in bars) <= 2:
        return [first + second for first, second in zip(bars[::2], bars[1::2], strict=True)]
    return bars


def positions(count: int, beats: int) -> list[int]:
    """The beats (from 0) of the `count` chords of a bar; chords beyond the number of beats are left out."""
    return sorted({round(k * beats / min(count, beats)) for k in range(min(count, beats))})
