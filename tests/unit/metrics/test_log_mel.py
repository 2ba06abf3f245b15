"""Log-Mel L1 against its definition in closed form, and against a plain loop with scipy's transform."""

import numpy as np
import pytest
import scipy.signal

from gmsdi.io.features import mel_filters
from gmsdi.metrics.log_mel import FLOOR, log_mel_l1

RATE = 8000


def test_it_is_the_mean_difference_of_the_logarithms_in_each_band():
    rng = np.random.default_rng(0)
    target = 0.3 * rng.standard_normal((2, 3 * RATE // 4))
    assert log_mel_l1(2.5 * target, target, RATE) == pytest.approx([np.log(2.5)] * 2)
    assert log_mel_l1(-target, target, RATE) == pytest.approx([0, 0], abs=1e-12)
    silence = np.zeros_like(target)
    assert log_mel_l1(1e-9 * target, silence, RATE).tolist() == [0, 0]  # below the floor
    estimate = target + 0.1 * rng.standard_normal(target.shape)
    filters = mel_filters(RATE, 512, 64)
    filters /= filters.sum(axis=1, keepdims=True)

    def spectra(x):
        _, _, cells = scipy.signal.stft(x, RATE, "hann", 512, 512 - 80, boundary=None, padded=False)
        return np.log(np.maximum(filters @ (2 * np.abs(cells)), FLOOR))

    expected = [np.abs(spectra(e) - spectra(t)).mean() for e, t in zip(estimate, target, strict=True)]
    assert log_mel_l1(estimate, target, RATE) == pytest.approx(expected)


def test_a_short_signal_and_a_low_rate_have_a_value_too():
    x = np.random.default_rng(1).standard_normal((3, 2, 10))
    assert log_mel_l1(3 * x, x, 100) == pytest.approx(np.full((3, 2), np.log(3)), rel=1e-6)
