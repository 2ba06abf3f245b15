"""Training on two devices, here processes without a GPU: the same as on one, however they are started or end."""

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pandas as pd
import psutil
import pytest
import torch
from safetensors.torch import load_file

from gmsdi.data.mini import MiniConfig, compose_dataset
from gmsdi.data.windows import build_windows
from gmsdi.errors import UserError
from gmsdi.training.config import TrainingConfig
from gmsdi.training.loop import train

REPO = Path(__file__).parents[2]
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
    "text": {"kind": "tiny", "features": 16, "heads": 2, "layers": 1, "max_length": 28},
    "sigma_data": 0.1,
    "sample_rate": 8000,
    "window": 2048,
    "labels": ["Bass", "Drums", "Guitar", "Piano"],
}
TRAINING = TrainingConfig(
    steps=24,
    batch=4,
    warmup=4,
    ema=0.9,
    p_drop=0.5,  # in some steps, only one of the processes has a dropped prompt
    validate_every=8,
    validation_batches=2,
    checkpoint_every=6,
    precision="float32",
    devices=2,
)
EVERYTHING = replace(
    TRAINING,
    optimizer="muon",
    uncertainty=True,
    p_extra={"share": 0.3, "low": 0.01, "high": 0.1},
    ema_power=[0.05, 0.1],
    level_windows=3,
)
SCRIPT = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
import test_ddp
from test_ddp import MODEL
from gmsdi.training.loop import train
windows, out, work = sys.argv[1:]
config = test_ddp.EVERYTHING if "everything" in out else test_ddp.TRAINING
if train(MODEL, config, windows, windows, out, seed=3, work=work, progress=False):
    print("first")
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Windows of two short tracks, and a script that trains on them."""
    folder = tmp_path_factory.mktemp("ddp")
    compose_dataset(folder / "slakh", MiniConfig(sections=(1, 1), tracks={"train": 2}), seed=1)
    classes = {label: [label] for label in MODEL["labels"]}
    settings = {"sample_rate": MODEL["sample_rate"], "window": MODEL["window"], "classes": classes}
    build_windows(folder / "slakh", "train", folder / "windows", min_active=0.1, **settings)
    (folder / "train.py").write_text(SCRIPT)
    return folder


def command(folder, name, *launcher):
    launched = launcher or (sys.executable,)
    return [*launched, *(str(folder / part) for part in ("train.py", "windows", name, f"{name}_work"))]


def run(words):
    result = subprocess.run(words, env=environment(), capture_output=True, text=True, timeout=1200)
    assert result.returncode == 0, result.stderr[-4000:]
    assert result.stdout.count("first") == 1
    return result


def environment():
    paths = [str(REPO), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1"}


def found(folder, name):
    """Weights, and the losses by step."""
    losses = pd.read_csv(folder / f"{name}_work" / "csv" / "metrics.csv").groupby("step").first()
    return load_file(folder / name / "model.safetensors"), losses[["train_loss", "val_loss"]]


@pytest.fixture(scope="module")
def one(folder):
    """What one device comes to."""
    config, windows = replace(TRAINING, devices=1), folder / "windows"
    assert train(MODEL, config, windows, windows, folder / "one", seed=3, work=folder / "one_work", progress=False)
    return found(folder, "one")


@pytest.fixture(scope="module")
def two(folder):
    """The same by two processes, the second of which Lightning starts."""
    run(command(folder, "two"))
    return found(folder, "two")


def check_equal(one, other):
    pd.testing.assert_frame_equal(one[1], other[1], rtol=1e-4)
    assert one[0].keys() == other[0].keys()
    for name, weight in one[0].items():
        torch.testing.assert_close(other[0][name], weight, rtol=1e-3, atol=1e-5, msg=name)


@pytest.mark.slow
def test_two_devices_train_the_model_of_one(one, two):
    check_equal(one, two)
    assert one[1]["val_loss"].count() == 3


@pytest.mark.slow
def test_two_devices_agree_with_every_option(folder):
    run(command(folder, "everything"))
    config, windows, work = replace(EVERYTHING, devices=1), folder / "windows", folder / "alone_work"
    train(MODEL, config, windows, windows, folder / "alone", seed=3, work=work, progress=False)
    levels = [pd.read_csv(path / "csv" / "metrics.csv") for path in (work, folder / "everything_work")]
    names = [name for name in levels[0] if name.startswith(("mse_", "wiener_", "val_", "train_"))]
    assert len(names) == 14
    first, second = (table.groupby("step").first()[names] for table in levels)
    pd.testing.assert_frame_equal(first, second, rtol=2e-3)
    assert {path.name for path in (work / "averages").iterdir()} == {
        path.name for path in (folder / "everything_work" / "averages").iterdir()
    }


@pytest.mark.slow
def test_torchrun_starts_the_processes_as_well(folder, one):
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    run(command(folder, "launched", *launcher))
    check_equal(one, found(folder, "launched"))


@pytest.mark.slow
def test_killed_processes_resume_to_the_same_weights(folder, two):
    """The first is killed; its helper ends with it, and both go on from the last checkpoint."""
    words, checkpoint = command(folder, "killed"), folder / "killed_work" / "last.ckpt"
    process = subprocess.Popen(words, env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while process.poll() is None and not checkpoint.exists():
        time.sleep(0.005)
    helpers = psutil.Process(process.pid).children()
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (folder / "killed").exists(), "the kill came too late to test anything"
    assert len(helpers) == 1
    assert psutil.wait_procs(helpers, timeout=60)[1] == []
    assert torch.load(checkpoint, weights_only=True)["global_step"] < TRAINING.steps
    run(words)
    weights, losses = found(folder, "killed")
    assert all(torch.equal(weights[name], weight) for name, weight in two[0].items())
    pd.testing.assert_frame_equal(losses, two[1], check_exact=True)


def test_devices_that_cannot_share_the_batch_are_refused(folder):
    config, windows = replace(TRAINING, devices=3), folder / "windows"
    with pytest.raises(UserError, match=r"training\.batch is 4, not a multiple of the 3 devices"):
        train(MODEL, config, windows, windows, folder / "m", seed=3, work=folder / "w", progress=False)
