"""Whether a file is complete, as far as its bytes tell without decoding it."""

from __future__ import annotations

import io
import zlib
from pathlib import Path
from typing import Any, BinaryIO, Literal, TypeAlias

from gmsdi.io.audio.signals import named

Order: TypeAlias = Literal["little", "big"]
_MIRRORED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))  # bytes with their bits from the other end


def missing_share(path: Path) -> float:
    """The share of a file that is missing by what its header says; 0 if it does not say.

    For WAV, RF64, W64, AIFF, AU, and MP3 with the header of an encoder.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(40)
        kind, form = head[:4], head[8:12]
        if kind in (b"RIFF", b"RF64", b"BW64") and form == b"WAVE":
            return _missing_data(file, size, start=12, id=4, length=4, order="little")
        if kind == b"FORM" and form in (b"AIFF", b"AIFC"):
            return _missing_data(file, size, start=12, id=4, length=4, order="big")
        if kind == b"riff" and head[24:28] == b"wave":
            return _missing_data(file, size, start=40, id=16, length=8, order="little")
        if kind in (b".snd", b"dns."):
            order: Order = "big" if kind == b".snd" else "little"
            start, length = (int.from_bytes(head[at : at + 4], order) for at in (4, 8))
            return _share(size - start, length, 4)
        start = 0
        if head[:3] == b"ID3":
            start = 10 + sum((byte & 0x7F) << shift for byte, shift in zip(head[6:10], (21, 14, 7, 0), strict=True))
        file.seek(start)
        frame = file.read(512)
    for mark in (b"Xing", b"Info"):  # of the first frame of an MP3: flags, frames, bytes
        place = frame.find(mark)
        if place >= 0 and frame[:1] == b"\xff" and frame[place + 7] & 3 == 3:
            return max(0.0, 1 - (size - start) / max(1, int.from_bytes(frame[place + 12 : place + 16], "big")))
    return 0.0


def _missing_data(file: BinaryIO, size: int, *, start: int, id: int, length: int, order: Order) -> float:
    """The same of a file of chunks, by the one with the samples.

    Args:
        file: the file.
        size: of it, in bytes.
        start: of the first chunk.
        id: bytes of a chunk's name.
        length: bytes of its length. Of 8 bytes, it counts the chunk's head, too.
        order: of these bytes.
    """
    large = 0  # what an RF64 says in place of its data's length, which has too few bytes
    file.seek(start)
    while len(head := file.read(id + length)) == id + length:
        name, body = head[:4], int.from_bytes(head[id:], order) - (id + length if length == 8 else 0)
        if name == b"ds64":
            large = int.from_bytes(file.read(16)[8:], order)
            file.seek(-16, io.SEEK_CUR)
        elif name in (b"data", b"SSND"):
            return _share(size - file.tell(), large or body, 8 if large else length)
        if body < 0:
            break
        file.seek(body + -body % length if length == 8 else body + body % 2, io.SEEK_CUR)
    return 0.0


def _share(there: int, declared: int, bytes: int) -> float:
    """The share that is missing. A length that was not known when a file was begun is 0 or the highest of its bytes."""
    known = 0 < declared < (1 << 8 * bytes - 1 if bytes == 8 else 0xFFFF0000)
    return max(0.0, 1 - there / declared) if known else 0.0


def fault_of(path: Path, info: Any) -> str | None:
    """What is wrong with an Ogg or FLAC file, as far as can be told without decoding it."""
    if info.format == "OGG":
        return _ogg_fault(path)
    if info.format == "FLAC":
        import soundfile

        try:
            with soundfile.SoundFile(named(path)) as file:
                file.seek(info.frames - 1)
                there = len(file.read(1)) == 1
        except (soundfile.LibsndfileError, RuntimeError):
            there = False
        return None if there else "has no end: it is cut off or damaged"
    return None


def _ogg_fault(path: Path) -> str | None:
    """The same of an Ogg file, page by page (RFC 3533): each has a checksum, and the last says that it is the last."""
    with path.open("rb") as file:
        last = False
        while head := file.read(27):
            if head[:4] != b"OggS":
                if last:  # a tag after the end
                    break
                return "is damaged"
            lengths = file.read(head[26] if len(head) == 27 else 0)
            body = file.read(sum(lengths))
            if len(head) < 27 or len(lengths) < head[26] or len(body) < sum(lengths):
                return "has no end: it is cut off"
            page = (head[:22] + bytes(4) + head[26:] + lengths + body).translate(_MIRRORED)
            # Of the same polynomial as that of zlib, which begins and ends with all bits set, and from the other end.
            checksum = (zlib.crc32(page, 0xFFFFFFFF) ^ 0xFFFFFFFF).to_bytes(4, "big").translate(_MIRRORED)
            if checksum != head[22:26]:
                return "is damaged"
            last = bool(head[5] & 4)
    return None if last else "has no end: it is cut off"
