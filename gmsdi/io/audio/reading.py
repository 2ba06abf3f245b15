"""Audio that is read block by block: files, and arrays in the same way."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike

from gmsdi.errors import UserError
from gmsdi.io.audio.checks import amplitudes, checked, require_rate
from gmsdi.io.audio.completeness import fault_of, missing_share
from gmsdi.io.audio.ffmpeg import CONTAINERS, decode
from gmsdi.io.audio.signals import BLOCK, Audio, Samples, named

SUFFIXES = (".aif", ".aiff", ".au", ".caf", ".flac", ".mp3", ".oga", ".ogg", ".w64", ".wav", *CONTAINERS)
"""Suffixes by which a folder's audio files are known."""
_SLACK = 0.1  # seconds by which a file may end before its header says: encoders round and pad lengths in their own ways
_FLOATS = ("FLOAT", "DOUBLE")
"""Subtypes of files that can hold NaN. These are read when they are opened, so that no model is loaded in vain;
with nothing to decode, that takes 0.1 s for five minutes in stereo."""


@dataclass(frozen=True)
class Source:
    """Audio that can be read any number of times, from its beginning to its end, in little memory if it is a file.

    Attributes:
        name: for messages.
        sample_rate: in Hz.
        channels: their number.
        frames: samples of a channel; of a file, as its header says.
        blocks: starts to read: an iterator of float32 `[C, n]`, all finite.
    """

    name: str
    sample_rate: int
    channels: int
    frames: int
    blocks: Callable[[], Iterator[Samples]]

    @property
    def seconds(self) -> float:
        """The length."""
        return self.frames / self.sample_rate

    def whole(self) -> Audio:
        """All of it."""
        return Audio(np.concatenate(list(self.blocks()), axis=1), self.sample_rate)


def opened(path: str | Path) -> Source:
    """An audio file: what libsndfile knows (FLAC, WAV, OGG, MP3, ...), and with ffmpeg on the PATH other containers.

    Raises:
        UserError: if it cannot be read, is empty, is cut off by what its header says, or holds NaN or infinite samples;
            while it is read, also if it is damaged further on.
    """
    import soundfile

    path = Path(path)
    try:
        status = None if str(path) == "-" else os.stat(path)
    except (OSError, ValueError) as error:
        reason = "no such audio file" if isinstance(error, FileNotFoundError) else getattr(error, "strerror", error)
        raise UserError(f"{path}: {reason}") from error
    if status is None or stat.S_ISFIFO(mode := status.st_mode):
        raise UserError(f"{path}: a pipe, which cannot be read twice; save it to a file first")
    if stat.S_ISDIR(mode):
        raise UserError(f"{path}: a folder, where an audio file is expected")
    if not stat.S_ISREG(mode):
        raise UserError(f"{path}: a device, where an audio file is expected; save what it holds to a file first")
    if not status.st_size:
        raise UserError(f"{path}: an empty file; fetch it again")
    try:
        info = soundfile.info(named(path))
    except (soundfile.LibsndfileError, RuntimeError, TypeError) as error:
        return _unchanged(_by_ffmpeg(path, error), status)
    rate, frames = require_rate(info.samplerate, str(path)), info.frames
    if frames == 0:  # of an Ogg file that is cut off, libsndfile finds none
        fault = fault_of(path, info) if info.format == "OGG" else None
        raise UserError(f"{path}: {fault}; fetch it again" if fault else f"{path}: holds no audio")
    if (missing := missing_share(path)) * frames > _SLACK * rate:
        raise UserError(f"{path}: {missing:.0%} of what its header says is missing: it is cut off; fetch it again")
    if fault := fault_of(path, info):
        raise UserError(f"{path}: {fault}; fetch it again")

    def blocks() -> Iterator[Samples]:
        read = 0
        try:
            with soundfile.SoundFile(named(path)) as file:
                while len(block := file.read(BLOCK, dtype="float32", always_2d=True)):
                    yield checked(block.T, str(path), rate, read)
                    read += len(block)
        except (soundfile.LibsndfileError, RuntimeError) as error:
            raise UserError(f"{path}: damaged, it cannot be decoded after {read / rate:.1f} s") from error
        if read < frames - _SLACK * rate:
            raise UserError(
                f"{path}: ends after {read / rate:.1f} of {frames / rate:.1f} s: it is cut off; fetch it again"
            )

    if info.subtype in _FLOATS:
        for _ in blocks():
            pass
    return _unchanged(Source(str(path), rate, info.channels, frames, blocks), status)


def _unchanged(source: Source, status: os.stat_result) -> Source:
    """A file that is refused, whenever it is read, once it is no longer what was checked.

    What is known of it, such as its rate, would be that of another song, and so would a part of its stems.

    Args:
        source: the file.
        status: of the file when it was checked.
    """

    def require_same() -> None:
        try:
            now = os.stat(source.name)
        except OSError as error:
            raise UserError(f"{source.name}: {error.strerror}, though it was there before") from error
        if (now.st_size, now.st_mtime_ns) != (status.st_size, status.st_mtime_ns):
            raise UserError(f"{source.name}: was changed in the meantime; run again when nothing else writes to it")

    def blocks() -> Iterator[Samples]:
        require_same()
        yield from source.blocks()
        require_same()

    return replace(source, blocks=blocks)


def _by_ffmpeg(path: Path, error: Exception) -> Source:
    """A file that libsndfile does not know; it is decoded anew whenever it is read, and once to know its length."""
    decoded = decode(path, error)
    declared, channels = next(decoded)
    rate = require_rate(declared, str(path))

    def valid(decoded: Iterator[Samples]) -> Iterator[Samples]:
        read = 0
        for block in decoded:
            yield checked(block, str(path), rate, read)
            read += block.shape[1]

    def blocks() -> Iterator[Samples]:
        again = decode(path, error)
        next(again)
        return valid(again)

    frames = sum(block.shape[1] for block in valid(decoded))
    if frames == 0:
        raise UserError(f"{path}: holds no audio")
    return Source(str(path), rate, channels, frames, blocks)


def as_source(source: str | Path | Audio | Source | ArrayLike, sample_rate: int | None, name: str = "audio") -> Source:
    """A file, `Audio`, or an array `[T]` or `[C, T]` with its sample rate, to be read block by block.

    Integers are taken for fractions of full scale, as audio files have them: int16 for 32768ths.

    Raises:
        UserError: as `opened`, and if an array comes without a sample rate, of another number of axes or type.
    """
    if isinstance(source, Source):
        return source
    if isinstance(source, str | Path):
        return opened(source)
    array = source.samples if isinstance(source, Audio) else source
    given = source.sample_rate if isinstance(source, Audio) else sample_rate
    if given is None:
        raise UserError(f"{name}: an array needs its sample_rate")
    rate = require_rate(given, name)
    samples = amplitudes(array, name, rate)

    def blocks() -> Iterator[Samples]:
        for start in range(0, samples.shape[1], BLOCK):
            yield samples[:, start : start + BLOCK]

    return Source(name, rate, len(samples), samples.shape[1], blocks)


def read(path: str | Path) -> Audio:
    """All of an audio file.

    Raises:
        UserError: see `opened`.
    """
    return opened(path).whole()
