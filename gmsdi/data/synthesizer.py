"""Parts of a song to audio, by FluidSynth.

Of the synthesizers that Python reaches, it alone plays what MIDI files ask for (`benchmarks/synthesizers.py` has the
figures): the loudness of velocities and controllers as the SoundFont specification has it, pedals, pan and bends, and
compressed SoundFonts (.sf3). Its library belongs to the system; `pyfluidsynth` finds it.
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
"""FluidSynth's gain; a part seldom exceeds full scale, and what does is not clipped here."""
_BLOCK = 64  # samples at a time that FluidSynth computes; what happens within takes effect at the next
_DRUM_BANK = 128
_SETTINGS = {
    "synth.reverb.active": 0,
    "synth.chorus.active": 0,
    "synth.polyphony": 512,
    "synth.dynamic-sample-loading": 1,  # only the samples of the programs in use: otherwise an .sf3 decodes all
}
_NAMES = {"timgm6mb": "TimGM6mb.sf2"}


def render_rate(sample_rate: int) -> int:
    """The rate at which to play what is wanted at `sample_rate`.

    FluidSynth does not limit the band of the samples that it plays. At this rate, what lies above half of it (up to
    20 kHz, where SoundFonts end) folds back to above `sample_rate` / 2, and the resampler takes it away.
    """
    return max(22_050, min(44_100, sample_rate // 2 + 20_000))


def play(part: Part, soundfont: str | Path, seconds: float, sample_rate: int) -> np.ndarray:
    """A part's audio, float32 [2, T], of its first `seconds`.

    Its program, and whether it is a drum kit, are the part's. A kit that the SoundFont lacks is played by its first.

    Args:
        part: see `gmsdi.data.midi.read_song`.
        soundfont: an .sf2 or .sf3 file.
        seconds: length of the audio.
        sample_rate: in Hz, see `render_rate`.

    Raises:
        UserError: if FluidSynth is missing, or the SoundFont cannot be loaded or has no such program.
    """
    library = _library()
    # A synthesizer of its own for each part: one that has played before starts its first note differently.
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
        # In whole blocks, since what happens within one takes effect at the next.
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
    """Let the synthesizer go on, into audio[:, start:end]."""
    left, right = (audio[row, start:].ctypes.data for row in (0, 1))
    library.write_float(synth.synth, end - start, left, 0, 1, right, 0, 1)


def find_soundfont(name: str | Path) -> Path:
    """The file of a SoundFont: a path, or "TimGM6mb", which the pretty_midi package carries.

    Raises:
        UserError: if there is no such file, or it is none.
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
    """(seconds, rank at one time, method of the synthesizer, its arguments) in the order of playing.

    At one time notes end before controllers change, and these change before notes begin.
    """
    commands: list[tuple[float, int, str, tuple[int, ...]]] = []
    for onset, end, pitch, velocity in part.notes.tolist():
        commands.append((onset, 2, "noteon", (int(pitch), int(velocity))))
        commands.append((end, 0, "noteoff", (int(pitch),)))
    commands += [(when, 1, "cc", (control, value)) for when, control, value in part.controls]
    commands += [(when, 1, "pitch_bend", (value,)) for when, value in part.bends]
    return sorted(commands, key=lambda command: command[:2])  # stable: controllers stay in their order


@lru_cache(maxsize=1)
def _library() -> Any:
    """pyfluidsynth, with what it lacks: audio in float32, and silence on the terminal."""
    try:
        import fluidsynth
    except ImportError as error:  # of the package, or of the system's library
        raise UserError(
            "FluidSynth is missing, which plays MIDI files: pip install pyfluidsynth, and the library by "
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
