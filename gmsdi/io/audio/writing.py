"""Audio that is written: formats, and files that appear together when they are complete."""

from __future__ import annotations

import io
import math
import os
import warnings
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gmsdi.errors import UserError
from gmsdi.io.audio.signals import Audio, Samples, named
from gmsdi.io.files import together

FORMATS: dict[str, dict[str, str]] = {
    "wav": {"float": "FLOAT", "24": "PCM_24", "16": "PCM_16"},
    "flac": {"16": "PCM_16", "24": "PCM_24"},
    "mp3": {"": "MPEG_LAYER_III"},
}
"""Formats that are written, each with its bits, the usual ones first, and what libsndfile calls them."""


@dataclass(frozen=True)
class Encoding:
    """How audio is written.

    Attributes:
        format: "wav", "flac" or "mp3".
        bits: "float", "24" or "16" of a WAV, "24" or "16" of a FLAC; None is float of a WAV and 16 of a FLAC.

    Raises:
        UserError: for another format, or bits that it does not have.
    """

    format: str = "wav"
    bits: str | None = None

    def __post_init__(self) -> None:
        if self.format not in FORMATS:
            raise UserError(f"format is {self.format!r}; choose {', '.join(FORMATS)}")
        known = FORMATS[self.format]
        if self.bits is not None and self.bits not in known:
            choice = "leave them out" if "" in known else f"choose {' or '.join(known)}"
            raise UserError(f"bits are {self.bits!r}, which {self.format} does not have; {choice}")

    @staticmethod
    def of(path: Path, bits: str | None = None) -> Encoding:
        """That of a file name.

        Raises:
            UserError: for another suffix.
        """
        if path.suffix.lstrip(".") not in FORMATS:
            raise UserError(f"{path}: audio is written as {', '.join(f'.{name}' for name in FORMATS)}")
        return Encoding(path.suffix.lstrip("."), bits)

    @property
    def subtype(self) -> str:
        """Libsndfile's name."""
        known = FORMATS[self.format]
        return known[next(iter(known)) if self.bits is None else self.bits]

    def size(self, frames: int, sample_rate: int, channels: int) -> int:
        """Bytes of a file at most."""
        if self.format == "mp3":
            return 40_000 * math.ceil(frames / sample_rate)  # of 320 kbit/s
        return frames * channels * {"FLOAT": 4, "PCM_24": 3, "PCM_16": 2}[self.subtype] + 4096

    def require(self, sample_rate: int, channels: int, name: str) -> None:
        """Try to write a moment of silence into memory.

        Raises:
            UserError: if the format has no such rate, or not so many channels.
        """
        import soundfile

        if sample_rate == 0 or channels == 0:
            return
        try:
            blank = np.zeros((16, channels), np.float32)
            soundfile.write(io.BytesIO(), blank, sample_rate, format=self.format.upper(), subtype=self.subtype)
        except (soundfile.LibsndfileError, RuntimeError, ValueError) as error:
            raise UserError(
                f"{name}: {self.format} cannot hold {channels} channels at {sample_rate} Hz; write wav, or resample it"
            ) from error


@dataclass(frozen=True)
class Target:
    """A file of audio that is to be written.

    Attributes:
        path: where.
        sample_rate: in Hz.
        channels: their number.
        frames: samples of a channel, about.
        title: what it says that it is; None says nothing.
        mark: how it is known again, see `mark_of`.
    """

    path: Path
    sample_rate: int
    channels: int
    frames: int
    title: str | None = None
    mark: str | None = None


@contextmanager
def writing(targets: Sequence[Target], encoding: Encoding) -> Iterator[list[Callable[[Samples], None]]]:
    """Files that appear together when all are complete: functions that take their blocks `[C, n]`. Warns if one clips.

    A WAV of more than 4 GB is written as RF64.

    Raises:
        UserError: if a place cannot be written to.
    """
    with together([target.path for target in targets]) as temporaries, ExitStack() as stack:
        yield [
            stack.enter_context(_encoded(temporary, target, encoding))
            for temporary, target in zip(temporaries, targets, strict=True)
        ]


@contextmanager
def _encoded(temporary: Path, target: Target, encoding: Encoding) -> Iterator[Callable[[Samples], None]]:
    """One of the files, under its temporary name."""
    import soundfile

    large = encoding.format == "wav" and encoding.size(target.frames, target.sample_rate, target.channels) > 4e9
    container = "RF64" if large else encoding.format.upper()
    peak, scale = 0.0, {"PCM_16": 1 << 15, "PCM_24": 1 << 23}.get(encoding.subtype)

    def write(samples: Samples) -> None:
        nonlocal peak
        peak = max(peak, float(np.abs(samples).max(initial=0)))
        data: NDArray = samples.T
        if scale is not None:  # whole steps, so that what was read from such a file comes back bit for bit
            steps = np.clip(np.rint(data * float(scale)), -scale, scale - 1).astype(np.int32)
            data = steps.astype(np.int16) if scale == 1 << 15 else steps << 8
        file.write(data)

    try:
        with soundfile.SoundFile(
            named(temporary), "w", target.sample_rate, target.channels, subtype=encoding.subtype, format=container
        ) as file:
            for key, text in (("title", target.title), ("comment", target.mark)):
                if text is not None:
                    setattr(file, key, text)
            yield write
    except soundfile.LibsndfileError as error:
        raise UserError(f"{target.path}: cannot be written ({str(error).rstrip('.')}); is the disk full?") from error
    _timeless(temporary)
    if peak > 1 and encoding.subtype != "FLOAT":
        warnings.warn(f"{target.path.name} clips (peak {peak:.2f}); write WAV in float to keep it", stacklevel=3)


def _timeless(path: Path) -> None:
    """Take out the time that libsndfile puts beside the peaks of a WAV in float: same samples, same bytes."""
    with path.open("r+b") as file:
        head = file.read(12)
        if head[:4] not in (b"RIFF", b"RF64") or head[8:] != b"WAVE":
            return
        while len(chunk := file.read(8)) == 8 and chunk[:4] != b"data":
            length = int.from_bytes(chunk[4:], "little")
            if chunk[:4] == b"PEAK":  # version, time, then the peaks
                file.seek(4, io.SEEK_CUR)
                file.write(bytes(4))
                return
            file.seek(length + length % 2, io.SEEK_CUR)


def mark_of(song: str | Path) -> str:
    """What a song's stems are marked with: its name, in a form that every format can hold."""
    return f"gmsdi: part of {zlib.crc32(os.fsencode(Path(song).name)):08x}"


def marked(path: Path) -> str | None:
    """What a file is marked with; None if it is not."""
    import soundfile

    try:
        with soundfile.SoundFile(named(path)) as file:
            return str(file.comment) or None
    except (soundfile.LibsndfileError, RuntimeError, TypeError):
        return None


def write(path: str | Path, audio: Audio, *, bits: str | None = None) -> Path:
    """Write a WAV, FLAC or MP3 file, by its suffix; it appears when it is complete. Warns if it clips.

    Raises:
        UserError: for another suffix, if the format cannot hold the audio, or the place cannot be written to.
    """
    (path,) = write_all({Path(path): audio}, Encoding.of(Path(path), bits))
    return path


def write_all(files: Mapping[Path, Audio], encoding: Encoding) -> list[Path]:
    """Write several, of one format; all of them appear, or none does.

    Raises:
        UserError: see `write`.
    """
    targets = []
    for path, audio in files.items():
        channels, frames = audio.samples.shape
        encoding.require(audio.sample_rate, channels, str(path))
        targets.append(Target(path, audio.sample_rate, channels, frames))
    with writing(targets, encoding) as add:
        for put, audio in zip(add, files.values(), strict=True):
            put(audio.samples)
    return list(files)
