"""The README's example runs as it stands, with a denoiser whose answer is known."""

import re
from pathlib import Path

import torch

README = Path(__file__).parents[2] / "README.md"
VARIANCE = 0.04


class Bank:
    def select(self, index):
        return self


def denoiser(x, sigma, cond):
    """The exact denoiser of white noise: its samples are white noise of that variance."""
    return x * (VARIANCE / (VARIANCE + sigma**2))[:, None, None]


def test_example_separates_into_stems_that_sum_to_the_mixture():
    (example,) = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    mixture = 0.2 * torch.randn(2, 1, 4096, generator=torch.Generator().manual_seed(0))
    names = {"denoiser": denoiser, "encode": lambda texts: Bank(), "mixture": mixture, "seeds": [1, 2]}
    exec(example, names)
    stems = names["stems"]
    assert stems.shape == (2, 3, 1, 4096)
    torch.testing.assert_close(stems.sum(1), mixture, rtol=0, atol=1e-5)
    assert 0.02 < stems.std() < 0.4
