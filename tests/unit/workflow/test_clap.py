"""The unsupervised model through the workflow: the whole graph of `config/mini_clap.yaml`, without torch."""

import pytest

from tests import REPO
from tests.helpers.runs import dry_run


@pytest.mark.slow
def test_a_clap_is_trained_and_embeds_what_the_model_is_trained_on(tmp_path):
    jobs = dry_run(tmp_path, REPO / "config" / "mini_clap.yaml")
    rules = [job["rule"] for job in jobs]
    assert rules.count("train_clap") == rules.count("train") == 1
    assert sorted(job["wildcards"]["part"] for job in jobs if job["rule"] == "embed_windows") == [
        "train-1200",
        "validation-24",
    ]
    separated = {job["wildcards"]["method"] for job in jobs if job["rule"] == "separate"}
    assert separated >= {"separator", "extractor", "extractor_weak", "separator_weak"}


@pytest.mark.slow
def test_laions_clap_is_not_trained(tmp_path):
    overlay = tmp_path / "laion.yaml"
    overlay.write_text("clap: {train: false}\nmodel: {config: {text: {features: 512}}}\n")
    rules = [job["rule"] for job in dry_run(tmp_path, REPO / "config" / "mini_clap.yaml", overlay)]
    assert rules.count("embed_windows") == 2
    assert "train_clap" not in rules
