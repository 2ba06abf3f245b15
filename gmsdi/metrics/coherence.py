"""How well an accompaniment fits the stems that it accompanies: the harmony and the onsets that both have in common.

A Fréchet audio distance compares sets of sounds; it does not measure whether the stems of a clip belong together. These
scores measure only that. Simply replaying the given stems would maximise both, so a third score says how much of an
accompaniment is a copy. All three are plain signal processing: compare them with those of real stems of the same song
and of different songs, computed on the same pairs.
"""

from __future__ import annotations

import numpy as np
from scipy.ndimage import uniform_filter1d
from scipy.signal import csd, stft, welch

LOWEST, HIGHEST = 80.0, 1500.0
"""Range of the chroma in Hz; above it, overtones blur the harmony."""
CHROMA_SECONDS, ONSET_SECONDS = 0.256, 0.128
HOP = 0.032
SMOOTH = 0.5
"""Seconds over which a chroma vector is averaged: about a beat."""
FLOOR = 1e-6
COPY_SECONDS = 0.128
"""Length of the segments of the cross spectrum. Independent noise has a coherence of about 1 / their number."""


def chroma(audio: np.ndarray, sample_rate: int) -> np.ndarray:
    """Magnitude of each pitch class, averaged over half a second, minus the mean over the classes.

    Args:
        audio: `[N, T]`.
        sample_rate: in Hz.

    Returns:
        `[N, 12, F]`, pitch classes from A upwards.
    """
    frequencies, magnitude = _spectrogram(audio, sample_rate, CHROMA_SECONDS)
    inside = np.flatnonzero((frequencies >= LOWEST) & (frequencies < HIGHEST))
    classes = np.round(12 * np.log2(frequencies[inside] / 440)).astype(int) % 12
    # Means rather than sums, because the classes have different numbers of frequencies; noise must not have a harmony.
    found = np.stack([magnitude[:, inside[classes == k]].mean(axis=1) for k in range(12)], axis=1)
    found = uniform_filter1d(found, max(1, round(SMOOTH / HOP)), axis=-1, mode="nearest")
    return found - found.mean(axis=1, keepdims=True)


def onsets(audio: np.ndarray, sample_rate: int) -> np.ndarray:
    """How much the level rises from frame to frame, averaged over frequency, minus its mean over time.

    Args:
        audio: `[N, T]`.
        sample_rate: in Hz.

    Returns:
        `[N, F]`.
    """
    _, magnitude = _spectrogram(audio, sample_rate, ONSET_SECONDS)
    rise = np.maximum(np.diff(np.log(magnitude**2 + FLOOR), axis=-1), 0).mean(axis=1)
    rise = uniform_filter1d(rise, 3, axis=-1, mode="nearest")  # onsets within a tenth of a second coincide
    return rise - rise.mean(axis=-1, keepdims=True)


def copied(given: np.ndarray, made: np.ndarray, sample_rate: int) -> np.ndarray:
    """The share of the accompaniment's power that a linear filter can produce from the given signal.

    This is the magnitude-squared coherence of the two by Welch's method, weighted by the power of the accompaniment at
    each frequency.

    Args:
        given: `[N, T]`.
        made: `[N, T]`.
        sample_rate: in Hz.

    Returns:
        `[N]`, from 0 to 1; 0 where one of the two is silent.
    """
    size = round(COPY_SECONDS * sample_rate)
    cross = np.abs(csd(given, made, nperseg=size)[1]) ** 2
    of_given, of_made = (welch(x, nperseg=size)[1] for x in (given, made))
    explained = np.divide(cross, of_given, out=np.zeros_like(cross), where=of_given > 0).sum(axis=-1)
    power = of_made.sum(axis=-1)
    return np.divide(explained, power, out=np.zeros_like(power), where=power > 0)


def coherence(given: np.ndarray, made: np.ndarray, sample_rate: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Score how well generated signals fit the given ones.

    Args:
        given: `[N, T]`.
        made: `[N, T]`.
        sample_rate: in Hz.

    Returns:
        The mean cosine similarity of the chroma vectors of each pair, the correlation of its onsets, both `[N]` from −1
        to 1, and the share that is `copied`, `[N]`. All are 0 where one of the two is silent.
    """
    harmony = _cosine(chroma(given, sample_rate), chroma(made, sample_rate), axis=1).mean(axis=-1)
    together = _cosine(onsets(given, sample_rate), onsets(made, sample_rate), axis=-1)
    return harmony, together, copied(given, made, sample_rate)


def in_common(stems: np.ndarray, sample_rate: int) -> tuple[np.ndarray, np.ndarray]:
    """What every pair of the stems of a clip has in common: the harmony and the onsets of `coherence`.

    Args:
        stems: `[N, R, T]`.
        sample_rate: in Hz.

    Returns:
        Harmony and onsets, both `[N, R, R]`.
    """
    clips, rows, _ = stems.shape
    flat = stems.reshape(clips * rows, -1)
    tones, rises = (found(flat, sample_rate) for found in (chroma, onsets))
    tones, rises = (x.reshape(clips, rows, *x.shape[1:]) for x in (tones, rises))
    harmony = _cosine(tones[:, :, None], tones[:, None], axis=3).mean(axis=-1)
    return harmony, _cosine(rises[:, :, None], rises[:, None], axis=-1)


def _spectrogram(audio: np.ndarray, sample_rate: int, seconds: float) -> tuple[np.ndarray, np.ndarray]:
    """Frequencies `[B]` in Hz and magnitudes `[N, B, F]`, in units of the amplitude."""
    size = round(seconds * sample_rate)
    frequencies, _, spectrum = stft(audio, sample_rate, nperseg=size, noverlap=size - round(HOP * sample_rate))
    return frequencies, np.abs(spectrum)


def _cosine(a: np.ndarray, b: np.ndarray, axis: int) -> np.ndarray:
    norm = np.sqrt((a**2).sum(axis=axis) * (b**2).sum(axis=axis))
    return (a * b).sum(axis=axis) / np.maximum(norm, 1e-12)
