"""Chord charts for MMA, composed here: sections with their own chords and grooves, at a tempo that suits these."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from gmsdi.data.notes import pick, weighted
from gmsdi.data.songs.drawn import realise
from gmsdi.data.songs.harmony import SCALES, Harmony, positions, progression
from gmsdi.data.songs.mma import ArrangedSettings, Groove

# Natural tempos, in beats as MMA counts them, by words in a file's or groove's name; the first match counts.
_TEMPOS: tuple[tuple[str, tuple[int, int]], ...] = (
    ("metal|thr|punk|hrk|mtl", (120, 190)), ("dnb", (155, 178)), ("hip-?hop|hip[0-9]|trip|team", (76, 104)),
    ("house|hous|techno|tech|trance|rave|dance|danc|disco", (112, 140)), ("slowbolero|slow.*swing", (66, 100)),
    ("68march", (100, 132)), ("ambient|\\bamb", (60, 100)), ("slow|bald|ballad|lullaby|nitejazz|evans|hymn", (56, 90)),
    ("bebop|fast(?!waltz)", (170, 240)), ("fast.*waltz|viene", (150, 200)), ("waltz|34", (84, 165)),
    ("samba|salsa|\\bson|merengue|mambo|quando", (100, 190)),
    ("polka|quickstep|dixie|charleston|ragtime|boneym", (110, 200)),
    ("bossa|rhumba|beguine|calypso|chacha|bolero|tango", (96, 150)),
    ("swing|jazz|basie|bigband|foxtrot|broadway", (96, 190)),
    ("16beat|16fus|16shuffle|16b", (72, 112)), ("ska", (120, 170)), ("reggae|regg", (66, 96)),
    ("funk|rnb|r&b|\\brb|soul|motown", (82, 120)),
    ("shuffle|shfl|boog|blues|blus|twist|jive|50s|rock'?n", (92, 160)), ("march", (96, 124)),
    ("country|cntr|bluegrass|western|folk|zydeco", (84, 150)), ("rock", (90, 160)), ("", (80, 140)),
)  # fmt: skip
# Suitable styles of chord progressions, by words in the name; "" is for all others.
_HARMONY: tuple[tuple[str, dict[str | None, float]], ...] = (
    (
        "blues|blus|boog|shuffle|shfl|jive|twist|50s",
        {"blues": 0.5, "rock": 0.15, "jazz": 0.1, "gospel": 0.1, None: 0.15},
    ),
    (
        "jazz|swing|bebop|basie|bigband|foxtrot|broadway|evans|dixie|charleston|ragtime",
        {"jazz": 0.6, "blues": 0.15, "gospel": 0.05, None: 0.2},
    ),
    (
        "bossa|samba|salsa|mambo|\\bson|rhumba|tango|chacha|latin|latn|cuban|calypso|merengue|bolero|beguine",
        {"latin": 0.5, "jazz": 0.2, "minor": 0.15, None: 0.15},
    ),
    ("metal|punk|thr|hrk|mtl|rock", {"rock": 0.5, "minor": 0.15, "modal": 0.1, "pop": 0.1, None: 0.15}),
    (
        "funk|fus|rnb|r&b|\\brb|soul|motown|hip|trip|dnb",
        {"funk": 0.35, "modal": 0.2, "gospel": 0.15, "minor": 0.1, None: 0.2},
    ),
    ("house|techno|trance|rave|dance|disco|ambient|tech", {"modal": 0.3, "minor": 0.3, "pop": 0.2, None: 0.2}),
    (
        "country|folk|bluegrass|polka|march|waltz|western|cntr|zydeco|hymn|spiritual",
        {"folk": 0.45, "pop": 0.2, "gospel": 0.1, None: 0.25},
    ),
    ("", {"pop": 0.4, "minor": 0.15, "folk": 0.1, "modal": 0.1, None: 0.25}),
)
_TRIPLE_FEEL = re.compile(
    r"swing|jazz|shuffle|shfl|boog|blues|blus|bebop|basie|bigband|128|foxtrot|dixie", re.IGNORECASE
)


@dataclass(frozen=True)
class Chart:
    """A chord chart: the text for MMA, and what players need to know of it."""

    text: str
    grooves: tuple[Groove, ...]
    beats: int
    tempo: int
    sections: tuple[tuple[int, tuple[tuple[Harmony, ...], ...]], ...]  # (kind, bars of chords)
    swing: bool

    @property
    def bars(self) -> int:
        """Number of bars."""
        return sum(len(bars) for _, bars in self.sections)


def _words(groove: Groove) -> str:
    return f"{Path(groove.file).stem} {groove.name}".lower()


def tempo_range(groove: Groove) -> tuple[int, int]:
    """Natural tempos of a groove, in MMA's beats per minute."""
    low, high = next(tempos for words, tempos in _TEMPOS if re.search(words, _words(groove)))
    if groove.beats == 6:  # MMA counts eighths
        return round(1.7 * max(low, 80)), round(1.7 * min(high, 140))
    return low, high


def compose_chart(
    rng: np.random.Generator, grooves: dict[str, tuple[Groove, ...]], settings: ArrangedSettings
) -> Chart:
    """Compose a chart for one file of `grooves`: sections with their own chords and grooves.

    Args:
        rng: source of randomness.
        grooves: the library files that may be used, with their grooves.
        settings: see `ArrangedSettings`.
    """
    files = sorted(grooves)
    sizes = np.array([sum(g.variant == "main" for g in grooves[file]) for file in files]) ** 0.5
    file = files[int(rng.choice(len(files), p=sizes / sizes.sum()))]
    main = [groove for groove in grooves[file] if groove.variant == "main"]
    first = pick(rng, main)
    beats = first.beats
    alike = {
        kind: [g for g in grooves[file] if g.variant == kind and g.beats == beats] for kind in ("main", "fill", "intro")
    }
    low, high = tempo_range(first)
    tempo = int(np.clip(round(rng.normal((low + high) / 2, (high - low) / 3.5)), low - 6, high + 6))

    fewest, most = (seconds * tempo / 60 / beats for seconds in settings.seconds)
    least = min(settings.bars[1], max(settings.bars[0], int(np.ceil(fewest))))
    greatest = max(least, min(settings.bars[1], int(most)))
    goal = int(rng.integers(least, greatest + 1))

    tonic = int(rng.integers(12))
    style = weighted(rng, next(styles for words, styles in _HARMONY if re.search(words, _words(first))))
    letters = pick(rng, ((0, 0, 1, 0), (0, 1, 0, 1), (0, 0, 1, 1), (0, 1, 2, 1), (0, 0, 1, 2), (0, 1, 0, 2)))
    usual = [first]
    for _ in range(2):
        usual.append(pick(rng, alike["main"]) if rng.random() < 0.7 else first)
    forms = []
    for kind in range(3):
        bars, mode = progression(rng, style if rng.random() < 0.85 else None)
        other = (tonic + pick(rng, (3, 5, 7, 9, 2))) % 12 if kind and rng.random() < 0.2 else tonic
        length = max(len(bars), int(rng.choice((8, 8, 8, 12, 16, 4))))
        chords = realise(bars, other, SCALES[mode])
        forms.append([chords[k % len(chords)] for k in range(length)])
    raised = int(rng.choice((0, 0, 0, 0, 0, 0, 1, 2)))  # semitones by which the last part is raised

    lines = [f"RndSeed {int(rng.integers(1, 1 << 30))}", f"Tempo {tempo}"]
    if rng.random() < 0.1:
        lines.append(f"SwingMode On Skew={int(rng.integers(56, 68))}")
    lines.append(f"Use {file}")
    lines.append(f"Volume {pick(rng, ('mp', 'm', 'mf', 'f'))}")
    sections: list[tuple[int, tuple[tuple[Harmony, ...], ...]]] = []
    used = {first}
    done = 0
    fills = bool(alike["fill"]) and rng.random() < 0.7
    index = 0
    last: list[str] = []
    while done < goal:
        kind = letters[index % len(letters)]
        take = forms[kind][: goal - done]
        if raised and done > 0.7 * goal:
            take = [[raise_by(chord, raised) for chord in bar] for bar in take]
        fitted = tuple(tuple(bar[: len(positions(len(bar), beats))]) for bar in take)
        groove = usual[kind] if rng.random() < 0.8 else pick(rng, alike["main"])
        if index == 0 and alike["intro"] and rng.random() < 0.15:
            groove = pick(rng, alike["intro"])
        used.add(groove)
        block = [f"Groove {groove.name}", *(_directives(rng) if not last or rng.random() < 0.5 else last)]
        last = block[1:]
        lines += block
        for number, bar in enumerate(fitted):
            if fills and number == len(fitted) - 1 and number and rng.random() < 0.8:
                fill = pick(rng, alike["fill"])
                used.add(fill)
                lines.append(f"Groove {fill.name}")
            lines.append(bar_text(done + number + 1, bar, beats))
        sections.append((kind, fitted))
        done += len(fitted)
        index += 1
    swing = bool(_TRIPLE_FEEL.search(_words(first)))
    return Chart(
        "\n".join(lines) + "\n", tuple(sorted(used, key=lambda g: g.name)), beats, tempo, tuple(sections), swing
    )


def raise_by(chord: Harmony, semitones: int) -> Harmony:
    """A chord raised by this many semitones."""
    move = lambda tones: tuple((tone + semitones) % 12 for tone in tones)  # noqa: E731
    return Harmony(
        (chord.root + semitones) % 12, move(chord.tones), (chord.bass + semitones) % 12,
        tuple(sorted(move(chord.scale))), chord.quality,
    )  # fmt: skip


def bar_text(number: int, bar: Sequence[Harmony], beats: int) -> str:
    """A bar as MMA reads it: chords, those after the first with their beat, such as "12 Dm7 G7@3"."""
    # Without "@", MMA spreads the chords of some metres (Time 6/8) over fewer positions than beats.
    words = [
        chord.name + (f"@{place + 1}" if place else "")
        for place, chord in zip(positions(len(bar), beats), bar, strict=True)
    ]
    return f"{number} " + " ".join(words)


def _directives(rng: np.random.Generator) -> list[str]:
    """Random changes to a groove's tracks, so that the same groove does not always sound the same."""
    lines = []
    if rng.random() < 0.35:
        lines.append("AllTracks Chord Voicing Mode=" + pick(rng, ("Optimal", "Optimal", "Compressed", "Invert")))
    elif rng.random() < 0.25:
        lines.append(f"AllTracks Chord Invert {int(rng.integers(-1, 3))}")
    if rng.random() < 0.25:
        lines.append(f"AllTracks Chord Octave {int(rng.integers(4, 7))}")
    if rng.random() < 0.2:
        lines.append(f"AllTracks Chord Strum {int(rng.integers(2, 26))}")
    if rng.random() < 0.25:
        lines.append(f"AllTracks Rvolume {int(rng.integers(4, 24))}")
    if rng.random() < 0.2:
        lines.append(f"AllTracks Chord Bass Walk Articulate {int(rng.integers(35, 101))}")
    if rng.random() < 0.15:
        lines.append(f"AllTracks Chord Drum Rskip {int(rng.integers(3, 18))}")
    if rng.random() < 0.3:
        lines.append(f"Volume {pick(rng, ('mp', 'm', 'mf', 'f', 'ff'))}")
    return lines
