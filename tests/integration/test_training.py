"""Training: exact resumption after a kill, and global batches that do not depend on the number of devices."""

from __future__ import annotations

import json
import os
import runpy
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

from gmsdi.data.windows import WindowSet
from gmsdi.errors import UserError
from gmsdi.metrics.denoising import LEVELS, oracle_wiener
from gmsdi.models.checkpoint import build_model, load_model, save_model
from gmsdi.models.edm.text import unique_bank
from gmsdi.models.settings import UNetConfig
from gmsdi.training.batches import Batches
from gmsdi.training.config import TrainingConfig
from gmsdi.training.loop import train
from gmsdi.training.module import Training, Uncertainty

MODEL = {
    "unet": {
        "channels": 16,
        "patch": "conv",
        "patch_factor": 16,
        "multipliers": [1, 1],
        "factors": [2],
        "num_blocks": [1],
        "attentions": [False],
        "attention_heads": 2,
        "attention_features": 8,
        "resnet_groups": 4,
    },
    "text": {"kind": "tiny", "features": 16, "heads": 2, "layers": 1, "max_length": 32},
    "sigma_data": 0.1,
    "sample_rate": 8000,
    "window": 2048,
    "labels": ["Bass", "Drums"],
}
TRAINING = TrainingConfig(
    steps=40,
    batch=4,
    warmup=4,
    ema=0.9,
    validate_every=16,
    validation_batches=2,
    checkpoint_every=6,
    precision="float32",
)


@pytest.fixture(scope="module")
def windows(tmp_path_factory):
    """Two tracks of noise with alternating labels, written as a windows folder."""
    folder = tmp_path_factory.mktemp("windows")
    rng = np.random.default_rng(0)
    stems = rng.integers(-1500, 1500, (2, 60000), dtype=np.int16)
    stems[0, 30000:] = 0  # B has no bass
    np.save(folder / "stems.npy", stems)
    np.save(folder / "mix.npy", stems.sum(axis=0, dtype=np.int16))
    pd.DataFrame({"track": ["A", "B"], "start": [0, 30000], "length": [30000, 30000]}).to_csv(
        folder / "tracks.csv", index=False
    )
    spans = [("A", "Bass", 0, 4), ("A", "Drums", 1, 2), ("B", "Drums", 0, 4)]
    pd.DataFrame(spans, columns=["track", "label", "onset", "offset"]).to_csv(folder / "activity.csv", index=False)
    pd.DataFrame([("A", "train", 0, "Bass")], columns=["track", "split", "offset", "active"]).to_csv(
        folder / "windows.csv", index=False
    )
    (folder / "info.json").write_text(
        '{"sample_rate": 8000, "window": 2048, "min_active": 0.1, "classes": {"Bass": ["Bass"], "Drums": ["Drums"]}}'
    )
    return folder


def test_killed_training_resumes_to_the_same_weights(windows, tmp_path):
    train(MODEL, TRAINING, windows, windows, tmp_path / "whole", seed=3, work=tmp_path / "work", progress=False)
    script = (
        "import sys; sys.path.insert(0, sys.argv[4]); from test_training import MODEL, TRAINING; "
        "from gmsdi.training.loop import train; "
        "train(MODEL, TRAINING, sys.argv[1], sys.argv[1], sys.argv[2], seed=3, work=sys.argv[3], progress=False)"
    )
    killed, work = tmp_path / "killed", tmp_path / "killed_work"
    command = [sys.executable, "-c", script, str(windows), str(killed), str(work), str(Path(__file__).parent)]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    while process.poll() is None and not (work / "last.ckpt").exists():
        time.sleep(0.005)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert not killed.exists(), "the kill came too late to test anything"
    step = torch.load(work / "last.ckpt", weights_only=True)["global_step"]
    assert step % TRAINING.validate_every, "the checkpoint should lie between two validations"
    subprocess.run(command, check=True, capture_output=True)
    whole, resumed = (load_file(folder / "model.safetensors") for folder in (tmp_path / "whole", killed))
    assert whole.keys() == resumed.keys()
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)
    losses = [pd.read_csv(folder / "csv" / "metrics.csv") for folder in (tmp_path / "work", work)]
    last = [table["val_loss"].dropna().iloc[-1] for table in losses]
    assert last[0] == last[1]


EVERYTHING = replace(
    TRAINING,
    steps=24,
    optimizer="muon",
    muon_every=3,
    uncertainty=True,
    p_extra={"share": 0.3, "low": 0.01, "high": 0.1},
    ema_power=[0.05, 0.1],
    ema_snapshots=5,
    level_windows=3,
)


@pytest.mark.parametrize("cut", [13, 17])
def test_every_option_resumes_to_the_same_weights(windows, tmp_path, monkeypatch, cut):
    """Of the model, of its averages and of the uncertainty, which goes into the gradients' common norm.

    After the cut, other processes prepare the batches.
    """

    def run(name, workers=0):
        config, work = replace(EVERYTHING, workers=workers), tmp_path / f"{name}_work"
        train(MODEL, config, windows, windows, tmp_path / name, seed=3, work=work, progress=False)
        return load_file(tmp_path / name / "model.safetensors"), work

    whole, work = run("whole")
    batch = Batches.batch

    def failing(self, step):
        if step == cut and self.seed == 3:
            raise RuntimeError("power cut")
        return batch(self, step)

    with monkeypatch.context() as patched:
        patched.setattr(Batches, "batch", failing)
        with pytest.raises(RuntimeError, match="power cut"):
            run("cut")
    resumed, resumed_work = run("cut", workers=3)
    assert json.loads((tmp_path / "cut" / "provenance.json").read_text())["resumed"]
    assert whole.keys() == resumed.keys()
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)
    steps = [5, 10, 15, 20, 24]
    for folder in (work, resumed_work):
        files = sorted((folder / "averages").glob("*.safetensors"), key=lambda path: int(path.stem))
        assert [int(path.stem) for path in files] == steps
    for step in steps:
        first, second = (load_file(folder / "averages" / f"{step}.safetensors") for folder in (work, resumed_work))
        assert {name.partition("/")[0] for name in first} == {"0.05", "0.1"}
        assert all(torch.equal(first[name], second[name]) for name in first)
    states = [torch.load(folder / "last.ckpt", weights_only=True)["state_dict"] for folder in (work, resumed_work)]
    assert states[0]["uncertainty.factors"].abs().max() > 0
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    assert not any("uncertainty" in name for name in whole)


def test_a_training_that_is_killed_around_a_validation_loses_none(windows, tmp_path, monkeypatch):
    """After a checkpoint of the best step, in its validation, in a later one and in the last one.

    From half of the steps on the gradient is climbed, so that the best step is not the last one.
    """
    monkeypatch.setattr(TrainingConfig, "rate", lambda _, step: 1.0 if step < 20 else -1.0)
    config = replace(TRAINING, lr=0.01, ema=0.0, validate_every=8, checkpoint_every=8, keep="best", level_windows=3)

    def run(name):
        work = tmp_path / f"{name}_work"
        train(MODEL, config, windows, windows, tmp_path / name, seed=1, work=work, progress=False)
        told = json.loads((tmp_path / name / "provenance.json").read_text())
        told.pop("seconds_of_last_run")
        return load_file(tmp_path / name / "model.safetensors"), (work / "csv" / "metrics.csv").read_text(), told

    whole, table, told = run("whole")
    losses = pd.read_csv(tmp_path / "whole_work" / "csv" / "metrics.csv")
    validations = losses.dropna(subset="val_loss")
    assert list(validations["step"]) == [7, 15, 23, 31, 39]
    best = 1 + int(validations["step"].iloc[validations["val_loss"].argmin()])
    assert 8 < best < 32
    cuts = [(step, at) for at in (best, best + 8) for step in ("training_step", "validation_step")]
    for step, at in [*cuts, ("validation_step", 40)]:
        own = getattr(Training, step)

        def failing(module, *arguments, own=own, at=at):
            if module.trainer.global_step == at:
                raise RuntimeError("power cut")
            return own(module, *arguments)

        name = f"{step}-{at}"
        with monkeypatch.context() as patched:
            patched.setattr(Training, step, failing)
            with pytest.raises(RuntimeError, match="power cut"):
                run(name)
        weights, rows, found = run(name)
        assert found == {**told, "resumed": True}, name
        assert rows == table, name
        assert all(torch.equal(weights[key], whole[key]) for key in whole), name


@pytest.mark.parametrize(("every", "cuts"), [(20, (20, 41)), (25, (41, 62))])
def test_the_table_of_a_resumed_training_is_that_of_a_whole_one(windows, tmp_path, monkeypatch, every, cuts):
    """From checkpoints of steps whose loss is logged, and from ones before rows that are logged again; each twice."""
    config = replace(TRAINING, steps=64, validate_every=30, checkpoint_every=every, level_windows=3)

    def run(name):
        work = tmp_path / f"{name}_work"
        train(MODEL, config, windows, windows, tmp_path / name, seed=3, work=work, progress=False)
        return (work / "csv" / "metrics.csv").read_text(), json.loads((tmp_path / name / "provenance.json").read_text())

    whole, told = run("whole")
    own = Training.training_step
    for cut in cuts:

        def failing(module, *arguments, cut=cut):
            if module.trainer.global_step == cut:
                raise RuntimeError("power cut")
            return own(module, *arguments)

        with monkeypatch.context() as patched:
            patched.setattr(Training, "training_step", failing)
            with pytest.raises(RuntimeError, match="power cut"):
                run("cut")
    resumed, known = run("cut")
    assert resumed == whole
    table = pd.read_csv(tmp_path / "cut_work" / "csv" / "metrics.csv")
    assert list(table.loc[table["train_loss"].notna(), "step"]) == [19, 39, 59]
    assert list(table.loc[table["val_loss"].notna(), "step"]) == [29, 59]
    assert [known[key] for key in ("val_loss", "levels")] == [told[key] for key in ("val_loss", "levels")]


class Listed(list):
    """Files of a rule, all of them and by name, as Snakemake gives them to a script."""

    def __init__(self, **named):
        super().__init__(file for part in named.values() for file in ([part] if isinstance(part, str) else part))
        self.__dict__.update(named)

    def get(self, name):
        return getattr(self, name, None)


@pytest.fixture
def rule(windows, monkeypatch):
    """Runs the workflow's script for training, with a folder for its outputs and settings of the training."""
    scripts = Path(__file__).parents[2] / "workflow" / "scripts"
    monkeypatch.syspath_prepend(str(scripts))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")

    def run(folder, config, code="0"):
        folder.mkdir(exist_ok=True)
        training = {name: value for name, value in asdict(config).items() if name != "devices"}
        job = SimpleNamespace(
            params=SimpleNamespace(model=MODEL, training=training, seed=3, description="A test.", code=code),
            resources=SimpleNamespace(gpu=1),
            threads=1,
            input=Listed(train=[str(windows / "mix.npy")], validation=[str(windows / "mix.npy")]),
            output=Listed(
                model=[str(folder / "model" / file) for file in ("model.safetensors", "config.json")],
                losses=str(folder / "losses.csv"),
            ),
            log=[str(folder / "train.log")],
        )
        runpy.run_path(str(scripts / "train.py"), init_globals={"snakemake": job})
        return json.loads((folder / "model" / "provenance.json").read_text())

    return run


@pytest.mark.parametrize(
    "dies",
    ["gmsdi.training.loop._choose", "gmsdi.training.loop.save_model", "pandas.DataFrame.to_csv", "shutil.rmtree"],
)
def test_a_training_that_dies_after_its_last_step_finishes_when_it_is_started_again(rule, tmp_path, monkeypatch, dies):
    """While the average is chosen, the model or the losses are written, or the work folder is removed."""
    config = replace(EVERYTHING, checkpoint_every=12, validate_every=12)
    remove = shutil.rmtree

    def failing(*arguments, **_):
        last = list((tmp_path / "cut").glob("work-*/last.ckpt"))
        if dies == "shutil.rmtree":  # some files are gone by then
            remove(arguments[0] / "averages")
            remove(arguments[0] / "csv")
        else:
            assert torch.load(last[0], weights_only=True)["global_step"] == config.steps
        raise UserError("no space left")

    told = rule(tmp_path / "whole", config)
    with monkeypatch.context() as patched:
        patched.setattr(dies, failing)
        with pytest.raises(SystemExit):
            rule(tmp_path / "cut", config)
    assert (tmp_path / "cut" / "train.log").read_text().endswith("error: no space left\n")
    known = rule(tmp_path / "cut", config)
    assert known["resumed"] == (dies != "shutil.rmtree")
    assert known.keys() == told.keys()
    assert {key for key in told if told[key] != known[key]} <= {"resumed", "seconds_of_last_run"}
    assert len(known["levels"]) == 2 * len(LEVELS)
    for name in ("model/model.safetensors", "model/config.json", "losses.csv"):
        assert (tmp_path / "cut" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    assert {path.name for path in (tmp_path / "cut").iterdir()} == {"losses.csv", "model", "train.log"}


def test_a_killed_training_does_not_go_on_with_other_code_or_another_initial_model(rule, tmp_path, monkeypatch):
    given = tmp_path / "given"
    config = replace(TRAINING, steps=2, checkpoint_every=2, initial=str(given))
    torch.manual_seed(9)
    save_model(given, build_model(MODEL))

    def failing(*_, **__):
        raise UserError("no space left")

    for code, other in (("0", False), ("1", False), ("1", True)):
        if other:
            save_model(given, build_model(MODEL))
        with monkeypatch.context() as patched:
            patched.setattr("gmsdi.training.loop.save_model", failing)
            with pytest.raises(SystemExit):
                rule(tmp_path / "m", config, code)
    assert len(list((tmp_path / "m").glob("work-*/last.ckpt"))) == 3
    assert rule(tmp_path / "m", config, code)["resumed"]
    fresh = rule(tmp_path / "fresh", config, code)
    assert not fresh["resumed"]
    first, second = (tmp_path / name / "model" / "model.safetensors" for name in ("m", "fresh"))
    assert first.read_bytes() == second.read_bytes()


def test_the_average_with_the_least_loss_is_saved(windows, tmp_path):
    config = replace(TRAINING, steps=24, ema=0.999, ema_power=[0.05, 0.1], validate_every=12, lr=3e-3)
    train(MODEL, config, windows, windows, tmp_path / "m", seed=3, work=tmp_path / "w", progress=False)
    told = json.loads((tmp_path / "m" / "provenance.json").read_text())
    losses = told["averages"]["val_loss"]
    assert told["averages"]["chosen"] == min(losses, key=losses.get) != "ema"
    assert told["val_loss"] == min(losses.values())
    validation = Batches(WindowSet(windows), config, seed=4)
    with torch.no_grad():
        model = load_model(tmp_path / "m")
        found = torch.stack([model.training_loss(validation.batch(step)).mean() for step in range(2)]).mean()
    assert found == pytest.approx(min(losses.values()), rel=1e-5)


def test_validation_measures_the_error_of_each_noise_level_beside_an_oracle(windows, tmp_path):
    config = replace(TRAINING, steps=8, validate_every=4, level_windows=3)
    train(MODEL, config, windows, windows, tmp_path / "m", seed=3, work=tmp_path / "w", progress=False)
    logged = pd.read_csv(tmp_path / "w" / "csv" / "metrics.csv")
    assert logged["val_loss"].count() == logged["mse_0.03"].count() == 2
    assert logged["wiener_0.03"].count() == 1
    levels = json.loads((tmp_path / "m" / "provenance.json").read_text())["levels"]
    plain = replace(config, batch=3, gain_db=0.0, polarity=False, p_drop=0.0)
    batch, model = Batches(WindowSet(windows), plain, seed=5).batch(0), load_model(tmp_path / "m")
    assert None not in batch["texts"]
    for sigma in LEVELS:
        noisy = batch["clean"] + sigma * batch["noise"]
        with torch.no_grad():
            denoised = model(noisy, torch.full((3,), sigma), unique_bank(model.text, batch["texts"]))
        error = (denoised - batch["clean"]).square().mean() / sigma**2
        assert logged[f"mse_{sigma:g}"].dropna().iloc[-1] == pytest.approx(error.item(), rel=1e-4)
        assert levels[f"mse_{sigma:g}"] == pytest.approx(error.item(), rel=1e-4)
        oracle = oracle_wiener(batch["clean"], sigma, batch["noise"]).mean().item()
        assert logged[f"wiener_{sigma:g}"].dropna().item() == pytest.approx(oracle, rel=1e-5)


def test_more_weight_on_a_range_of_noise_changes_nothing_else(windows):
    data, config = WindowSet(windows), replace(TRAINING, batch=200)
    extra = replace(config, p_extra={"share": 0.3, "low": 0.01, "high": 0.1})
    plain, more = (Batches(data, c, seed=5).batch(0) for c in (config, extra))
    assert all(torch.equal(plain[name], more[name]) for name in ("clean", "noise", "draws"))
    assert plain["texts"] == more["texts"]
    changed = plain["sigma"] != more["sigma"]
    assert 60 - 3 * 6.5 < changed.sum() < 60 + 3 * 6.5
    place = more["sigma"][changed].log().sub(np.log(0.01)).div(np.log(10)).sort().values
    assert place.min() > 0
    assert (place - torch.linspace(0, 1, len(place))).abs().max() < 1.63 * len(place) ** -0.5  # Kolmogorov, 1 %


def test_uncertainty_becomes_the_logarithm_of_the_expected_loss():
    generator = torch.Generator().manual_seed(0)
    model = Uncertainty()
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    assert torch.equal(model(torch.tensor([0.01, 1.0])), torch.zeros(2))

    def expected(sigma):
        return 0.3 + torch.sigmoid(2 * sigma.log() + 4)

    for step in range(2000):
        optimizer.param_groups[0]["lr"] = 1e-2 * (1 - step / 2000)
        sigma = (1.5 * torch.randn(64, generator=generator) - 2).exp()
        loss = expected(sigma) * -torch.rand(64, generator=generator).log()
        u = model(sigma)
        optimizer.zero_grad()
        (loss / u.exp() + u).mean().backward()
        optimizer.step()
    sigma = torch.tensor([0.01, 0.03, 0.1, 0.3, 1.0])
    torch.testing.assert_close(model(sigma).detach(), expected(sigma).log(), rtol=0, atol=0.1)


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"optimizer": "sgd"}, "training.optimizer is 'sgd'; choose adamw or muon"),
        ({"p_extra": {"share": 0.5}}, "training.p_extra has share; give share, low and high"),
        ({"p_extra": {"share": 0.5, "low": 1, "high": 0.1}}, "low above 0 and below high"),
        ({"ema_power": [0.5]}, "ema_power has 0.5"),
        ({"ema_power": [0.1], "keep": "best"}, "set only one of them"),
        ({"muon_every": 0}, "training.muon_every is 0"),
    ],
)
def test_settings_that_mean_nothing_are_refused(wrong, says):
    with pytest.raises(UserError, match=says):
        replace(TRAINING, **wrong)


def test_workers_need_a_system_that_forks(windows, tmp_path, monkeypatch):
    monkeypatch.setattr("multiprocessing.get_all_start_methods", lambda: ["spawn"])
    with pytest.raises(UserError, match=r"training\.workers: this system cannot fork"):
        train(MODEL, replace(TRAINING, workers=1), windows, windows, tmp_path / "m", seed=3, work=tmp_path / "work")
    assert not any(tmp_path.iterdir())


def test_a_compiled_training_gives_the_same_weights(windows, tmp_path, monkeypatch):
    """The network is traced whole; the traced operations run as they are, since their compiler takes minutes."""

    def run(name, compile):
        config = replace(TRAINING, steps=3, validate_every=3, compile=compile)
        train(MODEL, config, windows, windows, tmp_path / name, seed=3, work=tmp_path / f"{name}_work", progress=False)
        return load_file(tmp_path / name / "model.safetensors")

    traced = torch.nn.Module.compile
    monkeypatch.setattr(torch.nn.Module, "compile", lambda net: traced(net, backend="eager", fullgraph=True))
    torch._dynamo.utils.counters.clear()
    plain = run("plain", False)
    assert not torch._dynamo.utils.counters["stats"]["unique_graphs"]
    compiled = run("compiled", True)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"]
    assert plain.keys() == compiled.keys()
    assert all(torch.equal(plain[name], compiled[name]) for name in plain)


def test_a_slurm_job_trains_as_any_process_does(windows, tmp_path, monkeypatch):
    """Lightning would wait for processes that srun starts, and resume what lies in the working directory."""
    for name, value in (("NTASKS", "2"), ("NTASKS_PER_NODE", "2"), ("JOB_ID", "7"), ("JOB_NAME", "train")):
        monkeypatch.setenv(f"SLURM_{name}", value)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "hpc_ckpt_1.ckpt").write_text("another program's")
    short = replace(TRAINING, steps=2)
    train(MODEL, short, windows, windows, tmp_path / "m", seed=0, work=tmp_path / "w", progress=False)
    assert not json.loads((tmp_path / "m" / "provenance.json").read_text())["resumed"]
    # The model has learned the level of its windows: two stems of uniform noise.
    assert load_model(tmp_path / "m").config["level"] == pytest.approx(
        20 * np.log10(1500 * (2 / 3) ** 0.5 / 32768), abs=0.3
    )


def test_devices_share_the_global_batch(windows):
    data = WindowSet(windows)
    whole = Batches(data, TRAINING, seed=5).batch(7)
    parts = [Batches(data, TRAINING, seed=5, rank=rank, world=2).batch(7) for rank in range(2)]
    for key in ("clean", "noise", "sigma"):
        assert torch.equal(whole[key][0::2], parts[0][key])
        assert torch.equal(whole[key][1::2], parts[1][key])
    assert whole["texts"][0::2] == parts[0]["texts"]
    assert not torch.equal(whole["clean"], Batches(data, TRAINING, seed=5).batch(8)["clean"])
    with pytest.raises(UserError, match=r"training\.batch is 4, not a multiple of the 3 devices"):
        Batches(data, TRAINING, seed=5, world=3)


def test_a_batch_of_mixtures_is_made_of_these_draws_in_this_order(windows):
    """Resumed runs depend on it: later additions draw after these."""
    data, c = WindowSet(windows), TRAINING
    batch = Batches(data, c, seed=5).batch(3)
    for item in range(c.batch):
        rng = np.random.default_rng([5, 3, item])
        crop, labels = data.random_crops(rng, 1)
        gain = 10 ** (rng.uniform(-c.gain_db, c.gain_db) / 20) * rng.choice([-1.0, 1.0])
        sigma = np.exp(c.p_mean + c.p_std * rng.standard_normal())
        text = None if rng.random() < c.p_drop else ", ".join(labels[0])
        np.testing.assert_array_equal(batch["clean"][item], crop[0] * np.float32(gain))
        assert batch["sigma"][item].item() == pytest.approx(sigma, rel=1e-6)
        assert batch["texts"][item] == text
        np.testing.assert_array_equal(batch["noise"][item], rng.standard_normal((1, 2048), dtype=np.float32))
        np.testing.assert_array_equal(batch["draws"][item], rng.random(16, dtype=np.float32))


def test_stems_of_a_batch_are_those_of_its_mixtures(windows):
    """The same windows with one gain and sign for all stems, silent ones included."""
    data, config = WindowSet(windows), replace(TRAINING, batch=32)
    mixtures, stems = (Batches(data, config, seed=5, target=target).batch(0) for target in ("mixture", "stems"))
    assert stems["clean"].shape == stems["noise"].shape == (32, 2, 2048)
    torch.testing.assert_close(stems["clean"].sum(1, keepdim=True), mixtures["clean"], rtol=0, atol=1e-7)
    assert torch.equal(stems["sigma"], mixtures["sigma"])
    assert stems["texts"] == mixtures["texts"]
    silent = (stems["clean"][:, 0] == 0).all(dim=1)
    assert 4 < silent.sum() < 28


def test_a_model_of_one_stem_hears_it_most_of_the_time(windows):
    """Bass sounds in about half of the windows; with probability `p_any` one of all windows is drawn."""
    data = WindowSet(windows)
    for p_any, low, high in ((0.0, 0, 0), (0.5, 64 * 0.25 - 3 * 3.5, 64 * 0.25 + 3 * 3.5)):
        batch = Batches(data, replace(TRAINING, batch=64, p_any=p_any), seed=5, target="Bass").batch(0)
        assert batch["clean"].shape == (64, 1, 2048)
        assert low <= (batch["clean"] == 0).all(dim=2).sum() <= high
        assert set(batch["texts"]) == {"Bass", None}
    assert Batches(data, TRAINING, seed=5, target="Drums").batch(0)["clean"].abs().amax(dim=(1, 2)).min() > 0.03


UNCONDITIONAL = {**MODEL, "text": {"kind": "none"}}
JOINT = {**UNCONDITIONAL, "target": "stems", "unet": {**MODEL["unet"], "in_channels": 2}}


@pytest.mark.parametrize("model", [JOINT, {**UNCONDITIONAL, "target": "Bass"}], ids=["stems", "Bass"])
def test_models_of_stems_train_and_resume_to_the_same_weights(windows, tmp_path, monkeypatch, model):
    config = replace(TRAINING, steps=24, lr=3e-3)

    def run(name):
        train(model, config, windows, windows, tmp_path / name, seed=3, work=tmp_path / f"{name}_work", progress=False)
        return load_file(tmp_path / name / "model.safetensors")

    whole = run("whole")
    batch = Batches.batch

    def failing(self, step):
        if step == 17 and self.seed == 3:
            raise RuntimeError("power cut")
        return batch(self, step)

    with monkeypatch.context() as patched:
        patched.setattr(Batches, "batch", failing)
        with pytest.raises(RuntimeError, match="power cut"):
            run("cut")
    assert not (tmp_path / "cut").exists()
    resumed = run("cut")
    assert whole.keys() == resumed.keys()
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)
    assert json.loads((tmp_path / "cut" / "config.json").read_text())["target"] == model["target"]
    provenance = json.loads((tmp_path / "cut" / "provenance.json").read_text())
    assert provenance["resumed"]
    assert provenance["training"]["p_any"] == config.p_any
    trained = load_model(tmp_path / "whole")
    torch.manual_seed(3)
    fresh = build_model(model)
    validation = Batches(WindowSet(windows), replace(config, batch=16), seed=8, target=model["target"]).batch(0)
    with torch.no_grad():
        assert trained.training_loss(validation).mean() < 0.95 * fresh.training_loss(validation).mean()


def test_windows_that_do_not_fit_the_target_are_refused(windows, tmp_path):
    def run(model, folder):
        train(model, TRAINING, windows, folder, tmp_path / "m", seed=0, work=tmp_path / "w", progress=False)

    bare = tmp_path / "bare"
    shutil.copytree(windows, bare, ignore=shutil.ignore_patterns("stems.npy"))
    with pytest.raises(UserError, match=r"was built without stems, .* rebuild the windows with stems=True"):
        run(JOINT, bare)
    with pytest.raises(
        UserError, match="the training windows have the stems Bass, Drums, but the model has Drums, Bass"
    ):
        run({**JOINT, "labels": ["Drums", "Bass"]}, windows)
    with pytest.raises(UserError, match="has no label 'Piano', only Bass, Drums"):
        run({**UNCONDITIONAL, "target": "Piano", "labels": ["Piano"]}, windows)
    with pytest.raises(UserError, match=r"unet\.in_channels is 2, but a model of target 'mixture' is trained on 1"):
        run({**JOINT, "target": "mixture"}, windows)


def test_learning_rate_rises_holds_and_falls_to_zero():
    config = TrainingConfig(steps=100, warmup=10, decay=0.4)
    assert config.rate(0) == 0.1
    assert config.rate(9) == config.rate(60) == 1
    assert config.rate(80) == pytest.approx(0.5)
    assert config.rate(100) == 0


def test_a_model_of_other_windows_is_refused(windows, tmp_path):
    with pytest.raises(UserError, match="the training windows have 2048 samples at 8000 Hz, but the model needs 4096"):
        train({**MODEL, "window": 4096}, TRAINING, windows, windows, tmp_path / "m", seed=0, work=tmp_path / "w")


def test_training_starts_from_a_given_model(windows, tmp_path):
    torch.manual_seed(9)
    save_model(tmp_path / "given", build_model(MODEL))
    still = replace(TRAINING, steps=2, lr=0.0, weight_decay=0.0, initial=str(tmp_path / "given"))
    train(MODEL, still, windows, windows, tmp_path / "m", seed=0, work=tmp_path / "w", progress=False)
    given, trained = (load_file(tmp_path / name / "model.safetensors") for name in ("given", "m"))
    assert all(torch.equal(given[name], trained[name]) for name in given)
    # As a resolved configuration has it: with every default.
    whole = {**MODEL, "unet": asdict(UNetConfig(**MODEL["unet"])), "text": {**MODEL["text"], "attend_padding": False}}
    train(whole, still, windows, windows, tmp_path / "whole", seed=0, work=tmp_path / "u", progress=False)
    dilated = {**MODEL, "unet": {**MODEL["unet"], "dilations": [[2]] * len(MODEL["unet"]["factors"])}}
    with pytest.raises(UserError, match=r"training\.initial: .* a different unet from model\.config"):
        train(dilated, still, windows, windows, tmp_path / "n", seed=0, work=tmp_path / "v", progress=False)
    other = {**MODEL, "sigma_data": 0.3}
    with pytest.raises(UserError, match=r"training\.initial: .* has a different sigma_data from model\.config"):
        train(other, still, windows, windows, tmp_path / "n", seed=0, work=tmp_path / "v", progress=False)


def test_a_diverging_loss_ends_the_run_in_one_line(windows, tmp_path):
    config = replace(TRAINING, lr=1e12, clip=1e12, steps=60)
    with pytest.raises(UserError, match=r"the loss is (nan|inf) at step \d+; lower training\.lr"):
        train(MODEL, config, windows, windows, tmp_path / "m", seed=0, work=tmp_path / "w", progress=False)
    assert not (tmp_path / "m").exists()


def test_a_loss_that_diverges_after_the_last_check_saves_nothing(windows, tmp_path, monkeypatch):
    """Of 38 steps every 16th is looked at, and none after the 32nd; a resumed run finds its weights spoilt."""
    config = replace(TRAINING, steps=38, checkpoint_every=1)
    rate = TrainingConfig.rate
    monkeypatch.setattr(TrainingConfig, "rate", lambda own, step: 1e12 if step == 35 else rate(own, step))
    said = iter(
        [r"the loss is (nan|inf) at step 38; lower training\.lr", r"is not finite after step 38; remove .*w and"]
    )
    for _ in range(2):
        with pytest.raises(UserError, match=next(said)):
            train(MODEL, config, windows, windows, tmp_path / "m", seed=0, work=tmp_path / "w", progress=False)
        assert not (tmp_path / "m").exists()


def test_the_best_validation_is_kept(windows, tmp_path, monkeypatch):
    """What is saved is what a run to that validation gives; from half of the steps on the gradient is climbed."""
    monkeypatch.setattr(TrainingConfig, "rate", lambda _, step: 1.0 if step < 20 else -1.0)
    config = replace(TRAINING, lr=0.01, ema=0.0, validate_every=8, checkpoint_every=1)

    def weights(name, **changes):
        changed = replace(config, **changes)
        train(MODEL, changed, windows, windows, tmp_path / name, seed=1, work=tmp_path / "work" / name, progress=False)
        known = json.loads((tmp_path / name / "provenance.json").read_text())
        return load_file(tmp_path / name / "model.safetensors"), known

    last, ended = weights("last")
    losses = pd.read_csv(tmp_path / "work" / "last" / "csv" / "metrics.csv").dropna(subset="val_loss")
    best = 8 * (1 + int(losses["val_loss"].to_numpy().argmin()))
    assert len(losses) == 5
    assert best < 40
    expected, until_then = weights("until then", steps=best)
    kept, known = weights("kept", keep="best")
    assert known["steps"] == ended["steps"] == 40
    assert known["val_loss"] == until_then["val_loss"] < ended["val_loss"]
    assert all(torch.equal(kept[name], expected[name]) for name in expected)
    assert not all(torch.equal(last[name], expected[name]) for name in expected)
    # A run that was interrupted after the best one still knows it.
    weights("resumed", steps=best + 2, keep="best")
    shutil.rmtree(tmp_path / "resumed")
    resumed, again = weights("resumed", keep="best")
    assert again["resumed"]
    assert all(torch.equal(resumed[name], kept[name]) for name in kept)
