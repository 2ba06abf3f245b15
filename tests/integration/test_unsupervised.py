"""The unsupervised model from the training of its CLAP to Table 2, with little of everything."""

import csv
import json

import pytest
import yaml

from tests.integration.test_workflow import REPO, SHORT, UNET, least, snakemake

MODEL = ["model.safetensors", "config.json", "prompts.safetensors"]


@pytest.mark.slow
def test_from_mixtures_to_table_2(tmp_path):
    clap = {"audio": {"mels": 16, "channels": 8, "depths": [1, 1], "heads": [1, 2]}, "text": {"features": 16}}
    config = least(
        run="least_clap",
        training=SHORT,
        clap={"hop": 0.5, "config": clap, "training": SHORT},
        model={"config": {"unet": UNET, "text": {"features": 8}}},
    )
    # One row of each model is enough.
    config["separation"]["rows"] |= {"extractor_weak": {"solver": {"steps": 2}}, "separator_weak": None}
    overlay = tmp_path / "least_clap.yaml"
    overlay.write_text(yaml.safe_dump(config))
    target = "results/least_clap/tables/table2_separation.csv"
    result = snakemake(tmp_path, target, "--configfile", REPO / "config" / "mini_clap.yaml", overlay)
    assert result.returncode == 0, result.stderr[-4000:]

    with (tmp_path / target).open() as file:
        rows = {row["model"]: row for row in csv.DictReader(file) if row["stem"] == "All"}
    for model in ("GMSDI Extractor, by a CLAP that has seen labels", "GMSDI Extractor, weakly supervised"):
        assert rows[model]["status"] == "run"
        assert float(rows[model]["protocol"]) < 100
    results = tmp_path / "results" / "least_clap"
    assert all((results / "model" / name).is_file() for name in MODEL)
    provenance = json.loads((results / "model" / "provenance.json").read_text())
    assert provenance["embeddings"]["encoder"] == "results/least_clap/clap/model"
    assert provenance["embeddings"]["hop"] == 16384
