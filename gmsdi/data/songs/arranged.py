"""Chord charts composed here and arranged by MMA (Musical MIDI Accompaniment, https://www.mellowood.ca/mma).

MMA is licensed under the GPL, version 2; it is run as a program, and nothing of it is copied. Its library files of
grooves are divided among the splits, so that the grooves of test songs are unseen in training. Where an arrangement
lacks an instrument, players of `gmsdi.data.songs.playing` join in; they also add lines over it.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from gmsdi.data.composer import TICKS_PER_BEAT, Note
from gmsdi.data.songs import drumming, playing
from gmsdi.data.songs.drawn import passage, pitched_part, realise, swung
from gmsdi.data.songs.harmony import NOTE_NAMES, SCALES, Harmony, pick, positions, progression, weighted
from gmsdi.data.songs.playing import Meter, Passage
from gmsdi.data.songs.score import DRUM_KEYS, KITS, PROGRAMS, Part, Song, once_each, played
from gmsdi.errors import UserError

_TIME_LIMIT = 60.0  # seconds for a run of MMA, which takes 0.1
_SHARES = {"train": 0.75, "validation": 0.1, "test": 0.15}  # of the groove library
# Files without music: counts, clicks, and files of intros or endings only.
_NOT_MUSIC = re.compile(r"^(none|metronome.*|count|intro|ending)$")
_VARIANT = {
    "fill": re.compile(r"fill", re.IGNORECASE),
    "intro": re.compile(r"intro", re.IGNORECASE),
    "ending": re.compile(r"end(ing)?[0-9a-d]*(plus|sus)*$|ending", re.IGNORECASE),
}
_SHORT_VARIANT = {"fill": re.compile(r"[a-z0-9]F[A-D]$"), "ending": re.compile(r"[a-z0-9]E$")}  # of the folder pflib

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
class ArrangedSettings:
    """Settings of arranged songs.

    Attributes:
        bars: smallest and largest number of bars.
        seconds: shortest and longest length, applied within the limits of `bars`.
        joined: probability that a player joins for a class that the arrangement lacks.
        lines: probability of a line (a lead, a riff, runs) on guitar or piano over the arrangement.
        percussion: probability of more percussion, crashes and fills over the arrangement's drums.
        program: name or path of MMA's program.
        library: folder of MMA's grooves; None finds the one installed with the program.
    """

    bars: tuple[int, int] = (24, 48)
    seconds: tuple[float, float] = (36.0, 80.0)
    joined: float = 0.85
    lines: float = 0.45
    percussion: float = 0.4
    program: str = "mma"
    library: str | None = None


@dataclass(frozen=True)
class Groove:
    """A groove of MMA's library.

    Attributes:
        file: library file, relative to the library's folder.
        name: name in its `DefGroove` line.
        beats: beats per bar, which MMA counts as quarters.
        variant: "main", "fill", "intro" or "ending".
    """

    file: str
    name: str
    beats: int
    variant: str


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


class Refused(Exception):
    """MMA did not make an arrangement of a chart."""


# --- The program and its library ------------------------------------------------------------------------------------


def find_mma(settings: ArrangedSettings) -> tuple[Path, Path]:
    """Find the program and the folder of its grooves.

    Raises:
        UserError: if either is missing.
    """
    found = shutil.which(settings.program)
    if found is None:
        raise UserError(
            f"arranged songs need MMA, but the program {settings.program!r} is not on the path; install it "
            "(Debian, Ubuntu: apt-get install mma; others: https://www.mellowood.ca/mma) or use other kinds of songs"
        )
    program = Path(found).resolve()
    if settings.library is not None:
        places = [Path(settings.library)]
    else:
        places = [program.parent / "lib", program.parent.parent / "share/mma/lib", Path("/usr/share/mma/lib"),
                  Path("/usr/local/share/mma/lib")]  # fmt: skip
    for place in places:
        if next(place.glob("*/*.mma"), None):
            return program, place.resolve()
    raise UserError(f"{places[0]}: no groove library of MMA found; set `library` to the folder that holds stdlib/")


def _environment() -> dict[str, str]:
    """The environment without this Python's variables, since MMA runs under another, whose hashing must not vary."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    return {**kept, "PYTHONHASHSEED": "0", "PYTHONDONTWRITEBYTECODE": "1"}


@lru_cache(maxsize=4)
def mma_version(program: Path) -> str:
    """The version that `mma -v` prints."""
    run = subprocess.run(
        [str(program), "-v"], env=_environment(), stdin=subprocess.DEVNULL, capture_output=True, text=True,
        errors="replace", timeout=_TIME_LIMIT, check=False,
    )  # fmt: skip
    numbers = re.findall(r"\d+\.\d+\S*", run.stdout)
    if run.returncode or not numbers:
        raise UserError(
            f"{program}: `mma -v` does not print a version; check that it is MMA (Musical MIDI Accompaniment)"
        )
    return str(numbers[-1])


@lru_cache(maxsize=4)
def library(folder: Path) -> dict[str, tuple[Groove, ...]]:
    """The grooves of each library file that has at least one main groove."""
    result = {}
    for path in sorted(folder.glob("*/*.mma")):
        if _NOT_MUSIC.match(path.stem.lower()):
            continue
        grooves = read_grooves(path.read_text("latin-1"), path.relative_to(folder).as_posix())
        if any(groove.variant == "main" for groove in grooves):
            result[path.relative_to(folder).as_posix()] = grooves
    return result


def read_grooves(text: str, file: str) -> tuple[Groove, ...]:
    """The grooves that a library file defines, each with the metre of the last `Time` line before it."""
    beats = 4
    found: dict[str, Groove] = {}
    short = file.startswith("pflib/")
    inside_doc = False
    for line in text.splitlines():
        words = line.split("//")[0].split()
        if not words:
            continue
        command = [word.lower() for word in words[:2]]
        if command == ["begin", "doc"]:
            inside_doc = True
        elif command[0] == "end":
            inside_doc = False
        elif inside_doc:
            continue
        elif command[0] == "time" and (number := re.match(r"\d+", "".join(words[1:2]))):
            beats = int(number[0])
        elif command[0] == "defgroove" and len(words) > 1:
            name = words[1]
            kinds = [kind for kind, pattern in _VARIANT.items() if pattern.search(name)]
            kinds += [kind for kind, pattern in _SHORT_VARIANT.items() if short and pattern.search(name)]
            found[name.lower()] = Groove(file, name, beats, kinds[0] if kinds else "main")
    return tuple(found.values())


def split_of(file: str) -> str:
    """The split whose songs may use a library file; files of one style ("rock1", "rock2") are in one split."""
    style = re.sub(r"[\d.]+$", "", Path(file).stem.lower().removesuffix(".s280")) or Path(file).stem
    digest = hashlib.sha256(f"gmsdi groove library 1: {style}".encode()).digest()
    place = int.from_bytes(digest[:8], "big") / 2**64
    if place < _SHARES["test"]:
        return "test"
    return "validation" if place < _SHARES["test"] + _SHARES["validation"] else "train"


def library_stamp(settings: ArrangedSettings) -> dict[str, str]:
    """What songs depend on besides the settings: MMA's version and the contents of its library."""
    program, folder = find_mma(settings)
    digest = hashlib.sha256()
    for file in sorted(library(folder)):
        digest.update(file.encode() + b"\0" + (folder / file).read_bytes() + b"\0")
    return {"mma": mma_version(program), "library": digest.hexdigest()[:16]}


# --- Charts ---------------------------------------------------------------------------------------------------------


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


# --- Arranging ------------------------------------------------------------------------------------------------------


def run_mma(text: str, settings: ArrangedSettings) -> list[Part]:
    """Let MMA arrange a chart; returns the parts, in ticks of this package.

    Raises:
        Refused: if MMA makes no arrangement or takes too long.
        UserError: if the program is missing.
    """
    import symusic

    program, _ = find_mma(settings)
    with tempfile.TemporaryDirectory(prefix="gmsdi-mma-") as private:
        # Neither the user's own MMA settings nor Python's hashing may change the result.
        (Path(private) / "empty.mma").write_text("")
        (Path(private) / "chart.mma").write_text(text)
        command = [str(program), "-w", "-i", "empty.mma", "-f", "out.mid", "chart.mma"]
        environment = {**_environment(), "HOME": private}
        try:
            run = subprocess.run(
                command, cwd=private, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True,
                errors="replace", timeout=_TIME_LIMIT, check=False,
            )  # fmt: skip
        except subprocess.TimeoutExpired as error:
            raise Refused(f"took more than {_TIME_LIMIT:.0f} s") from error
        path = Path(private) / "out.mid"
        if run.returncode or not path.exists():
            output = " ".join((run.stdout + run.stderr).split())
            raise Refused(output[output.find("Error") :][:200])
        score = symusic.Score(str(path))
    factor = TICKS_PER_BEAT / score.ticks_per_quarter
    parts = []
    for track in score.tracks:
        # symusic makes one track per program of a channel, so a part that changes its program becomes several.
        notes = [
            Note(round(n.time * factor), max(round(n.time * factor) + 12, round(n.end * factor)), n.pitch, n.velocity)
            for n in track.notes
        ]
        controls = [
            (round(c.time * factor), c.number, c.value) for c in track.controls if c.number in (1, 7, 10, 11, 64)
        ]
        bends = [(round(b.time * factor), b.value) for b in track.pitch_bends]
        if notes:
            parts.append(Part(track.name, track.program, once_each(notes), track.is_drum, controls, bends))
    return parts


def arrange(rng: np.random.Generator, split: str, settings: ArrangedSettings) -> Song:
    """Make an arranged song.

    Args:
        rng: source of randomness.
        split: the split whose part of the groove library is used.
        settings: see `ArrangedSettings`.

    Raises:
        Refused: if MMA refuses the chart, or returns a different number of bars; the message names the grooves.
        UserError: if MMA is missing.
    """
    _, folder = find_mma(settings)
    grooves = {file: found for file, found in library(folder).items() if split_of(file) == split}
    chart = compose_chart(rng, grooves, settings)
    try:
        parts = run_mma(chart.text, settings)
        return _finish(rng, chart, parts, settings)
    except Refused as error:
        names = ", ".join(f"{groove.file}:{groove.name}" for groove in chart.grooves)
        raise Refused(f"{names}: {error}") from error


def passages(chart: Chart) -> list[Passage]:
    """The chart's sections for the players, in ticks."""
    step = TICKS_PER_BEAT // (2 if chart.beats == 6 else 4)  # a listener hears six beats as eighths
    size = chart.beats * TICKS_PER_BEAT // step
    groups = (size // 2,) * 2 if chart.beats == 6 else (4,) * chart.beats
    meter = Meter((chart.beats, 4), groups, step)
    result = []
    done = 0
    for _, bars in chart.sections:
        section = passage(meter, bars, len(bars), done * meter.bar, float(chart.tempo))
        result.append(section)
        done += len(bars)
    return result


def _finish(rng: np.random.Generator, chart: Chart, parts: list[Part], settings: ArrangedSettings) -> Song:
    """Check the arrangement, add missing classes and a line, and draw programs."""
    end = chart.bars * chart.beats * TICKS_PER_BEAT
    last = max((note.start for part in parts for note in part.notes), default=0)
    # Some grooves play late, but a wrong metre would be off by many beats.
    if last >= end + TICKS_PER_BEAT or last < end - 2 * chart.beats * TICKS_PER_BEAT:
        raise Refused(f"{chart.bars} bars should end at tick {end}, but the last note is at {last}")
    kept: list[Part] = []
    kit = int(rng.choice(KITS))
    for part in parts:
        part.notes = [
            Note(n.start, min(n.end, end), n.pitch, n.velocity)
            for n in part.notes
            if n.start < end - 10 and (not part.drums or n.pitch in DRUM_KEYS)
        ]
        if part.drums:
            # MMA ends drum notes at once, and some SoundFonts cut the sound off there.
            part.notes = once_each(
                Note(n.start, min(end, max(n.end, n.start + drumming.ring(n.pitch))), n.pitch, n.velocity)
                for n in part.notes
            )
            if part.program == 0 and rng.random() < 0.6:
                part.program = kit
        kept.append(part)
    sections = passages(chart)
    letters = [kind for kind, _ in chart.sections]
    swing = (TICKS_PER_BEAT, 2 / 3) if chart.swing and chart.beats != 6 else None
    song = Song([(0, float(chart.tempo))], (chart.beats, 4), kept)
    version = mma_version(find_mma(settings)[0])
    song.about = f"arranged by MMA {version}: " + ", ".join(sorted({f"{g.file}:{g.name}" for g in chart.grooves}))

    _recast(rng, song)
    for name in ("Bass", "Guitar", "Piano"):
        if name not in song.classes and rng.random() < settings.joined:
            kept.append(_joined(rng, name, sections, letters, swing))
    drums = next((part for part in kept if part.drums and part.notes), None)
    if drums is not None and rng.random() < settings.percussion:
        drums.notes = once_each([*drums.notes, *_percussion(rng, sections, swing)])
    if "Drums" not in song.classes and rng.random() < settings.joined:
        kept.append(_drums(rng, sections, letters, swing, kit))
    if rng.random() < settings.lines:
        name = pick(rng, ("Guitar", "Piano"))
        styles: dict[playing.Style, float] = {
            playing.lead: 0.6,
            playing.riff: 0.15,
            playing.fast_runs: 0.1,
            playing.locked_hands: 0.15,
        }
        kept.append(_joined(rng, name, sections, letters, swing, styles, float(rng.uniform(0.4, 1.0))))
    song.parts = [part for part in kept if part.notes]
    if not song.classes:
        raise Refused("no note of any class")
    return song


def _recast(rng: np.random.Generator, song: Song) -> None:
    """Turn instruments of no class into missing guitars and pianos, and low ones such as tubas into a missing bass.

    This way the arrangement's own voices, and not only those of our players, are heard in every class.
    """
    for name in ("Piano", "Guitar", "Bass"):
        if name in song.classes:
            continue
        candidates = []
        for part in song.parts:
            if part.instrument is None and part.notes:
                mean = sum(note.pitch for note in part.notes) / len(part.notes)
                if (mean < 50) == (name == "Bass"):
                    candidates.append(part)
        if candidates and rng.random() < 0.75:
            part = pick(rng, candidates)
            part.program = int(pick(rng, tuple(PROGRAMS[name])))
            part.bends = []
    # Half of the time, the program is redrawn within its class, since grooves share a few favourites.
    for part in song.parts:
        name = part.instrument or ""
        if name in PROGRAMS and rng.random() < 0.5:
            part.program = int(pick(rng, tuple(PROGRAMS[name])))


def _joined(
    rng: np.random.Generator,
    name: str,
    sections: Sequence[Passage],
    letters: Sequence[int],
    swing: tuple[int, float] | None,
    styles: dict[playing.Style, float] | None = None,
    present: float | None = None,
) -> Part:
    program = int(pick(rng, tuple(PROGRAMS[name])))
    title = f"{name} line" if styles else f"{name} joined"
    return pitched_part(
        rng, title, name, program, sections, letters, swing=swing, styles=styles, present=present, low=styles is None
    )


def _drums(
    rng: np.random.Generator,
    sections: Sequence[Passage],
    letters: Sequence[int],
    swing: tuple[int, float] | None,
    program: int,
) -> Part:
    drums = drumming.kit(rng)
    style = weighted(rng, drumming.BEATS)
    patterns = {kind: drumming.beat(rng, sections[0].meter, drums, style) for kind in sorted(set(letters))}
    notes: list[Note] = []
    for section, kind in zip(sections, letters, strict=True):
        for n in drumming.perform(rng, section, drums, patterns[kind], fill=rng.random() < 0.6):
            start = swung(n.start, swing)
            notes.append(Note(start, max(start + 20, swung(n.end, swing)), n.pitch, n.velocity))
    notes = played(rng, once_each(notes), jitter=4.0, lag=0.0, accent=5.0, end=sections[-1].end)
    return Part("Drums joined", program, notes, True)


def _percussion(rng: np.random.Generator, sections: Sequence[Passage], swing: tuple[int, float] | None) -> list[Note]:
    """Extra keys with their own patterns, crashes where sections begin, and fills where they end."""
    drums = drumming.kit(rng)
    pattern = drumming.percussion(rng, sections[0].meter, drums)
    fills = float(rng.uniform(0, 0.8))
    notes = []
    for section in sections:
        for n in drumming.perform(rng, section, drums, pattern, fill=rng.random() < fills):
            start = swung(n.start, swing)
            notes.append(Note(start, max(start + 20, swung(n.end, swing)), n.pitch, n.velocity))
    return played(rng, once_each(notes), jitter=4.0, lag=0.0, accent=5.0, end=sections[-1].end)


__all__ = ["NOTE_NAMES", "ArrangedSettings", "Chart", "Groove", "Refused", "arrange", "compose_chart"]
