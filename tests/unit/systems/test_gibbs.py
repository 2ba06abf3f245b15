"""Demucs + Gibbs against closed forms, brute force and the published network; no trained weights."""

from __future__ import annotations

import itertools
import math
import sys
from collections import Counter
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import chisquare
from torch import Tensor, nn

from gmsdi.errors import UserError
from gmsdi.metrics.si_sdr import si_sdr
from gmsdi.models.checkpoint import save_model
from gmsdi.models.demucs import ConditionalSeparator, build, known_sources
from gmsdi.study.chunks import in_batches
from gmsdi.systems.demucs_gibbs import GibbsSeparator, block_gibbs, load_gibbs

DEMUCS = {
    "channels": 16,
    "depth": 2,
    "resample": False,
    "norm_starts": 1,
    "dconv_attn": 1,
    "dconv_lstm": 1,
    "dconv_depth": 1,
    "dconv_init": 0.1,
}
CONFIG: dict[str, Any] = {
    "kind": "gibbs",
    "target": "stems",
    "sample_rate": 8000,
    "window": 1024,
    "labels": ["Bass", "Drums", "Piano"],
    "demucs": DEMUCS,
}
BLOCKS = (1, 2, "uniform", "annealed")


@pytest.fixture(scope="module")
def separator() -> GibbsSeparator:
    torch.manual_seed(0)
    return GibbsSeparator(build(CONFIG).eval().requires_grad_(False))


class GaussianSources:
    """Sources that are jointly Gaussian in every sample, x ~ N(0, C), in a mixture y = Σx + n, n ~ N(0, r)."""

    def __init__(self, covariance: np.ndarray, noise: float, first: str = "exact") -> None:
        K = len(covariance)
        mix = np.concatenate([np.eye(K), np.ones((1, K))])
        self.joint = mix @ covariance @ mix.T  # of (x, y)
        self.joint[K, K] += noise
        self.first = first

    def conditional(self, wanted: list[int], given: list[int]) -> tuple[np.ndarray, np.ndarray]:
        """Regression matrix and covariance of the wanted rows of (x, y) given others."""
        cross, inner = self.joint[np.ix_(wanted, given)], self.joint[np.ix_(given, given)]
        gain = np.linalg.solve(inner, cross.T).T
        return gain, self.joint[np.ix_(wanted, wanted)] - gain @ cross.T

    def __call__(self, mixture: Tensor, sources: Tensor, known: Tensor) -> Tensor:
        """E[x_J | y, x_¬J], with NaN for known sources: nobody may use them."""
        K = len(self.joint) - 1
        out = torch.full_like(sources, math.nan)
        for n, mask in enumerate(known.tolist()):
            unknown = [k for k in range(K) if not mask[k]]
            given = [k for k in range(K) if mask[k]] + [K]
            gain = torch.from_numpy(self.conditional(unknown, given)[0]).to(sources.dtype)
            out[n, unknown] = gain @ torch.cat([sources[n], mixture[n : n + 1]])[given]
            if self.first == "wrong" and not any(mask):
                out[n] = 3.0
        return out


def _mixtures(items: int, samples: int) -> Tensor:
    y = torch.from_numpy(np.random.default_rng(0).normal(size=(items, samples)).astype(np.float32))
    return (y - y.mean(dim=1, keepdim=True)) / y.std(dim=1, keepdim=True, correction=0)


def _covariance(K: int) -> np.ndarray:
    root = np.random.default_rng(K).normal(size=(K, K))
    return 0.3 * root @ root.T / K + np.eye(K)


@pytest.mark.parametrize("block", BLOCKS)
@pytest.mark.parametrize("K", [3, 4])
def test_posterior_mean_is_the_fixed_point(K: int, block: Any) -> None:
    oracle = GaussianSources(_covariance(K), noise=1.0)
    y = _mixtures(2, 8)
    gain, _ = oracle.conditional(list(range(K)), [K])
    expected = torch.from_numpy(gain) * y.double().unsqueeze(1)
    still = block_gibbs(oracle, y, K, steps=20, seeds=range(2), block=block)
    torch.testing.assert_close(still.double(), expected, rtol=0, atol=1e-5)
    oracle.first = "wrong"
    far = block_gibbs(oracle, y, K, steps=0, seeds=range(2), block=block)
    assert (far - expected).abs().max() > 1
    converged = block_gibbs(oracle, y, K, steps=300, seeds=range(2), block=block)
    torch.testing.assert_close(converged.double(), expected, rtol=0, atol=1e-3)


def test_chain_with_the_conditionals_noise_samples_the_posterior() -> None:
    K, rho = 3, 0.4
    oracle = GaussianSources((1 - rho) * np.eye(K) + rho, noise=0.5, first="wrong")
    variances = [oracle.conditional([k], [x for x in range(K + 1) if x != k])[1].item() for k in range(K)]
    assert max(variances) - min(variances) < 1e-12  # exchangeable sources, so one spread fits all
    y = _mixtures(16, 2048)
    x = block_gibbs(oracle, y, K, steps=150, seeds=range(16), block=1, noise=math.sqrt(variances[0]))
    gain, covariance = oracle.conditional(list(range(K)), [K])
    errors = (x.double() - torch.from_numpy(gain) * y.unsqueeze(1)).transpose(0, 1).flatten(1).numpy()
    n = errors.shape[1]
    sd = np.sqrt(np.diag(covariance))
    assert np.all(np.abs(errors.mean(axis=1)) < 4 * sd / math.sqrt(n))
    # Standard error of a covariance of n Gaussian pairs (Isserlis).
    error = np.sqrt((covariance**2 + np.outer(sd, sd) ** 2) / n)
    assert np.all(np.abs(np.cov(errors) - covariance) < 4 * error)


def test_noise_is_relative_to_the_mixture() -> None:
    oracle = GaussianSources(_covariance(3), noise=0.3)
    y = _mixtures(2, 64)
    x = block_gibbs(oracle, y, 3, steps=5, seeds=[1, 2], noise=0.3)
    louder = block_gibbs(oracle, 8 * y, 3, steps=5, seeds=[1, 2], noise=0.3)
    torch.testing.assert_close(louder, 8 * x, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("block", "sizes"), [(2, {2}), ("uniform", {1, 2, 3}), ("annealed", {1, 2, 3})])
def test_blocks(block: Any, sizes: set[int]) -> None:
    seen: list[Tensor] = []
    reported: list[tuple[int, int]] = []

    def record(mixture: Tensor, sources: Tensor, known: Tensor) -> Tensor:
        seen.append(~known)
        return torch.zeros_like(sources)

    steps, items = 300, 20
    block_gibbs(
        record,
        torch.ones(items, 1),
        4,
        steps=steps,
        seeds=range(items),
        block=block,
        callback=lambda *at: reported.append(at),
    )
    assert reported == [(done, steps + 1) for done in range(1, steps + 2)]
    assert seen[0].all()
    blocks = torch.stack(seen[1:])
    counts = Counter(blocks.sum(dim=-1).flatten().tolist())
    assert counts.keys() == sizes
    if block == "annealed":
        assert (blocks.sum(dim=-1).diff(dim=0) <= 0).all()
        assert (blocks[0].sum(dim=-1) == 3).all()
        assert (blocks[-1].sum(dim=-1) == 1).all()
    if block == "uniform":
        assert chisquare(list(counts.values())).pvalue > 1e-3
    members = blocks.flatten(0, 1).sum(dim=0)  # no source is preferred
    assert (members.float() / members.float().mean() - 1).abs().max() < 0.05


def test_known_sources_are_a_uniform_subset_of_uniform_size() -> None:
    K, n = 4, 40_000
    known = known_sources(torch.rand(n, 16, generator=torch.Generator().manual_seed(0)), K)
    observed = Counter(map(tuple, known.tolist()))
    subsets = [mask for mask in itertools.product([False, True], repeat=K) if not all(mask)]
    assert set(observed) == set(subsets)
    expected = [n / K / math.comb(K, sum(mask)) for mask in subsets]
    assert chisquare([observed[mask] for mask in subsets], expected).pvalue > 1e-3
    highest = torch.full((1, 16), 1 - 2**-24)
    assert known_sources(highest, K).sum() == K - 1


class Recorder(nn.Module):
    """A network with a constant, learnable answer."""

    def __init__(self, answer: Tensor) -> None:
        super().__init__()
        self.answer = nn.Parameter(answer)

    def forward(self, x: Tensor) -> Tensor:
        self.inputs = x.detach()
        return self.answer


@pytest.mark.parametrize("loss", ["snr", "l1"])
def test_loss_is_that_of_the_unknown_sources(loss: str) -> None:
    rng = np.random.default_rng(3)
    n, K, T = 32, 3, 50
    clean = rng.normal(size=(n, K, T)).astype(np.float32) * rng.uniform(0.01, 1, size=(n, K, 1)).astype(np.float32)
    clean[::3, 1] = 0  # a silent source
    draws = torch.from_numpy(rng.random((n, 16), dtype=np.float32))
    net = Recorder(torch.from_numpy(rng.normal(size=(n, K, 1, T)).astype(np.float32)))
    model = ConditionalSeparator(net, {**CONFIG, "loss": loss})
    losses = model.training_loss({"clean": torch.from_numpy(clean), "draws": draws})
    losses.sum().backward()
    known = known_sources(draws, K).numpy()
    assert net.answer.grad is not None
    answer, grad, inputs = net.answer.detach().numpy()[:, :, 0], net.answer.grad.numpy()[:, :, 0], net.inputs.numpy()
    for i in range(n):
        y = clean[i].sum(axis=0)
        level = y.std(ddof=1) + 1e-5
        terms = []
        for k in range(K):
            if known[i, k]:
                np.testing.assert_allclose(inputs[i, 1 + k], clean[i, k] / level, rtol=1e-4, atol=1e-6)
                assert (grad[i, k] == 0).all()
            else:
                assert (inputs[i, 1 + k] == 0).all()
                assert (grad[i, k] != 0).any()
                e = answer[i, k] - clean[i, k] / level
                terms.append(np.abs(e).mean() if loss == "l1" else 10 * np.log10((e**2).mean() + 1e-3))
            assert (inputs[i, 1 + K + k] == known[i, k]).all()
        np.testing.assert_allclose(inputs[i, 0], (y - y.mean()) / level, rtol=1e-4, atol=1e-5)
        assert losses[i].item() == pytest.approx(np.mean(terms), rel=1e-4)


def test_without_known_sources_it_is_the_published_demucs() -> None:
    from demucs.demucs import Demucs

    torch.manual_seed(1)
    peer = Demucs(CONFIG["labels"], audio_channels=1, **DEMUCS).eval()
    ours = build(CONFIG).eval()
    state = peer.state_dict()
    first = "encoder.0.0.weight"
    wide = torch.zeros_like(ours.net.state_dict()[first])
    wide[:, :1] = state[first]
    ours.net.load_state_dict({**state, first: wide})
    y = 0.05 * torch.randn(2, 1, 1000)
    y -= y.mean(dim=-1, keepdim=True)
    with torch.no_grad():
        expected = peer(y)
    torch.testing.assert_close(GibbsSeparator(ours).separate(y, steps=0, seeds=[0, 0]), expected, rtol=1e-3, atol=1e-5)


def test_an_item_depends_on_its_own_seed_alone(separator: GibbsSeparator, monkeypatch: pytest.MonkeyPatch) -> None:
    y = 0.1 * torch.randn(3, 1, 1024, generator=torch.Generator().manual_seed(5))
    options: dict[str, Any] = {"steps": 4, "noise": 0.1}
    monkeypatch.setattr(separator, "max_batch", 2)
    monkeypatch.setattr(separator, "fixed_batch", True)
    together = separator.separate(y, seeds=[7, 8, 9], **options)
    turned = separator.separate(y.flip(0), seeds=[9, 8, 7], **options)
    assert torch.equal(turned.flip(0), together)
    assert torch.equal(separator.separate(y[1:2], seeds=[8], **options)[0], together[1])
    monkeypatch.setattr(separator, "fixed_batch", False)
    torch.testing.assert_close(separator.separate(y, seeds=[7, 8, 9], **options), together, rtol=0, atol=1e-5)
    assert not torch.equal(separator.separate(y[:1], seeds=[8], **options)[0], together[0])


def test_the_level_and_the_order_of_stems(separator: GibbsSeparator) -> None:
    y = 0.1 * torch.randn(2, 1, 1024, generator=torch.Generator().manual_seed(5))
    x = separator.separate(y, steps=3, seeds=[1, 2])
    assert x.shape == (2, 3, 1, 1024)
    assert x.dtype == torch.float32
    louder = separator.separate(4 * y, steps=3, seeds=[1, 2])
    torch.testing.assert_close(louder, 4 * x, rtol=1e-2, atol=1e-3)
    some = separator.separate(y, ["Piano", "Bass"], steps=3, seeds=[1, 2])
    assert torch.equal(some, x[:, [2, 0]])
    assert not separator.separate(torch.zeros(1, 1, 1024), steps=1, seeds=[0]).isnan().any()


def test_training_learns_to_separate_and_to_use_what_is_known() -> None:
    """Four windows of three tones each, one of them silent, learned by heart."""
    torch.manual_seed(0)
    time = torch.arange(1024) / 8000

    def tones(frequency: float, amplitude: float) -> Tensor:
        frequencies = frequency * torch.tensor([[1.0], [1.1], [1.2], [1.3]])
        return amplitude * torch.sin(2 * math.pi * (frequencies * time + torch.rand(4, 1)))

    clean = torch.stack([tones(90, 0.3), tones(400, 0.1), tones(1500, 0.2)], dim=1)
    clean[3, 2] = 0
    mixture, sounding = clean.sum(dim=1, keepdim=True), clean.square().sum(dim=-1) > 0
    model = build(CONFIG)
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    for _ in range(100):
        loss = model.training_loss({"clean": clean, "draws": torch.rand(4, 16)}).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    model.eval()
    before = si_sdr(mixture.expand_as(clean), clean)[sounding].mean()
    for steps in (0, 8):
        separated = GibbsSeparator(model).separate(mixture, steps=steps, seeds=range(4))[:, :, 0]
        assert si_sdr(separated, clean)[sounding].mean() > before + 12
        assert separated[3, 2].square().mean() < 0.05 * mixture[3].square().mean()
    known = torch.tensor([[True, False, True]]).expand(4, -1)
    with torch.no_grad():
        blind = model(mixture[:, 0], clean, torch.zeros_like(known))
        informed = model(mixture[:, 0], clean, known)
    assert si_sdr(informed[:, 1], clean[:, 1]).mean() > si_sdr(blind[:, 1], clean[:, 1]).mean() + 0.5


def test_a_model_folder_round_trips(separator: GibbsSeparator, tmp_path: Any) -> None:
    save_model(tmp_path / "model", separator.network)
    loaded = load_gibbs(tmp_path / "model", device="cpu", precision="float32")
    assert loaded.network.config == CONFIG
    y = 0.1 * torch.randn(1, 1, 1024)
    options: dict[str, Any] = {"steps": 2, "seeds": [0]}
    assert torch.equal(loaded.separate(y, **options), separator.separate(y, **options))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mixture": torch.zeros(2, 1024)}, r"\[items, 1, samples\]"),
        ({"mixture": torch.zeros(2, 2, 1024)}, r"\[items, 1, samples\]"),
        ({"mixture": torch.full((2, 1, 1024), math.inf)}, "NaN or infinite"),
        ({"seeds": [1]}, "1 seeds for 2 items"),
        ({"steps": -1}, "steps is -1"),
        ({"steps": 1.5}, "steps is 1.5"),
        ({"block": 4}, "from 1 to 3"),
        ({"block": "all"}, "uniform, annealed"),
        ({"noise": -0.1}, "noise is -0.1"),
        ({"stems": ["Bass", "Flute"]}, "'Flute'; it knows Bass, Drums, Piano"),
        ({"stems": ["Bass", "Bass"]}, "each once"),
    ],
)
def test_unusable_arguments(separator: GibbsSeparator, options: dict[str, Any], message: str) -> None:
    good = {"mixture": torch.zeros(2, 1, 1024), "steps": 1, "seeds": [0, 1]}
    with pytest.raises(UserError, match=message):
        separator.separate(**{**good, **options})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"labels": ["Bass"]}, "2 to 15"),
        ({"labels": ["Bass", "Bass"]}, "different"),
        ({"target": "mixture"}, "needs target: stems"),
        ({"loss": "l2"}, "choose l1 or snr"),
        ({"demucs": {"width": 3}}, "width"),
        ({"demucs": {**DEMUCS, "channels": 18}}, "multiple of norm_groups"),
    ],
)
def test_unusable_configurations(change: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        build({**CONFIG, **change})


def test_other_stems_than_the_labels(separator: GibbsSeparator) -> None:
    with pytest.raises(UserError, match=r"\[items, 3, samples\] for Bass, Drums, Piano"):
        separator.network.training_loss({"clean": torch.zeros(2, 4, 1024), "draws": torch.zeros(2, 16)})


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "demucs.demucs", None)
    with pytest.raises(UserError, match="pip install --no-deps demucs"):
        build(CONFIG)


def test_the_progress_of_the_first_pass_alone_reaches_its_end() -> None:
    reported = []
    for part, callback in in_batches([0, 1, 2], 2, reported.append):
        block_gibbs(lambda y, x, known: x, torch.ones(len(part), 8), 2, steps=0, seeds=part, callback=callback)
    assert reported == [2, 2, 3, 3]
