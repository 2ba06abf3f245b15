"""The unsupervised model from the training of its CLAP to Table 2, at the size of `tiny.yaml`."""

import csv
import json

import pytest
import yaml

from tests.integration.test_workflow import REPO, TINY, UNET, snakemake

MODEL = ["model.safetensors", "config.json", "prompts.safetensors"]


@pytest.mark.slow
def test_from_mixtures_to_table_2(tmp_path):
    config = yaml.safe_load(TINY.read_text())
    short = {"steps": 4, "batch": 4, "warmup": 1, "validate_every": 2, "validation_batches": 1, "checkpoint_every": 2}
    config["run"] = "tiny_clap"
    config["data"]["mini"]["tracks"]["train"] = 3
    config["training"] = short
    config["clap"] = {
        "hop": 0.5,
        "config": {"audio": {"mels": 16, "channels": 8, "depths": [1, 1], "heads": [1, 2]}, "text": {"features": 16}},
        "training": short,
    }
    config["model"] = {"config": {"unet": UNET, "text": {"features": 8}}}
    # Nothing is open, so that no grid is computed; one row of each model is enough.
    config["grid"]["validation"] = {"chunks": None}
    rows = config["separation"]["rows"]
    rows["separator"] |= {"w": 1, "constrained": "Drums"}
    beyond = [name for name, row in rows.items() if row and "kind" in row]
    config["separation"]["rows"] |= dict.fromkeys([*beyond, "separator_weak"])
    config["separation"]["rows"] |= {"extractor": {"w": 1}, "extractor_weak": {"solver": {"steps": 2}}}
    overlay = tmp_path / "tiny_clap.yaml"
    overlay.write_text(yaml.safe_dump(config))
    target = "results/tiny_clap/tables/table2_separation.csv"
    result = snakemake(tmp_path, target, "--configfile", REPO / "config" / "mini_clap.yaml", overlay)
    assert result.returncode == 0, result.stderr[-4000:]

    with (tmp_path / target).open() as file:
        rows = {row["model"]: row for row in csv.DictReader(file) if row["stem"] == "All"}
    for model in ("GMSDI Extractor, by a CLAP that has seen labels", "GMSDI Extractor, weakly supervised"):
        assert rows[model]["status"] == "run"
        assert float(rows[model]["protocol"]) < 100
    results = tmp_path / "results" / "tiny_clap"
    assert all((results / "model" / name).is_file() for name in MODEL)
    provenance = json.loads((results / "model" / "provenance.json").read_text())
    assert provenance["embeddings"]["encoder"] == "results/tiny_clap/clap/model"
    assert provenance["embeddings"]["hop"] == 16384
