"""Harmony and onsets in common, on signals of which both are known."""

import numpy as np
import pytest

from gmsdi.metrics.coherence import chroma, coherence, copied, onsets

RATE = 8000
TIME = np.arange(4 * RATE) / RATE


def hertz(midi):
    return 440 * 2 ** ((midi - 69) / 12)


def chords(progression, octave, overtones):
    """A chord a second, with overtones."""
    audio = np.zeros_like(TIME)
    for second, root in enumerate(progression):
        inside = (second <= TIME) & (second + 1 > TIME)
        for third in (0, 4, 7):
            for number in range(1, overtones + 1):
                tone = np.sin(2 * np.pi * number * hertz(root + third + 12 * octave) * TIME)
                audio += inside * tone / number**2
    return audio


def clicks(period, start=0.1):
    rng = np.random.default_rng(round(1000 * (period + start)))
    audio = 1e-4 * rng.standard_normal(len(TIME))
    for second in np.arange(start, 3.9, period):
        audio += (second <= TIME) * np.exp(-40 * np.maximum(TIME - second, 0)) * rng.standard_normal(len(TIME))
    return audio


@pytest.mark.parametrize("midi", range(45, 84, 5))
def test_a_tone_is_in_its_pitch_class(midi):
    found = chroma(np.sin(2 * np.pi * hertz(midi) * TIME)[None], RATE)[0]
    assert (found.argmax(axis=0) == (midi - 69) % 12).all()
    np.testing.assert_allclose(found.sum(axis=0), 0, atol=1e-9)


def test_onsets_are_where_clicks_are():
    found = onsets(clicks(0.5)[None], RATE)[0]
    assert abs(found.mean()) < 1e-12
    peaks = np.flatnonzero((found[1:-1] > found[:-2]) & (found[1:-1] >= found[2:]) & (found[1:-1] > 0.5 * found.max()))
    np.testing.assert_allclose(0.032 * (peaks + 1.5), np.arange(0.1, 3.9, 0.5), atol=0.1)


def test_what_belongs_together_scores_high():
    song, elsewhere = [57, 62, 64, 57], [63, 56, 58, 63]
    given = np.stack([chords(song, 0, 6)] * 2)
    made = np.stack([chords(song, 1, 2), chords(elsewhere, 1, 2)])
    same, other = coherence(given, made, RATE)[0]
    assert same > 0.8
    assert other < 0.1

    given = np.stack([clicks(0.5)] * 3)
    made = np.stack([clicks(0.5) * 0.2, clicks(0.5, start=0.35), clicks(0.37)])
    same, between, uneven = coherence(given, made, RATE)[1]
    assert same > 0.9
    assert between < 0
    assert uneven < 0.3

    silent = coherence(given, np.zeros_like(given), RATE)
    np.testing.assert_array_equal(silent, 0)


def test_what_is_copied_is_the_power_that_a_filter_explains():
    rng = np.random.default_rng(7)
    given, other = rng.standard_normal((2, 3, 16 * RATE))
    filtered = np.apply_along_axis(np.convolve, 1, given, [0, 0.6, 0, -0.8], mode="same")  # of the same power
    for part in (0.0, 0.3, 1.0):
        found = copied(given, np.sqrt(part) * filtered + np.sqrt(1 - part) * other, RATE)
        np.testing.assert_allclose(found, part, atol=0.02)
    assert (copied(given[:1], 0 * given[:1], RATE), copied(0 * given[:1], given[:1], RATE)) == (0, 0)
