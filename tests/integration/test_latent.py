"""The model of latents from the training of its codecs to the report, with little of everything."""

import csv
import json

import pytest
import yaml

from tests.integration.test_workflow import REPO, SHORT, UNET, least, snakemake


@pytest.mark.slow
def test_from_codecs_to_the_report(tmp_path):
    config = least(
        run="least_latent",
        training=SHORT,
        codec={
            "training": SHORT,
            "config": {"width": 16, "blocks": 1},
            "variants": {"additive_30": None, "additive_100": None},
        },
        model={"config": {"unet": {**UNET, "patch_factor": 2}}},
    )
    extractors = {"extractor_filtered": {"solver": {"steps": 2}, "w": 1}, "extractor_waveform": None}
    config["separation"]["rows"] |= extractors
    config["generation"]["models"] = {"waveform": None}
    overlay = tmp_path / "least_latent.yaml"
    overlay.write_text(yaml.safe_dump(config))
    results = tmp_path / "results" / "least_latent"
    files = [REPO / "config" / "mini_latent.yaml", overlay]
    result = snakemake(tmp_path, "results/least_latent/report.html", "--configfile", *files)
    assert result.returncode == 0, result.stderr[-4000:]

    with (results / "tables" / "table2_separation.csv").open() as file:
        rows = {row["model"]: row for row in csv.DictReader(file) if row["stem"] == "All"}
    run = [model for model, row in rows.items() if row["status"] == "run"]
    assert {"GMSDI Separator", "GMSDI Extractor", "Extractor, consistent, filtered"} <= set(run)
    assert rows["MSDM"]["status"] == "not run"
    assert rows["MSDM"]["protocol"] == ""
    assert "not run (paper 17.73)" in (results / "tables" / "table2_separation.md").read_text()
    with (results / "tables" / "codecs.csv").open() as file:
        codecs = {(row["codec"], row["stem"]): row for row in csv.DictReader(file)}
    assert {codec for codec, _ in codecs} == {"plain", "additive_10", "linear"}
    assert float(codecs["linear", "All"]["si_sdr"]) > 5
    assert float(codecs["linear", "mixture"]["encoder"]) < -60
    known = json.loads((results / "model" / "config.json").read_text())
    assert known["kind"] == "latent"
    assert known["codec"] == json.loads((results / "codecs" / "additive_10" / "config.json").read_text())["codec"]
    page = (results / "report.html").read_text()
    assert "Codecs of latents" in page
    assert "not run" in page
