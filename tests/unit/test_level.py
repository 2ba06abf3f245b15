"""Level: every mixture as loud as the model knows them and back, silence for silence, and nothing absurd written."""

import math

import numpy as np
import pytest
import torch
from torch import nn

import gmsdi
from gmsdi import inference, level, tasks
from gmsdi.data.mini import MiniConfig, compose_track, master, render
from gmsdi.errors import UserError
from gmsdi.inference import Wiener
from gmsdi.inference.resting import Resting
from gmsdi.io.audio import Audio
from gmsdi.level import Rests, known_level, level_of_windows, levels_of, require_plausible
from gmsdi.metrics.si_sdr import si_sdr
from gmsdi.models.checkpoint import build_model
from gmsdi.models.demucs import ConditionalSeparator
from gmsdi.sampling.noise import SeededNoise
from gmsdi.sampling.solver import Guidance, Solver
from gmsdi.study.separation import separate
from gmsdi.systems.demucs_gibbs import GibbsSeparator
from gmsdi.systems.gmsdi import Gmsdi
from gmsdi.systems.msdm import JointMSDM
from gmsdi.systems.weak_msdm import WeakMSDM
from tests.helpers import tiny
from tests.helpers.gaussians import GaussianDenoiser, guide
from tests.helpers.pipes import model_of, pipe_of
from tests.helpers.rows import make_row

LABELS = tiny.CONFIG["labels"]
WINDOW = tiny.CONFIG["window"]
RATE = tiny.CONFIG["sample_rate"]
KNOWN = -17.0
SOLVER = Solver("euler", steps=12, s_churn=2.0)
GUIDED = Guidance(w=1.0)
SAMPLING = {"solver": SOLVER, "guidance": GUIDED}


def network(seed, **changes):
    torch.manual_seed(seed)
    model = build_model({**tiny.CONFIG, **changes})
    with torch.no_grad():
        for parameter in model.net.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model.eval().requires_grad_(False)


class Net(nn.Module):
    """A network in Demucs' place, far from linear."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv1d(1 + 2 * len(LABELS), len(LABELS), 9, padding=4)

    def forward(self, x):
        return self.conv(x).tanh().unsqueeze(2)


MIXTURES = network(0)
JOINT = network(1, unet={**tiny.CONFIG["unet"], "in_channels": 3}, text={"kind": "none"}, target="stems")
SINGLE = {label: network(2 + k, text={"kind": "none"}, target=label) for k, label in enumerate(LABELS)}


def system(name, known=KNOWN):
    config = {"sample_rate": RATE, "window": WINDOW, "labels": LABELS, "level": known}
    if name == "gmsdi":
        return pipe_of(MIXTURES, config)
    if name == "msdm":
        return JointMSDM(JOINT, config)
    if name == "weak":
        return WeakMSDM(SINGLE, config)
    return GibbsSeparator(ConditionalSeparator(Net(), config).eval().requires_grad_(False))


def noise(*shape, scale=0.1, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).normal(scale=scale, size=shape).astype(np.float32))


def accompany(run, x, **options):
    return torch.cat(
        [part.flatten(1) for part in run(x[:, None] * x.new_tensor([1, 0.5])[:, None, None], *options.pop("stems"),
         seeds=[1, 2], gamma_x=lambda s: 2 * s, gamma_y=lambda s: 2 * s, **SAMPLING, **options)], dim=1,
    )  # fmt: skip


def accompany_msdm(run, x):
    return run(x[:, None], ["Bass"], solver=SOLVER, seeds=[1, 2], best_of=2)[0]


def stack(stems):
    return torch.from_numpy(np.stack(list(stems.stems.values())))


def song(run, x, **options):
    return stack(run(x.flatten().reshape(2, -1).numpy(), sample_rate=11025, solver=SOLVER, **options))


PAIR = (["Bass", "Drums"], ["Piano"])
EULER = {"solver": SOLVER, "seeds": [1, 2]}
DOORS = {
    "separator": ("gmsdi", lambda s, x: s.separate_windows(x, LABELS, constrained="Drums", seeds=[1, 2], **SAMPLING)),
    "projected": ("gmsdi", lambda s, x: s.separate_windows(x, LABELS, constrained=None, seeds=[1, 2], **SAMPLING)),
    "extractor": ("gmsdi", lambda s, x: s.extract_windows(x, LABELS, seeds=[1, 2], **SAMPLING)),
    "mean": (
        "gmsdi",
        lambda s, x: s.extract_windows(
            x, LABELS, consistent=True, samples=2, inverted=True, seeds=[1, 2], **SAMPLING
        ),
    ),
    "Eq. 12": ("gmsdi", lambda s, x: accompany(s.accompany_windows, x, stems=PAIR)),
    "Eq. 12, coupled": ("gmsdi", lambda s, x: accompany(s.accompany_windows, x, stems=PAIR, given_noise="coupled")),
    "conditioned": (
        "gmsdi",
        lambda s, x: s.accompany_conditioned_windows(x[:, None], ["Bass"], LABELS[1:], seeds=[1, 2], **SAMPLING)[0],
    ),
    "a song separated": ("gmsdi", lambda s, x: song(s.separate, x)),
    "a song extracted": ("gmsdi", lambda s, x: song(s.extract, x, consistent=True)),
    "contextual": ("msdm", lambda s, x: s.separate(x, constrained="Piano", **EULER)),
    "gaussian": ("msdm", lambda s, x: s.separate_gaussian(x, **EULER)),
    "imputation": ("msdm", lambda s, x: accompany_msdm(s.accompany, x)),
    "weak": ("weak", lambda s, x: s.separate(x, constrained="Bass", **EULER)),
    "gibbs": ("gibbs", lambda s, x: s.separate(x, steps=4, noise=0.1, seeds=[1, 2])),
}  # fmt: skip


@pytest.mark.parametrize("door", DOORS)
def test_stems_follow_the_gain(door):
    name, run = DOORS[door]
    x = noise(2, 1, WINDOW, scale=0.2)
    x[1] *= 0.3  # each item has its own level
    expected = run(system(name), x)
    largest = expected.abs().max()
    for decibels in (-60, -20, 12):
        gain = 10 ** (decibels / 20)
        assert (run(system(name), gain * x) / gain - expected).abs().max() < 1e-3 * largest
    if name != "gibbs":  # which normalises by itself
        unlevelled = system(name, None)
        assert (run(unlevelled, 0.1 * x) / 0.1 - run(unlevelled, x)).abs().max() > 0.1 * largest


def test_a_given_song_and_its_accompaniment_have_one_level():
    """But for the rounding to 16 bits, for which there is to be room below full scale."""
    pipe = system("gmsdi")
    given = noise(1, 500, scale=0.01).numpy()
    for share in (None, 0.4):
        soft, loud = (
            pipe.accompany({"Bass": g * given}, ["Drums"], sample_rate=RATE, solver=SOLVER, share=share)
            for g in (0.25, 1.0)
        )
        drums = loud.stems["Drums"]
        assert np.abs(drums).max() < 1
        np.testing.assert_allclose(4 * soft.stems["Drums"], drums, atol=4 / 32768 + 1e-3 * np.abs(drums).max())


def test_the_bundled_model_separates_a_soft_mixture_as_it_does_a_loud_one():
    """A window of a composed piece, as it is and 20 dB below; without the model's level, the stems would differ."""
    config = MiniConfig(sections=[1, 1], section_sizes={4: 1.0}, programs={"Bass": [33], "Guitar": [27], "Piano": [0]})
    stems, _, _ = master(render(compose_track(config, seed=1, split="test", index=0), config), config)
    model = gmsdi.load("mini", device="cpu", precision="float32")  # of which bf16 keeps only two digits
    truth = np.stack([stems[label] for label in model.labels])[:, : model.window].astype(np.float32) / 32768
    mixture = truth.sum(axis=0)

    def separated(gain):
        parts = gmsdi.separate(model, gain * mixture, sample_rate=config.sample_rate, preset="fast").stems
        return np.stack([parts[label][0] for label in model.labels])

    def improvement(estimates, gain):
        return si_sdr(estimates, gain * truth) - si_sdr(gain * mixture, gain * truth)

    loud, soft = separated(1.0), separated(0.1)
    np.testing.assert_allclose(10 * soft, loud, atol=1e-3 * np.abs(loud).max())
    np.testing.assert_allclose(improvement(soft, 0.1), improvement(loud, 1.0), atol=0.2)
    assert improvement(loud, 1.0).mean() > 6
    assert not separated(0.0).any()
    model.config["level"] = None
    assert np.abs(10 * separated(0.1) - loud).max() > 0.1 * np.abs(loud).max()


def test_a_model_without_level_is_as_it_was():
    """To the last bit what the derivatives and samplers give by themselves."""
    y, pipe = noise(2, 1, WINDOW), system("gmsdi", None)
    model = guide(MIXTURES, 1.0)
    for derivative, stems in (
        (
            inference.separator(model, y, LABELS, "Drums"),
            pipe.separate_windows(y, LABELS, constrained="Drums", seeds=[1, 2], **SAMPLING),
        ),
        (inference.extractor(model, y, LABELS), pipe.extract_windows(y, LABELS, seeds=[1, 2], **SAMPLING)),
    ):
        draw = SeededNoise([1, 2])
        state = SOLVER.sample(
            derivative, SOLVER.sigma_max * draw(torch.empty(2, derivative.rows, 1, WINDOW)), noise=draw
        )
        assert torch.equal(derivative.stems(state), stems)


# What a level is


def by_hand(signal, rate):
    """The gated root mean square of [C, T] in dB, block by block."""
    size = min(round(0.4 * rate), signal.shape[-1])
    blocks = [row[k : k + size].astype(np.float64) for row in signal for k in range(0, len(row), size)]
    mean = sum((block**2).sum() for block in blocks) / sum(map(len, blocks))
    kept = np.concatenate([block for block in blocks if (block**2).mean() > mean / 100])
    return 10 * np.log10((kept**2).mean())


def test_levels_are_gated():
    t = np.arange(16000) / RATE
    sine = 0.5 * np.sin(2 * np.pi * 100 * t)[None].astype(np.float32)
    rests = np.concatenate([sine, 0.001 * sine, np.zeros((1, 32000), np.float32)], axis=1)
    expected = 20 * math.log10(0.5 / math.sqrt(2))
    hard_left = np.concatenate([sine, 0 * sine])
    for signal in (sine, rests, hard_left):
        assert levels_of(torch.from_numpy(signal)[None], RATE)[0] == pytest.approx(expected, abs=1e-3)
    rng = np.random.default_rng(1)
    for length in (1, 100, 3200, 7001):
        signal = (rng.normal(size=(2, length)) * np.exp(-5 * rng.random(length))).astype(np.float32)
        assert levels_of(torch.from_numpy(signal)[None], RATE)[0] == pytest.approx(by_hand(signal, RATE), abs=1e-4)
    assert levels_of(torch.zeros(2, 1, 50), RATE) == [-math.inf] * 2
    assert levels_of(torch.full((1, 1, 50), 1e30), RATE)[0] == pytest.approx(600, abs=1e-3)


def test_given_stems_are_brought_to_their_share_of_the_mixture():
    heard = []

    def sample(x):
        heard.append(x)
        return (x[:, 0],)

    given = torch.cat([noise(1, 1, 1, 9000), noise(1, 1, 1, 9000, scale=0.01, seed=1), torch.zeros(1, 1, 1, 9000)])
    given[2, 0, 0, 7] = 1e-6
    options = {"stems": 1, "others": 3, "known": KNOWN, "sample_rate": RATE}
    (back,) = level.accompanied(sample, given, levels=None, **options)
    torch.testing.assert_close(back, given[:, 0])
    assert levels_of(heard[0][:2], RATE) == pytest.approx([KNOWN - 10 * math.log10(4)] * 2, abs=1e-3)
    assert torch.equal(heard[0][2], given[2])  # silence has no level
    level.accompanied(sample, given[:2], levels=[-20.0, -20.0], **options)
    torch.testing.assert_close(heard[1], 10 ** ((KNOWN + 20) / 20) * given[:2])
    with pytest.raises(UserError, match="1 levels for 2 items"):
        level.accompanied(sample, given[:2], levels=[-20.0], **options)


@pytest.mark.parametrize("stems", [None, ["Bass"]])
def test_what_is_generated_has_the_level_of_the_training_mixtures(stems):
    """Of a model in closed form, whose every prompt is white music of that level."""

    class White(GaussianDenoiser):
        def covariance(self, text):
            return np.full((1, 1), 10 ** (KNOWN / 10))

    pipe = pipe_of(White(), {"sample_rate": RATE, "window": WINDOW, "labels": LABELS, "level": KNOWN})
    made = pipe.generate(stems, seconds=0.5)
    assert levels_of(torch.from_numpy(made.mixture)[None], RATE)[0] == pytest.approx(KNOWN, abs=0.2)


@pytest.mark.parametrize("bad", [True, "-20", math.nan, math.inf, 30, -100])
def test_unusable_levels_of_models_are_refused(bad):
    with pytest.raises(UserError, match="model level is"):
        known_level({"level": bad})
    assert known_level({}) is None


def test_the_level_of_training_windows_is_the_median_track(windows):
    rate = windows.sample_rate
    for chunk in (3, 4, 5):  # the second of three tracks
        windows.stems([chunk])[:] = 0  # a copy: nothing changes
    tracks = [windows.mixture(ids).reshape(1, -1) for ids in ([0, 1, 2], [3, 4, 5], [6])]
    assert level_of_windows(windows) == pytest.approx(np.median([by_hand(x, rate) for x in tracks]), abs=0.006)
    silent = replace_mixture(windows, lambda ids: np.zeros((len(list(ids)), 1, WINDOW), np.float32))
    assert level_of_windows(silent) is None


def replace_mixture(windows, mixture):
    from types import SimpleNamespace

    return SimpleNamespace(**{**vars(windows), "mixture": mixture})


def test_chunks_have_the_level_of_their_track(windows, monkeypatch):
    """A chunk that is softer than the rest of its track stays so."""
    soft = np.array([1, 0.1, 1, 1, 1, 1, 0.1], np.float32)[:, None, None]
    changed = replace_mixture(windows, lambda ids: windows.mixture(ids) * soft[list(ids)])
    config = {"sample_rate": 8000, "window": WINDOW, "labels": LABELS, "level": 0}
    row = make_row("extractor", LABELS, w=0.0, consistent=True, solver={"name": "euler", "steps": 12})
    seen = []
    inner = tasks.extract

    def extract(*args, levels, **options):
        seen.append(levels)
        return inner(*args, levels=levels, **options)

    monkeypatch.setattr(tasks, "extract", extract)
    separate(row, Gmsdi(model_of(GaussianDenoiser(scale=0.1), config), LABELS), changed, [0, 1, 6], seed=1, batch=8)
    first = by_hand(changed.mixture([0, 1, 2]).reshape(1, -1), 8000)
    last = by_hand(changed.mixture([6]).reshape(1, -1), 8000)
    assert seen == [pytest.approx([first, first, last], abs=1e-4)]


# Silence


@pytest.mark.parametrize("known", [None, KNOWN])
@pytest.mark.parametrize(
    "door", [door for door in DOORS if "Eq." not in door and door not in ("conditioned", "imputation")]
)
def test_silence_gives_silence_and_asks_no_network(door, known):
    name, run = DOORS[door]
    for silence in (torch.zeros(2, 1, WINDOW), torch.full((2, 1, WINDOW), 1e-40), 2e-5 * torch.ones(2, 1, WINDOW)):
        runner = system(name, known)
        assert torch.equal(run(runner, silence), torch.zeros(run(runner, silence).shape))
        assert runner.evaluations == 0


@pytest.mark.parametrize("preset", ["best", "fast", "slow", "paper-separator"])
def test_a_song_below_silence_is_silent_with_every_preset(preset):
    """Also with those that filter the song, which would share it out."""
    pipe = pipe_of(GaussianDenoiser(scale=0.1), {"sample_rate": RATE, "window": WINDOW, "labels": LABELS})
    result = pipe.separate(noise(1, 3 * WINDOW, scale=1e-5), sample_rate=RATE, preset=preset)
    assert not any(part.any() for part in result.parts.values())


@pytest.mark.parametrize("known", [None, KNOWN])
def test_a_silent_window_in_a_batch_leaves_the_others_alone(known):
    config = {**tiny.CONFIG, "level": known}
    pipe = pipe_of(MIXTURES, config, size=6, fixed=True)
    y = noise(3, 1, WINDOW)
    alone = pipe.extract_windows(y[[0, 2]], LABELS, seeds=[5, 7], **SAMPLING)
    y[1] = 0
    stems = pipe.extract_windows(y, LABELS, seeds=[5, 6, 7], **SAMPLING)
    assert torch.equal(stems[[0, 2]], alone)
    assert not stems[1].any()


@pytest.mark.parametrize("residue", [0.0, 1e-5])
def test_a_rest_in_a_song_stays_one(residue):
    """Also if the network answers noise with bursts; what is not quite silent is shared out, so the sum stays right."""

    class Bursting(GaussianDenoiser):
        def __call__(self, x, sigma, cond):
            self.rows.append(len(x))
            return x * 1.5

    def evaluations(y):
        pipe = pipe_of(Bursting(), {"sample_rate": RATE, "window": WINDOW, "labels": LABELS, "level": KNOWN})
        settings = {"sample_rate": RATE, "solver": Solver("euler", steps=3, sigma_max=0.02, sigma_min=0.01)}
        result = pipe.extract(y, consistent=True, **settings), pipe.separate(y, **settings)
        evaluations = pipe.evaluations
        filtered = pipe.separate(y, wiener=Wiener(RATE, seconds=0.016), **settings)
        return (*result, filtered), evaluations

    y = noise(2, 4000).numpy()
    _, before = evaluations(y)
    y[:, 1000:2500] = residue
    y[0, 3000:3900] = 0  # one channel goes on alone
    results, after = evaluations(y)
    assert after < before  # windows that rest throughout are left out
    for result in results:
        inner = slice(100, -100)  # the filter's spectrogram has edges
        np.testing.assert_allclose(sum(result.stems.values())[:, inner], y[:, inner], atol=1e-5)
        for stem in result.stems.values():
            np.testing.assert_allclose(stem[:, 1000:2500], residue / 3, atol=1e-9)
            assert not stem[0, 3000:3900].any()
            assert stem[1, 3000:3900].any()
            assert np.abs(stem[:, :1000]).max() > 1e-3


def test_rests_are_found_sample_by_sample():
    rng = np.random.default_rng(3)
    rate, least = 100, 10
    y = np.zeros((2, 2, 400), np.float32)
    for item in y:
        for place in rng.integers(400, size=30):
            item[rng.integers(2), place] = 1.0
    y[1] *= 1e-4
    levels = [0.0, -80.0]
    quiet = (np.abs(y) <= 10 ** ((np.array(levels)[:, None, None] - 70) / 20)).all(axis=1)
    expected = np.zeros_like(quiet)
    for item, row in enumerate(quiet):
        for start in range(400 - least + 1):
            if row[start : start + least].all():
                expected[item, start : start + least] = True
    rests = Rests.of(torch.from_numpy(y), levels, rate)
    np.testing.assert_array_equal(rests.mask[:, 0], expected)
    assert expected.any()
    assert not expected.all()
    assert Rests.of(torch.ones(1, 1, 400), [0.0], rate) is None
    assert Rests.of(torch.zeros(1, 1, 9), [0.0], rate) is None
    # Signals and windows, each item with two signals.
    places, tensor = rests.awake(4, 40, 30)
    starts = range(0, 400 - 40 + 1, 30)
    windows = [not row[k : k + 40].all() for row in expected.repeat(2, axis=0) for k in starts]
    assert places == tensor.tolist() == np.flatnonzero(windows).tolist()


def test_a_state_decays_in_rests():
    y = noise(1, 1, 900)
    y[..., 50:] = 0
    rests = Rests.of(y, [-20.0], RATE)
    model = guide(GaussianDenoiser(), 0.0)
    x = noise(1, 3, 1, 900, seed=1)
    for derivative, slope in (
        (inference.extractor(model, y, LABELS), 2),
        (inference.separator(model, y, [*LABELS, "x"], 0), 1),
    ):
        resting = Resting(derivative, rests)
        found = resting(x, 0.5)
        torch.testing.assert_close(found[..., 50:], slope * x[..., 50:] / 0.5)
        assert torch.equal(found[..., :50], derivative(x, 0.5)[..., :50])
        assert getattr(resting, "gain", None) == getattr(derivative, "gain", None)


# What is written


def test_what_diverged_is_refused_in_one_line():
    def pipe(factor, known=None):
        denoiser = GaussianDenoiser(scale=0.1)
        wild = type("Wild", (), {"embed": denoiser.embed, "__call__": lambda _, x, s, c: factor * denoiser(x, s, c)})()
        return pipe_of(wild, {"sample_rate": RATE, "window": WINDOW, "labels": LABELS, "level": known})

    y = noise(1, 700).numpy()
    for bad in (
        lambda: pipe(math.nan).extract(y, sample_rate=RATE, solver=SOLVER),
        lambda: pipe(60.0).extract(y, sample_rate=RATE, solver=SOLVER),
        lambda: pipe(60.0, KNOWN).separate(y, sample_rate=RATE, solver=SOLVER),
        lambda: pipe(math.nan).generate(solver=SOLVER),
        lambda: pipe(60.0, KNOWN).generate(solver=SOLVER),
        lambda: pipe(60.0, KNOWN).accompany({"Bass": Audio(y, RATE)}, ["Drums"], solver=SOLVER),
        lambda: pipe(math.nan).accompany({"Bass": Audio(y, RATE)}, ["Drums"], solver=SOLVER),
    ):
        with pytest.raises(UserError, match="the sampling diverged; take more steps") as caught:
            bad()
        assert "\n" not in str(caught.value)
    assert pipe(1.0, KNOWN).extract(y, sample_rate=RATE, solver=SOLVER).stems.keys() == set(LABELS)
    require_plausible({"Bass": np.full((1, 3), 9.0, np.float32)}, peak=1.0, what="its mixture has")
