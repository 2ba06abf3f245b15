"""Guidance: conventions, negative prompts, and no evaluation that is multiplied by zero."""

import pytest
import torch

from gmsdi.errors import UserError
from gmsdi.sampling.guidance import Prompt, as_prompt, join
from tests.helpers.gaussians import GaussianDenoiser, guide

PROMPTS = ["Bass", Prompt("Drums", negative="Bass"), "Bass"]
SIGMA = 0.7


@pytest.fixture
def x():
    return torch.randn(3, 1, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def denoised(x, texts, sigma=SIGMA):
    denoiser = GaussianDenoiser()
    return denoiser(x, torch.full((len(x),), sigma, dtype=x.dtype), denoiser.embed(texts))


@pytest.mark.parametrize("w", [-1.0, -0.5, 0.0, 1.0, 7.5])
def test_both_conventions_are_the_papers_formula(x, w):
    positive, negative = denoised(x, ["Bass", "Drums", "Bass"]), denoised(x, [None, "Bass", None])
    expected = positive + w * (positive - negative)
    for convention, scale in (("paper", w), ("adp", 1 + w)):
        model = guide(GaussianDenoiser(), scale, convention=convention)
        torch.testing.assert_close(model(x, SIGMA, PROMPTS), expected)


@pytest.mark.parametrize(
    ("scale", "convention", "rows"),
    [(3, "paper", 6), (0, "paper", 3), (-1, "paper", 3), (1, "adp", 3), (0, "adp", 3), (2, "adp", 6)],
)
def test_one_forward_without_rows_that_do_not_count(x, scale, convention, rows):
    denoiser = GaussianDenoiser()
    guide(denoiser, scale, convention=convention)(x, SIGMA, PROMPTS)
    assert denoiser.rows == [rows]


def test_texts_are_encoded_once(x):
    denoiser = GaussianDenoiser()
    model = guide(denoiser, 2.0, interval=(0.5, 1.0))
    for sigma in (2.0, 0.8, 0.6, 0.1):
        model(x, sigma, PROMPTS)
        model(x[:1], sigma, PROMPTS[:1])
    assert denoiser.encoded == [["Bass", "Drums", None]]


def test_a_new_text_extends_the_bank(x):
    denoiser = GaussianDenoiser()
    model = guide(denoiser, 0.0)
    model(x, SIGMA, ["Bass", "Bass", "Bass"])
    torch.testing.assert_close(model(x, SIGMA, ["Piano", "Bass", "Drums"]), denoised(x, ["Piano", "Bass", "Drums"]))
    assert denoiser.encoded == [["Bass"], ["Bass", "Piano", "Drums"]]


@pytest.mark.parametrize(("sigma", "rows"), [(1.01, 3), (1.0, 6), (0.5, 6), (0.49, 3)])
def test_interval_includes_its_ends(x, sigma, rows):
    denoiser = GaussianDenoiser()
    result = guide(denoiser, 2.0, interval=(0.5, 1.0))(x, sigma, PROMPTS)
    assert denoiser.rows == [rows]
    if rows == 3:
        torch.testing.assert_close(result, denoised(x, ["Bass", "Drums", "Bass"], sigma))


def test_clamp_acts_after_guidance(x):
    free = guide(GaussianDenoiser(), 5.0)(x, SIGMA, PROMPTS)
    torch.testing.assert_close(guide(GaussianDenoiser(), 5.0, clamp=0.3)(x, SIGMA, PROMPTS), free.clamp(-0.3, 0.3))


def test_prompts():
    assert as_prompt("Bass") == Prompt("Bass", None)
    assert join(["Bass", Prompt("Drums", "Bass")]) == Prompt("Bass, Drums", None)
    with pytest.raises(UserError, match="convention"):
        guide(GaussianDenoiser(), 1.0, convention="other")
    with pytest.raises(ValueError, match="prompts"):
        guide(GaussianDenoiser(), 1.0)(torch.zeros(2, 1, 4), 1.0, ["Bass"])
