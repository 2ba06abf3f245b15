"""The oracle filter against its closed form for white Gaussian signals."""

import pytest
import torch
from scipy.special import exp1

from gmsdi.metrics.denoising import oracle_wiener


def white(seed, *shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("sigma", [0.05, 0.1, 0.4])
def test_white_noise_has_a_closed_form(sigma):
    """A cell's power is exponential, with mean s²; the error is P·E[g], g = |X|²/(|X|² + P), so 1 − a·eᵃ·E₁(a)."""
    s, a = 0.1, (sigma / 0.1) ** 2
    expected = 1 - a * float(torch.tensor(a).exp()) * exp1(a)
    clean, noise = s * white(0, 2, 1, 2**17), white(1, 2, 1, 2**17)
    apart = oracle_wiener(clean, sigma, noise, hop=1024, window=torch.ones(1024))
    assert apart.shape == (2, 1)
    assert apart.mean() == pytest.approx(expected, rel=0.02)
    # Frames that overlap average their errors.
    assert 0.3 * expected < oracle_wiener(clean, sigma, noise).mean() < 0.98 * expected


def test_tones_stand_out_of_the_noise_and_silence_is_silent():
    time = torch.arange(2**14, dtype=torch.float64)
    tone = 0.1 * torch.sin(2 * torch.pi * 440 / 8000 * time)
    noise = white(2, 2**14)
    assert oracle_wiener(tone, 0.1, noise) < 0.02
    assert oracle_wiener(torch.zeros_like(tone), 0.1, noise) == 0
