"""Folders to run the workflow in."""

import os
import subprocess

import pytest

from gmsdi.cli import main
from gmsdi.errors import UserError
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


def test_every_base_is_a_run(tmp_path):
    """Those that the message offers have a valid configuration; paper.yaml is only the base of others."""
    with pytest.raises(UserError, match="--base is 'paper'; choose demo or one of ") as refused:
        start.init(tmp_path / "paper", base="paper")
    bases = str(refused.value).split("one of ")[1].split(", ")
    assert {"slakh2100", "songs"} < set(bases)
    for base in bases:
        start.init(tmp_path / base, base=base)
        validate(load(tmp_path / base / "config" / "config.yaml"))


def test_the_next_command_works_in_an_environment_that_is_not_activated(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert main(["workflow", "init", "my songs"]) == 0
    command = capsys.readouterr().out.splitlines()[-1].removeprefix("Now: ")
    monkeypatch.setenv("PATH", os.defpath)  # the system's programs, which Snakemake's plugins look for
    assert subprocess.run(["/bin/sh", "-c", command.replace("--cores 8", "--version")]).returncode == 0
