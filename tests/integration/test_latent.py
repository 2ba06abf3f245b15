"""The model of latents from the training of its codecs to the report, at the size of `tiny.yaml`."""

import csv
import json

import pytest
import yaml

from tests.integration.test_workflow import REPO, TINY, UNET, snakemake


@pytest.mark.slow
def test_from_codecs_to_the_report(tmp_path):
    config = yaml.safe_load(TINY.read_text())
    short = {"steps": 4, "batch": 4, "warmup": 1, "validate_every": 2, "validation_batches": 1, "checkpoint_every": 2}
    config["run"] = "tiny_latent"
    config["data"]["mini"]["tracks"]["train"] = 3
    config["training"] = short
    config["codec"] = {"training": short, "config": {"width": 16, "blocks": 1}}
    config["model"] = {"config": {"unet": {**UNET, "patch_factor": 2}}}
    config["grid"]["validation"] = {"chunks": None}
    rows = config["separation"]["rows"]
    kept = {name: row for name, row in rows.items() if row is None or name == "separator"}
    kept["separator"] |= {"w": 1, "constrained": "Drums"}
    kept |= {"extractor": {"w": 1}, "extractor_filtered": {"solver": {"steps": 2}, "w": 1}, "extractor_waveform": None}
    config["separation"]["rows"] = kept
    overlay = tmp_path / "tiny_latent.yaml"
    overlay.write_text(yaml.safe_dump(config))
    result = snakemake(tmp_path, "--configfile", REPO / "config" / "mini_latent.yaml", overlay)
    assert result.returncode == 0, result.stderr[-4000:]

    results = tmp_path / "results" / "tiny_latent"
    with (results / "tables" / "table2_separation.csv").open() as file:
        rows = {row["model"]: row for row in csv.DictReader(file) if row["stem"] == "All"}
    run = [model for model, row in rows.items() if row["status"] == "run"]
    assert {"GMSDI Separator", "GMSDI Extractor", "Extractor, consistent, filtered"} <= set(run)
    with (results / "tables" / "codecs.csv").open() as file:
        codecs = {(row["codec"], row["stem"]): row for row in csv.DictReader(file)}
    assert {codec for codec, _ in codecs} == {"plain", "additive", "linear"}
    assert float(codecs["linear", "All"]["si_sdr"]) > 5
    assert float(codecs["linear", "mixture"]["encoder"]) < -60
    known = json.loads((results / "model" / "config.json").read_text())
    assert known["kind"] == "latent"
    assert known["codec"] == json.loads((results / "codecs" / "additive" / "config.json").read_text())["codec"]
    assert "Codecs of latents" in (results / "report.html").read_text()
