"""Slakh2100 from a server on loopback to Tables 1 and 2: the paper's configuration, with everything small."""

import hashlib
import os
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile
import yaml
from scipy.signal import resample_poly

from gmsdi.data.mini import MiniConfig, compose_dataset
from gmsdi.data.versions import VERSIONS
from tests.helpers.file_server import serve

REPO = Path(__file__).parents[2]
VERSION = VERSIONS["slakh2100"]
RATE, WINDOW = 22050, 65536
LABELS = ["Bass", "Drums", "Guitar", "Piano"]
TINY = {
    "run": "tiny_slakh",
    "data": {"window": WINDOW, "download": {"registry": "registry.csv"}},
    "model": {
        "config": {
            "unet": {
                "channels": 16,
                "patch_factor": 4,
                "multipliers": [1, 1, 1],
                "factors": [4, 4],
                "num_blocks": [1, 1],
                "attentions": [False, True],
                "attention_heads": 2,
                "attention_features": 8,
                "resnet_groups": 4,
            },
            # The pretrained encoder cannot be had here.
            "text": {"kind": "tiny", "features": 16, "heads": 2, "layers": 1, "max_length": 28},
        }
    },
    "training": {
        "steps": 4,
        "batch": 2,
        "validate_every": 2,
        "validation_batches": 1,
        "checkpoint_every": 2,
        "devices": 2,  # processes, where there is no GPU
    },
    "separation": {
        "rows": {
            **{method: {"solver": {"steps": 2}} for method in ("extractor", "separator")},
            **dict.fromkeys(["weak_msdm", "msdm", "msdm_gaussian"]),
        }
    },
    "grid": {"w": [3, 7.5], "chunks": 2, "solver": {"steps": 2}},
    "jobs": {"separation": 1, "threads": 1},
}


@pytest.fixture
def original(tmp_path) -> Path:
    """The data set as its archive has it: at 44.1 kHz, tracks numbered on from split to split."""
    root = tmp_path / "original" / VERSION.folder
    tracks = {"train": 2, "validation": 1, "test": 2}
    config = MiniConfig(sample_rate=44100, sections=(1, 1), section_sizes={4: 1.0}, tracks=tracks)
    compose_dataset(root, config, seed=3)
    (root / "mini.json").unlink()
    for split, first in (("validation", 1501), ("test", 1876)):
        for number, path in enumerate(sorted((root / split).iterdir()), first):
            path.rename(path.with_name(f"Track{number:05d}"))
    return root


def publish(original: Path, server, folder: Path) -> None:
    """The data set as an archive on the server, and a registry that names it."""
    archive = original.parent / VERSION.archive
    with tarfile.open(archive, "w:gz", compresslevel=1) as tar:
        tar.add(original, VERSION.folder)
    data = archive.read_bytes()
    url, digest = server.add(VERSION.archive, data), hashlib.sha256(data).hexdigest()
    (folder / "registry.csv").write_text(
        "name,version,url,mirrors,hash,size,unpacked,licence\n"
        f"{VERSION.archive},redux,{url},,sha256:{digest},{len(data)},,CC-BY-4.0\n"
    )


def stems_of(track: Path) -> np.ndarray:
    """The track's stems at half its rate, `[K, T]`: its files are named by number, its labels by its metadata."""
    metadata = yaml.safe_load((track / "metadata.yaml").read_text())
    named = {stem["inst_class"]: track / "stems" / f"{name}.flac" for name, stem in metadata["stems"].items()}
    return np.stack([resample_poly(soundfile.read(named[label])[0], 1, 2) for label in LABELS])


def si_sdr(estimate: np.ndarray, target: np.ndarray) -> float:
    """Of Le Roux et al. 2019, in dB."""
    scaled = target * (estimate @ target) / (target @ target)
    return 10 * np.log10((scaled @ scaled) / ((scaled - estimate) @ (scaled - estimate)))


def improvements(estimates: np.ndarray, stems: np.ndarray, rate: int) -> np.ndarray:
    """Of a track `[K, T]`, by MSDM's protocol: a row for each sub-window of 4 s, one every 2 s, `[N, K]` in dB."""
    mixture, length = stems.sum(0), estimates.shape[1]
    parts = [slice(start, start + 4 * rate) for start in range(0, max(1, length - 2 * rate), 2 * rate)]
    return np.array(
        [
            [
                si_sdr(ours[p], true[p]) - si_sdr(mixture[p], true[p])
                for ours, true in zip(estimates, stems, strict=True)
            ]
            for p in parts
        ]
    )


@pytest.mark.slow
def test_from_the_archive_to_tables_1_and_2(original, tmp_path, monkeypatch):
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(TINY))
    results = tmp_path / "results" / TINY["run"]
    words = [sys.executable, "-m", "snakemake", "-s", REPO / "workflow" / "Snakefile", "--cores", "2"]
    words += ["--configfile", REPO / "config" / "slakh2100.yaml", "tiny.yaml", "--", "table1", "table2"]
    with serve() as server:
        publish(original, server, tmp_path)
        run = subprocess.run(
            list(map(str, words)), cwd=tmp_path, env=dict(os.environ), capture_output=True, text=True, timeout=1200
        )
    assert run.returncode == 0, run.stderr[-4000:]
    assert [request.range for request in server.requests] == [None]

    # Trained for all its steps, with every validation, by two processes.
    losses = pd.read_csv(results / "training" / "losses.csv")
    assert losses["val_loss"].count() == 2
    assert np.isfinite(losses["train_loss"].dropna()).all()

    # The separated chunks are those of the archive's tracks, and the Separator's stems sum to their mixtures.
    made = {}
    for method in ("separator", "extractor"):
        chunks = pd.read_csv(results / "separation" / method / "1-of-1.csv")
        estimates = np.load(results / "separation" / method / "1-of-1.npy").astype(np.float64)
        assert estimates.shape == (len(chunks), len(LABELS), WINDOW)
        for track, own in chunks.groupby("track"):
            assert own["offset"].tolist() == list(range(0, WINDOW * len(own), WINDOW))
            made[method, track] = np.concatenate(list(estimates[own.index]), axis=-1)
    assert {track for _, track in made} == {"Track01876", "Track01877"}
    scores: dict[tuple[str, str], list[float]] = {}
    for (method, track), estimate in made.items():
        stems = stems_of(original / "test" / track)[:, : estimate.shape[1]]
        mixture = stems.sum(0)
        if method == "separator":
            assert np.linalg.norm(estimate.sum(0) - mixture) < 0.05 * np.linalg.norm(mixture)
        for label, gains in zip(LABELS, improvements(estimate, stems, RATE).T, strict=True):
            scores.setdefault((method.capitalize(), label), []).extend(gains)

    table = pd.read_csv(results / "tables" / "table2_separation.csv").set_index(["model", "stem"])
    for (method, label), gains in scores.items():
        row = table.loc[f"GMSDI {method}", label]
        assert row["protocol"] == pytest.approx(np.mean(gains), abs=0.2)
        assert row["paper"] > 5
    assert table.loc["Demucs + Gibbs (512 steps)", "All"]["status"] == "not run"
    grid = pd.read_csv(results / "tables" / "table1_grid.csv")
    assert len(grid) == 5 * len(TINY["grid"]["w"]) * 5  # Extractor and Separators, w, stems and All
    assert np.isfinite(grid["protocol"]).all()
