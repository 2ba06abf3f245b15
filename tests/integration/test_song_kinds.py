"""How the bundled model `general` was made, in small: songs of all kinds are composed, rendered and learned."""

import json
import os
import shutil
from collections import Counter
from ctypes.util import find_library
from pathlib import Path

import mido
import numpy as np
import pandas as pd
import pytest
import soundfile
import yaml

from gmsdi.data.mini import default_soundfont
from tests.integration.test_workflow import REPO, SHORT, TEXT, UNET, least, rules_run, snakemake

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        find_library("fluidsynth") is None and os.environ.get("GMSDI_FLUIDSYNTH") != "required",
        reason="the library of FluidSynth is not installed",
    ),
]
WITH_MMA = shutil.which("mma") is not None or os.environ.get("GMSDI_MMA") == "required"
LABELS = ["Bass", "Drums", "Guitar", "Piano"]
RATE, WINDOW, FRAME = 8000, 32768, 400


def notes_of(path):
    """How many notes each class has in a MIDI file, by the programs of General MIDI."""
    found = Counter()
    for track in mido.MidiFile(path).tracks:
        program = 0
        for message in track:
            if message.type == "program_change":
                program = message.program
            elif message.type == "note_on" and message.velocity:
                drums = message.channel == 9
                found["Drums" if drums else {0: "Piano", 3: "Guitar", 4: "Bass"}.get(program // 8, "")] += 1
    del found[""]  # instruments of no class
    return found


def test_songs_of_all_kinds_are_composed_rendered_and_learned(tmp_path):
    """As config/bundled.yaml says, but for the number of songs, the SoundFonts, and the size of model and training."""
    songs = [
        *([{"kind": "arranged", "tracks": {"train": 2}}] if WITH_MMA else []),
        {"kind": "composed", "tracks": {"train": 2, "validation": 1}},
        {"kind": "drawn", "tracks": {"train": 3}},
    ]
    shutil.copy(default_soundfont(), tmp_path / "other.sf2")
    fonts = ["TimGM6mb", "TimGM6mb", "other.sf2"]  # one is listed twice, as there, and one is a file
    config = least(
        run="kinds",
        data={"midi": {"songs": songs, "soundfonts": {"train": fonts}}},
        model={"train": True, "config": {"unet": UNET, "text": TEXT}},
        training={**SHORT, "initial": None, "level_windows": 4, "workers": 0, "compile": False},
    )
    (tmp_path / "small.yaml").write_text(yaml.safe_dump(config))
    model = tmp_path / "results" / "kinds" / "model" / "config.json"
    target = model.relative_to(tmp_path)
    result = snakemake(tmp_path, target, "--configfile", REPO / "config" / "bundled.yaml", "small.yaml")
    assert result.returncode == 0, result.stderr[-4000:]
    made = {"compose_songs", "list_composed_songs", "render", "chunk", "chunk_with_stems", "train"}
    assert rules_run(result) == made
    (data,) = tmp_path.glob("results/data/midi-*")

    used_fonts, notes, agreed = set(), {}, {}
    for split in ("train", "validation"):
        # All songs that were asked for are used, each with the classes that its file has.
        listed = pd.read_csv(data / "songs" / f"composed-{split}.csv")
        asked = {f"{own['kind']}-{n}": own["tracks"].get(split, 0) for n, own in enumerate(songs, 1)}
        assert Counter(Path(path).parts[-3] for path in listed["path"]) == Counter(asked)
        assert listed["skipped"].isna().all()
        assert set(listed["split"]) == {split}
        written = {row.digest: notes_of(tmp_path / row.path) for row in listed.itertuples()}
        for row in listed.itertuples():
            assert set(row.classes.split(", ")) == set(written[row.digest])

        # Each is a track, whose stems can be decoded; labels of windows are right of what is heard of them.
        (part,) = data.glob(f"{split}-*")
        windows = pd.read_csv(part / "windows" / "windows.csv").fillna({"active": ""})
        tracks = sorted((part / "tracks" / split).iterdir())
        right, whole, kept, played = [], 0, Counter(), set()
        for track in tracks:
            told = yaml.safe_load((track / "metadata.yaml").read_text())
            mix, rate = soundfile.read(track / "mix.flac")
            assert rate == RATE
            stems = dict.fromkeys(LABELS, np.zeros_like(mix))
            for name, stem in told["stems"].items():
                decoded, rate = soundfile.read(track / "stems" / f"{name}.flac")
                assert (rate, decoded.shape) == (RATE, mix.shape)
                stems[stem["inst_class"]] = stems[stem["inst_class"]] + decoded
                used_fonts.add((split, stem["plugin_name"]))
            whole += len(mix) // WINDOW
            for row in windows[windows["track"] == track.name].itertuples():
                for label, stem in stems.items():
                    frames = stem[row.offset : row.offset + WINDOW][: WINDOW // FRAME * FRAME].reshape(-1, FRAME)
                    heard = (np.mean(frames**2, axis=1) > 1e-7).sum() * FRAME / RATE
                    right.append((heard >= 0.5) == (label in row.active.split(", ")))
            song = told["UUID"].split("-")[0]
            found = notes_of(track / "all_src.mid")
            assert found <= written[song]
            kept += found
            played.add(song)
        assert played == set(written)
        assert len(windows) == whole
        assert set(windows["split"]) == {split}
        agreed[split] = np.mean(right)
        notes[split] = kept.total() / sum(own.total() for own in written.values())
    assert min(agreed.values()) > 0.95, agreed
    both = {("train", "TimGM6mb.sf2"), ("train", "other.sf2")}
    assert used_fonts == {*both, ("validation", "TimGM6mb.sf2")}
    # In training, a section has 1.8 of 4 classes on average (section_sizes); the others rest. Validation has all notes.
    assert 0.3 < notes["train"] < 0.6
    assert notes["validation"] == 1

    assert json.loads(model.read_text())["labels"] == LABELS
    provenance = json.loads(model.with_name("provenance.json").read_text())
    assert provenance["steps"] == SHORT["steps"]
    assert provenance["data"]["source"]["tracks"] == sum(own["tracks"]["train"] for own in songs)
    losses = pd.read_csv(model.parents[1] / "training" / "losses.csv")
    assert np.isfinite(losses[["train_loss", "val_loss"]].to_numpy()).sum(axis=0).tolist() == [2, 2]
