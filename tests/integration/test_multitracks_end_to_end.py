"""Folders in the layouts of MUSDB18-HQ and MoisesDB to Table 2: their ready configurations, with everything small."""

import numpy as np
import pandas as pd
import pytest
import yaml

from gmsdi.study.config import load, validate
from tests.helpers.multitracks import FREQUENCIES, tone, write_moisesdb, write_musdb
from tests.integration.test_slakh_end_to_end import improvements
from tests.integration.test_workflow import REPO, SHORT, TEXT, UNET, snakemake

RATE, WINDOW, SECONDS = 22050, 65536, 6.2
LABELS = ["Bass", "Drums", "Other", "Vocals"]
ROWS = {
    "extractor": {"w": 1, "solver": {"steps": 2}},
    "separator": {"w": 1, "solver": {"steps": 2}, "constrained": "Other"},
}


def moisesdb(folder):
    """A folder and the stems of its test track at the models' rate, `[4, T]`; drums and other have two files each."""
    root = write_moisesdb(folder, tracks=4, seconds=SECONDS)
    bass, drums, other, vocals = (tone(f, SECONDS, RATE, amplitude=0.1) for f in FREQUENCIES.values())
    return root, np.stack(
        [bass, drums + tone(2 * FREQUENCIES["drums"], SECONDS, RATE, amplitude=0.1), 2 * other, vocals]
    )


def musdb18hq(folder):
    """The same in the other layout, with all tracks that the configuration names; those that are used are longer."""
    splits = validate(load(REPO / "config" / "musdb18hq.yaml"))["data"]["stems"]["splits"]
    named = sorted(track.removeprefix("train/") for track in splits["validation"])
    write_musdb(folder, tracks={"train": named[1:]}, seconds=0.1)
    write_musdb(folder, tracks={"train": ["A - One", named[0]], "test": ["B - Two"]}, seconds=SECONDS)
    return folder, np.stack([tone(frequency, SECONDS, RATE) for frequency in FREQUENCIES.values()])


@pytest.mark.slow
@pytest.mark.parametrize("layout", [moisesdb, musdb18hq])
def test_a_folder_becomes_data_a_model_and_table_2(layout, tmp_path):
    root, stems = layout(tmp_path / "data")
    config = {
        "run": "small",
        "data": {"root": str(root), "window": WINDOW, "tracks": dict.fromkeys(["train", "validation", "test"], 1)},
        "model": {"config": {"unet": {**UNET, "mapping_features": 16}, "text": TEXT}},
        "training": SHORT,
        "separation": {"rows": {**ROWS, **dict.fromkeys(["weak_msdm", "msdm", "msdm_gaussian", "ensemble"])}},
        "jobs": {"separation": 1, "threads": 1},
    }
    (tmp_path / "small.yaml").write_text(yaml.safe_dump(config))
    result = snakemake(
        tmp_path, "--configfile", REPO / "config" / f"{layout.__name__}.yaml", "small.yaml", "--", "table2"
    )
    assert result.returncode == 0, result.stderr[-4000:]
    results = tmp_path / "results" / "small"
    losses = pd.read_csv(results / "training" / "losses.csv")
    assert losses["val_loss"].count() == SHORT["steps"] // SHORT["validate_every"]
    assert yaml.safe_load((results / "model" / "config.json").read_text())["labels"] == LABELS

    table = pd.read_csv(results / "tables" / "table2_separation.csv").set_index(["model", "stem"])
    assert set(table.index) == {(f"GMSDI {m.capitalize()}", stem) for m in ROWS for stem in [*LABELS, "All"]}
    assert set(table["status"]) == {"run"}
    assert table["paper"].isna().all()  # it has none for these stems
    for method in ROWS:
        estimates = np.load(results / "separation" / method / "1-of-1.npy").astype(np.float64)
        joined = np.concatenate(list(estimates), axis=-1)
        true = stems[:, : joined.shape[1]]
        if method == "separator":
            assert np.linalg.norm(joined.sum(0) - true.sum(0)) < 0.05 * np.linalg.norm(true.sum(0))
        gains = improvements(joined, true, RATE).mean(0)
        for score in ("protocol", "active"):  # every stem sounds throughout
            np.testing.assert_allclose(table.loc[f"GMSDI {method.capitalize()}"].loc[LABELS, score], gains, atol=0.2)
    page = (results / "tables" / "table2_separation.md").read_text()
    assert "2 chunks of 1 track of the test split; no intervals" in page
    assert "nan" not in page
    assert "The paper's numbers" not in page
