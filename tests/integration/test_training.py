"""Training: exact resumption after a kill, and global batches that do not depend on the number of devices."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

from gmsdi.data.windows import WindowSet
from gmsdi.errors import UserError
from gmsdi.models.checkpoint import build_model, save_model
from gmsdi.training import Batches, TrainingConfig, train

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
    np.save(folder / "mix.npy", rng.integers(-3000, 3000, 60000, dtype=np.int16))
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
        "from gmsdi.training import train; "
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


def test_learning_rate_rises_holds_and_falls_to_zero():
    config = TrainingConfig(steps=100, warmup=10, decay=0.4)
    assert config.rate(0) == 0.1
    assert config.rate(9) == config.rate(60) == 1
    assert config.rate(80) == pytest.approx(0.5)
    assert config.rate(100) == 0


def test_a_model_of_other_windows_is_refused(windows, tmp_path):
    with pytest.raises(UserError, match="the training windows are 2048 samples at 8000 Hz, the model's are 4096"):
        train({**MODEL, "window": 4096}, TRAINING, windows, windows, tmp_path / "m", seed=0, work=tmp_path / "w")


def test_training_starts_from_a_given_model(windows, tmp_path):
    torch.manual_seed(9)
    save_model(tmp_path / "given", build_model(MODEL))
    still = replace(TRAINING, steps=2, lr=0.0, weight_decay=0.0, initial=str(tmp_path / "given"))
    train(MODEL, still, windows, windows, tmp_path / "m", seed=0, work=tmp_path / "w", progress=False)
    given, trained = (load_file(tmp_path / name / "model.safetensors") for name in ("given", "m"))
    assert all(torch.equal(given[name], trained[name]) for name in given)
    other = {**MODEL, "sigma_data": 0.3}
    with pytest.raises(UserError, match=r"training\.initial: .* another sigma_data than model\.config asks for"):
        train(other, still, windows, windows, tmp_path / "n", seed=0, work=tmp_path / "v", progress=False)


def test_a_diverging_loss_ends_the_run_in_one_line(windows, tmp_path):
    config = replace(TRAINING, lr=1e12, clip=1e12, steps=60)
    with pytest.raises(UserError, match=r"the loss is (nan|inf) at step \d+; lower training\.lr"):
        train(MODEL, config, windows, windows, tmp_path / "m", seed=0, work=tmp_path / "w", progress=False)
    assert not (tmp_path / "m").exists()
