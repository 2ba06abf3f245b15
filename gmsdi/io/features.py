"""What the front ends of the embeddings share: clips at a network's rate, and mel filters."""

from __future__ import annotations

from typing import Any

import numpy as np

from gmsdi.errors import UserError
from gmsdi.io.arrays import as_array


def clips_at(rate: int, audio: Any, sample_rate: int) -> np.ndarray:
    """Bring clips to a network's sample rate.

    Args:
        rate: Sample rate of the result in Hz.
        audio: Waveforms, `[n, T]`, `[n, C, T]` (averaged to mono) or a single `[T]`; NumPy or torch.
        sample_rate: Sample rate of `audio` in Hz.

    Returns:
        float32 `[n, T']`.

    Raises:
        UserError: if the audio has another shape, is empty, or holds values that are not finite.
    """
    return resample(_mono(audio), sample_rate, rate)


def mel_filters(
    sample_rate: int, n_fft: int, n_mels: int, lowest: float = 0.0, highest: float | None = None
) -> np.ndarray:
    """Triangular filters on the Slaney mel scale, each of unit area over frequency, as librosa's default.

    Args:
        sample_rate: In Hz.
        n_fft: Length of the Fourier transform.
        n_mels: Number of filters.
        lowest: Where the first filter begins, in Hz.
        highest: Where the last filter ends, in Hz; None: the Nyquist frequency.

    Returns:
        float64 `[n_mels, n_fft // 2 + 1]`.
    """
    from transformers.audio_utils import mel_filter_bank

    top = sample_rate / 2 if highest is None else highest
    bank = mel_filter_bank(n_fft // 2 + 1, n_mels, lowest, top, sample_rate, norm="slaney", mel_scale="slaney")
    return np.ascontiguousarray(bank.T)


def resample(audio: np.ndarray, rate: int, new_rate: int) -> np.ndarray:
    """Resample float32 `[n, T]` from `rate` to `new_rate` Hz (band-limited, linear phase)."""
    if rate == new_rate:
        return audio
    import soxr

    return np.stack([soxr.resample(clip, rate, new_rate) for clip in audio]).astype(np.float32, copy=False)


def _mono(audio: Any) -> np.ndarray:
    """Convert audio of any accepted shape to float32 `[n, T]`, and check that it is finite."""
    audio = np.asarray(as_array(audio), dtype=np.float32)
    if audio.ndim == 1:
        audio = audio[None]
    elif audio.ndim == 3:
        audio = audio.mean(1)
    if audio.ndim != 2 or not audio.size:
        raise UserError(f"embedding: audio of shape {audio.shape}; expected [clips, samples]")
    if not np.isfinite(audio).all():
        raise UserError("embedding: the audio holds values that are not finite; check where it was generated")
    return audio
