"""Signals in memory: their rate, their length, and the steps of 16-bit files."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Samples: TypeAlias = NDArray[np.float32]
BLOCK = 1 << 18
"""Samples of a channel that are read at a time."""


@dataclass(frozen=True)
class Audio:
    """A signal.

    Attributes:
        samples: float32 `[C, T]`, full scale is ±1.
        sample_rate: in Hz.
    """

    samples: Samples
    sample_rate: int


def named(path: Path) -> str | bytes:
    """A file's name as soundfile takes it, also one that is no text, as in archives of old Windows."""
    return os.fsencode(path) if os.name == "posix" else str(path)


def resample(samples: Samples, source: int, target: int) -> Samples:
    """Resample `[C, T]` from `source` to `target` Hz."""
    if source == target:
        return samples
    import soxr

    return np.ascontiguousarray(soxr.resample(samples.T, source, target, quality="VHQ").T)


def resampled(blocks: Iterable[Samples], source: int, target: int, channels: int) -> Iterator[Samples]:
    """The same of a signal that comes in blocks `[C, n]`; the result is that of the whole, bit for bit."""
    if source == target:
        yield from blocks
        return
    import soxr

    stream = soxr.ResampleStream(source, target, channels, dtype="float32", quality="VHQ")
    for block in blocks:
        yield np.ascontiguousarray(stream.resample_chunk(np.ascontiguousarray(block.T)).reshape(-1, channels).T)
    rest = stream.resample_chunk(np.zeros((0, channels), np.float32), last=True)
    yield np.ascontiguousarray(rest.reshape(-1, channels).T)


def fit(samples: Samples, length: int) -> Samples:
    """Crop `[C, T]` or pad it with zeros to `length` samples."""
    return np.pad(samples[:, :length], ((0, 0), (0, max(0, length - samples.shape[1]))))


def to_int16(samples: Samples) -> NDArray[np.int16]:
    """16-bit samples, the inverse of reading a 16-bit file: those come back bit for bit. Beyond ±1 they are clipped."""
    return np.clip(np.rint(samples * 32768.0), -32768, 32767).astype(np.int16)


def rounded(samples: Samples) -> Samples:
    """`samples` in whole steps of a 16-bit file, which keeps them bit for bit within ±1."""
    return np.rint(samples * np.float32(32768)) / np.float32(32768)
