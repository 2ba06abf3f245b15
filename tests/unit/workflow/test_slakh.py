"""Slakh2100 through the workflow: the whole graph at full size, and the data from a server on loopback to windows."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import pytest
import yaml

from gmsdi.data.mini import MiniConfig, compose_dataset
from gmsdi.data.versions import VERSIONS
from gmsdi.data.windows import build_windows
from gmsdi.study.config import load, validate
from gmsdi.study.study import Study
from tests import REPO
from tests.helpers.file_server import serve
from tests.helpers.rows import WHOLE
from tests.helpers.runs import FAULT, planned, rules_run

ARCHIVE = VERSIONS["slakh2100"].archive
FOLDER = VERSIONS["slakh2100"].folder


@pytest.mark.slow
def test_the_papers_experiment_is_planned_about_as_fast_as_the_demo(tmp_path):
    jobs = planned(tmp_path, REPO / "config" / "slakh2100.yaml")
    assert len(jobs) < 2000
    rules = [job["rule"] for job in jobs]
    assert {"download", "unpack", "chunk", "chunk_with_stems", "chunk_for_baselines", "train", "table2", "fad"} <= set(
        rules
    )
    assert rules.count("download") == rules.count("unpack") == 1
    assert rules.count("train_baseline") == 1 + 4


# What the paper says, by key of the configuration.
PAPER = {
    "data.sample_rate": 22050,
    "data.window": 2**18,
    "model.config.text.name": "t5-small",
    "separation.chunks": None,
    "separation.solver.s_churn": 20,
    "separation.rows.extractor.w": 7.5,
    "separation.rows.separator.w": 3,
    "separation.rows.separator.constrained": "Drums",
    "grid.w": [3, 7.5, 15, 24],
    "grid.chunks": 100,
    "generation.clips": 200,
    "generation.solver.name": "adpm2",
    "generation.solver.midpoint_rho": 1,
    "generation.single.solver.steps": 150,
    "generation.total.solver.steps": 600,
    "generation.total.gamma_y": float("inf"),
    "generation.partial.solver.steps": 300,
    "fad.reference_clips": 200,
}


def test_the_papers_values_are_those_of_the_configuration():
    config = validate(load(REPO / "config" / "slakh2100.yaml"))
    for key, value in PAPER.items():
        found = config
        for name in key.split("."):
            found = found[name]
        assert found == value, key
    rows = config["separation"]["rows"]
    assert rows.keys() == {"separator", "extractor", "msdm", "weak_msdm", "msdm_gaussian", "ensemble"}
    assert list(rows["extractor"]["negatives"]) == ["Bass", "Drums"]
    assert config["fad"]["embedding"].startswith("vggish")


@pytest.mark.parametrize("overlay", ["slakh2100", "mtg_jamendo"])
def test_generation_takes_nothing_from_the_demos_tuning(overlay):
    study = Study(validate(load(REPO / "config" / f"{overlay}.yaml")))
    for task in study.tasks.values():
        if task.system.kind != "gmsdi":
            continue
        found = task.model_dump()
        assert found["guidance"] == {"convention": "paper", "interval": None, "clamp": 1.0, "w": 3}, task.name
        del found["solver"]["steps"]
        levels = {"sigma_min": 0.0001, "sigma_max": 3, "rho": 9}
        adpm2 = {"name": "adpm2", "midpoint": "power", "midpoint_rho": 1}
        assert found["solver"] == {**levels, **adpm2}, task.name
        assert not found.get("consistent"), task.name
        assert found.get("noise", "independent") == "independent", task.name
        assert found.get("given_noise", "fixed") == "fixed", task.name


def settings(**data):
    config = load()
    return validate(config | {"data": config["data"] | {"kind": "slakh", **data}})


def test_only_what_is_needed_is_unpacked():
    config = settings()
    config["demo_training"]["enabled"] = False
    classes = ["Bass", "Drums", "Guitar", "Piano"]
    assert Study(config).selection() == {"splits": ["test"], "tracks": None, "classes": classes}
    config["data"]["source"] = "slakh2100"
    assert Study(config).selection() == {"splits": None, "tracks": [[1876, 2101]], "classes": classes}
    config["model"]["train"] = True
    assert Study(config).selection()["tracks"] is None
    config["data"]["tracks"]["train"] = 10
    assert Study(config).selection()["tracks"] == [[1, 11], [1501, 1876], [1876, 2101]]
    config["data"]["source"] = "slakh2100_redux"
    assert Study(config).selection()["splits"] == ["train", "validation", "test"]


def test_chunks_are_shared_by_what_they_depend_on():
    names = {
        Study(settings(**data)).dataset_id()
        for data in ({}, {"source": "slakh2100"}, {"tracks": {"test": 3}}, {"root": "/data"})
    }
    assert len(names) == 4
    same = ({}, {"seed": 5}, {"download": {"archive": "stream", "mirrors": ["http://a"]}}, {"mini": {"loudness": -20}})
    assert len({Study(settings(**data)).dataset_id() for data in same}) == 1


# --- From the server to windows ---------------------------------------------------------------------------------------

RATE, WINDOW = 22050, 16384
NO_MODELS = {**WHOLE, "demo_training": {"enabled": False}}


@pytest.fixture(scope="module")
def original(tmp_path_factory) -> Path:
    """A data set as the archive has it, at 44.1 kHz: numbers by split, and a track that redux omits."""
    root = tmp_path_factory.mktemp("original") / FOLDER
    tracks = {"train": 2, "validation": 1, "test": 2}
    compose_dataset(root, MiniConfig(sample_rate=44100, sections=(1, 1), tracks=tracks), seed=3)
    (root / "mini.json").unlink()
    for split, first in (("validation", 1501), ("test", 1876)):
        for number, path in enumerate(sorted((root / split).iterdir()), first):
            path.rename(path.with_name(f"Track{number:05d}"))
    (root / "omitted").mkdir()
    (root / "test" / "Track01877").rename(root / "omitted" / "Track01877")
    return root


@pytest.fixture
def site(original, tmp_path, monkeypatch):
    """A server with the archive, and a working directory with a registry and a configuration for it."""
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    archive = original.parent / ARCHIVE
    if not archive.exists():
        with tarfile.open(archive, "w:gz", compresslevel=1) as tar:
            tar.add(original, FOLDER)
    data = archive.read_bytes()
    (tmp_path / "sitecustomize.py").write_text(FAULT)
    with serve() as server:
        server.add(ARCHIVE, data, pace=0.02)
        digest = hashlib.sha256(data).hexdigest()
        columns = "name,version,url,mirrors,hash,size,unpacked,licence"
        row = f"{ARCHIVE},redux,http://127.0.0.1:9/{ARCHIVE},,sha256:{digest},{len(data)},,CC-BY-4.0"
        (tmp_path / "registry.csv").write_text(f"{columns}\n{row}\n")
        yield server


def configure(folder: Path, server, **data) -> tuple[Path, Study]:
    data = {"kind": "slakh", "sample_rate": RATE, "window": WINDOW, **data}
    data["download"] = {"registry": "registry.csv", "mirrors": [server.url], **data.get("download", {})}
    file = folder / "config.yaml"
    # A model of this rate and length, which is not run.
    (folder / "model").mkdir(exist_ok=True)
    (folder / "model" / "model.safetensors").touch()
    (folder / "model" / "config.json").write_text(json.dumps({"sample_rate": RATE, "window": WINDOW}))
    file.write_text(yaml.safe_dump({"run": "slakh", "data": data, "model": {"folder": "model"}, **NO_MODELS}))
    return file, Study(validate(load(file)))


def start(folder: Path, study: Study, **environment) -> subprocess.Popen:
    """The workflow up to the test split's windows."""
    target = f"results/data/{study.dataset_id()}/test-all/windows/windows.csv"
    words = [sys.executable, "-m", "snakemake", "-s", REPO / "workflow" / "Snakefile", "--cores", "2", "--nolock"]
    return subprocess.Popen(
        [*map(str, words), "--configfile", "config.yaml", "--", target],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(folder), **environment},
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def check_windows(folder: Path, study: Study, original: Path, **options) -> None:
    """Byte for byte those that are cut straight from the data set."""
    data = study.config["data"]
    expected = folder / "expected"
    shared = {key: data[key] for key in ("sample_rate", "window", "classes", "min_active")}
    build_windows(original, "test", expected, stems=True, **shared, **options)
    windows = folder / "results" / "data" / study.dataset_id() / "test-all" / "windows"
    assert {path.name: path.read_bytes() for path in windows.iterdir()} == {
        path.name: path.read_bytes() for path in expected.iterdir()
    }


@pytest.mark.slow
def test_kill_9_at_every_stage_and_start_again(site, original, tmp_path):
    downloads = tmp_path / "results" / "downloads"
    _, study = configure(tmp_path, site, source="slakh2100")
    size = len(site.files[f"/{ARCHIVE}"].data)

    # Everything is killed in the middle of the download, as by a power cut.
    run, partial = start(tmp_path, study), downloads / f".{ARCHIVE}.partial"
    while run.poll() is None and not (partial.exists() and partial.stat().st_size > 0.3 * size):
        time.sleep(0.005)
    os.killpg(run.pid, signal.SIGKILL)
    run.communicate()
    stored = partial.stat().st_size
    assert 0 < stored < size
    site.files[f"/{ARCHIVE}"].pace = 0

    # The jobs alone are killed: at the fourth file of a track, and when one of two tracks is cut.
    run = start(tmp_path, study, END_AT=".unpacking/test/", END_AFTER="3")
    run.communicate(timeout=1200)
    assert run.returncode != 0
    assert [request.range for request in site.requests] == [None, f"bytes={stored}-"]
    assert (downloads / f"{ARCHIVE}.json").exists()
    assert len(list((downloads / FOLDER / f".{ARCHIVE}.unpacking").rglob("*.*"))) >= 3
    assert list((downloads / FOLDER).glob("*/Track*/mix.flac")) == []
    run = start(tmp_path, study, END_AT=".building/done.txt", END_AFTER="3")
    run.communicate(timeout=1200)
    assert run.returncode != 0
    windows = tmp_path / "results" / "data" / study.dataset_id() / "test-all" / "windows"
    notes = windows.with_name(".windows.building") / "done.txt"
    assert len(notes.read_text().splitlines()) == 1
    assert not (windows / "mix.npy").exists()

    assert rules_run(start(tmp_path, study)) == ["chunk_with_stems"]
    check_windows(tmp_path, study, original, version="slakh2100")
    assert sorted(path.parent.name for path in (downloads / FOLDER).glob("*/*/mix.flac")) == [
        "Track01876",
        "Track01877",
    ]
    assert len(site.requests) == 2

    # Another split of the same data set: unpacked from the archive that is there.
    _, redux = configure(tmp_path, site, source="slakh2100_redux", download={"mirrors": []})
    assert rules_run(start(tmp_path, redux)) == ["unpack", "chunk_with_stems"]
    (tmp_path / "expected").rename(tmp_path / "before")
    check_windows(tmp_path, redux, original)
    assert len(site.requests) == 2
