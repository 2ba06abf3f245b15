"""Single tones from a SoundFont 2 file, band-limited at any sample rate.

The data set "mini" needs General MIDI instruments at exact pitch, with their envelopes, at a low sample rate and
without a system library. This module reads the part of the format (SoundFont Technical Specification 2.04) that static
tones need: zones, looped samples, tuning, the volume envelope, and the low-pass filter, held at the widest opening of
the modulation envelope. Modulators, LFOs, stereo panning and effects are left out. One band-limited resampling brings a
sample to its pitch and to the output rate, so nothing aliases.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np

from gmsdi.errors import UserError

# Generator numbers of section 8.1.2 of the specification.
_START, _END, _LOOP_START, _LOOP_END = 0, 1, 2, 3
_START_COARSE, _END_COARSE, _LOOP_START_COARSE, _LOOP_END_COARSE = 4, 12, 45, 50
_FILTER_CUTOFF, _ENVELOPE_TO_CUTOFF = 8, 11
_DELAY, _ATTACK, _HOLD, _DECAY, _SUSTAIN, _RELEASE = 33, 34, 35, 36, 37, 38
_INSTRUMENT, _KEY_RANGE, _VELOCITY_RANGE, _ATTENUATION = 41, 43, 44, 48
_COARSE_TUNE, _FINE_TUNE, _SAMPLE, _SAMPLE_MODES, _SCALE_TUNING, _ROOT_KEY = 51, 52, 53, 54, 56, 58

_DEFAULTS = {_FILTER_CUTOFF: 13500, _SCALE_TUNING: 100, _ROOT_KEY: -1} | dict.fromkeys(
    (_DELAY, _ATTACK, _HOLD, _DECAY, _RELEASE), -12000
)
# Generators that a preset may not set, because they only make sense with a sample (section 8.5).
_INSTRUMENT_ONLY = {
    _START, _END, _LOOP_START, _LOOP_END, _START_COARSE, _END_COARSE, _LOOP_START_COARSE, _LOOP_END_COARSE,
    _SAMPLE_MODES, _ROOT_KEY,
}  # fmt: skip
_DEEPEST_FALL = 24.0  # dB; a held tone never decays further, so that every note of the score can be heard
_REFERENCE_VELOCITY = 100  # selects the velocity layer of an instrument; loudness is left to the caller


@dataclass(frozen=True)
class Tone:
    """A held tone: `audio`, float32 `[T]`, and `release`, the seconds in which it falls by 100 dB after its end."""

    audio: np.ndarray
    release: float


class SoundFont:
    """A SoundFont 2 file.

    Args:
        path: the `.sf2` file.

    Raises:
        UserError: if the file is missing or is not a SoundFont 2 file.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        try:
            data = self.path.read_bytes()
        except OSError as error:
            raise UserError(f"{path}: SoundFont cannot be read ({error.strerror})") from error
        if data[:4] != b"RIFF" or data[8:12] != b"sfbk":
            raise UserError(f"{path}: not a SoundFont 2 file")
        chunks = dict(_chunks(data, 12, len(data)))
        self._samples = np.frombuffer(chunks["smpl"], "<i2")
        self._headers = _records(chunks["shdr"], "<20sIIIIIBbHH")
        self._presets = {
            (bank, program): index
            for index, (_, program, bank, *_rest) in enumerate(_records(chunks["phdr"], "<20sHHHIII")[:-1])
        }
        self._preset_bags = [bag for _, _, _, bag, *_rest in _records(chunks["phdr"], "<20sHHHIII")]
        self._instrument_bags = [bag for _, bag in _records(chunks["inst"], "<20sH")]
        self._preset_zones = _zones(chunks, "p")
        self._instrument_zones = _zones(chunks, "i")

    def tone(self, bank: int, program: int, key: int, seconds: float, sample_rate: int) -> Tone:
        """Render the tone of preset (`bank`, `program`) at MIDI note `key`, held for `seconds`, at `sample_rate` Hz.

        Drum kits are in bank 128. The result is silent if the preset has no sample for this key.

        Raises:
            UserError: if the SoundFont has no such preset.
        """
        if (bank, program) not in self._presets:
            raise UserError(f"{self.path}: no preset {program} in bank {bank}; choose other programs or kits")
        audio = np.zeros(round(seconds * sample_rate), np.float32)
        release = 0.0
        for generators in self._regions(self._presets[bank, program], key):
            audio += self._voice(generators, key, len(audio), sample_rate)
            release = max(release, _timecents(generators[_RELEASE]))
        return Tone(audio, release)

    def _regions(self, preset: int, key: int) -> Iterator[dict[int, int]]:
        """Generators of each sounding sample: the instrument's values plus the preset's offsets (section 9.4)."""
        for offsets in _applicable(self._preset_zones, self._preset_bags, preset, key, _INSTRUMENT):
            for values in _applicable(
                self._instrument_zones, self._instrument_bags, offsets[_INSTRUMENT], key, _SAMPLE
            ):
                generators = dict.fromkeys(range(60), 0) | _DEFAULTS | values
                for number, offset in offsets.items():
                    if number not in _INSTRUMENT_ONLY and number not in (_INSTRUMENT, _KEY_RANGE, _VELOCITY_RANGE):
                        generators[number] += offset
                yield generators

    def _voice(self, g: dict[int, int], key: int, length: int, sample_rate: int) -> np.ndarray:
        """Render one region, float32 `[length]`."""
        import soxr
        from scipy.signal import butter, sosfilt

        _, start, end, loop_start, loop_end, rate, root, correction, _, _ = self._headers[g[_SAMPLE]]
        start += g[_START] + 32768 * g[_START_COARSE]
        end += g[_END] + 32768 * g[_END_COARSE]
        loop_start += g[_LOOP_START] + 32768 * g[_LOOP_START_COARSE]
        loop_end += g[_LOOP_END] + 32768 * g[_LOOP_END_COARSE]
        root = g[_ROOT_KEY] if g[_ROOT_KEY] >= 0 else root
        cents = (key - root) * g[_SCALE_TUNING] + 100 * g[_COARSE_TUNE] + g[_FINE_TUNE] + correction
        played_rate = rate * 2 ** (cents / 1200)

        needed = int(length / sample_rate * played_rate) + 64
        position = np.arange(needed) + start
        if g[_SAMPLE_MODES] & 1 and loop_end > loop_start:
            position = np.where(
                position < loop_end, position, loop_start + (position - loop_start) % (loop_end - loop_start)
            )
        else:
            position = position[: end - start]
        x = self._samples[position].astype(np.float32) / 32768
        x = soxr.resample(x, played_rate, sample_rate)[:length]
        x = np.pad(x, (0, length - len(x)))
        cutoff = 8.176 * 2 ** ((g[_FILTER_CUTOFF] + max(0, g[_ENVELOPE_TO_CUTOFF])) / 1200)
        if cutoff < 0.45 * sample_rate:
            x = sosfilt(butter(2, cutoff, fs=sample_rate, output="sos"), x).astype(np.float32)
        level = 10 ** (-g[_ATTENUATION] / 200)
        return (level * x * _envelope(g, length, sample_rate)).astype(np.float32)


def _envelope(g: dict[int, int], length: int, sample_rate: int) -> np.ndarray:
    """Volume envelope `[length]` of a held note: delay, linear attack, hold, decay linear in dB, sustain (8.1.2)."""
    seconds = np.arange(length) / sample_rate - _timecents(g[_DELAY])
    attack = max(_timecents(g[_ATTACK]), 1e-3)
    after = seconds - attack - _timecents(g[_HOLD])
    # The decay time is for a fall by 100 dB; it stops at the sustain level, given in units of 0.1 dB below full scale.
    fall = np.clip(100 * after / _timecents(g[_DECAY]), 0, min(_DEEPEST_FALL, max(0, g[_SUSTAIN]) / 10))
    return np.clip(seconds / attack, 0, 1) * 10 ** (-fall / 20)


def _timecents(value: int) -> float:
    return float(2 ** (value / 1200))


def _chunks(data: bytes, position: int, end: int) -> Iterator[tuple[str, bytes]]:
    """The leaf chunks of a RIFF file, including those in LIST chunks."""
    while position + 8 <= end:
        name, size = data[position : position + 4], struct.unpack_from("<I", data, position + 4)[0]
        if name == b"LIST":
            yield from _chunks(data, position + 12, position + 8 + size)
        else:
            yield name.decode("ascii", "replace"), data[position + 8 : position + 8 + size]
        position += 8 + size + size % 2


def _records(data: bytes, layout: str) -> list[tuple]:
    size = struct.calcsize(layout)
    return list(struct.iter_unpack(layout, data[: len(data) // size * size]))


def _zones(chunks: dict[str, bytes], kind: str) -> list[dict[int, int]]:
    """Generators of every zone of the presets ("p") or instruments ("i"); ranges stay packed as low + 256 * high."""
    bags = [first for first, _ in _records(chunks[f"{kind}bag"], "<HH")]
    generators = _records(chunks[f"{kind}gen"], "<Hh")
    return [dict(generators[a:b]) for a, b in pairwise(bags)]


def _applicable(
    zones: list[dict[int, int]], bags: list[int], index: int, key: int, target: int
) -> Iterator[dict[int, int]]:
    """Zones of preset or instrument `index` that sound at `key`, completed with the values of its global zone."""
    shared: dict[int, int] = {}
    for position in range(bags[index], bags[index + 1]):
        zone = zones[position]
        if target not in zone:
            if position == bags[index]:
                shared = zone
            continue
        zone = shared | zone
        if _within(key, zone.get(_KEY_RANGE)) and _within(_REFERENCE_VELOCITY, zone.get(_VELOCITY_RANGE)):
            yield zone


def _within(value: int, packed: int | None) -> bool:
    return packed is None or (packed & 0xFF) <= value <= (packed >> 8 & 0xFF)
