"""Decoding audio files block by block, to one or two channels at another rate; memory does not grow with the length."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from gmsdi.errors import UserError

FULL_SCALE = 32768  # of int16
_BLOCK = 1 << 18  # samples that are decoded at a time; it affects the last bit of samples
# Seconds by which a file may be shorter than its header says, since encoders round and pad lengths differently.
_SLACK = 0.1


class Unreadable(UserError):
    """A track cannot be decoded. The message is the reason, without the track's name."""


def header(path: Path) -> tuple[int, int]:
    """Sample rate in Hz and number of samples of a file, according to its header.

    Raises:
        Unreadable: if the file has no valid header.
    """
    import soundfile

    try:
        info = soundfile.info(path)
    except (soundfile.LibsndfileError, RuntimeError) as error:
        raise Unreadable("not a readable audio file") from error
    return info.samplerate, info.frames


def stream(path: Path, frames: int, source: int, target: int, channels: int = 1) -> Iterator[np.ndarray]:
    """Decode a file block by block, convert it to C channels (`to_channels`), and resample it.

    Args:
        path: the file.
        frames: number of samples, according to its header.
        source: its sample rate, in Hz.
        target: sample rate of the result, in Hz.
        channels: C.

    Yields:
        Consecutive blocks, float32 `[n, C]`; about `frames * target / source` samples in all.

    Raises:
        Unreadable: if the file is damaged, is more than a tenth of a second shorter than its header says, or holds
            samples that are not finite.
    """
    import soundfile
    import soxr

    resampler = None if source == target else soxr.ResampleStream(source, target, channels, dtype="float32")
    read = 0
    try:
        with soundfile.SoundFile(path) as file:
            while len(block := file.read(_BLOCK, dtype="float32", always_2d=True)):
                if not np.isfinite(block).all():
                    raise Unreadable("holds samples that are not finite")
                read += len(block)
                own = to_channels(block, channels)
                yield own if resampler is None else resampler.resample_chunk(own)
    except (soundfile.LibsndfileError, RuntimeError) as error:
        raise Unreadable("damaged, cannot be decoded") from error
    if read < frames - _SLACK * source:
        raise Unreadable(f"ends after {read} of {frames} samples")
    if resampler is not None:
        yield resampler.resample_chunk(np.zeros((0, channels), np.float32), last=True)


def to_channels(audio: np.ndarray, channels: int) -> np.ndarray:
    """Convert audio `[n, any]` to `[n, C]`: one channel is copied to all; if there are others, their mean is."""
    if audio.shape[1] == channels:
        return audio
    mono = audio.mean(axis=1, keepdims=True) if audio.shape[1] > 1 else audio
    return np.repeat(mono, channels, axis=1)
