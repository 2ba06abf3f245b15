"""How synthesizers usable from Python play velocities, controllers, pedals, bends and .sf3 files, and how fast.

Prints a table, whose second line has the values required by the SoundFont specification. Synthesizers that are not
installed are left out:

    python -m pip install symusic==0.5.8 pyfluidsynth && python -m pip install --no-deps tinysoundfont midirenderer
    python -m benchmarks.synthesizers [--soundfont FILE]
"""

from __future__ import annotations

import argparse
import io
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import mido
import numpy as np

from gmsdi.data.midi import read_song
from gmsdi.data.songs import make_song
from gmsdi.data.songs.score import write
from gmsdi.data.synthesizer import find_soundfont, play
from tests.helpers.soundfonts import KEY, write_soundfont

RATE = 48_000  # the only rate of midirenderer
ORGAN = 19  # a steady tone
VALUES = (30, 60, 90, 127)
Engine = Callable[[Path, Path], np.ndarray]


def fluidsynth(soundfont: Path, song: Path) -> np.ndarray:
    """FluidSynth through pyfluidsynth, as this package uses it: float64 `[2, T]`."""
    found = read_song(song.read_bytes())
    return np.sum([play(part, soundfont, found.seconds + 1, RATE) for part in found.parts], axis=0, dtype=np.float64)


def symusic(soundfont: Path, song: Path) -> np.ndarray:
    """Symusic's synthesizer."""
    from symusic import Score, Synthesizer

    return np.asarray(Synthesizer(str(soundfont), RATE).render(Score(str(song)), stereo=True), np.float64)


def tinysoundfont(soundfont: Path, song: Path) -> np.ndarray:
    """TinySoundFont, with events sent one by one."""
    import tinysoundfont

    synth = tinysoundfont.Synth(gain=0, samplerate=RATE)
    font = synth.sfload(str(soundfont))
    parts, now = [], 0.0

    def until(seconds: float) -> None:
        nonlocal now
        samples = round(seconds * RATE) - round(now * RATE)
        if samples > 0:
            parts.append(np.frombuffer(synth.generate(samples), np.float32).reshape(-1, 2).copy())
            now = seconds

    seconds = 0.0
    for message in mido.MidiFile(song):
        seconds += message.time
        if message.is_meta:
            continue
        until(seconds)
        channel = getattr(message, "channel", 0)
        if message.type == "program_change":
            synth.program_select(channel, font, 128 if channel == 9 else 0, message.program, channel == 9)
        elif message.type == "note_on" and message.velocity:
            synth.noteon(channel, message.note, message.velocity)
        elif message.type in ("note_on", "note_off"):
            synth.noteoff(channel, message.note)
        elif message.type == "control_change":
            synth.control_change(channel, message.control, message.value)
        elif message.type == "pitchwheel":
            synth.pitchbend(channel, message.pitch + 8192)
    until(seconds + 1)
    return np.concatenate(parts).T.astype(np.float64)


def midirenderer(soundfont: Path, song: Path) -> np.ndarray:
    """Rustysynth through midirenderer."""
    import midirenderer
    import soundfile

    rendered = midirenderer.render_wave_from(soundfont.read_bytes(), song.read_bytes())
    return soundfile.read(io.BytesIO(bytes(rendered)))[0].T


ENGINES: dict[str, Engine] = {engine.__name__: engine for engine in (fluidsynth, symusic, tinysoundfont, midirenderer)}


def song_of(events: list[tuple[int, mido.Message]], path: Path) -> Path:
    """Write a MIDI file of one track, with events at ticks, 960 per second."""
    file, track, last = mido.MidiFile(ticks_per_beat=480), mido.MidiTrack(), 0
    for tick, message in sorted(events, key=lambda event: event[0]):
        track.append(message.copy(time=tick - last))
        last = tick
    file.tracks.append(track)
    file.save(path)
    return path


def note(start: int, end: int, pitch: int = 60, velocity: int = 100) -> list[tuple[int, mido.Message]]:
    """A note from one tick to another."""
    on = mido.Message("note_on", note=pitch, velocity=velocity)
    return [(start, on), (end, mido.Message("note_off", note=pitch))]


def control(tick: int, number: int, value: int) -> tuple[int, mido.Message]:
    """Set a controller's value at a tick."""
    return tick, mido.Message("control_change", control=number, value=value)


def measure(engine: Engine, soundfont: Path, folder: Path) -> list[str]:
    """Measure the cells of an engine's row."""
    organ = [(0, mido.Message("program_change", program=ORGAN))]

    def heard(events: list[tuple[int, mido.Message]]) -> np.ndarray:
        return engine(soundfont, song_of(events, folder / "case.mid"))

    def level(audio: np.ndarray, start: float, end: float) -> float:
        part = audio[..., round(start * RATE) : round(end * RATE)]
        return float(10 * np.log10(np.mean(part**2) + 1e-12)) if part.size else -120.0

    def steps(events: list[tuple[int, mido.Message]]) -> str:
        audio = heard(events)
        levels = [level(audio, place + 0.1, place + 0.4) for place in range(len(VALUES))]
        return " ".join(f"{value - levels[-1]:.0f}" for value in levels[:-1])

    struck = [(0, mido.Message("program_change", program=0))]
    cells = [steps(struck + [e for k, v in enumerate(VALUES) for e in note(960 * k, 960 * k + 480, velocity=v)])]
    for number in (7, 11):
        changes = [control(960 * place, number, value) for place, value in enumerate(VALUES)]
        cells.append(steps(organ + changes + [e for k in range(len(VALUES)) for e in note(960 * k, 960 * k + 480)]))
    audio = heard([*organ, control(0, 64, 127), *note(0, 240), control(1440, 64, 0), *note(3800, 3840)])
    cells.append(f"{level(audio, 1.0, 1.4) - level(audio, 0.05, 0.2):.0f}, {level(audio, 2.5, 3.5):.0f}")
    audio = heard([*organ, control(0, 10, 0), *note(0, 480)])
    cells.append(f"{level(audio[0], 0.1, 0.4) - level(audio[1], 0.1, 0.4):.0f}")
    bend = (960, mido.Message("pitchwheel", pitch=8191))
    octave = [control(0, 101, 0), control(0, 100, 0), control(0, 6, 12)]
    audio = heard([*organ, *octave, *note(0, 1920, 69), bend]).sum(axis=0)
    peaks = []
    for start in (0.1, 1.1):
        part = audio[round(start * RATE) : round((start + 0.8) * RATE)]
        peaks.append(np.argmax(np.abs(np.fft.rfft(part * np.hanning(len(part)), 2**18))))
    cells.append(f"{peaks[1] / max(1, peaks[0]):.2f}")
    tone = song_of([*struck, *note(0, 960, KEY)], folder / "tone.mid")
    fonts = [write_soundfont(folder / f"sine.{suffix}") for suffix in ("sf2", "sf3")]
    try:
        plain, compressed = (level(engine(font, tone), 0.1, 0.9) for font in fonts)
        cells.append("yes" if abs(compressed - plain) < 1 else f"no: {compressed - plain:+.0f} dB")
    except RuntimeError:  # it says so
        cells.append("no")
    path = folder / "song.mid"
    write(make_song("drawn", "train", 0, seed=1), path)
    started = time.process_time()
    audio = engine(soundfont, path)
    cells.append(f"{audio.shape[-1] / RATE / (time.process_time() - started):.0f}")
    return cells


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--soundfont", default="TimGM6mb", help="an .sf2 file")
    soundfont = find_soundfont(parser.parse_args().soundfont)
    law = " ".join(f"{40 * np.log10(value / 127):.0f}" for value in VALUES[:-1])
    rows = [
        [
            "",
            "velocity, dB",
            "volume, dB",
            "expression, dB",
            "pedal: held, released",
            "pan, dB",
            "bend by an octave",
            ".sf3",
            "× real time",
        ],
        ["specified", law, law, law, "0, below -80", "above 25", "2.00", "", ""],
    ]
    with tempfile.TemporaryDirectory() as folder:
        for name, engine in ENGINES.items():
            try:
                rows.append([name, *measure(engine, soundfont, Path(folder))])
            except ImportError:
                print(f"{name} is not installed")
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        print("| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |")


if __name__ == "__main__":
    main()
