"""The examples of the README and of docs/tutorials/model.md run as they stand, with models whose answer is known."""

import math
import re
from types import SimpleNamespace

import numpy as np
import pandas as pd
import soundfile
import torch

from gmsdi.study.gallery import _separated
from tests import REPO

README = REPO / "README.md"
TUTORIAL = REPO / "docs" / "tutorials" / "model.md"
VARIANCE = 0.04


class Bank:
    def select(self, index):
        return self


def encoder(texts):
    return torch.tensor([[len(text), 1.0] for text in texts])


def denoiser(x, sigma, cond):
    """The exact denoiser of white noise: its samples are white noise of that variance."""
    return x * (VARIANCE / (VARIANCE + sigma**2))[:, None, None]


def network(scaled, time, cond):
    """The same as a prediction of v, from D = α²·x − s·α·v."""
    sigma = torch.tan(time * math.pi / 2)
    alpha = (1 + sigma[:, None, None] ** 2).rsqrt()
    x = scaled / alpha
    return (alpha**2 * x - denoiser(x, sigma, cond)) / (sigma[:, None, None] * alpha**2)


def examples(path):
    return re.findall(r"```python\n(.*?)```", path.read_text(), re.DOTALL)


def test_a_model_of_ones_own_separates_a_song(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    song = 0.2 * np.random.default_rng(0).standard_normal((4410, 2))
    soundfile.write("song.wav", song, 44100, subtype="FLOAT")
    # Windows of the example's length would take minutes.
    (example,) = examples(README)
    assert example in examples(TUTORIAL)
    seen = set()

    def watched(scaled, time, cond):
        seen.update(map(tuple, cond.tolist()))
        return network(scaled, time, cond)

    names = {"network": watched, "encoder": encoder}
    (embed,) = (code for code in examples(TUTORIAL) if "def embed" in code)
    exec(embed, names)
    exec(example.replace("2**18", "4096"), names)
    assert seen == {(len(text), 1) for text in ("Bass", "Drums", "Piano", "Bass, Drums", "Drums, Piano", "")}
    stems = [soundfile.read(tmp_path / "song" / f"{name}.flac")[0] for name in ("bass", "drums", "piano")]
    np.testing.assert_allclose(sum(stems), song, atol=2e-4)  # of 16 bits each


def test_step_by_step_the_stems_sum_to_the_mixture():
    mixture = 0.2 * torch.randn(2, 1, 4096, generator=torch.Generator().manual_seed(0))
    names = {"denoiser": denoiser, "encode": lambda texts: Bank(), "mixture": mixture, "seeds": [1, 2]}
    exec(examples(TUTORIAL)[-1], names)
    stems = names["stems"]
    assert stems.shape == (2, 3, 1, 4096)
    torch.testing.assert_close(stems.sum(1), mixture, rtol=0, atol=1e-5)
    assert 0.02 < stems.std() < 0.4


def test_the_command_after_the_demo_is_that_which_the_demo_prints():
    """Of a file that the gallery leaves: the first example of the Separator begins with its mixture."""
    command = "gmsdi separate results/mini/gallery/separator-1-01.flac"
    assert command in README.read_text()
    assert command in (REPO / "Makefile").read_text()
    windows = SimpleNamespace(stems=lambda ids: np.ones((1, 2, 8), np.float32), labels=["A", "B"], sample_rate=8000)
    table = pd.DataFrame([{"chunk": 0, "track": "t", "offset": 0, "active": "A, B"}])
    ((_, rows),) = _separated(windows, table, np.zeros((1, 2, 8), np.float32), 1)
    assert rows[0][0] == "Mixture"
    np.testing.assert_array_equal(rows[0][3], 2)
