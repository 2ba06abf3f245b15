"""The unsupervised model through the workflow: the whole graph of `config/mini_clap.yaml`, without torch."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

REPO = Path(__file__).parents[2]
NO_TORCH = (
    "import runpy, sys; sys.modules['torch'] = None; sys.argv.pop(0); runpy.run_path(sys.argv[0], run_name='__main__')"
)


def plan(folder, *configs):
    words = [sys.executable, "-c", NO_TORCH, Path(__file__).with_name("dag.py"), REPO, *configs]
    result = subprocess.run(words, cwd=folder, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr[-4000:]
    return json.loads(result.stdout.splitlines()[-1])


@pytest.mark.slow
def test_a_clap_is_trained_and_embeds_what_the_model_is_trained_on(tmp_path):
    jobs = plan(tmp_path, REPO / "config" / "mini_clap.yaml")
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
    rules = [job["rule"] for job in plan(tmp_path, REPO / "config" / "mini_clap.yaml", overlay)]
    assert rules.count("embed_windows") == 2
    assert "train_clap" not in rules
