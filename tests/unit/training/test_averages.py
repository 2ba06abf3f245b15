"""Power-function averages against sums written out, and averages of other lengths from their snapshots."""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from gmsdi.errors import UserError
from gmsdi.models.checkpoint import build_model
from gmsdi.training.averages import RunningAverage, combination, exponent, main, power_rate, reconstruct, save_snapshot
from tests.helpers import tiny

STEPS, EVERY = 400, 40
KEPT = (0.05, 0.10)


def test_lengths_are_those_of_the_published_exponents():
    assert exponent(0.05) == pytest.approx(16.97, abs=0.005)
    assert exponent(0.10) == pytest.approx(6.94, abs=0.005)
    assert exponent(12**-0.5) == pytest.approx(0, abs=1e-6)
    for wrong in (0, 0.3):
        with pytest.raises(UserError, match=r"must be above 0 and at most 0\.289"):
            exponent(wrong)


def walk():
    """Weights of every step that drift and jitter, `[STEPS, 50]`."""
    rng = np.random.default_rng(0)
    return np.cumsum(rng.normal(0, 0.05, (STEPS, 50)), axis=0) + rng.normal(0, 0.3, (STEPS, 50)) + 1


def written_out(weights, sigma_rel, step):
    """The average at a step by its definition: β_t = (1 − 1/t)^(γ + 1)."""
    average = np.zeros(weights.shape[1])
    for t in range(1, step + 1):
        beta = (1 - 1 / t) ** (exponent(sigma_rel) + 1)
        average = beta * average + (1 - beta) * weights[t - 1]
    return average


@pytest.fixture(scope="module")
def snapshots(tmp_path_factory):
    folder = tmp_path_factory.mktemp("averages")
    model = nn.Linear(50, 1, bias=False)
    averages = {length: RunningAverage(model, power_rate(length)) for length in KEPT}
    for step, weights in enumerate(walk(), start=1):
        model.weight.data = torch.tensor(weights, dtype=torch.float32)[None]
        for average in averages.values():
            average.update(model, step)
        if step % EVERY == 0:
            save_snapshot(folder, step, {k: average.module.state_dict() for k, average in averages.items()})
    return folder


def test_what_is_kept_is_the_average(snapshots):
    for step in (EVERY, STEPS):
        saved = load_file(snapshots / f"{step}.safetensors")
        for length in KEPT:
            expected = written_out(walk(), length, step)
            np.testing.assert_allclose(saved[f"{length}/weight"][0], expected, rtol=2e-3, atol=1e-3)  # float16


@pytest.mark.parametrize(("length", "apart", "of_kept"), [(0.05, 1e-6, 0.01), (0.07, 0.03, 0.2), (0.15, 0.06, 0.2)])
@pytest.mark.parametrize("step", [None, 240])
def test_other_lengths_come_from_the_snapshots(snapshots, length, apart, of_kept, step):
    """Many times nearer than the nearest of those that were kept."""
    weights, distance = reconstruct(snapshots, length, step=step)
    assert distance < apart
    expected = written_out(walk(), length, step or STEPS)
    kept = min(np.abs(written_out(walk(), other, step or STEPS) - expected).max() for other in KEPT if other != length)
    assert np.abs(weights["weight"][0].numpy() - expected).max() < of_kept * kept


def test_a_combination_is_the_least_squares_one():
    """Kept averages come out as themselves, and no small change of the factors brings the profile nearer."""
    saved = [(step, length) for step in (100, 200, 300) for length in KEPT]
    factors, distance = combination(saved, 0.05, 300)
    np.testing.assert_allclose(factors, [0, 0, 0, 0, 1, 0], atol=1e-6)
    assert distance < 1e-9
    factors, distance = combination(saved, 0.08, 300)
    weights = np.eye(300)
    columns = np.stack([written_out(weights, length, step) for step, length in saved], axis=1)
    target = written_out(weights, 0.08, 300)

    def error(of):
        return np.linalg.norm(columns @ of - target) / np.linalg.norm(target)

    assert error(factors) == pytest.approx(distance)
    rng = np.random.default_rng(0)
    assert all(error(factors + rng.normal(0, 0.01, 6)) > distance for _ in range(50))


def test_a_model_of_any_length_is_written(tmp_path, capsys):
    model = build_model(tiny.CONFIG)
    folder = tmp_path / "averages"
    for step in (10, 20):
        for parameter in model.parameters():
            parameter.data.fill_(step / 16)
        save_snapshot(folder, step, {length: dict(model.named_parameters()) for length in KEPT})
    (folder / "config.json").write_text(json.dumps(tiny.CONFIG))
    words = [str(folder), str(tmp_path / "model"), "--sigma-rel"]
    assert main([*words, "0.1"]) == 0
    assert all(
        (tensor - 20 / 16).abs().max() < 1e-3 for tensor in load_file(tmp_path / "model/model.safetensors").values()
    )
    assert main([*words, "0.1", "--step", "15"]) == 1
    assert "no snapshot of step 15, only of 10, 20" in capsys.readouterr().err
    assert main([str(tmp_path), *words[1:], "0.1"]) == 1
    assert "no snapshots found" in capsys.readouterr().err
