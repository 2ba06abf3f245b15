"""MTG-Jamendo through the workflow: the whole graph at full size, and the data from a server on loopback to windows."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
import yaml

from gmsdi.data.versions import JAMENDO_TRACKS, jamendo_shard
from gmsdi.data.windows import build_mixture_windows
from gmsdi.io import transfer
from gmsdi.study import cost
from gmsdi.study.config import load, validate
from gmsdi.study.study import Study
from tests import REPO
from tests.helpers import jamendo_shards as shards
from tests.helpers.file_server import Stall, serve
from tests.helpers.rows import WHOLE
from tests.helpers.runs import FAULT, planned, rules_run

CONFIG = REPO / "config" / "mtg_jamendo.yaml"


@pytest.mark.slow
def test_the_papers_experiment_is_planned_about_as_fast_as_the_demo(tmp_path):
    jobs = planned(tmp_path, CONFIG)
    assert len(jobs) < 2000
    rules = Counter(job["rule"] for job in jobs)
    assert rules["download_jamendo"] == 100
    assert rules["chunk_jamendo"] == 2
    assert {"list_jamendo", "download", "unpack", "chunk_with_stems", "train", "table2", "fad"} <= set(rules)
    assert not {"chunk", "chunk_for_baselines", "train_baseline"} & set(rules)

    costed = cost.jobs([CONFIG])
    sizes, _ = cost.sizes_of(Study(cost.resolved([CONFIG])), costed, results=tmp_path / "results")
    costed = cost.counted(costed, sizes)
    chunks = sum(job.amount.disk for job in costed if job.rule == "chunk_jamendo")
    assert chunks == pytest.approx(2 * 22050 * 3777 * 3600, rel=1e-3)


# What the paper says, by key of the configuration.
PAPER = {
    "data.sample_rate": 22050,
    "data.window": 2**19,
    "training_data.shards": {"train": [0, 97], "validation": [98, 99]},
    "training_data.tracks": None,
    "model.train": True,
    "model.config.text.kind": "clap",
    "separation.solver.s_churn": 20,
    "generation.solver.name": "adpm2",
    "generation.solver.midpoint_rho": 1,
}


def test_the_papers_values_are_those_of_the_configuration():
    config = validate(load(CONFIG))
    for key, value in PAPER.items():
        found = config
        for name in key.split("."):
            found = found[name]
        assert found == value, key
    assert Study(config).selection()["splits"] == ["test"]  # of Slakh2100 no other split is unpacked


# --- From the server to windows ---------------------------------------------------------------------------------------

RATE, WINDOW = 22050, 8192
TRAIN, VALIDATION = "train-0-1", "validation-99-99"
FIRST = jamendo_shard(0)


@pytest.fixture
def site(tmp_path, monkeypatch):
    """A server with three shards, and a working directory with a registry and a configuration for them."""
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    # One of the tracks cannot be decoded, and is as long as some blocks of a download.
    contents = shards.archives(shards.tracks() | {shards.path_of(5500): random.Random(0).randbytes(600_000)})
    (tmp_path / "sitecustomize.py").write_text(FAULT)
    (tmp_path / "registry.csv").write_text(shards.registry(contents, "http://127.0.0.1:9"))
    with serve() as server:
        for name, data in contents.items():
            server.add(name, data)
        download = {"registry": "registry.csv", "mirrors": [server.url]}
        config = {
            "run": "jamendo",
            "data": {"sample_rate": RATE, "window": WINDOW},
            "training_data": {
                "kind": "jamendo",
                "shards": {"train": [0, 1], "validation": [99, 99]},
                "download": download,
            },
            "model": {"train": True, "config": {"text": {"kind": "none"}}},
            **WHOLE,
            "demo_training": {"enabled": False},
        }
        (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
        yield server


def start(folder: Path, **environment: str) -> subprocess.Popen:
    """The workflow up to the windows of both splits."""
    study = Study(validate(load(folder / "config.yaml")))
    targets = [f"results/data/{study.jamendo_id()}/{part}/windows/windows.csv" for part in (TRAIN, VALIDATION)]
    words = [sys.executable, "-m", "snakemake", "-s", REPO / "workflow" / "Snakefile", "--cores", "1", "--nolock"]
    words += ["--keep-going"]  # whichever job comes first and is killed, the others have run
    return subprocess.Popen(
        [*map(str, words), "--configfile", "config.yaml", "--", *targets],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(folder), **environment},
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


@pytest.mark.slow
def test_kill_9_at_every_stage_and_start_again(site, tmp_path):
    downloads = tmp_path / "results" / "downloads"
    root = downloads / "mtg_jamendo"
    stored = 2 * transfer._BLOCK
    site.files[f"/{FIRST}"].faults = [Stall(stored)]

    # Everything is killed in the middle of a shard's download, as by a power cut.
    run, partial = start(tmp_path), root / f".{FIRST}.partial"
    while run.poll() is None and not (partial.exists() and partial.stat().st_size == stored):
        time.sleep(0.005)
    os.killpg(run.pid, signal.SIGKILL)
    run.communicate()
    assert partial.stat().st_size == stored

    # The jobs alone are killed: when they unpack the shard's second track, and when they cut the second track.
    run = start(tmp_path, END_AT=".unpacking/00/", END_AFTER="2")
    run.communicate(timeout=1200)
    assert run.returncode != 0
    assert not list(root.glob("00/*.mp3"))
    run = start(tmp_path, END_AT=f"{TRAIN}/.windows.building/done.txt", END_AFTER="3")
    run.communicate(timeout=1200)
    assert run.returncode != 0
    (notes,) = tmp_path.glob(f"results/data/jamendo-*/{TRAIN}/.windows.building/done.txt")
    assert len(notes.read_text().splitlines()) == 1

    assert "download_jamendo" not in rules_run(start(tmp_path))
    for part, numbers in ((TRAIN, [0, 1]), (VALIDATION, [99])):
        (windows,) = tmp_path.glob(f"results/data/jamendo-*/{part}/windows")
        expected = tmp_path / part
        build = {"shards": numbers, "sample_rate": RATE, "window": WINDOW}
        build_mixture_windows(root, part.split("-")[0], expected, **build)
        assert {path.name: path.read_bytes() for path in windows.iterdir()} == {
            path.name: path.read_bytes() for path in expected.iterdir()
        }
    info = json.loads((tmp_path / TRAIN / "info.json").read_text())
    assert info["source"]["skipped"] == {"00/5500": "not a readable audio file"}
    # Each file has been asked for once; the first shard's download went on where it had been cut off.
    assert Counter((request.path[1:], request.range) for request in site.requests) == Counter(
        [(JAMENDO_TRACKS, None), (FIRST, None), (FIRST, f"bytes={stored}-")]
        + [(jamendo_shard(number), None) for number in (1, 99)]
    )
    assert not list(root.glob("*.tar"))
