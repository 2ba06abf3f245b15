"""The Wiener filter and sharing out by power against SciPy's spectrograms, and where they are known to be exact."""

import numpy as np
import pytest
import scipy.signal
import torch

from gmsdi.errors import UserError
from gmsdi.inference.wiener import ShareOut, Wiener

RATE = 2048


def signals():
    rng = np.random.default_rng(0)
    stems = rng.standard_normal((2, 3, 1, 4096)).astype(np.float32)
    return stems, rng.standard_normal((2, 1, 4096)).astype(np.float32)  # stems need not sum to it


def by_power(stems, signal, size):
    """The signal's spectrogram cut by the stems' powers, with SciPy."""

    def stft(x):
        return scipy.signal.stft(x, nperseg=size, noverlap=size * 3 // 4)[2]

    power = np.abs(stft(stems)) ** 2
    masked = power / power.sum(axis=1, keepdims=True) * stft(signal)[:, None]
    return scipy.signal.istft(masked, nperseg=size, noverlap=size * 3 // 4)[1][..., :4096]


def test_shares_out_what_is_missing_by_scipys_spectrograms():
    stems, mixture = signals()
    found = ShareOut(RATE, amount=0.25)(torch.from_numpy(stems), torch.from_numpy(mixture)).numpy()
    missing = mixture - stems.sum(axis=1)
    np.testing.assert_allclose(
        found, stems + 0.25 * by_power(stems, missing, 256) + 0.75 * missing[:, None] / 3, atol=1e-4
    )
    np.testing.assert_allclose(found.sum(axis=1), mixture, atol=1e-4)


def test_what_is_missing_goes_to_the_stem_that_sounds_there():
    time = torch.arange(4096) / RATE
    sources = torch.stack([torch.sin(2 * torch.pi * 100 * time), torch.sin(2 * torch.pi * 700 * time)])[:, None]
    weak = sources * torch.tensor([0.5, 0.8])[:, None, None]
    repaired = ShareOut(RATE)(weak, sources.sum(dim=0))
    assert (repaired - sources)[..., 512:-512].abs().max() < 0.01


def test_equals_masks_on_scipys_spectrograms():
    stems, mixture = signals()
    found = Wiener(RATE, amount=0.75)(torch.from_numpy(stems), torch.from_numpy(mixture)).numpy()
    np.testing.assert_allclose(found, 0.25 * stems + 0.75 * by_power(stems, mixture, 512), atol=1e-4)
    whole = Wiener(RATE)(torch.from_numpy(stems), torch.from_numpy(mixture))
    np.testing.assert_allclose(whole.sum(dim=1).numpy(), mixture, atol=1e-4)


def test_repairs_estimates_of_sources_in_different_bands():
    time = torch.arange(4096) / RATE
    sources = torch.stack([torch.sin(2 * torch.pi * 100 * time), torch.sin(2 * torch.pi * 700 * time)])[:, None]
    damaged = 0.5 * sources.roll(3, dims=-1)  # wrong gain, wrong phase
    repaired = Wiener(RATE)(damaged, sources.sum(dim=0))
    middle = slice(512, -512)
    assert (repaired - sources)[..., middle].abs().max() < 0.01


@pytest.mark.parametrize("options", [{"amount": 1.5}, {"seconds": 0.0}, {"seconds": 9.0}])
def test_says_what_is_out_of_range(options):
    for kind, name in ((Wiener, "wiener"), (ShareOut, "share_out")):
        with pytest.raises(UserError, match=name):
            kind(RATE, **options)(torch.ones(2, 1, 2048), torch.ones(1, 2048))
