"""A folder of twenty MIDI files, three of them broken, to tables and figures in one command."""

import csv
import os
import shutil
import subprocess
import sys
from ctypes.util import find_library
from pathlib import Path

import pytest
import yaml

from gmsdi.data.songs import make_song
from gmsdi.data.songs.score import write
from tests.integration.test_workflow import REPO, TEXT, TINY, UNET

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        find_library("fluidsynth") is None and os.environ.get("GMSDI_FLUIDSYNTH") != "required",
        reason="the library of FluidSynth is not installed",
    ),
]
SHORT = {"steps": 4, "batch": 2, "warmup": 1, "validate_every": 2, "validation_batches": 1, "checkpoint_every": 2}


def test_a_folder_of_midi_files_becomes_data_a_model_and_tables(tmp_path):
    songs = tmp_path / "songs"
    songs.mkdir()
    for number in range(17):
        write(make_song("composed", "test", number, seed=3), songs / f"song{number:02d}.mid")
    (songs / "broken.mid").write_bytes((songs / "song00.mid").read_bytes()[:150])
    (songs / "empty.mid").write_bytes(b"")
    shutil.copy(songs / "song05.mid", songs / "song05 (copy).mid")
    tiny = yaml.safe_load(TINY.read_text()) | {
        "run": "songs",
        "model": {"train": True, "config": {"unet": UNET, "text": TEXT}},
        "training": SHORT,
        "baselines": {"train": True, "demucs_gibbs": {"training": SHORT}},
    }
    tiny["separation"]["rows"]["demucs_gibbs"] = {"steps": 2}
    tiny.pop("demo_training")
    tiny["data"] = {"midi": {"versions": {"train": 1}, "split_shares": {"train": 0.4, "validation": 0.2, "test": 0.4}}}
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(tiny))
    files = [str(REPO / "config" / "songs.yaml"), "tiny.yaml"]
    result = subprocess.run(
        [
            sys.executable,
            "-m",
            "snakemake",
            "-s",
            str(REPO / "workflow" / "Snakefile"),
            "--cores",
            "2",
            "--configfile",
            *files,
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=3600,
    )
    assert result.returncode == 0, result.stderr[-4000:]
    (listed,) = tmp_path.glob("results/data/midi-*/songs/files.csv")
    with listed.open(newline="") as file:
        rows = list(csv.DictReader(file))
    skipped = {Path(row["path"]).name: row["skipped"] for row in rows if row["skipped"]}
    assert skipped == {
        "broken.mid": "malformed MIDI file (EOFError)",
        "empty.mid": "empty file",
        "song05.mid": "has the same notes as song05 (copy).mid",
    }
    for name, reason in skipped.items():  # and told on the terminal
        assert f"{name} is left out: {reason}" in result.stderr
    assert "17 of 20 songs can be used" in result.stdout + result.stderr
    with (tmp_path / "results" / "songs" / "tables" / "table2_separation.csv").open(newline="") as file:
        run = {row["model"] for row in csv.DictReader(file) if row["status"] == "run"}
    assert {"GMSDI Extractor", "GMSDI Separator"} <= run
    assert any(model.startswith("Demucs + Gibbs") for model in run)
    for output in ("figures/figure2_fad_stems.svg", "figures/figure3_fad_mixtures.svg", "report.html"):
        assert (tmp_path / "results" / "songs" / output).stat().st_size > 1000
    model = yaml.safe_load((tmp_path / "results" / "songs" / "model" / "config.json").read_text())
    assert model["labels"] == ["Bass", "Drums", "Guitar", "Piano"]
