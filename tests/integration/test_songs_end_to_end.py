"""A folder of twenty MIDI files, three of them broken, to tables and figures in one command."""

import csv
import os
import shutil
from ctypes.util import find_library
from pathlib import Path

import pytest
import yaml

from gmsdi.data.songs import ComposedSettings, make_song
from gmsdi.data.songs.score import write
from tests.helpers.midi_files import midi, note
from tests.integration.test_workflow import REPO, SHORT, TEXT, UNET, least, snakemake

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        find_library("fluidsynth") is None and os.environ.get("GMSDI_FLUIDSYNTH") != "required",
        reason="the library of FluidSynth is not installed",
    ),
]
OUTPUTS = ("figures/figure2_fad_stems.svg", "figures/figure3_fad_mixtures.svg", "report.html")
PIECE = ComposedSettings(sections=(3, 4), section_sizes={3: 0.3, 4: 0.7})


def test_a_folder_of_midi_files_becomes_data_a_model_and_tables(tmp_path):
    """Sixteen songs, one of them twice, and three broken files: one is cut off, one is empty, and one does not end."""
    songs = tmp_path / "songs"
    songs.mkdir()
    for number in range(16):
        write(make_song("composed", "test", number, seed=3, settings=PIECE), songs / f"song{number:02d}.mid")
    shutil.copy(songs / "song05.mid", songs / "song05 (copy).mid")
    (songs / "truncated.mid").write_bytes((songs / "song00.mid").read_bytes()[:150])
    (songs / "empty.mid").write_bytes(b"")
    # With a piano, and drums, which are required: only its length, of more than a day, is wrong with it.
    (songs / "endless.mid").write_bytes(midi(note(0, 480, 60), note(0, 2**27, 36, channel=9)))
    shares = {"train": 0.4, "validation": 0.2, "test": 0.4}
    config = least(
        run="songs",
        data={"midi": {"versions": {"train": 1}, "split_shares": shares}},
        model={"train": True, "config": {"unet": UNET, "text": TEXT}},
        training=SHORT,
        baselines={"train": True, "demucs_gibbs": {"training": SHORT}},
    )
    config["separation"]["rows"]["demucs_gibbs"] = {"steps": 2}
    (tmp_path / "least.yaml").write_text(yaml.safe_dump(config))
    outputs = [f"results/songs/{output}" for output in OUTPUTS]
    result = snakemake(tmp_path, *outputs, "--configfile", REPO / "config" / "songs.yaml", "least.yaml")
    assert result.returncode == 0, result.stderr[-4000:]
    (listed,) = tmp_path.glob("results/data/midi-*/songs/files.csv")
    with listed.open(newline="") as file:
        rows = list(csv.DictReader(file))
    skipped = {Path(row["path"]).name: row["skipped"] for row in rows if row["skipped"]}
    assert len(rows) == 20
    assert skipped == {
        "truncated.mid": "malformed MIDI file (EOFError)",
        "empty.mid": "empty file",
        "endless.mid": "longer than 1200 s",
        "song05.mid": "has the same notes as song05 (copy).mid",
    }
    for name, reason in skipped.items():  # and told on the terminal
        assert f"{name} is left out: {reason}" in result.stderr
    assert "16 of 20 songs can be used" in result.stdout + result.stderr
    with (tmp_path / "results" / "songs" / "tables" / "table2_separation.csv").open(newline="") as file:
        run = {row["model"] for row in csv.DictReader(file) if row["status"] == "run"}
    assert {"GMSDI Extractor", "GMSDI Separator"} <= run
    assert any(model.startswith("Demucs + Gibbs") for model in run)
    for output in outputs:
        assert (tmp_path / output).stat().st_size > 1000
    model = yaml.safe_load((tmp_path / "results" / "songs" / "model" / "config.json").read_text())
    assert model["labels"] == ["Bass", "Drums", "Guitar", "Piano"]
