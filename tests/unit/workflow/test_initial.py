"""Trainings that start from a model: in the workflow's graph, its files are inputs."""

import pytest

from gmsdi.study import cost
from tests import REPO
from tests.helpers.runs import dry_run


@pytest.mark.slow
def test_a_training_depends_on_the_model_that_it_starts_from(tmp_path):
    overlay = tmp_path / "own.yaml"

    def inputs(initial):
        overlay.write_text(f"model: {{train: true}}\ntraining: {{initial: {initial}}}\n")
        jobs = dry_run(tmp_path, REPO / "config" / "config.yaml", overlay)
        assert {job["rule"] for job in jobs} >= {"train", "train_short"}
        return [
            {file for file in job["input"] if "windows" not in file} for job in jobs if job["rule"].startswith("train")
        ]

    files = {f"results/first/model/{file}" for file in ("model.safetensors", "config.json")}
    for file in files:
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).touch()
    assert inputs("results/first/model") == [files, files]
    # Models of the package are not inputs, since they lie elsewhere on every machine.
    assert inputs(REPO / "gmsdi" / "weights" / "mini") == inputs("null") == [set(), set()]


@pytest.mark.slow
def test_costs_are_counted_before_the_initial_model_is_made(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    overlay = {"model": {"train": True}, "training": {"initial": "results/first/model"}}
    assert "train" in {job.rule for job in cost.jobs([overlay])}
