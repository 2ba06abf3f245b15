"""SoundFonts of one tone, as small as they get, plain (.sf2) and compressed (.sf3)."""

from __future__ import annotations

import io
import struct
from pathlib import Path

import numpy as np
import soundfile

FREQUENCY = 441.0
KEY = 69
"""The key that plays the sine at its own pitch."""
_RATE, _CYCLE = 44_100, 100  # a cycle takes a whole number of samples, so that the loop has no seam


def _chunk(name: bytes, data: bytes) -> bytes:
    return name + struct.pack("<I", len(data)) + data + b"\0" * (len(data) % 2)


def _list(kind: bytes, *chunks: bytes) -> bytes:
    return _chunk(b"LIST", kind + b"".join(chunks))


def write_soundfont(path: Path) -> Path:
    """Write a SoundFont with program 0, a looped sine of half a second; by the suffix, plain or compressed.

    The format is that of the SoundFont Technical Specification 2.04, sections 4 to 7. In an .sf3 file (version 3), a
    sample is an Ogg Vorbis stream, marked by 16 in its type; its start and end count bytes, its loop samples.
    """
    sine = 0.5 * np.sin(2 * np.pi * FREQUENCY * np.arange(_RATE // 2) / _RATE)
    loop = (10 * _CYCLE, 200 * _CYCLE)
    if path.suffix == ".sf3":
        stream = io.BytesIO()
        soundfile.write(stream, sine, _RATE, format="OGG", subtype="VORBIS")
        data, version, kind = stream.getvalue(), 3, 1 | 16
        end = len(data)
    else:
        data, version, kind = (sine * 32767).astype("<i2").tobytes(), 2, 1
        end = len(sine)
        data += bytes(2 * 46)  # the specification asks for 46 zeros after a sample

    def named(name: bytes, form: str, *values: int) -> bytes:
        return struct.pack(f"<20s{form}", name, *values)

    info = _list(
        b"INFO",
        _chunk(b"ifil", struct.pack("<HH", version, 1)),
        _chunk(b"isng", b"EMU8000\0"),
        _chunk(b"INAM", b"Sine\0\0"),
    )
    presets = _list(
        b"pdta",
        _chunk(b"phdr", named(b"Sine", "HHHIII", 0, 0, 0, 0, 0, 0) + named(b"EOP", "HHHIII", 0, 0, 1, 0, 0, 0)),
        _chunk(b"pbag", struct.pack("<4H", 0, 0, 1, 0)),
        _chunk(b"pmod", bytes(10)),
        _chunk(b"pgen", struct.pack("<4H", 41, 0, 0, 0)),  # 41: the instrument
        _chunk(b"inst", named(b"Sine", "H", 0) + named(b"EOI", "H", 1)),
        _chunk(b"ibag", struct.pack("<4H", 0, 0, 2, 0)),
        _chunk(b"imod", bytes(10)),
        _chunk(b"igen", struct.pack("<6H", 54, 1, 53, 0, 0, 0)),  # 54: it is looped; 53: the sample
        _chunk(
            b"shdr",
            named(b"Sine", "IIIIIBbHH", 0, end, *loop, _RATE, KEY, 0, 0, kind)
            + named(b"EOS", "IIIIIBbHH", 0, 0, 0, 0, 0, 0, 0, 0, 0),
        ),
    )
    path.write_bytes(_chunk(b"RIFF", b"sfbk" + info + _list(b"sdta", _chunk(b"smpl", data)) + presets))
    return path
