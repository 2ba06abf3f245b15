"""The Wiener filter against SciPy's spectrograms, and where it is known to be exact."""

import numpy as np
import pytest
import scipy.signal
import torch

from gmsdi.errors import UserError
from gmsdi.wiener import wiener

RATE = 2048


def test_equals_masks_on_scipys_spectrograms():
    rng = np.random.default_rng(0)
    stems = rng.standard_normal((2, 3, 1, 4096)).astype(np.float32)
    mixture = rng.standard_normal((2, 1, 4096)).astype(np.float32)  # stems need not sum to it
    found = wiener(torch.from_numpy(stems), torch.from_numpy(mixture), amount=0.75, sample_rate=RATE).numpy()

    def stft(signal):
        return scipy.signal.stft(signal, nperseg=512, noverlap=384)[2]

    power = np.abs(stft(stems)) ** 2
    masked = power / power.sum(axis=1, keepdims=True) * stft(mixture)[:, None]
    filtered = scipy.signal.istft(masked, nperseg=512, noverlap=384)[1][..., :4096]
    np.testing.assert_allclose(found, 0.25 * stems + 0.75 * filtered, atol=1e-4)
    whole = wiener(torch.from_numpy(stems), torch.from_numpy(mixture), sample_rate=RATE)
    np.testing.assert_allclose(whole.sum(dim=1).numpy(), mixture, atol=1e-4)


def test_repairs_estimates_of_sources_in_different_bands():
    time = torch.arange(4096) / RATE
    sources = torch.stack([torch.sin(2 * torch.pi * 100 * time), torch.sin(2 * torch.pi * 700 * time)])[:, None]
    damaged = 0.5 * sources.roll(3, dims=-1)  # wrong gain, wrong phase
    repaired = wiener(damaged, sources.sum(dim=0), sample_rate=RATE)
    middle = slice(512, -512)
    assert (repaired - sources)[..., middle].abs().max() < 0.01


@pytest.mark.parametrize("options", [{"amount": 1.5}, {"seconds": 0.0}, {"seconds": 9.0}])
def test_says_what_is_out_of_range(options):
    with pytest.raises(UserError, match="wiener"):
        wiener(torch.ones(2, 1, 2048), torch.ones(1, 2048), sample_rate=RATE, **options)
