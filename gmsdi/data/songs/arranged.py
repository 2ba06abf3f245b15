"""Songs whose chord charts are composed here (`charts`) and arranged by MMA (`mma`).

Where an arrangement lacks an instrument, players of `gmsdi.data.songs.playing` join in; they also add lines over it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from gmsdi.data.notes import TICKS_PER_BEAT, Note, pick, weighted
from gmsdi.data.songs import drumming
from gmsdi.data.songs.charts import Chart, compose_chart
from gmsdi.data.songs.drawn import passage, pitched_part, swung
from gmsdi.data.songs.mma import ArrangedSettings, Refused, find_mma, library, mma_version, run_mma, split_of
from gmsdi.data.songs.playing.keyboards import fast_runs, locked_hands
from gmsdi.data.songs.playing.lines import lead, riff
from gmsdi.data.songs.playing.passages import Meter, Passage, Style
from gmsdi.data.songs.score import DRUM_KEYS, KITS, PROGRAMS, Part, Song, once_each, played


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
        styles: dict[Style, float] = {
            lead: 0.6,
            riff: 0.15,
            fast_runs: 0.1,
            locked_hands: 0.15,
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
    styles: dict[Style, float] | None = None,
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
