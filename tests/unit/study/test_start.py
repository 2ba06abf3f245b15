"""Folders to run the workflow in."""

import pytest

from gmsdi.study import start
from gmsdi.study.config import load, validate
from gmsdi.study.config.files import FOLDER
from gmsdi.study.study import Study


@pytest.mark.parametrize("base", ["by_others", "arranged"])
def test_without_baselines_the_rows_that_average_them_are_left_out_too(base, tmp_path, monkeypatch):
    rows = load(FOLDER / f"{base}.yaml")["separation"]["rows"]
    assert {"demucs_gibbs", "extractor"} < set(rows["mean_of_systems"]["of"])
    monkeypatch.setattr(start, "WEIGHTS", tmp_path / "weights")  # without a folder baselines
    start.init(tmp_path / "mine", base=base)
    study = Study(validate(load(tmp_path / "mine" / "config" / "config.yaml")))
    assert list(study.averages) == []
    assert list(study.systems) == ["gmsdi"]
    assert set(study.ensembles) == {"ensemble"}  # of the paper's two methods
    assert "extractor_mean" in study.rows
