"""All tasks on windows and at any length: seeds, batches, and what is refused."""

import math
from dataclasses import replace
from itertools import permutations
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
import torch

from gmsdi import inference
from gmsdi.errors import UserError
from gmsdi.inference.wiener import ShareOut
from gmsdi.io.audio import Audio, as_source, fit, read, resample, to_int16, write
from gmsdi.io.device import resolve_device, resolve_precision
from gmsdi.sampling.guidance import Prompt
from gmsdi.sampling.noise import SeededNoise, sample_seeds
from gmsdi.sampling.session import over_windows
from gmsdi.sampling.solver import Guidance, Solver
from gmsdi.sampling.windows import fills, overlap_of
from gmsdi.tasks import drawn_order
from tests.helpers import tiny
from tests.helpers.gaussians import GaussianDenoiser, guide
from tests.helpers.pipes import opened, pipe_of

LABELS = ["Bass", "Drums", "Guitar", "Piano"]
WINDOW = 64
QUICK = Solver("euler", steps=4, s_churn=2.0)
QUICK2 = Solver("adpm2", steps=4, sigma_max=1.0)
STABLE = Solver("euler", steps=12, s_churn=2.0)  # of fewer steps, the Separator's diverge
GUIDED, PLAIN = Guidance(w=1.0), Guidance()


@pytest.fixture
def pipe():
    return pipe_of(GaussianDenoiser(scale=0.1), {"sample_rate": 8000, "window": WINDOW, "labels": LABELS})


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tiny.write(tmp_path_factory.mktemp("model") / "tiny")


def noise(*shape, seed=0):
    return np.random.default_rng(seed).normal(scale=0.1, size=shape).astype(np.float32)


# Windows


def test_separated_windows_sum_to_the_mixture(pipe):
    y = torch.from_numpy(noise(2, 1, WINDOW))
    stems = pipe.separate_windows(
        y, ["Drums", "Piano", "Bass"], constrained="Piano", solver=QUICK, guidance=GUIDED, seeds=[3, 4]
    )
    assert stems.shape == (2, 3, 1, WINDOW)
    torch.testing.assert_close(stems.sum(dim=1), y)


def test_the_schedules_end_gives_the_gaussian_answer(pipe):
    """One step from σ to 0 ends at D for a plain sample and at the mean of both estimates for the Extractor."""
    solver, plain = Solver("euler", steps=1, sigma_max=0.5, sigma_min=0.5), Guidance(w=0.0)
    gain = {t: (v := pipe.model.denoiser.covariance(t).item()) / (v + 0.25) for t in ("Bass", "Drums", "Drums, Piano")}
    x = 0.5 * SeededNoise([5])(torch.empty(1, 1, 1, WINDOW))
    sample = pipe.sample_windows(["Bass"], solver=solver, guidance=plain, seeds=[5])
    torch.testing.assert_close(sample, gain["Bass"] * x[:, 0])

    y = torch.from_numpy(noise(1, 1, WINDOW))
    extracted = pipe.extract_windows(y, ["Bass", "Drums"], solver=solver, guidance=plain, seeds=[5])
    x = 0.5 * SeededNoise([5])(torch.empty(1, 2, 1, WINDOW))
    for k, (own, other) in enumerate((("Bass", "Drums"), ("Drums", "Bass"))):
        expected = x[:, k] - ((x[:, k] - gain[own] * x[:, k]) - (1 - gain[other]) * (y - x[:, k]))
        torch.testing.assert_close(extracted[:, k], expected)


def test_generated_and_accompanied_windows(pipe):
    options = {"solver": QUICK2, "guidance": GUIDED, "seeds": [1, 2], "gamma_x": math.inf, "gamma_y": math.inf}
    stems, mixture = pipe.generate_windows(["Bass", "Drums"], **options)
    assert (stems.shape, mixture.shape) == ((2, 2, 1, WINDOW), (2, 1, WINDOW))
    stems, mixture = pipe.generate_windows(["Bass", "Drums"], consistent=True, **options)
    torch.testing.assert_close(stems.sum(dim=1), mixture)
    grouped, _ = pipe.generate_windows(LABELS, groups=[[0, 2], [1], [3]], **options)
    assert grouped.shape == (2, 3, 1, WINDOW)

    given = torch.from_numpy(noise(2, 2, 1, WINDOW))
    before = given.clone()
    for given_noise in ("fixed", "redrawn", "coupled"):
        stems, mixture = pipe.accompany_windows(
            given, ["Bass", "Drums"], ["Piano"], given_noise=given_noise, **{**options, "gamma_y": lambda s: 2 * s}
        )
        assert (stems.shape, mixture.shape) == ((2, 1, 1, WINDOW), (2, 1, WINDOW))
        assert torch.equal(given, before)
    for wanted in (["Piano"], ["Guitar", "Piano"]):
        stems, mixture = pipe.accompany_conditioned_windows(
            given, ["Bass", "Drums"], wanted, solver=QUICK2, guidance=GUIDED, seeds=[1, 2]
        )
        assert stems.shape == (2, len(wanted), 1, WINDOW)
        assert torch.equal(given, before)
        torch.testing.assert_close(given.sum(dim=1) + stems.sum(dim=1), mixture)
    with pytest.raises(UserError, match="given_noise is 'none'; choose"):
        pipe.accompany_windows(given, ["Bass", "Drums"], ["Piano"], given_noise="none", **options)


class Alike:
    """Denoises all signals alike, whatever their prompts: D(x, σ) = x/(1 + σ²)."""

    def embed(self, texts):
        return SimpleNamespace(select=lambda index: None)

    def __call__(self, x, sigma, cond):
        return x / (1 + sigma.reshape(-1, 1, 1) ** 2)


@pytest.mark.parametrize("groups", [None, [[0, 2], [1, 3]]])
@pytest.mark.parametrize("solver", [QUICK, QUICK2], ids=lambda solver: solver.name)
def test_coupled_noise_leaves_nothing_for_the_likelihood_to_do(solver, groups):
    """All rows are scaled alike, so that the mixture stays the sum of the stems if its noise is the sum of theirs.

    Then the terms of Eq. 10 are 0 at every noise level, churn included; with independent noise they are not.
    """
    pipe = pipe_of(Alike(), {"sample_rate": 8000, "window": WINDOW, "labels": LABELS})
    options = {"solver": solver, "guidance": PLAIN, "seeds": [1, 2], "groups": groups, "gamma_y": math.inf}
    for noise, same in (("coupled", True), ("independent", False)):
        pulled, mixture = pipe.generate_windows(LABELS, noise=noise, gamma_x=lambda s: 2 * s, **options)
        free, alone = pipe.generate_windows(LABELS, noise=noise, gamma_x=math.inf, **options)
        assert torch.allclose(pulled, free, atol=1e-5) == same
        assert torch.allclose(free.sum(dim=1), mixture, atol=1e-5) == same
        assert torch.equal(mixture, alone)
        assert not torch.allclose(mixture[0], mixture[1])
    with pytest.raises(UserError, match="noise is 'none'; choose"):
        pipe.generate_windows(LABELS, noise="none", gamma_x=1.0, **options)


def test_sequential_stems_are_those_of_one_conditioned_run_after_another(pipe):
    """Item by item, by hand, each in its own order; orders are drawn by the seed alone, and all are."""
    names, seeds = LABELS[:3], [4, 1, 9]
    negatives = {"Drums": "Bass"}
    options = {"solver": QUICK, "guidance": GUIDED, "negatives": negatives, "share": 0.4, "lags": 2}
    stems, mixture = pipe.generate_sequential_windows(names, seeds=seeds, **options)
    torch.testing.assert_close(stems.sum(dim=1), mixture)
    model = guide(pipe.model.denoiser, 1.0)
    for item, seed in enumerate(seeds):
        draw = SeededNoise([seed])
        made = torch.zeros(1, 0, 1, WINDOW)
        turns = drawn_order(seed, 3)
        for place, k in enumerate(turns):
            prompt = Prompt(names[k], negatives.get(names[k]))
            if place == 0:
                derivative = inference.single(model, [prompt])
            else:
                known = [Prompt(names[j], negatives.get(names[j])) for j in turns[:place]]
                derivative = inference.conditioned(
                    model, made, known, [prompt], share=0.4, gamma_x=1.0, lags=2, join=pipe.session.labels.join
                )
            x = QUICK.sigmas()[0] * draw(torch.empty(1, 1, 1, WINDOW))
            made = torch.cat([made, QUICK.sample(derivative, x, noise=draw)], dim=1)
        torch.testing.assert_close(stems[item, turns], made[0])
        given, _ = pipe.generate_sequential_windows(names, seeds=[seed], order=turns, **options)
        torch.testing.assert_close(given[0], stems[item])
    assert {tuple(drawn_order(seed, 3)) for seed in range(60)} == set(permutations(range(3)))
    with pytest.raises(UserError, match="order"):
        pipe.generate_sequential_windows(names, seeds=[1], order=[0, 1], **options)


def test_extracted_stems_are_the_parts_of_a_plain_sample(pipe):
    seeds, seen = [3, 5], []
    options = {"separation_solver": STABLE, "separation_guidance": PLAIN, "samples": 2}
    stems, mixture = pipe.generate_extracted_windows(
        LABELS, solver=QUICK2, guidance=GUIDED, seeds=seeds, callback=lambda *step: seen.append(step), **options
    )
    torch.testing.assert_close(
        mixture, pipe.sample_windows([", ".join(LABELS)] * 2, solver=QUICK2, guidance=GUIDED, seeds=seeds)
    )
    torch.testing.assert_close(stems.sum(dim=1), mixture)
    others = [sample_seeds([seed], 2)[1] for seed in seeds]
    expected = pipe.extract_windows(
        mixture, LABELS, solver=STABLE, guidance=PLAIN, seeds=others, consistent=True, samples=2
    )
    torch.testing.assert_close(stems, expected)
    assert seen == [(k, 16) for k in range(1, 17)]


def test_unstable_likelihood_is_refused(pipe):
    with pytest.raises(UserError, match="unstable"):
        pipe.generate_windows(
            LABELS, solver=QUICK2, guidance=GUIDED, seeds=[1], gamma_x=lambda s: 0.75 * s, gamma_y=math.inf
        )


def test_joint_prompts_follow_the_order_of_training(pipe):
    pipe.extract_windows(
        torch.ones(1, 1, WINDOW),
        ["Piano", Prompt("Drums"), "Bass"],
        solver=QUICK,
        guidance=GUIDED,
        seeds=[0],
        negatives={"Drums": "Bass"},
    )
    (texts,) = pipe.model.denoiser.encoded
    assert set(texts) == {"Piano", "Drums", "Bass", "Bass, Drums", "Bass, Piano", "Drums, Piano", None}


@pytest.mark.parametrize("batching", [{"max_batch": 1}, {"max_batch": 3, "fixed_batch": True}])
@pytest.mark.parametrize(
    "task",
    ["separate", "project", "extract", "mean", "generate", "couple", "sequence", "accompany", "condition", "sample"],
)
def test_an_item_depends_on_its_own_seed_alone(folder, task, batching):
    """Bit for bit, with a real network: alone, in a batch, in another order."""
    pipe = opened(folder, device="cpu", precision="float32", **batching)
    y = torch.from_numpy(noise(4, 1, pipe.model.window))
    gamma = {"gamma_x": lambda s: 2 * s, "gamma_y": lambda s: 2 * s}

    def run(items):
        options = {"guidance": GUIDED, "seeds": [100 + i for i in items]}
        x = y[list(items)]
        if task == "separate":
            return pipe.separate_windows(x, ["Bass", "Drums"], constrained="Drums", solver=QUICK, **options)
        if task == "project":
            return pipe.separate_windows(x, ["Bass", "Drums"], constrained=None, solver=QUICK, **options)
        if task == "extract":
            return pipe.extract_windows(x, ["Bass", "Drums"], solver=QUICK, **options)
        if task == "mean":
            shared = ShareOut(pipe.model.sample_rate, amount=0.25, seconds=0.004)
            options |= {"consistent": shared, "samples": 3, "inverted": True}
            return pipe.extract_windows(x, ["Bass", "Drums"], solver=replace(QUICK, last="estimate"), **options)
        if task == "generate":
            return pipe.generate_windows(["Bass", "Drums"], solver=QUICK2, **gamma, **options)[0]
        if task == "couple":
            return pipe.generate_windows(LABELS[:2], noise="coupled", solver=QUICK2, **gamma, **options)[0]
        if task == "sequence":
            return pipe.generate_sequential_windows(["Bass", "Drums", "Piano"], solver=QUICK2, **options)[0]
        if task == "accompany":
            return pipe.accompany_windows(
                x.unsqueeze(1), ["Bass"], ["Drums"], solver=QUICK2, given_noise="redrawn", **gamma, **options
            )[0]
        if task == "condition":
            return pipe.accompany_conditioned_windows(x.unsqueeze(1), ["Bass"], LABELS[1:], solver=QUICK, **options)[0]
        return pipe.sample_windows(["Bass"] * len(x), solver=QUICK2, **options)

    together = run(range(4))
    assert torch.equal(run(range(3, -1, -1)).flip(0), together)
    assert torch.equal(run([2])[0], together[2])
    assert not torch.equal(together[0], together[1])


def test_batches_of_the_network_do_not_change_the_result(folder):
    y = torch.from_numpy(noise(3, 1, 256))
    results = [
        opened(folder, precision="float32", max_batch=size).extract_windows(
            y, ["Bass", "Drums", "Piano"], solver=QUICK, guidance=GUIDED, seeds=[1, 2, 3]
        )
        for size in (1, 4, 100)
    ]
    for result in results[1:]:
        torch.testing.assert_close(result, results[0], atol=1e-5, rtol=1e-4)


def test_mean_of_runs_and_count_of_evaluations(pipe):
    y = torch.from_numpy(noise(2, 1, WINDOW))
    seeds = [3, 4]
    options = {"solver": QUICK, "guidance": GUIDED, "consistent": True}
    before = pipe.evaluations
    mean = pipe.extract_windows(y, ["Bass", "Drums"], samples=3, seeds=seeds, **options)
    # 4 steps, 2 items, 3 runs, 2 stems and their complements, guidance.
    assert pipe.evaluations - before == 4 * 2 * 3 * 4 * 2
    runs = torch.tensor(sample_seeds(seeds, 3)).unflatten(0, (2, 3)).T
    assert runs[0].tolist() == seeds
    assert len(set(runs.flatten().tolist())) == 6
    single = [pipe.extract_windows(y, ["Bass", "Drums"], seeds=run.tolist(), **options) for run in runs]
    torch.testing.assert_close(mean, torch.stack(single).mean(dim=0))
    single[1] = -pipe.extract_windows(-y, ["Bass", "Drums"], seeds=runs[1].tolist(), **options)
    mean = pipe.extract_windows(y, ["Bass", "Drums"], samples=3, inverted=True, seeds=seeds, **options)
    torch.testing.assert_close(mean, torch.stack(single).mean(dim=0))


def test_only_derivatives_with_an_estimate_can_end_at_it(pipe):
    options = {"solver": replace(QUICK, last="estimate"), "guidance": GUIDED, "seeds": [3]}
    with pytest.raises(UserError, match="last is estimate"):
        pipe.separate_windows(torch.from_numpy(noise(1, 1, WINDOW)), LABELS, constrained=0, **options)


# Any length


@pytest.mark.parametrize("window", [2, 7, 64])
def test_lengths_that_windows_fill_are_those_that_a_model_takes(window):
    model = over_windows(lambda x, s, p: x, window, overlap_of(window))
    for length in range(window + 1, 4 * window):
        if fills(length, window):
            assert model(torch.zeros(1, 1, length), 1.0, ["a"]).shape[-1] == length
        else:
            with pytest.raises(ValueError, match="are not whole windows"):
                model(torch.zeros(1, 1, length), 1.0, ["a"])
    assert fills(window, window)


def test_windows_are_cross_faded_linearly():
    length, overlap = 64 + 2 * 48, 16
    calls = []

    def model(x, sigma, prompts):
        calls.append((x.shape, list(prompts)))
        return torch.arange(len(x), dtype=x.dtype).reshape(-1, 1, 1).expand_as(x)  # window number

    x = torch.randn(2, 1, length, generator=torch.Generator().manual_seed(0))
    assert torch.equal(over_windows(lambda x, s, p: x, 64, overlap)(x[..., :40], 1.0, "ab"), x[..., :40])
    torch.testing.assert_close(over_windows(lambda x, s, p: x, 64, overlap)(x, 1.0, "ab"), x)
    result = over_windows(model, 64, overlap)(x, 1.0, ["a", "b"])
    assert calls == [((6, 1, 64), ["a"] * 3 + ["b"] * 3)]
    rise = (np.arange(16) + 0.5) / 16
    expected = np.concatenate([np.zeros(48), rise, np.ones(32), 1 + rise, np.full(48, 2.0)])
    np.testing.assert_allclose(result[0, 0], expected, rtol=1e-6)
    np.testing.assert_allclose(result[1, 0], expected + 3, rtol=1e-6)


def test_a_stereo_song_of_any_length_is_the_sum_of_its_stems(pipe):
    song = noise(2, 1000)
    result = pipe.separate(song, ["Bass", "Drums", "Piano"], sample_rate=8000, solver=STABLE)
    assert list(result.stems) == ["Bass", "Drums", "Piano"]
    assert {stem.shape for stem in result.stems.values()} == {(2, 1000)}
    np.testing.assert_allclose(sum(result.stems.values()), song, atol=1e-6)
    np.testing.assert_array_equal(result.mixture, song)
    left = pipe.separate(song[0], ["Bass", "Drums", "Piano"], sample_rate=8000, solver=STABLE)
    np.testing.assert_allclose(left.stems["Bass"][0], result.stems["Bass"][0], atol=1e-6)


def test_other_rates_are_resampled_and_come_back(pipe, tmp_path):
    t = np.arange(5001) / 22050
    song = 0.3 * np.sin(2 * np.pi * 440 * t)[None].astype(np.float32)
    path = write(tmp_path / "song.wav", Audio(song, 22050))
    result = pipe.separate(path, solver=STABLE, constrained="Bass")
    assert (result.sample_rate, list(result.stems)) == (22050, LABELS)
    inner = slice(500, -500)
    np.testing.assert_allclose(sum(result.stems.values())[:, inner], song[:, inner], atol=2e-3)
    assert pipe.extract(path, ["Bass", "Piano"], solver=STABLE).stems["Piano"].shape == song.shape


def test_generate_any_length(pipe):
    result = pipe.generate(["Bass", "Drums"], seconds=0.05, solver=QUICK2, seed=4)
    assert result.mixture.shape == (1, 400)
    np.testing.assert_allclose(sum(result.stems.values()), result.mixture, atol=1e-6)
    assert pipe.generate(solver=QUICK2).mixture.shape == (1, WINDOW)


@pytest.mark.parametrize("share", [None, 0.4])
def test_given_stems_are_bit_exact_in_the_mixture(pipe, tmp_path, share):
    """Also after writing 16-bit files: mixture − generated = given."""
    given = {
        label: write(tmp_path / f"{label}.flac", Audio(noise(2, 900, seed=i), 16000))
        for i, label in enumerate(LABELS[:2])
    }
    originals = [soundfile.read(path, dtype="int16")[0] for path in given.values()]
    result = pipe.accompany(given, ["Piano"], solver=QUICK2, share=share)
    difference = result.mixture - result.stems["Piano"]
    np.testing.assert_array_equal(difference, sum(read(path).samples for path in given.values()))
    parts = {"mixture": result.mixture, "piano": result.stems["Piano"]}
    files = [write(tmp_path / f"{k}.flac", Audio(v, 16000)) for k, v in parts.items()]
    mixture, piano = (soundfile.read(path, dtype="int16")[0].astype(int) for path in files)
    np.testing.assert_array_equal(mixture - piano[:, None], np.sum(originals, axis=0, dtype=int))


# Refusals


@pytest.mark.parametrize(
    "bad",
    [
        {"name": "rk4"},
        {"steps": 0},
        {"steps": 2.5},
        {"sigma_min": "1e-4"},
        {"sigma_max": math.nan},
        {"sigma_min": 2.0},
        {"s_churn": -1},
        {"name": "adpm2", "s_churn": 5},
        {"name": "heun", "resamples": 2},
        {"midpoint": "middle"},
        {"last": "first"},
        {"name": "heun", "last": "estimate"},
    ],
)
def test_solver_refuses(bad):
    with pytest.raises(UserError):
        Solver(**bad)


@pytest.mark.parametrize("bad", [{"w": "3"}, {"w": math.inf}, {"convention": "x"}, {"interval": [1, 0]}, {"clamp": 0}])
def test_guidance_refuses(bad):
    with pytest.raises(UserError):
        Guidance(**bad)


@pytest.mark.parametrize(
    ("solver", "calls"),
    [
        (Solver("euler", 5, resamples=3), 15),
        (Solver("heun", 5), 9),
        (Solver("adpm2", 5), 9),
        (Solver("dpmpp_2m", 5), 5),
    ],
)
def test_solvers_evaluate_the_derivative_as_often_as_their_methods_say(pipe, solver, calls):
    pipe.model.denoiser.rows.clear()
    pipe.sample_windows(["Bass"], solver=solver, guidance=Guidance(), seeds=[0])
    assert len(pipe.model.denoiser.rows) == calls


def test_bad_audio_is_refused_in_one_line(pipe, tmp_path):
    broken = tmp_path / "broken.flac"
    write(broken, Audio(noise(1, 4000), 8000))
    broken.write_bytes(broken.read_bytes()[:20])
    y = torch.zeros(1, 1, WINDOW)
    y[0, 0, 3] = math.nan
    options = {"solver": QUICK, "guidance": GUIDED}
    nan = np.full((1, 80), np.nan, np.float32)
    short = {"Bass": Audio(noise(1, 80), 8000), "Drums": Audio(noise(1, 81), 8000)}
    for bad in (
        lambda: pipe.extract_windows(y, LABELS, seeds=[0], **options),
        lambda: pipe.extract_windows(y[:, 0], LABELS, seeds=[0], **options),
        lambda: pipe.extract_windows(torch.zeros(2, 1, WINDOW), LABELS, seeds=[0], **options),
        lambda: pipe.separate(nan, sample_rate=8000),
        lambda: pipe.separate(noise(1, 80)),
        lambda: pipe.separate(noise(1, 80), ["Bass", "Bass"], sample_rate=8000),
        lambda: pipe.separate(noise(1, 80), ["Bass"], sample_rate=8000),
        lambda: pipe.separate(noise(1, 80), ["Bass", "Drums"], constrained="Piano", sample_rate=8000),
        lambda: pipe.separate(noise(1, 0), sample_rate=8000),
        lambda: pipe.separate(broken),
        lambda: pipe.separate(tmp_path / "none.flac"),
        lambda: pipe.accompany(short, ["Piano"]),
        lambda: pipe.accompany({}, ["Piano"]),
        lambda: pipe.accompany({"Bass": short["Bass"]}, ["Piano"], share=1.1),
        lambda: pipe.accompany({"Bass": short["Bass"]}, ["Piano"], share=0.4, gamma_y=1.0),
        lambda: pipe.accompany({"Bass": short["Bass"]}, ["Piano"], share=0.4, given_noise="redrawn"),
        lambda: pipe.accompany({"Bass": short["Bass"]}, ["Piano"], share=0.4, given_noise="coupled"),
        lambda: pipe.accompany({"Bass": short["Bass"]}, ["Piano"], share=0.4, given_noise="nonsense"),
        lambda: pipe.accompany({"Bass": short["Bass"]}, ["Piano"], given_noise="nonsense"),
        lambda: pipe.separate(noise(1, 80), sample_rate=8000, seed=2**64),
        lambda: pipe.separate(noise(1, 80), sample_rate=8000, block=math.nan),
        lambda: pipe.separate(noise(1, 80), [""], sample_rate=8000),
        lambda: pipe.separate(noise(1, 80), [1, 2], sample_rate=8000),
        lambda: pipe.generate(["Bass"], seconds=-1),
        lambda: pipe.generate(["Bass"], seconds=math.nan),
        lambda: pipe.generate(["Bass"], seed=-1),
        lambda: pipe.generate(["Bass", "Drums"], method="magic"),
        lambda: pipe.generate(["Bass", "Drums"], method="sequential", gamma_x=2.0),
        lambda: pipe.generate(["Bass", "Drums"], groups=[["Bass"]]),
    ):
        with pytest.raises(UserError) as caught:
            bad()
        assert "\n" not in str(caught.value)


def test_auto_takes_the_best_device_that_there_is(monkeypatch):
    for cuda, mps, found in ((True, True, "cuda"), (False, True, "mps"), (False, False, "cpu")):
        monkeypatch.setattr(torch.cuda, "is_available", lambda cuda=cuda: cuda)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda mps=mps: mps)
        assert resolve_device("auto") == found
    assert resolve_precision("auto", "mps") is None


def test_unknown_labels_warn(pipe):
    with pytest.warns(UserWarning, match="'Kazoo'"):
        pipe.sample_windows(["Kazoo, Bass"], solver=QUICK, guidance=GUIDED, seeds=[0])


def test_load_refuses(folder, tmp_path):
    with pytest.raises(UserError, match="model"):
        opened(tmp_path)
    with pytest.raises(UserError, match="device"):
        opened(folder, device="abacus")
    with pytest.raises(UserError, match="precision"):
        opened(folder, precision="fp8")
    pipe = opened(folder)
    model = pipe.model
    assert (model.sample_rate, model.window, model.channels, model.labels) == (8000, 256, 1, ["Bass", "Drums", "Piano"])


# Audio


def test_audio_files_keep_every_16_bit_sample(tmp_path):
    samples = np.arange(-32768, 32768, dtype=np.int16).astype(np.float32)[None] / 32768
    for suffix, bits in ((".flac", None), (".flac", "24"), (".wav", None), (".wav", "24"), (".wav", "16")):
        path = write(tmp_path / f"all{suffix}", Audio(samples, 8000), bits=bits)
        np.testing.assert_array_equal(read(path).samples, samples)
    with pytest.warns(UserWarning, match="clips"):
        write(tmp_path / "loud.flac", Audio(samples * 2, 8000))
    assert read(tmp_path / "loud.flac").samples.max() == 32767 / 32768
    tone = 0.3 * np.sin(np.arange(16000, dtype=np.float32)[None] / 10)
    np.testing.assert_allclose(read(write(tmp_path / "a.mp3", Audio(tone, 8000))).samples, tone, atol=0.02)
    nine = np.zeros((9, 10), np.float32)
    for name, audio in (
        ("a.ogg", (tone, 8000)),
        ("a.mp3", (tone, 96000)),
        ("a.flac", (nine, 8000)),
        ("a.flac", (tone, 768000)),
    ):
        with pytest.raises(UserError, match=name):
            write(tmp_path / name, Audio(*audio))


def test_arrays_as_audio():
    assert as_source([0.0, 0.5], 8000).whole().samples.shape == (1, 2)
    for kind, one in ((np.int16, 2**15), (np.int32, 2**31)):  # as soundfile reads them
        np.testing.assert_array_equal(as_source(np.array([one // 2, -one], kind), 8000).whole().samples, [[0.5, -1.0]])
    for array, rate, says in (
        (np.zeros((44100, 2)), 44100, "transpose"),
        (np.zeros((2, 3, 4)), 44100, "shape"),
        (np.zeros(8, np.uint8), 44100, "uint8"),
        (np.full(8, 1e39), 44100, "infinite"),
        (np.full(8, 3e38), 44100, "sample of 3e"),
        *((np.zeros(8), rate, "sample rate is") for rate in (math.nan, math.inf, 0, -8000, 44100.5, "8000", True)),
    ):
        with pytest.raises(UserError, match=says):
            as_source(array, rate)
    samples = noise(2, 100)
    assert fit(samples, 120).shape == (2, 120)
    np.testing.assert_array_equal(fit(samples, 60), samples[:, :60])
    assert resample(samples, 8000, 16000).shape == (2, 200)
    np.testing.assert_array_equal(
        to_int16(np.array([[-2.0, -1.0, 0.5, 2.0]], np.float32)), [[-32768, -32768, 16384, 32767]]
    )
