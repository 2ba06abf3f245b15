"""Small codecs, and diffusion models of their latents: from definitions to the four tasks and the workflow's table."""

from __future__ import annotations

import json
import math

import numpy as np
import pandas as pd
import pytest
import torch

import gmsdi
from gmsdi.errors import UserError
from gmsdi.metrics.si_sdr import si_sdr
from gmsdi.models.autoencoder import load_codec, relative_error
from gmsdi.models.checkpoint import build_model
from gmsdi.models.protocol import Model
from gmsdi.sampling.solver import Guidance, Solver
from gmsdi.study.codecs import codecs_sheet, codecs_table, score_codec
from gmsdi.study.config import load, validate
from gmsdi.study.sheets import markdown
from gmsdi.study.study import Study
from gmsdi.training.config import TrainingConfig
from gmsdi.training.loop import train
from tests import REPO
from tests.helpers import tiny
from tests.helpers.pipes import opened
from tests.helpers.runs import dry_run

LABELS, WINDOW, HOP = ["Bass", "Drums", "Piano"], 1024, 16
SETTINGS = {"latents": 4, "hop": HOP, "width": 16, "blocks": 1, "kernel": 3}
CODEC = {"kind": "codec", "sample_rate": 8000, "window": WINDOW, "labels": LABELS}


def codec(**changes):
    torch.manual_seed(0)
    return build_model({**CODEC, "codec": {**SETTINGS, **changes}})


def curved(**changes):
    """A codec whose networks have something to say from the start."""
    one = codec(**changes)
    with torch.no_grad():
        for network in (one.encoder, one.decoder):
            network[-1].weight.normal_(std=0.3)
    return one


def music(n, seed=0):
    """Signals `[n, 1, WINDOW]` of a few tones of up to 1.5 kHz, three times as wide as what a fresh codec keeps."""
    rng = np.random.default_rng(seed)
    t = np.arange(WINDOW) / 8000
    tones = np.sin(2 * np.pi * (rng.uniform(100, 1500, (n, 4, 1)) * t + rng.uniform(size=(n, 4, 1))))
    return torch.from_numpy((0.05 * tones.sum(axis=1, keepdims=True)).astype(np.float32))


def test_a_fresh_codec_is_a_modified_discrete_cosine_transform():
    whole = codec(latents=HOP)
    x = torch.from_numpy(np.random.default_rng(1).normal(size=(2, 1, WINDOW)).astype(np.float32))
    z = whole.encode(x)
    assert z.shape[1:] == whole.shape(WINDOW) == (HOP, WINDOW // HOP)
    k, frame, n = 5, 7, np.arange(2 * HOP)
    first = frame * HOP - HOP // 2
    cosine = np.sin(np.pi * (n + 0.5) / (2 * HOP)) * np.cos(np.pi / HOP * (n + 0.5 + HOP / 2) * (k + 0.5))
    expected = np.sqrt(2 / HOP) * (x[1, 0, first : first + 2 * HOP].numpy() * cosine).sum()
    assert z[1, k, frame].item() == pytest.approx(expected, abs=1e-4)
    inner = slice(HOP, -HOP)
    torch.testing.assert_close(whole.decode(z)[..., inner], x[..., inner], atol=1e-5, rtol=1e-4)
    low = torch.sin(2 * math.pi * 300 / 8000 * torch.arange(WINDOW)).reshape(1, 1, -1)
    half = codec(latents=8)
    assert relative_error(half.decode(half.encode(low))[..., inner], low[..., inner]).item() < 1e-4


def test_a_louder_signal_has_larger_latents():
    one = curved()
    with torch.no_grad():
        x = music(3)
        torch.testing.assert_close(one.encode(7 * x), 7 * one.encode(x), rtol=1e-4, atol=1e-5)
        z = one.encode(x)
        torch.testing.assert_close(one.decode(7 * z), 7 * one.decode(z), rtol=1e-4, atol=1e-4)
        assert relative_error(one.encode(x[:1] + x[1:2]), z[:1] + z[1:2]).item() > 1e-4  # yet it is not linear


def test_additivity_is_learned_from_sums_of_windows():
    """The loss by its definition, and what a short training of each kind makes of windows it has not seen."""
    draws = torch.from_numpy(np.random.default_rng(2).random((6, 16), dtype=np.float32))
    x = music(6)
    plain, additive = curved(spectral=0), curved(spectral=0, additive=0.5)
    z = plain.encode(x)
    y = plain.decode(z)
    extra = []
    for i in range(6):
        a, b = 2 * draws[i, 0] - 1, 2 * draws[i, 1] - 1

        def ratio(found, wanted):
            return ((found - wanted).square().sum() / wanted.square().sum()).item()

        latents, signals = a * z[i] + b * z[i - 1], a * y[i] + b * y[i - 1]
        encoded = plain.encode((a * x[i] + b * x[i - 1])[None])[0]
        extra.append(ratio(encoded, latents) + ratio(plain.decode(latents[None])[0], signals))
    batch = {"clean": x, "draws": draws}
    found = additive.training_loss(batch) - plain.training_loss(batch)
    torch.testing.assert_close(found, 0.5 * torch.tensor(extra), rtol=1e-3, atol=1e-4)

    errors = {}
    for name, one in (("plain", curved()), ("additive", curved(additive=10.0))):
        optimizer = torch.optim.AdamW(one.parameters(), 5e-3, weight_decay=0)
        fresh = relative_error(one.decode(one.encode(music(32, seed=99))), music(32, seed=99)).mean().item()
        for step in range(80):
            optimizer.zero_grad()
            rng = np.random.default_rng(step)
            draws = torch.from_numpy(rng.random((16, 16), dtype=np.float32))
            one.training_loss({"clean": music(16, seed=100 + step), "draws": draws}).mean().backward()
            optimizer.step()
        with torch.no_grad():
            x, other = music(32, seed=99), music(32, seed=98)
            z = one.encode(x)
            assert relative_error(one.decode(z), x).mean().item() < 0.8 * fresh
            errors[name] = relative_error(one.encode(x + other), z + one.encode(other)).mean().item()
    assert 10 * math.log10(errors["plain"] / errors["additive"]) > 9


@pytest.fixture(scope="module")
def windows(tmp_path_factory):
    """A windows folder of one track of noise in which every stem sounds."""
    folder = tmp_path_factory.mktemp("windows")
    stems = np.random.default_rng(0).integers(-1500, 1500, (3, 20 * WINDOW), dtype=np.int16)
    np.save(folder / "stems.npy", stems)
    np.save(folder / "mix.npy", stems.sum(axis=0, dtype=np.int16))
    length = stems.shape[1]
    tables = {
        "tracks": {"track": ["A"], "start": [0], "length": [length]},
        "activity": {"track": ["A"] * 3, "label": LABELS, "onset": [0.0] * 3, "offset": [length / 8000] * 3},
        "windows": {
            "track": ["A"] * 20,
            "split": "train",
            "offset": WINDOW * np.arange(20),
            "active": ", ".join(LABELS),
        },
    }
    for name, table in tables.items():
        pd.DataFrame(table).to_csv(folder / f"{name}.csv", index=False)
    classes = {label: [label] for label in LABELS}
    (folder / "info.json").write_text(
        json.dumps({"sample_rate": 8000, "window": WINDOW, "classes": classes, "min_active": 0.01})
    )
    return folder


LATENT = {**tiny.CONFIG, "kind": "latent", "window": WINDOW, "codec": SETTINGS}
SHORT = TrainingConfig(
    steps=3, batch=2, warmup=1, ema=0.5, validate_every=3, validation_batches=1, precision="float32", level_windows=2
)


@pytest.fixture(scope="module")
def folders(windows, tmp_path_factory):
    """A codec and models of its latents, trained for three steps each: sums are taken of latents, or of signals."""
    root = tmp_path_factory.mktemp("models")
    options = {"seed": 1, "progress": False}
    train({**CODEC, "codec": SETTINGS}, SHORT, windows, windows, root / "codec", work=root / "w0", **options)
    for name, additive in (("latents", True), ("signals", None)):
        config = {**LATENT, "additive": additive}
        train(config, SHORT, windows, windows, root / name, work=root / f"{name}-w", codec=root / "codec", **options)
    return root


def test_a_folder_holds_the_codec_and_the_model_of_its_latents(folders, windows):
    model, own = gmsdi.load(folders / "latents", precision="float32"), load_codec(folders / "codec")
    assert isinstance(model, Model)
    assert (model.channels, model.window, model.space.additive) == (1, WINDOW, True)
    assert not gmsdi.load(folders / "signals").space.additive
    for name, tensor in own.state_dict().items():
        torch.testing.assert_close(model.codec.state_dict()[name], tensor)
    assert not torch.equal(own.analysis.weight, codec().analysis.weight), "the codec was trained"
    torch.testing.assert_close(load_codec(folders / "latents").decoder[-1].weight, own.decoder[-1].weight)
    mixtures = torch.from_numpy(np.load(windows / "mix.npy").astype(np.float32).reshape(20, 1, WINDOW) / 2**15)
    z = model.space.encode(mixtures)
    assert z.std().item() == pytest.approx(model.sigma_data, rel=0.05)
    torch.testing.assert_close(model.space.decode(z), own.decode(own.encode(mixtures)), atol=1e-5, rtol=1e-4)
    sigma = torch.tensor([0.1, 0.5])
    noise = torch.randn(2, 1, WINDOW, generator=torch.Generator().manual_seed(3))
    batch = {"clean": mixtures[:2], "noise": noise, "sigma": sigma, "texts": ["Bass", None]}
    epsilon = noise[:, 0, : z[0].numel()].reshape(z[:2].shape)
    D = model.denoise(z[:2] + sigma.reshape(-1, 1, 1) * epsilon, sigma, model.embed(["Bass", None]))
    weight = (sigma**2 + 0.1**2) / (sigma * 0.1) ** 2
    torch.testing.assert_close(model.training_loss(batch), weight * (D - z[:2]).square().mean(dim=(1, 2)))
    levels = json.loads((folders / "latents" / "provenance.json").read_text())["levels"]
    assert {name.split("_")[0] for name in levels} == {"mse"}, "a filter of signals is no limit of latents"


@pytest.mark.parametrize("sums", ["latents", "signals"])
def test_all_tasks_run_on_a_model_of_latents(folders, sums):
    song = music(2, seed=5).flatten().numpy()[:1500]
    options = {"solver": Solver("euler", steps=8, sigma_max=1.0), "guidance": Guidance(w=1.0)}
    model = opened(folders / sums, precision="float32")
    rate = {"sample_rate": 8000}
    for stems in (
        model.separate(song, constrained="Drums", **rate, **options),
        model.extract(song, consistent=True, **rate, **options),
        gmsdi.extract(folders / sums, song, LABELS, consistent=True, **rate, **options),
    ):
        assert list(stems.parts) == LABELS
        np.testing.assert_allclose(stems.residual, 0, atol=1e-5)
    made = model.generate(seconds=0.2, **options)
    assert made.mixture.shape == (1, 1600)
    np.testing.assert_allclose(made.residual, 0, atol=1e-5)
    more = model.accompany({"Bass": song}, ["Piano"], **rate, **options)
    np.testing.assert_allclose(more.residual[0], song, atol=1e-6)


def test_what_does_not_fit_is_refused(folders, windows, tmp_path):
    with pytest.raises(UserError, match=r"hop is 3; it must be even and at least latents, 4"):
        codec(hop=3)
    with pytest.raises(UserError, match=r"1024 samples is not a multiple of codec.hop, 48"):
        codec(hop=48)
    with pytest.raises(
        UserError, match=r"window of 64 frames of the codec is not a multiple of the network's stride 128"
    ):
        build_model({**LATENT, "unet": {**LATENT["unet"], "patch_factor": 32}})
    other = {**LATENT, "codec": {**SETTINGS, "latents": 2}}
    with pytest.raises(UserError, match=r"the codec has codec .* make them the same"):
        train(other, SHORT, windows, windows, tmp_path / "m", seed=1, work=tmp_path / "w", codec=folders / "codec")
    with pytest.raises(UserError, match="holds no codec"):
        load_codec(tiny.write(tmp_path / "tiny"))
    with pytest.raises(UserError, match="a model of mixtures is needed here"):
        gmsdi.load(folders / "codec")


class Split:
    """A test split of these stems."""

    def __init__(self, table, stems):
        self.table, self.labels, self.all = table, LABELS, stems

    def __len__(self):
        return len(self.table)

    def stems(self, ids):
        return self.all[ids]


def test_the_table_of_codecs_is_of_active_stems_and_of_their_sums():
    rng = np.random.default_rng(3)
    stems = rng.normal(scale=0.1, size=(4, 3, 1, WINDOW)).astype(np.float32)
    stems[1, 1:], stems[3] = 0, 0
    active = [", ".join(LABELS), "Bass", ", ".join(LABELS), ""]
    table = pd.DataFrame({"track": ["A", "A", "B", "B"], "offset": [0, WINDOW, 0, WINDOW], "active": active})
    test = Split(table, stems)
    own = curved()
    scores = {"linear": score_codec(codec(blocks=0), test), "curved": score_codec(own, test)}
    assert len(scores["linear"]) == 4 + 2 + 4
    x = torch.from_numpy(stems[2, 1][None])
    with torch.no_grad():
        z = own.encode(torch.from_numpy(stems[0]))
        y, together = own.encode(torch.from_numpy(stems[0].sum(axis=0)[None])), z.sum(dim=0, keepdim=True)
        decoded, whole = own.decode(z).sum(dim=0, keepdim=True), own.decode(together)
        expected = si_sdr(own.decode(own.encode(x))[0].numpy(), x[0].numpy())[0]
    row = scores["curved"].query("chunk == 2 and stem == 'Drums'").iloc[0]
    assert row["si_sdr"] == pytest.approx(expected, abs=1e-3)
    row = scores["curved"].query("chunk == 0 and stem == 'mixture'").iloc[0]
    assert row["encoder"] == pytest.approx(float((together - y).square().sum() / y.square().sum()), rel=1e-3)
    assert row["decoder"] == pytest.approx(float((decoded - whole).square().sum() / whole.square().sum()), rel=1e-3)
    found = codecs_table(scores, {name: {**CODEC, "codec": SETTINGS} for name in scores})
    own = found[found["codec"] == "curved"].set_index("stem")
    assert own["scores"].to_dict() == {"Bass": 3, "Drums": 2, "Piano": 2, "All": 7, "mixture": 3}
    both = scores["curved"].query("stem == 'mixture'")["encoder"].dropna()
    assert own.at["mixture", "encoder"] == pytest.approx(10 * math.log10(both.mean()))
    assert own.at["All", "values"] == 2000
    assert (found[found["codec"] == "linear"].set_index("stem").loc["mixture", ["encoder", "decoder"]] < -100).all()
    assert "| linear | 2000 |" in markdown([codecs_sheet(found)])


def test_the_configuration_names_the_codecs_and_the_one_in_use(tmp_path):
    config = validate(load(REPO / "config" / "mini_latent.yaml"))
    study = Study(config)
    assert study.codecs == ["plain", "additive_10", "additive_30", "additive_100", "linear"]
    assert study.codec_config("linear")["codec"]["blocks"] == 0
    assert study.model_config("gmsdi")["codec"] == study.codec_config("additive_10")["codec"]
    assert study.training("codec")["ema"] == 0.998
    plain = Study(validate(load()))
    assert plain.codecs == []
    assert not {"kind", "codec", "additive"} & set(plain.model_config("gmsdi"))
    for given, message in (
        ("{use: aditive_10}", r"codec.use is 'aditive_10'; did you mean 'additive_10'"),
        ("{config: {hop: 63}}", r"codec.* hop is 63; it must be even"),
        ("{config: {hop: 4096}}", r"data.window is 32768, not a multiple of the network's stride 131072"),
    ):
        (tmp_path / "own.yaml").write_text(f"codec: {given}\n")
        with pytest.raises(UserError, match=message):
            validate(load(REPO / "config" / "mini_latent.yaml", tmp_path / "own.yaml"))


@pytest.mark.slow
def test_codecs_are_trained_before_the_model_of_latents(tmp_path):
    jobs = dry_run(tmp_path, REPO / "config" / "mini_latent.yaml")
    trained = {job["wildcards"]["codec"] for job in jobs if job["rule"] == "train_codec"}
    assert trained == {job["wildcards"]["codec"] for job in jobs if job["rule"] == "score_codec"}
    assert trained == {"plain", "additive_10", "additive_30", "additive_100", "linear"}
    assert [job["rule"] for job in jobs].count("table_codecs") == 1
