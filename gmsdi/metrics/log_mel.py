"""Log-Mel L1: how far the spectrum of an estimate is from its target's, whatever their phases.

SI-SDR compares waveforms, sample by sample, so that an autoencoder which changes phases has a low score even where its
stems sound like the targets. Works on latent models therefore report Log-Mel L1; their papers do not give its settings,
and it depends on them. Those here are our own: magnitudes of Fourier transforms over 64 ms every 10 ms, averaged in 64
bands of the Slaney mel scale up to half the sample rate, with a floor of -80 dB relative to full scale, in natural
logarithms. A difference of 1 is thus a factor of e, 8.7 dB. Values at different sample rates do not compare.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np

from gmsdi.io.arrays import as_array
from gmsdi.io.features import mel_filters

WINDOW, HOP = 0.064, 0.01  # seconds
BANDS = 64  # fewer at sample rates of less than 8 kHz, where they would be narrower than the transform's bins
FLOOR = 1e-4


def log_mel_l1(estimate: Any, target: Any, sample_rate: int) -> np.ndarray:
    """The mean of |ln max(M(e), floor) − ln max(M(t), floor)| over frames and bands.

    Args:
        estimate: `[..., T]`, NumPy or torch.
        target: the same.
        sample_rate: in Hz.

    Returns:
        `[...]`; 0 is a perfect estimate.
    """
    return np.abs(_log_mel(estimate, sample_rate) - _log_mel(target, sample_rate)).mean(axis=(-2, -1))


def _log_mel(audio: Any, sample_rate: int) -> np.ndarray:
    """Logarithms of the mean magnitudes in each band, `[..., frames, bands]`; a sine of amplitude 1 has magnitude 1."""
    signal = np.asarray(as_array(audio), dtype=np.float64)
    size, hop = _samples(sample_rate)
    missing = max(0, size - signal.shape[-1])
    padded = np.pad(signal, [(0, 0)] * (signal.ndim - 1) + [(0, missing)])
    window = np.hanning(size + 1)[:-1]
    frames = np.lib.stride_tricks.sliding_window_view(padded, size, axis=-1)[..., ::hop, :]
    magnitudes = np.abs(np.fft.rfft(frames * window)) * (2 / window.sum())
    return np.log(np.maximum(magnitudes @ _bands(sample_rate).T, FLOOR))


def _samples(sample_rate: int) -> tuple[int, int]:
    """Samples of a frame, at least 16, and from one to the next."""
    return max(16, round(WINDOW * sample_rate)), max(1, round(HOP * sample_rate))


@lru_cache(maxsize=4)
def _bands(sample_rate: int) -> np.ndarray:
    """Weights of the bins in each band, which sum to 1, `[bands, bins]`."""
    size, _ = _samples(sample_rate)
    filters = mel_filters(sample_rate, size, min(BANDS, size // 8))
    return np.asarray(filters / filters.sum(axis=1, keepdims=True))
