"""Audio as arrays and files: reading, checking, resampling, writing."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gmsdi.errors import UserError
from gmsdi.io.files import atomic

Samples: TypeAlias = NDArray[np.float32]
FORMATS = {".flac": "PCM_16", ".wav": "FLOAT"}
"""Suffixes that can be written, and how: FLAC with 16 bits, WAV with 32-bit floats."""


@dataclass(frozen=True)
class Audio:
    """A signal.

    Attributes:
        samples: float32 `[C, T]`, full scale is ±1.
        sample_rate: in Hz.
    """

    samples: Samples
    sample_rate: int


def read(path: str | Path) -> Audio:
    """Read an audio file (whatever libsndfile knows: FLAC, WAV, OGG, MP3, ...).

    Raises:
        UserError: if it cannot be read, is empty, or holds NaN or infinite samples.
    """
    import soundfile

    if not Path(path).is_file():
        raise UserError(f"{path}: no such audio file")
    try:
        samples, sample_rate = soundfile.read(path, dtype="float32", always_2d=True)
    except (soundfile.LibsndfileError, RuntimeError) as error:
        raise UserError(f"{path}: not a readable audio file ({str(error).rstrip('.')}); is it damaged?") from error
    return Audio(checked(samples.T, str(path)), sample_rate)


def as_audio(source: str | Path | Audio | ArrayLike, sample_rate: int | None, name: str = "audio") -> Audio:
    """A file, or an array `[T]` or `[C, T]` with its sample rate, as `Audio`.

    Raises:
        UserError: as `read`, and if an array comes without a sample rate or has another number of axes.
    """
    if isinstance(source, Audio):
        return Audio(checked(source.samples, name), source.sample_rate)
    if isinstance(source, str | Path):
        return read(source)
    if sample_rate is None:
        raise UserError(f"{name}: an array needs its sample_rate")
    return Audio(checked(np.atleast_2d(np.asarray(source, dtype=np.float32)), name), sample_rate)


def checked(samples: NDArray[np.floating], name: str) -> Samples:
    """`samples` as float32 `[C, T]`.

    Raises:
        UserError: if there are none, or they are not all finite.
    """
    if samples.ndim != 2 or samples.size == 0:
        raise UserError(f"{name}: holds no audio (shape {samples.shape}; channels x samples are expected)")
    if not np.isfinite(samples).all():
        raise UserError(f"{name}: holds NaN or infinite samples; repair or exclude it")
    return np.ascontiguousarray(samples, dtype=np.float32)


def resample(samples: Samples, source: int, target: int) -> Samples:
    """Resample `[C, T]` from `source` to `target` Hz."""
    if source == target:
        return samples
    import soxr

    return np.ascontiguousarray(soxr.resample(samples.T, source, target, quality="VHQ").T)


def fit(samples: Samples, length: int) -> Samples:
    """Crop `[C, T]` or pad it with zeros to `length` samples."""
    return np.pad(samples[:, :length], ((0, 0), (0, max(0, length - samples.shape[1]))))


def to_int16(samples: Samples) -> NDArray[np.int16]:
    """16-bit samples, the inverse of reading a 16-bit file: those come back bit for bit. Beyond ±1 they are clipped."""
    return np.clip(np.rint(samples * 32768.0), -32768, 32767).astype(np.int16)


def rounded(samples: Samples) -> Samples:
    """What a 16-bit file would keep of `samples`."""
    return to_int16(samples).astype(np.float32) / np.float32(32768)


def write(path: str | Path, audio: Audio) -> Path:
    """Write a FLAC or WAV file, which appears when it is complete. Warns if 16 bits clip.

    Raises:
        UserError: for another suffix, or if the place cannot be written to.
    """
    import soundfile

    path = Path(path)
    if path.suffix not in FORMATS:
        raise UserError(f"{path}: audio is written as {' or '.join(FORMATS)}")
    data: NDArray = audio.samples
    if FORMATS[path.suffix] == "PCM_16":
        peak = float(np.abs(data).max())
        if peak > 1:
            warnings.warn(f"{path.name} clips (peak {peak:.2f}); write WAV to keep it", stacklevel=2)
        data = to_int16(audio.samples)
    with atomic(path) as temporary:
        soundfile.write(temporary, data.T, audio.sample_rate, subtype=FORMATS[path.suffix])
    return path
