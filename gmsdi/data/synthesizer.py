"""Rendering the parts of a song to audio with FluidSynth.

Of the four synthesizers that `benchmarks/synthesizers.py` compares, two follow velocity, volume, expression, the pedal,
pan and bends about as the SoundFont specification asks, and of these only FluidSynth also reads compressed SoundFonts
(.sf3); the table is in docs/bundled_training.md. Its library is installed on the system and found by `pyfluidsynth`.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from gmsdi.data.midi import Part
from gmsdi.errors import UserError

GAIN = 0.5
"""FluidSynth's gain. Parts seldom exceed full scale, and are not clipped here if they do."""
_BLOCK = 64  # samples that FluidSynth computes at a time; events take effect at the next block
_DRUM_BANK = 128
_SETTINGS = {
    "synth.reverb.active": 0,
    "synth.chorus.active": 0,
    "synth.polyphony": 512,
    "synth.dynamic-sample-loading": 1,  # load only the samples of programs in use; otherwise all of an .sf3 is decoded
}
_NAMES = {"timgm6mb": "TimGM6mb.sf2"}


def render_rate(sample_rate: int) -> int:
    """The rate at which to render audio that is wanted at `sample_rate`.

    FluidSynth does not band-limit the samples that it plays. At this rate, frequencies above half of it (up to 20 kHz,
    where SoundFonts end) fold back to above `sample_rate` / 2, where the resampler removes them.
    """
    return max(22_050, min(44_100, sample_rate // 2 + 20_000))


def play(part: Part, soundfont: str | Path, seconds: float, sample_rate: int) -> np.ndarray:
    """Render the first `seconds` of a part, float32 `[2, T]`.

    If the SoundFont lacks the part's drum kit, its first kit is used.

    Args:
        part: see `gmsdi.data.midi.read_song`.
        soundfont: an .sf2 or .sf3 file.
        seconds: length of the audio.
        sample_rate: in Hz, see `render_rate`.

    Raises:
        UserError: if FluidSynth is missing, or the SoundFont cannot be loaded or has no such program.
    """
    library = _library()
    # Each part has its own synthesizer, since one that has played before starts its first note differently.
    synth = library.Synth(gain=GAIN, samplerate=float(sample_rate), channels=16)
    try:
        for setting, value in _SETTINGS.items():
            synth.setting(setting, value)
        font = synth.sfload(str(soundfont))
        if font < 0:
            raise UserError(f"{soundfont}: not a SoundFont that FluidSynth can read (.sf2, .sf3)")
        bank = _DRUM_BANK if part.drums else 0
        if synth.program_select(0, font, bank, part.program) != 0 and (
            not part.drums or synth.program_select(0, font, bank, 0) != 0
        ):
            kind = "drum kit" if part.drums else "program"
            raise UserError(f"{soundfont}: has no {kind} {part.program}; choose other programs or another SoundFont")
        length = round(seconds * sample_rate)
        # In whole blocks, since events take effect only at the next block.
        audio = np.zeros((2, -(-length // _BLOCK) * _BLOCK), np.float32)
        at = 0
        for when, _, command, arguments in _commands(part):
            until = round(when * sample_rate / _BLOCK) * _BLOCK
            if until >= audio.shape[1]:
                break
            if until > at:
                _fill(library, synth, audio, at, until)
                at = until
            getattr(synth, command)(0, *arguments)
        _fill(library, synth, audio, at, audio.shape[1])
        return audio[:, :length]
    finally:
        synth.delete()


def _fill(library: Any, synth: Any, audio: np.ndarray, start: int, end: int) -> None:
    """Let the synthesizer continue, into audio[:, start:end]."""
    left, right = (audio[row, start:].ctypes.data for row in (0, 1))
    library.write_float(synth.synth, end - start, left, 0, 1, right, 0, 1)


def find_soundfont(name: str | Path) -> Path:
    """Find the file of a SoundFont: a path, or "TimGM6mb", which comes with the pretty_midi package.

    Raises:
        UserError: if there is no such file, or it is not a SoundFont.
    """
    if str(name).lower() in _NAMES:
        from gmsdi.data.mini import default_soundfont

        return Path(default_soundfont())
    path = Path(name).expanduser()
    if not path.is_file():
        raise UserError(f"{name}: no such SoundFont; name an .sf2 or .sf3 file, or TimGM6mb")
    with path.open("rb") as file:
        head = file.read(12)
    if head[:4] != b"RIFF" or head[8:12] != b"sfbk":
        raise UserError(f"{name}: not a SoundFont (.sf2, .sf3)")
    return path


def _commands(part: Part) -> Sequence[tuple[float, int, str, tuple[int, ...]]]:
    """Commands as (seconds, rank, method of the synthesizer, its arguments), in the order of playing.

    At the same time, notes end first, then controllers change, and then notes begin.
    """
    commands: list[tuple[float, int, str, tuple[int, ...]]] = []
    for onset, end, pitch, velocity in part.notes.tolist():
        commands.append((onset, 2, "noteon", (int(pitch), int(velocity))))
        commands.append((end, 0, "noteoff", (int(pitch),)))
    commands += [(when, 1, "cc", (control, value)) for when, control, value in part.controls]
    commands += [(when, 1, "pitch_bend", (value,)) for when, value in part.bends]
    return sorted(commands, key=lambda command: command[:2])  # stable: controllers keep their order


@lru_cache(maxsize=1)
def _library() -> Any:
    """Import pyfluidsynth and add what it lacks: audio in float32, and silence on the terminal."""
    try:
        import fluidsynth
    except ImportError as error:  # the package or the system's library is missing
        raise UserError(
            "FluidSynth, which plays MIDI files, is missing: pip install pyfluidsynth, and install the library with "
            "apt-get install libfluidsynth3, brew install fluid-synth, or conda install -c conda-forge fluidsynth"
        ) from error
    pointer, number = ctypes.c_void_p, ctypes.c_int
    write = {"synth": pointer, "length": number, "left": pointer, "left_offset": number, "left_step": number}
    write |= {"right": pointer, "right_offset": number, "right_step": number}
    fluidsynth.write_float = fluidsynth.cfunc("fluid_synth_write_float", number, *((k, v, 1) for k, v in write.items()))
    log = {"level": number, "function": pointer, "data": pointer}
    silence = fluidsynth.cfunc("fluid_set_log_function", pointer, *((k, v, 1) for k, v in log.items()))
    for level in range(5):
        silence(level, None, None)
    return fluidsynth
