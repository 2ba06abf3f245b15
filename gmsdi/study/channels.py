"""Channels in the stages: audio is stored as `[N, R, T]` if it has one channel, and as `[N, R, C, T]` if it has more.

Figures 2 and 3, and all comparisons of stems, use the mean of the channels, as the networks of the embeddings do. The
ratios of Table 2 treat the channels of a stem as one long signal, as in the Music Demixing Challenges: a gain of one
channel relative to the other is an error, and a stem with two equal channels has the ratio of one of them.
"""

from __future__ import annotations

import numpy as np


def kept(audio: np.ndarray) -> np.ndarray:
    """Signals `[..., C, T]` in the form in which the stages store them."""
    return audio[..., 0, :] if audio.shape[-2] == 1 else audio


def heard(audio: np.ndarray) -> np.ndarray:
    """The mean of the channels of signals `[..., C, T]`: `[..., T]`."""
    return audio.mean(axis=-2) if audio.shape[-2] > 1 else audio[..., 0, :]


def apart(audio: np.ndarray, channels: int) -> np.ndarray:
    """Signals with interleaved channels as `[..., C, T]`, the inverse of `interleaved`."""
    return np.moveaxis(audio.reshape(*audio.shape[:-1], -1, channels), -1, -2)


def interleaved(audio: np.ndarray, channels: int) -> np.ndarray:
    """Stored signals with the samples of their C channels interleaved, `[..., T · C]`."""
    if channels == 1:
        return audio
    return np.ascontiguousarray(np.moveaxis(audio, -2, -1)).reshape(*audio.shape[:-2], -1)
