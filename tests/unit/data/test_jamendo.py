"""MTG-Jamendo from archives to batches: against the signals that were encoded, and against a decode in one piece."""

import json
import logging
import os
import signal
import subprocess
import sys
import time
import tracemalloc
from math import gcd
from pathlib import Path

import numpy as np
import pytest
import scipy.signal
import soundfile
import soxr
import torch

from gmsdi.data import decoding, jamendo
from gmsdi.data.download import download_jamendo
from gmsdi.data.windows import WindowSet, build_mixture_windows, store
from gmsdi.errors import UserError
from gmsdi.models.checkpoint import build_model
from gmsdi.study.config import load, validate
from gmsdi.study.study import Study
from gmsdi.training.batches import Batches
from gmsdi.training.config import TrainingConfig
from gmsdi.training.loop import train
from tests.helpers import jamendo_shards as shards
from tests.helpers import tiny
from tests.helpers.file_server import serve

RATE, WINDOW = 22050, 8192
OPTIONS = {"shards": [0, 1], "sample_rate": RATE, "window": WINDOW}


@pytest.fixture(scope="module")
def files() -> dict[str, bytes]:
    return shards.tracks()


@pytest.fixture(scope="module")
def root(files, tmp_path_factory) -> Path:
    return shards.write(tmp_path_factory.mktemp("jamendo"), files)


@pytest.fixture(scope="module")
def windows(root, tmp_path_factory) -> WindowSet:
    out = tmp_path_factory.mktemp("windows") / "train"
    build_mixture_windows(root, "train", out, **OPTIONS)
    return WindowSet(out)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def audio_of(windows: WindowSet) -> dict[str, np.ndarray]:
    """The samples of every track, in units of full scale."""
    rows = (line.split(",") for line in (windows.folder / "tracks.csv").read_text().splitlines()[1:])
    mix = np.load(windows.folder / "mix.npy", mmap_mode="r")
    return {track: mix[int(start) : int(start) + int(length)] / 32768 for track, start, length in rows}


def test_from_the_server_to_a_step_of_training(files, root, windows, tmp_path, monkeypatch):
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    archives = shards.archives(files)
    with serve() as server:
        for name, data in archives.items():
            server.add(f"mirror/{name}", data)
        table = tmp_path / "registry.csv"
        table.write_text(shards.registry(archives, "http://127.0.0.1:9"))
        found = download_jamendo(tmp_path / "data", [0, 1], registry=table, mirrors=[f"{server.url}/mirror"])
    out = tmp_path / "out"
    build_mixture_windows(found, "train", out, workers=3, **OPTIONS)
    assert contents(out) == contents(windows.folder)

    # Without labels every crop counts; a prompt that is not dropped is empty.
    batch = Batches(WindowSet(out), TrainingConfig(steps=1, batch=8, p_drop=0.3), seed=0).batch(0)
    assert set(batch["texts"]) == {"", None}
    assert batch["clean"].shape == (8, 1, WINDOW)
    config = {**tiny.CONFIG, "sample_rate": RATE, "window": WINDOW, "text": {"kind": "none"}}
    model = build_model(config)
    loss = model.training_loss(batch).mean()
    loss.backward()
    assert torch.isfinite(loss)
    given = config | {"text": tiny.CONFIG["text"]}
    with pytest.raises(UserError, match=r"mixtures without labels, but a model of text\.kind 'tiny' is conditioned"):
        train(given, TrainingConfig(steps=1), out, out, tmp_path / "model", seed=0, work=tmp_path)


def test_windows_hold_what_was_encoded(windows, root):
    """Against the signals before the MP3 encoder: level and place, to the sample."""
    found = audio_of(windows)
    assert list(found) == ["00/200", "00/300", "00/1500", "01/801", "01/9101"]
    for name, samples in found.items():
        track = int(name[3:])
        rate = shards.TRACKS[track][0]
        mono = shards.signal_of(track).mean(axis=1)
        divisor = gcd(RATE, rate)
        expected = scipy.signal.resample_poly(mono, RATE // divisor, rate // divisor)
        assert abs(len(samples) - len(expected)) <= 1
        inner = slice(1000, len(expected) - 1000)  # the encoder's filters smear the ends
        error = np.mean((samples[inner] - expected[inner]) ** 2)
        assert error < 1e-3 * np.mean(expected[inner] ** 2), name
        # And against a decode and a resampling in one piece.
        decoded, _ = soundfile.read(root / shards.path_of(track), always_2d=True, dtype="float32")
        whole = soxr.resample(decoded.mean(axis=1), rate, RATE)
        np.testing.assert_allclose(samples[: len(whole)], whole[: len(samples)], atol=1.01 / 32768)


def test_windows_of_tracks_and_their_crops(windows):
    assert (windows.labels, windows.has_stems, windows.window) == ([], False, WINDOW)
    found = audio_of(windows)
    rows = [(track, "train", k * WINDOW, "") for track, x in found.items() for k in range(len(x) // WINDOW)]
    assert list(windows.table.itertuples(index=False, name=None)) == rows
    ids = [3, 0]
    expected = [found[rows[i][0]][rows[i][2] : rows[i][2] + WINDOW] for i in ids]
    np.testing.assert_array_equal(windows.mixture(ids)[:, 0], expected)

    crops, labels = windows.random_crops(np.random.default_rng(0), 60)
    assert labels == [()] * 60
    seen = set()
    for crop in crops[:, 0]:
        (place,) = [
            (track, offset)
            for track, x in found.items()
            for offset in np.flatnonzero(x[: len(x) - WINDOW + 1] == crop[0])
            if np.array_equal(x[offset : offset + WINDOW], crop)
        ]
        seen.add(place)
    assert {track for track, _ in seen} == set(found)
    assert len(seen) > 50


def test_the_first_tracks_of_a_shard_are_those_of_the_lowest_identifiers(root):
    names = [jamendo.name_of(path) for path in jamendo.list_tracks(root, [1, 0], limit=2)]
    assert names == ["00/200", "00/300", "01/801", "01/9101"]
    with pytest.raises(UserError, match="02: no such folder; download shard 2 of MTG-Jamendo, or leave it out"):
        jamendo.list_tracks(root, [2])


def damaged(files: dict[str, bytes]) -> dict[str, bytes]:
    """As `files`: one track cut off, one with a hole, one that is no MP3 and one that is too short."""
    cut, hole = files[shards.path_of(9101)], files[shards.path_of(1500)]
    third = len(hole) // 3
    return files | {
        shards.path_of(9101): cut[: len(cut) // 2],
        shards.path_of(1500): hole[:third] + bytes(third) + hole[2 * third :],
        shards.path_of(7001): b"404 not found",
        shards.path_of(6001): shards.mp3(0.1 * np.ones(2000, np.float32), RATE),
    }


def test_damaged_tracks_are_told_and_left_out(files, windows, tmp_path, caplog):
    root, out = shards.write(tmp_path / "data", damaged(files)), tmp_path / "out"
    with caplog.at_level(logging.WARNING):
        build_mixture_windows(root, "train", out, workers=2, **OPTIONS)
    assert "4 of 7 tracks are left out; the first is 00/1500: damaged, cannot be decoded" in caplog.text
    source = json.loads((out / "info.json").read_text())["source"]
    assert source["tracks"] == 3
    assert source["skipped"] == {
        "00/1500": "damaged, cannot be decoded",
        "01/6001": "shorter than a window",
        "01/7001": "not a readable audio file",
        "01/9101": source["skipped"]["01/9101"],
    }
    assert source["skipped"]["01/9101"].startswith("ends after ")

    # The others are whole, and no crop lies in the places that were kept for the damaged ones.
    left, found = audio_of(windows), audio_of(WindowSet(out))
    assert list(found) == ["00/200", "00/300", "01/801"]
    assert all(np.array_equal(found[track], left[track]) for track in found)
    mix = np.load(out / "mix.npy")
    assert len(mix) == sum(map(len, left.values()))
    assert np.count_nonzero(mix) == sum(map(np.count_nonzero, found.values()))
    crops, _ = WindowSet(out).random_crops(np.random.default_rng(0), 60)
    assert (np.abs(crops[:, 0]).reshape(60, 16, -1).max(axis=2) > 0.01).all()

    for path in (200, 300, 801):
        (root / shards.path_of(path)).write_bytes(b"")
    with pytest.raises(UserError, match=r"out: no track can be decoded; the first is 00/1500: damaged"):
        build_mixture_windows(root, "train", out, **OPTIONS)
    for path in (1500, 9101):
        (root / shards.path_of(path)).unlink()
    with pytest.raises(UserError, match=r"the shards have no readable track that is as long as a window"):
        build_mixture_windows(root, "train", out, **OPTIONS)


SLOW = """
import sys, time
from gmsdi.data import jamendo, windows
decode = jamendo.decode
jamendo.decode = lambda *arguments: (time.sleep(0.3), decode(*arguments))[1]
options = {"shards": [0, 1], "sample_rate": 22050, "window": 8192, "workers": int(sys.argv[3])}
windows.build_mixture_windows(sys.argv[1], "train", sys.argv[2], **options)
"""


def test_a_killed_build_goes_on_with_what_is_missing_to_the_same_bytes(files, tmp_path, monkeypatch):
    root, whole, out = shards.write(tmp_path / "data", damaged(files)), tmp_path / "whole", tmp_path / "out"
    build_mixture_windows(root, "train", whole, **OPTIONS)
    notes = tmp_path / ".out.building" / "done.txt"
    process = subprocess.Popen([sys.executable, "-c", SLOW, str(root), str(out), "1"])
    while process.poll() is None and not (notes.exists() and notes.read_text().count("\n") >= 2):
        time.sleep(0.005)
    process.kill()
    assert process.wait() == -signal.SIGKILL
    assert not out.exists()
    done = [line.split()[0] for line in notes.read_text().splitlines()]
    assert done == ["00/200", "00/300"]
    os.utime(root / shards.path_of(300), ns=(1, 1))  # as another file would have

    decode, seen = jamendo.decode, []
    monkeypatch.setattr(jamendo, "decode", lambda track, rate: (seen.append(track.name), decode(track, rate))[1])
    build_mixture_windows(root, "train", out, workers=4, **OPTIONS)
    assert sorted(seen) == ["00/1500", "00/300", "01/801", "01/9101"]
    assert contents(out) == contents(whole)
    assert not notes.parent.exists()


def test_memory_is_that_of_the_windows_of_a_track(files, tmp_path, monkeypatch):
    seconds = 20
    noise = 0.1 * np.random.default_rng(0).standard_normal((seconds * 44100, 2)).astype(np.float32)
    root = shards.write(tmp_path / "data", {"00/100.low.mp3": shards.mp3(noise, 44100)})
    monkeypatch.setattr(decoding, "_BLOCK", 4096)
    build = {"shards": [0], "sample_rate": RATE, "window": WINDOW}
    build_mixture_windows(root, "train", tmp_path / "warm", **build)  # modules are loaded
    tracemalloc.start()
    build_mixture_windows(root, "train", tmp_path / "out", **build)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1.5 * 2 * seconds * RATE + 200_000


def test_a_disk_that_is_too_small_is_named_at_once(root, tmp_path, monkeypatch):
    def refuse(folder, needed, name, *, advice):
        raise UserError(f"{needed} bytes")

    monkeypatch.setattr(store, "require_space", refuse)
    samples = sum(round(RATE * shards.TRACKS[track][2]) for track in (200, 300, 1500, 801, 9101))
    with pytest.raises(UserError, match=f"^{2 * samples} bytes"):
        build_mixture_windows(root, "train", tmp_path / "out", **OPTIONS)


def configured(**training_data):
    overlay = {"kind": "jamendo", **training_data}
    config = load()
    model = {**config["model"], "train": True, "config": {**config["model"]["config"], "text": {"kind": "none"}}}
    return config | {"training_data": overlay, "model": model, "demo_training": {"enabled": False}}


def test_the_model_learns_from_shards_and_is_measured_on_other_data():
    config = validate(configured())
    study = Study(config)
    assert study.splits() == ["test"]
    assert study.jamendo_parts() == {"train-0-97": range(98), "validation-98-99": range(98, 100)}
    assert (study.learned("train"), study.learned("validation")) == ("train-0-97", "validation-98-99")
    names = {Study(validate(configured(**data))).jamendo_id() for data in ({}, {"tracks": 3}, {"root": "/data"})}
    assert len(names) == 3
    assert Study(validate(configured(shards={"train": [0, 1]}))).jamendo_id() == study.jamendo_id()

    same = Study(validate(configured(kind="same")))
    assert same.splits() == ["train", "validation", "test"]
    assert (same.jamendo_parts(), same.learned("train")) == ({}, same.part("train"))

    config = configured()
    config["model"]["config"]["text"] = {"kind": "tiny"}
    for wrong, message in (
        (config, "model.config.text.kind is tiny, which needs labels"),
        (configured(shards={"train": [3, 2]}), r"training_data\.shards\.train: the first shard is after the last"),
        (configured(shards={"train": [0, 98]}), r"training_data\.shards: shard 98 is in both splits"),
    ):
        with pytest.raises(UserError, match=message):
            validate(wrong)
