"""The four tasks with models of others: a stereo waveform and a 4-D latent, by each adapter, against plain equations.

Sources are white and Gaussian, each of a variance of its own, so that the exact denoiser scales its input. The latent
is an orthonormal transform of the signal, in which white noise stays white: what a run does to each coordinate is then
written down here once more, in NumPy and without prompts, batches, windows or spaces.
"""

import math
import subprocess
import sys
import warnings
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch

import gmsdi
from gmsdi import inference, tasks
from gmsdi.errors import UserError
from gmsdi.inference import Wiener
from gmsdi.io.audio import Audio, read, write
from gmsdi.models import families, registry
from gmsdi.models.adapters import Adapted, from_eps, from_flow, from_v
from gmsdi.models.codecs import Latent
from gmsdi.models.protocol import Model, Waveform
from gmsdi.sampling.guidance import Prompt
from gmsdi.sampling.noise import SeededNoise, sample_seeds
from gmsdi.sampling.session import Batch, Session
from gmsdi.sampling.solver import Guidance, Solver
from gmsdi.tasks import Average
from tests import REPO
from tests.helpers.gaussians import Bank

RATE, WINDOW, CHANNELS, FRAME = 8000, 64, 2, 4
VARIANCES = {"Bass": 0.03, "Drums": 0.01, "Guitar": 0.02, "Piano": 0.005}
LABELS = list(VARIANCES)
W = 0.7
SOLVER = Solver("euler", steps=8, sigma_max=1.0, sigma_min=0.01)
ROTATION = torch.linalg.qr(torch.randn(8, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64))[0]


def variance(text):
    return 0.04 if text is None else sum(VARIANCES[label] for label in text.split(", "))


def gains(cond, sigma):
    """v/(v + σ²) of each row, `[N]`."""
    v = torch.tensor([variance(text) for text in cond.texts], dtype=sigma.dtype)
    return v / (v + sigma**2)


def wide(values, x):
    return values.reshape(-1, *[1] * (x.ndim - 1))


def eps(scaled, t, cond):
    """E[ε | x] of the exact denoiser; t is σ."""
    x = scaled * wide(1 + t**2, scaled).sqrt()
    return x * wide((1 - gains(cond, t)) / t, x)


def v(scaled, t, cond):
    """E[α·ε − s·x₀ | x], with t in [0, 1]."""
    sigma = (t * math.pi / 2).tan()
    alpha = wide((1 + sigma**2).rsqrt(), scaled)
    x, gain, s = scaled / alpha, wide(gains(cond, sigma), scaled), wide(sigma, scaled)
    return alpha * x * (1 - gain) / s - s * alpha * gain * x


def flow(x_t, t, cond):
    """E[ε − x₀ | x_t]."""
    sigma = t / (1 - t)
    x, gain = x_t / wide(1 - t, x_t), wide(gains(cond, sigma), x_t)
    return x * (1 - gain) / wide(sigma, x) - gain * x


def encode(audio):
    """`[N, 2, T]` to `[N, 2, 4, T/4]`: frames of 4 samples of both channels, rotated."""
    frames = audio.unflatten(-1, (-1, FRAME)).movedim(-2, -1).flatten(1, 2)  # [N, 8, W]
    return torch.einsum("ij,njw->niw", ROTATION.to(audio.dtype), frames).unflatten(1, (2, 4))


def decode(x):
    frames = torch.einsum("ji,njw->niw", ROTATION.to(x.dtype), x.flatten(1, 2))
    return frames.unflatten(1, (2, 4)).movedim(-1, -2).flatten(-2)


def latent_shape(samples):
    return (2, 4, samples // FRAME)


LATENT = Latent(encode, decode, latent_shape, additive=True)
ADAPTERS = {
    "v": lambda **about: from_v(v, **about),
    "eps": lambda **about: from_eps(eps, lambda sigma: sigma, **about),
    "flow": lambda **about: from_flow(flow, **about),
}


def model(adapter="v", space=LATENT, window=WINDOW, **about):
    about = {"sample_rate": RATE, "channels": CHANNELS, "labels": LABELS, **about}
    return ADAPTERS[adapter](embed=lambda texts: Bank(tuple(texts)), window=window, space=space, **about)


def session(built, solver=SOLVER, **batch):
    return Session(built, solver, Guidance(w=W), Batch(**batch) if batch else None)


def noise(*shape, seed=0, scale=0.2):
    return torch.from_numpy(np.random.default_rng(seed).normal(scale=scale, size=shape).astype(np.float32))


@pytest.mark.parametrize("shape", [(5, 1, 16), (5, 2, 3, 8), (5, 7)])
@pytest.mark.parametrize("adapter", ADAPTERS)
def test_adapters_give_the_exact_denoiser_of_states_of_any_rank(adapter, shape):
    x = torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    sigma = torch.tensor([1e-3, 0.1, 0.5, 3.0, 40.0], dtype=torch.float64)
    texts = ("Bass", None, "Bass, Drums", "Piano", "Guitar")
    expected = torch.stack(
        [row * variance(t) / (variance(t) + s**2) for row, s, t in zip(x, sigma, texts, strict=True)]
    )
    torch.testing.assert_close(ADAPTERS[adapter]()(x, sigma, Bank(texts)), expected)


# The equations, coordinate by coordinate


class Plain:
    """An Euler run of rows of coordinates `[S, n]` of one item, by an equation of gains."""

    def __init__(self, seed):
        self.draw = SeededNoise([seed])

    def noise(self, rows, n):
        return self.draw(torch.empty(1, rows, n))[0].numpy().astype(np.float64)

    def run(self, rows, n, slope):
        sigmas = SOLVER.sigmas()
        x = sigmas[0] * self.noise(rows, n)
        for sigma, after in pairwise(sigmas):
            x = x + (after - sigma) * slope(x, sigma)
        return x


def gain(prompt, sigma, negative=None):
    plain, without = (variance(t) / (variance(t) + sigma**2) for t in (prompt, negative))
    return plain + W * (plain - without)


def expected_separate(y, seed):
    names = ["Bass", "Drums", "Piano"]

    def slope(x, sigma):
        rest = (1 - gain("Piano", sigma)) * (y - x.sum(0))
        return np.stack([((1 - gain(names[k], sigma)) * x[k] - rest) / sigma for k in range(2)])

    x = Plain(seed).run(2, len(y), slope)
    return np.stack([*x, y - x.sum(0)])


def expected_extract(y, seed):
    pairs = [("Bass", "Drums"), ("Drums", "Bass")]

    def slope(x, sigma):
        rows = [
            ((1 - gain(own, sigma, "Piano" if own == "Bass" else None)) * x[k] - (1 - gain(other, sigma)) * (y - x[k]))
            for k, (own, other) in enumerate(pairs)
        ]
        return np.stack(rows) / sigma

    return Plain(seed).run(2, len(y), slope)


def expected_generate(y, seed):
    names, joint = ["Bass", "Drums"], "Bass, Drums"

    def slope(x, sigma):
        excess = x[2] - x[0] - x[1]
        rows = [(1 - gain(names[k], sigma)) * x[k] / sigma - sigma / (2.2 * sigma) ** 2 * excess for k in range(2)]
        return np.stack([*rows, (1 - gain(joint, sigma)) * x[2] / sigma + sigma / (3 * sigma) ** 2 * excess])

    return Plain(seed).run(3, len(y), slope)


def expected_accompany(y, seed):
    plain = Plain(seed)
    epsilon = plain.noise(1, len(y))[0]

    def slope(x, sigma):
        excess = x[1] - 1.2 * x[0] - 0.8 * (y + sigma * epsilon)
        pull = sigma / (2 * sigma) ** 2
        row = (1 - gain("Piano", sigma)) * x[0] / sigma - pull * excess
        return np.stack([row, (1 - gain("Bass, Piano", sigma)) * x[1] / sigma + pull * excess])

    return plain.run(2, len(y), slope)


def run(task, at, y, seeds):
    """The rows of a task, `[B, S, C, T]`."""
    if task == "separate":
        return tasks.separate(at, y, ["Bass", "Drums", "Piano"], constrained="Piano", seeds=seeds)
    if task == "extract":
        return tasks.extract(at, y, ["Bass", "Drums"], seeds=seeds, negatives={"Bass": "Piano"})
    if task == "generate":
        gamma = {"gamma_x": lambda s: 2.2 * s, "gamma_y": lambda s: 3 * s}
        stems, mixture = tasks.generate(at, ["Bass", "Drums"], seeds=seeds, **gamma)
    else:
        gamma = {"gamma_x": lambda s: 2 * s, "gamma_y": lambda s: 2 * s, "alpha": 0.8, "beta": 1.2}
        stems, mixture = tasks.accompany(at, y.unsqueeze(1), ["Bass"], ["Piano"], seeds=seeds, **gamma)
    return torch.cat([stems, mixture.unsqueeze(1)], dim=1)


EXPECTED = {
    "separate": expected_separate,
    "extract": expected_extract,
    "generate": expected_generate,
    "accompany": expected_accompany,
}
OTHERS = {
    "latent, v": ("v", LATENT),
    "latent, eps": ("eps", LATENT),
    "latent, flow": ("flow", LATENT),
    "latent, linear but not declared so": ("v", replace(LATENT, additive=False)),
    "stereo": ("v", Waveform(CHANNELS)),
    "stereo, flow": ("flow", Waveform(CHANNELS)),
}


@pytest.mark.parametrize("other", OTHERS)
@pytest.mark.parametrize("task", EXPECTED)
def test_tasks_are_the_equations_in_any_space(task, other):
    adapter, space = OTHERS[other]
    y, seeds = noise(2, CHANNELS, WINDOW), [3, 8]
    at = session(model(adapter, space), size=3, fixed=True)
    assert isinstance(at.model, Model)
    found = run(task, at, y, seeds)
    for item, (signal, seed) in enumerate(zip(y, seeds, strict=True)):
        coordinates = space.encode(signal[None]).flatten().numpy().astype(np.float64)
        rows = torch.from_numpy(EXPECTED[task](coordinates, seed)).reshape(-1, *space.shape(WINDOW))
        torch.testing.assert_close(found[item].double(), space.decode(rows), atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize("task", EXPECTED)
def test_windows_of_a_latent_agree_with_one_long_window(task):
    """The denoiser acts on each coordinate alone, so that windows and their cross-fades change nothing."""
    at = session(model())
    length = at.padded(WINDOW + 20)
    assert length == WINDOW + 48  # in frames of 4 samples, 16 a window and 4 of them shared
    y, long = noise(1, CHANNELS, length), session(model(window=length))
    if task == "generate":
        found = tasks.generate(at, LABELS, seeds=[1], length=length)
        expected = tasks.generate(long, LABELS, seeds=[1])
        torch.testing.assert_close(found, expected)
    else:
        torch.testing.assert_close(run(task, at, y, [1]), run(task, long, y, [1]))
    assert at.evaluations > long.evaluations


@pytest.mark.parametrize("additive", [True, False])
def test_latents_go_through_all_that_is_beyond_the_paper(additive):
    """Against the same model in one channel of coordinates, which needs no space of its own."""
    y, names = noise(2, CHANNELS, WINDOW), ["Bass", "Drums", "Piano"]
    n = CHANNELS * WINDOW
    at = session(model(space=replace(LATENT, additive=additive)))
    plain = session(model(space=Waveform(1), channels=1, window=n))
    z = encode(y).reshape(2, 1, n)

    def same(found, expected):
        wanted = decode(expected.reshape(-1, *latent_shape(WINDOW)))
        torch.testing.assert_close(found.reshape(wanted.shape), wanted, atol=2e-5, rtol=1e-4)

    options = {"seeds": [3, 8], "average": Average(3, inverted=True)}
    same(tasks.separate(at, y, names, **options), tasks.separate(plain, z, names, **options))
    options["consistent"] = True
    found = tasks.extract(at, y, names, **options)
    same(found, tasks.extract(plain, z, names, **options))
    torch.testing.assert_close(found.sum(dim=1), y)
    for noises in ("independent", "coupled"):
        options = {"seeds": [3, 8], "noise": noises, "consistent": True}
        for a, b in zip(tasks.generate(at, names, **options), tasks.generate(plain, names, **options), strict=True):
            same(a, b)
    options = {"seeds": [3, 8], "lags": None}
    for a, b in zip(
        tasks.generate_sequential(at, names, **options), tasks.generate_sequential(plain, names, **options), strict=True
    ):
        same(a, b)
    given = ["Bass"], ["Drums", "Piano"]
    found = tasks.accompany_conditioned(at, y[:, None], *given, **options)
    for a, b in zip(found, tasks.accompany_conditioned(plain, z[:, None], *given, **options), strict=True):
        same(a, b)
    with_copies = tasks.accompany_conditioned(at, y[:, None], *given, seeds=[3, 8], lags=2)
    assert not torch.allclose(with_copies[0], found[0])


# A space that is not additive


def warped(additive=False):
    """An invertible codec that is not linear."""
    return Latent(lambda audio: encode(audio.sinh()), lambda x: decode(x).asinh(), latent_shape, additive)


def test_sums_in_a_space_that_is_not_additive_go_through_signals():
    space = warped()
    y = noise(2, CHANNELS, WINDOW)
    signals, noises = noise(2, 3, CHANNELS, WINDOW, seed=1), noise(2, 3, *latent_shape(WINDOW), seed=2)
    clean = torch.stack([encode(signals[:, k].sinh()) for k in range(3)], dim=1)
    rest = space.rest(y, clean + noises, clean)
    torch.testing.assert_close(rest[:, 0], encode((y - signals.sum(dim=1)).sinh()) - noises.sum(dim=1))
    mixed = space.mix(clean + noises, clean)
    torch.testing.assert_close(mixed[:, 0], encode(signals.sum(dim=1).sinh()) + noises.sum(dim=1))
    assert not torch.allclose(mixed, clean.sum(dim=1, keepdim=True) + noises.sum(dim=1, keepdim=True), atol=1e-3)


def test_derivatives_in_a_space_that_is_not_additive():
    """Each by its definition, with sums of denoised signals and of the noises that are left."""
    space, sigma, names = warped(), 0.3, ["Bass", "Drums", "Piano"]
    at, y, x = session(model(space=space)), noise(1, CHANNELS, WINDOW), noise(1, 3, *latent_shape(WINDOW), seed=3)
    D = [gain(name, sigma) * x[:, k] for k, name in enumerate(names)]

    def without(sources):
        """E(y − Σ Dec(D_l)) − Σ (x_l − D_l)."""
        signals = sum(space.decode(D[k]) for k in sources)
        return space.encode(y - signals) - sum(x[:, k] - D[k] for k in sources)

    rest = without([0, 1])
    expected = [(x[:, k] - D[k] - (1 - gain("Piano", sigma)) * rest) / sigma for k in range(2)]
    found = inference.separator(at, y, names, "Piano", space=space)(x[:, :2], sigma)
    torch.testing.assert_close(found, torch.stack(expected, dim=1), atol=1e-5, rtol=1e-4)

    joint = [", ".join(names[:k] + names[k + 1 :]) for k in range(3)]
    expected = [(x[:, k] - D[k] - (1 - gain(joint[k], sigma)) * without([k])) / sigma for k in range(3)]
    found = inference.extractor(at, y, names, space=space)(x, sigma)
    torch.testing.assert_close(found, torch.stack(expected, dim=1), atol=1e-5, rtol=1e-4)

    clean = [gain(text, sigma) * x[:, k] for k, text in enumerate(["Bass", "Drums", "Bass, Drums"])]
    mixed = space.encode(space.decode(clean[0]) + space.decode(clean[1])) + sum(x[:, k] - clean[k] for k in range(2))
    pull = sigma / 0.5**2 * (x[:, 2] - mixed)
    expected = [(x[:, k] - clean[k]) / sigma - (pull if k < 2 else 0) for k in range(3)]
    found = inference.total(at, names[:2], gamma_x=0.5, gamma_y=math.inf, space=space)(x, sigma)
    torch.testing.assert_close(found, torch.stack(expected, dim=1), atol=1e-5, rtol=1e-4)

    given = noise(1, 1, *latent_shape(WINDOW), seed=4)
    clean = [gain(text, sigma) * x[:, k] for k, text in enumerate(["Drums", "Bass, Drums"])]
    mixed = space.encode(0.8 * space.decode(given[:, 0]) + 1.2 * space.decode(clean[0]))
    mixed = mixed + 1.2 * (x[:, 0] - clean[0]) + 0.8 * sigma * given[:, 0]
    pull = sigma / 0.5**2 * (x[:, 1] - mixed)
    expected = [(x[:, 0] - clean[0]) / sigma - pull, (x[:, 1] - clean[1]) / sigma + pull]
    gammas = {"gamma_x": 0.5, "gamma_y": 0.5, "alpha": 0.8, "beta": 1.2}
    partial = inference.partial(at, given, ["Bass"], ["Drums"], noise=given, space=space, **gammas)
    torch.testing.assert_close(partial(x[:, :2], sigma), torch.stack(expected, dim=1), atol=1e-5, rtol=1e-4)

    clean = [gain(text, sigma) * x[:, k] for k, text in enumerate(["Drums", "Piano", "Drums, Piano"])]
    bass, alone = space.decode(given[:, 0]), space.decode(clean[2])
    heard = space.encode(alone + bass) + x[:, 2] - clean[2]
    whole = space.decode(gain("Bass, Drums, Piano", sigma) * heard) - bass
    copies = inference.Copies(bass, lags=2)
    z = 0.7 * alone + 0.3 * whole
    z = space.encode(z - copies(z[0]))
    mixed = space.encode(space.decode(clean[0]) + space.decode(clean[1])) + sum(x[:, k] - clean[k] for k in range(2))
    pull = sigma / 0.5**2 * (x[:, 2] - mixed)
    expected = [(x[:, k] - clean[k]) / sigma - pull for k in range(2)] + [(x[:, 2] - z) / sigma]
    options = {"share": 0.3, "lags": 2, "gamma_x": 0.5, "space": space}
    conditioned = inference.conditioned(at, given, ["Bass"], ["Drums", "Piano"], **options)
    torch.testing.assert_close(conditioned(x, sigma), torch.stack(expected, dim=1), atol=1e-5, rtol=1e-4)
    row = conditioned.mixture_row(x)
    torch.testing.assert_close(row, space.encode(space.decode(x[:, 2]) + bass), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("own", [None, inference.ShareOut(RATE, amount=0.6, seconds=0.002)], ids=["equal", "by power"])
@pytest.mark.parametrize("space", [LATENT, warped()], ids=["additive", "not additive"])
def test_estimates_are_made_consistent_as_signals(space, own):
    y, x, sigma = noise(2, CHANNELS, WINDOW), noise(2, 3, *latent_shape(WINDOW), seed=3), 0.3
    at, names = session(model(space=space)), ["Bass", "Drums", "Piano"]
    plain = inference.extractor(at, y, names, space=space)
    estimates = torch.stack([space.decode(plain.estimate(x, sigma)[:, k]) for k in range(3)], dim=1)
    moved = own(estimates, y) if own else estimates + (y - estimates.sum(dim=1)).unsqueeze(1) / 3
    expected = torch.stack([space.encode(moved[:, k]) for k in range(3)], dim=1)
    consistent = inference.extractor(at, y, names, consistent=own or True, space=space)
    torch.testing.assert_close(consistent.estimate(x, sigma), expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("method", ["separator", "extractor"])
def test_posteriors_through_signals_are_those_of_the_signals(method):
    """Of Gaussian signals, whose posterior is known, by a model of latents that are no linear function of them.

    Every sample is an item of its own. D is an integral over the prior. The equations neglect how the noise of a sum
    moves with a source, which costs a few per cent; sums of latents cost more.
    """
    v = {"Bass": 0.5, "Drums": 1.0}
    grid = torch.linspace(-6, 6, 1201, dtype=torch.float64)
    space = Latent(torch.sinh, torch.asinh, lambda samples: (1, samples))

    def D(x, sigma, prompts):
        rows = []
        for row, prompt in zip(x, prompts, strict=True):
            z = (grid * v[prompt.text] ** 0.5).sinh()
            weights = torch.softmax(-(grid**2) / 2 - (row.reshape(-1, 1) - z) ** 2 / (2 * sigma**2), dim=-1)
            rows.append((weights @ z).reshape(row.shape))
        return torch.stack(rows)

    def error(level, space):
        y = torch.full((1, 1, 500), level, dtype=torch.float64)
        derivative = {
            "separator": lambda: inference.separator(D, y, list(v), "Drums", space=space),
            "extractor": lambda: inference.extractor(D, y, list(v), space=space),
        }[method]()
        solver, draw = Solver("euler", steps=40, sigma_max=10, sigma_min=0.02, s_churn=14), SeededNoise([1])
        x = solver.sigmas()[0] * draw(y.expand(1, derivative.rows, -1, -1))
        found = derivative.signals(solver.sample(derivative, x, noise=draw))
        return (found[0, 0].mean() / level - v["Bass"] / sum(v.values())).abs()

    for level in (1.5, 2.5):
        assert error(level, space) < 0.06 < error(level, replace(space, additive=True))


@pytest.mark.parametrize("additive", [True, False])
def test_how_often_signals_are_decoded_and_encoded(additive):
    """As `gmsdi.inference` says, of each evaluation for each item."""
    counts = {"decoded": 0, "encoded": 0}

    def counted(what, function):
        def call(x):
            counts[what] += len(x)
            return function(x)

        return call

    base = warped(additive)
    space = replace(base, encoder=counted("encoded", base.encoder), decoder=counted("decoded", base.decoder))
    at, y, names, K = session(model(space=space)), noise(2, CHANNELS, WINDOW), LABELS, 4
    given, own = noise(2, 2, *latent_shape(WINDOW)), inference.ShareOut(RATE, seconds=0.002)
    gamma = {"gamma_x": 1.0, "gamma_y": 1.0}
    built = {
        "total": (lambda: inference.total(at, names, **gamma, space=space), K, 1),
        "total alone": (lambda: inference.total(at, names, gamma_x=math.inf, gamma_y=math.inf, space=space), 0, 0),
        "partial": (lambda: inference.partial(at, given, names[:2], names[2:], **gamma, space=space), K - 2, 1),
        "separator": (lambda: inference.separator(at, y, names, 0, space=space), K - 1, 1),
        "extractor": (lambda: inference.extractor(at, y, names, space=space), K, K),
        "consistent": (lambda: inference.extractor(at, y, names, consistent=True, space=space), 2 * K, 2 * K),
        "by power": (lambda: inference.extractor(at, y, names, consistent=own, space=space), 2 * K, 2 * K),
        "projected": (lambda: inference.projected(at, y, names, space=space), K, K),
        "conditioned": (lambda: inference.conditioned(at, given, names[:2], names[2:], gamma_x=1.0, space=space), K, 3),
        "one": (lambda: inference.conditioned(at, given, names[:2], names[2:3], gamma_x=1.0, space=space), 2, 2),
    }
    for name, (build, decoded, encoded) in built.items():
        derivative = build()
        counts.update(decoded=0, encoded=0)
        derivative(noise(2, derivative.rows, *latent_shape(WINDOW)), 0.3)
        by_function = K if name == "by power" else 0
        expected = (by_function, by_function) if additive else (decoded, encoded)
        assert (counts["decoded"], counts["encoded"]) == (2 * expected[0], 2 * expected[1]), name


def cut(additive):
    """A linear codec that loses half of what there is."""
    kept = torch.tensor([1.0, 0, 1, 0]).reshape(1, 1, 4, 1)
    return Latent(lambda audio: encode(audio) * kept, lambda x: decode(x * kept), latent_shape, additive)


@pytest.mark.parametrize("space", [warped(), cut(False), cut(True)], ids=["warped", "lossy", "lossy, additive"])
@pytest.mark.parametrize("task", ["separate", "project", "extract", "generate"])
def test_stems_sum_to_the_mixture_in_any_space(task, space):
    at, y, names = session(model(space=space)), noise(2, CHANNELS, WINDOW), ["Bass", "Drums", "Piano"]
    if task == "separate":
        found = tasks.separate(at, y, names, constrained="Drums", seeds=[1, 2])
    elif task == "project":
        found = tasks.separate(at, y, names, seeds=[1, 2])
    elif task == "extract":
        found = tasks.extract(at, y, names, consistent=True, seeds=[1, 2])
    else:
        found, y = tasks.generate(at, names, consistent=True, seeds=[1, 2])
    torch.testing.assert_close(found.sum(dim=1), y, atol=1e-5, rtol=1e-4)


# Sessions


def test_a_session_counts_for_all_that_are_made_of_it_and_keeps_to_the_models_noise_levels():
    at = session(model(), size=2)
    other = at.using(replace(SOLVER, steps=4), Guidance())
    y = noise(1, CHANNELS, WINDOW)
    tasks.separate(other, y, ["Bass", "Drums"], seeds=[0])
    assert at.evaluations == other.evaluations == 4 * 2
    tasks.separate(at, y, ["Bass", "Drums"], seeds=[0])
    assert other.evaluations == 4 * 2 + 8 * 2 * 2
    with pytest.raises(UserError, match=r"0.01 to 1, but the model knows 0.05 to 3; change the solver's sigma_min"):
        session(model(sigma_range=(0.05, 3.0)))
    with pytest.raises(UserError, match="max_batch is 0"):
        Batch(0)
    with pytest.raises(UserError, match="runs is 0"):
        Average(0)
    with pytest.raises(UserError, match="1 seeds for 2 items"):
        tasks.accompany(at, noise(2, 1, CHANNELS, WINDOW), ["Bass"], ["Drums"], seeds=[1])


def test_prompts_are_embedded_once_for_all_batches_of_a_session():
    inner, embedded = model(), []
    at = session(
        replace(inner, embed=lambda texts: (embedded.append(tuple(texts)), inner.embed(texts))[1]),
        size=2,
    )
    first, again = (tasks.separate(at, noise(1, CHANNELS, WINDOW), ["Bass", "Drums"], seeds=[0]) for _ in range(2))
    assert torch.equal(first, again)
    assert len(embedded) == len(set(embedded)) == 1


def test_a_session_is_sampled_like_its_derivative():
    at = session(model(space=Waveform(CHANNELS)))
    derivative = inference.extractor(at, noise(2, CHANNELS, WINDOW), ["Bass", "Drums"])
    seen = []
    state = at.sample(derivative, (CHANNELS, WINDOW), [1, 2], progress=lambda *step: seen.append(step))
    draw = SeededNoise([1, 2])
    x = SOLVER.sigmas()[0] * draw(torch.empty(2, 2, CHANNELS, WINDOW))
    assert torch.equal(state, SOLVER.sample(derivative, x, noise=draw))
    assert seen == [(k, 8) for k in range(1, 9)]
    sigma = 0.3  # the mean of both estimates of Eq. 14
    y, g = derivative.mixture, [gain(name, sigma) for name in ("Bass", "Drums")]
    estimates = torch.stack([(g[k] * x[:, k] + y - g[1 - k] * (y - x[:, k])) / 2 for k in range(2)], dim=1)
    torch.testing.assert_close(derivative.estimate(x, sigma), estimates, atol=1e-6, rtol=1e-5)
    with pytest.raises(UserError, match="Separator implies no estimate"):
        inference.separator(at, y, ["Bass", "Drums"], 0).estimate(x[:, :1], sigma)


# From outside


def test_a_registered_family_is_heard_by_the_whole_library(tmp_path, monkeypatch):
    monkeypatch.setattr(families, "_REGISTERED", {})
    registry.register("toy", lambda where, *, device, precision: model(where))
    song = noise(2, 500).numpy()
    path = write(tmp_path / "song.wav", Audio(song, RATE))
    solver = replace(SOLVER, steps=12)
    stems = gmsdi.separate("toy:flow", path, ["Bass", "Drums", "Piano"], solver=solver)
    assert list(stems.parts) == ["Bass", "Drums", "Piano"]
    np.testing.assert_allclose(stems.residual, 0, atol=1e-5)
    np.testing.assert_allclose(
        gmsdi.separate(gmsdi.load("toy:v"), song, list(stems.parts), sample_rate=RATE, solver=solver).parts["Bass"],
        stems.parts["Bass"],
        atol=1e-4,
    )
    files = stems.save(tmp_path / "out", format="wav", mixture=True, residual=True)
    assert [file.name for file in files] == ["bass.wav", "drums.wav", "piano.wav", "mixture.wav", "residual.wav"]
    np.testing.assert_array_equal(read(files[0]).samples, stems.parts["Bass"])
    with pytest.raises(UserError, match="format is 'ogg'"):
        stems.save(tmp_path, format="ogg")
    mono = gmsdi.extract("toy:v", song[0], ["Bass", "Drums"], sample_rate=RATE, consistent=True, solver=solver)
    assert {part.shape for part in mono.parts.values()} == {(2, 500)}  # the model's two channels
    made = gmsdi.generate("toy:eps", ["Bass", "Drums"], seconds=0.05, solver=solver)
    assert made.mixture.shape == (2, 400)
    more = gmsdi.accompany("toy:eps", {"Bass": path}, ["Piano"], solver=solver)
    np.testing.assert_allclose(more.residual, song, atol=1e-6)
    with pytest.raises(UserError, match=r"nowhere: no model folder .* mini, toy:"):
        gmsdi.load("nowhere")


@pytest.mark.parametrize("latent", [False, True])
def test_filtered_stems_hold_only_what_the_song_has(latent):
    """A song of one tone: what the stems of white sources have elsewhere is taken out, and what a decoder whistles."""
    t = np.arange(2000)
    song = 0.2 * np.sin(2 * np.pi * 500 * t / RATE).astype(np.float32)
    options = {"sample_rate": RATE, "projected": True, "solver": replace(SOLVER, steps=12, last="estimate")}
    whistle = 0.01 * torch.tensor([1.0, -1.0]).repeat(1024)
    codec = Latent(torch.sinh, lambda x: x.asinh() + whistle, lambda samples: (1, samples))
    mono = model(space=codec if latent else Waveform(1), channels=1, window=2048)
    plain = gmsdi.separate(mono, song, ["Bass", "Drums"], **options)
    clean = gmsdi.separate(mono, song, ["Bass", "Drums"], wiener=Wiener(RATE, seconds=0.03), **options)

    def elsewhere(part):
        power = np.abs(np.fft.rfft(part[0] * np.hanning(2000))) ** 2
        return power[200:].sum() / power.sum()

    assert elsewhere(plain.parts["Bass"]) > 30 * elsewhere(clean.parts["Bass"])
    np.testing.assert_allclose(clean.residual[:, 100:-100], 0, atol=1e-5)


def test_a_prompt_of_free_text_needs_no_labels():
    built = model(labels=())
    found = tasks.sample(session(built), [Prompt("Bass", "Drums"), "Bass, Piano"], seeds=[1, 2])
    for item, (text, negative) in enumerate((("Bass", "Drums"), ("Bass, Piano", None))):
        x = Plain(item + 1).run(1, CHANNELS * WINDOW, lambda x, s, t=text, n=negative: (1 - gain(t, s, n)) * x / s)
        wanted = decode(torch.from_numpy(x).reshape(1, *latent_shape(WINDOW)))
        torch.testing.assert_close(found[item].double(), wanted[0], atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize("own", [1, 2])
@pytest.mark.parametrize("given", [1, 2, 6])
def test_songs_of_any_number_of_channels_have_a_residual(tmp_path, own, given):
    """Stems have the song's channels if the model has one, and else the model's; their sums have as many."""
    built = Adapted(lambda x, sigma, cond: x / (1 + sigma.reshape(-1, 1, 1) ** 2), channels=own)
    song = np.random.default_rng(0).normal(scale=0.1, size=(given, 4000)).astype(np.float32)
    channels = given if own == 1 else own
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        separated = gmsdi.separate(built, song, ["Bass", "Drums"], sample_rate=8000, steps=5)
    assert {part.shape for part in separated.parts.values()} == {(channels, 4000)}
    assert separated.residual.shape == separated.mixture.shape == (channels, 4000)
    accompanied = gmsdi.accompany(built, {"Bass": song}, ["Drums"], sample_rate=8000)
    assert accompanied.mixture.shape == (channels, 4000)
    expected = song if own == 1 else np.repeat(song.mean(axis=0, keepdims=True), own, axis=0)
    expected = song if given == own else expected
    np.testing.assert_allclose(accompanied.residual, expected, atol=1e-6)
    assert separated.save(tmp_path, residual=True)


def test_the_default_of_an_adapted_model_is_a_waveform():
    assert Adapted(eps, channels=2).space.shape(7) == (2, 7)
    assert sample_seeds([4], 2)[0] == 4


def test_importing_the_package_loads_nothing_heavy():
    code = "import gmsdi, sys; sys.exit('torch' in sys.modules or 'numpy' in sys.modules or not gmsdi.__all__)"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=REPO)
