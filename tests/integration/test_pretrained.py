"""A pretrained pipeline on a folder of stereo stems: from the configuration to Table 2 and Figures 2 and 3."""

import csv
import json

import numpy as np
import pytest
import soundfile
import yaml

from gmsdi.data.windows import WindowSet
from tests.helpers import tiny_pipelines
from tests.integration.test_workflow import REPO, snakemake

pytest.importorskip("diffusers")
RATE, LATENTS = 4410, 448  # of 32 samples each, which the embedding hears 3 s of
WINDOW = 32 * LATENTS
TONES = {"bass": 110.0, "drums": 330.0, "other": 550.0, "vocals": 880.0}
"""Hz: of the files of a track, each somewhere else between the two channels."""


def write_tracks(root, tracks=4, seconds=10.0):
    """Stereo stems at another rate than the model's."""
    time = np.arange(round(8820 * seconds)) / 8820
    for number in range(tracks):
        for place, (stem, frequency) in enumerate(TONES.items()):
            tone = 0.1 * np.sin(2 * np.pi * frequency * 2 ** (number / 12) * time)
            path = root / "test" / f"Track {number}" / f"{stem}.wav"
            path.parent.mkdir(parents=True, exist_ok=True)
            soundfile.write(path, np.stack([tone * (0.5 + 0.1 * place), tone], axis=1), 8820)
    return root


def write_config(folder, **changes):
    steps = {"steps": 2}
    config = {
        "run": "tiny_pretrained",
        "data": {"root": "tracks", "sample_rate": RATE, "window": WINDOW, "min_active": 0.1},
        "model": {"folder": "pipeline"},
        "separation": {
            "chunks": 2,
            "solver": {**steps, "s_churn": 0},
            "rows": {
                "separator": {"w": 1, "constrained": "Drums"},
                "extractor": {"w": 1},
                "extractor_consistent": {"solver": steps},
                "separator_projected": {"w": 1},
            },
        },
        "grid": {"w": [1], "chunks": 2, "solver": steps},
        "costs": {"steps": []},
        "generation": {"clips": 4, "solver": steps, "negatives": {"Bass": "drums, singing"}},
        "fad": {"embedding": "musicnn-MTT-penultimate200", "hop": 0.5},
        "gallery": {"examples": 1},
        "jobs": {"separation": 1, "generation": 1, "batch": 8, "threads": 1, "precision": "float32"},
    }
    for key, value in changes.items():
        config[key] = {**config[key], **value}
    path = folder / "tiny_pretrained.yaml"
    path.write_text(yaml.safe_dump(config))
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A pipeline of random weights beside a folder of tracks."""
    folder = tmp_path_factory.mktemp("pretrained")
    tiny_pipelines.stable_audio(folder / "pipeline", LATENTS)
    write_tracks(folder / "tracks")
    return folder


@pytest.mark.slow
def test_from_stereo_tracks_to_tables_and_figures(folder):
    config = write_config(folder)
    result = snakemake(folder, "--configfile", REPO / "config" / "pretrained.yaml", config)
    assert result.returncode == 0, result.stderr[-4000:]

    results = folder / "results" / "tiny_pretrained"
    with (results / "tables" / "table2_separation.csv").open() as file:
        rows = {row["model"]: row for row in csv.DictReader(file) if row["stem"] == "All"}
    run = {model for model, row in rows.items() if row["status"] == "run"}
    beyond = {"Extractor, consistent", "Separator, projected"}
    assert {"Separator, Eq. 13", "Extractor, Eq. 14", "Ensemble", *beyond} <= run
    for name in ("figure2_fad_stems", "figure3_fad_mixtures"):
        assert (results / "figures" / f"{name}.svg").stat().st_size > 5000
    (windows,) = (folder / "results" / "data").glob("stems-*/test-all/windows")
    chunks = WindowSet(windows)
    assert (chunks.sample_rate, chunks.window, chunks.channels) == (RATE, WINDOW, 2)
    mixture = chunks.mixture([3])[0]
    quieter = np.sqrt((mixture**2).mean(axis=-1))
    assert quieter[0] < 0.8 * quieter[1]
    # What separates shares out the mixture: the stems sum to it, in both channels.
    table = results / "separation" / "separator_projected" / "1-of-1"
    ids = [int(row["chunk"]) for row in csv.DictReader(table.with_suffix(".csv").open())]
    made = np.load(table.with_suffix(".npy"))
    assert made.shape == (len(ids), 4, 2, WINDOW)
    np.testing.assert_allclose(made.sum(axis=1), chunks.mixture(ids), atol=1e-4)
    # Given stems stay what they were.
    clips = list(csv.DictReader((results / "generation" / "partial" / "1-of-1.csv").open()))
    place = next(number for number, clip in enumerate(clips) if clip["bar"] == "Bass")
    made = np.load(results / "generation" / "partial" / "1-of-1.npy")
    assert made.shape[1:] == (5, 2, WINDOW)
    np.testing.assert_array_equal(made[place, 0], chunks.stems([int(clips[place]["chunk"])])[0, 0])
    provenance = json.loads((results / "provenance.json").read_text())
    assert provenance["Model"] == {"pretrained": "pipeline"}
    assert soundfile.info(next((results / "gallery").glob("separator*.flac"))).channels == 2


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"data": {"channels": 1}}, "data.channels is 1, but the model of model.folder has 2 channels"),
        ({"data": {"sample_rate": 5000}}, "data.sample_rate is 5000, but the model of model.folder has 4410 Hz"),
        ({"data": {"window": 28672}}, "longer than the 14336 (3.25 s) that it was trained at"),
        ({"data": {"window": 14340}}, "not a multiple of the 32 samples of its latents; 14336 is"),
        ({"model": {"folder": None}}, "data.channels is 2, but the model of model.folder has one channel"),
        ({"model": {"prompts": {"Basso": "bass"}}}, "model.prompts names the stem 'Basso'; did you mean 'Bass'?"),
    ],
)
def test_what_does_not_fit_is_refused_before_the_first_job(folder, tmp_path, changes, words):
    from gmsdi.errors import UserError
    from gmsdi.study.config import load, validate

    changes = {key: {**({"root": "tracks"} if key == "data" else {}), **value} for key, value in changes.items()}
    overlay = yaml.safe_load(write_config(tmp_path).read_text())
    overlay["model"]["folder"] = str(folder / "pipeline")
    for key, value in changes.items():
        overlay[key] = {**overlay[key], **value}
    path = tmp_path / "changed.yaml"
    path.write_text(yaml.safe_dump(overlay))
    with pytest.raises(UserError) as refused:
        validate(load(REPO / "config" / "pretrained.yaml", path))
    assert words in str(refused.value)
    assert "\n" not in str(refused.value)
