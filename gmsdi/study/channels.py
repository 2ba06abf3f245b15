"""Channels in the stages: clips are kept as `[N, R, T]` if they have one channel, and as `[N, R, C, T]` if more.

Figures 2 and 3 and all that compares stems hear the mean of the channels, as the networks of their embeddings do. The
ratios of Table 2 take the channels of a stem as one long signal, as the Music Demixing Challenges do: a gain of one
channel against the other is an error, and a stem that is the same in both has the ratio of one channel.
"""

from __future__ import annotations

import numpy as np


def kept(audio: np.ndarray) -> np.ndarray:
    """Signals `[..., C, T]` as the stages keep them."""
    return audio[..., 0, :] if audio.shape[-2] == 1 else audio


def heard(audio: np.ndarray) -> np.ndarray:
    """Signals `[..., C, T]` as one channel, `[..., T]`: the mean of theirs."""
    return audio.mean(axis=-2) if audio.shape[-2] > 1 else audio[..., 0, :]


def interleaved(audio: np.ndarray, channels: int) -> np.ndarray:
    """Kept signals with the samples of C channels in turn, `[..., T · C]`, of which any stretch has all channels."""
    if channels == 1:
        return audio
    return np.ascontiguousarray(np.moveaxis(audio, -2, -1)).reshape(*audio.shape[:-2], -1)
