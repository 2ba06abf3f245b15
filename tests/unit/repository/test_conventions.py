"""What others' services read of the repository: the catalogue of Snakemake workflows, and GitHub's actions."""

import re

import pytest
import yaml

from gmsdi.study.config import load, validate
from tests import REPO


def test_the_catalogues_files_are_where_it_looks_for_them():
    usage = yaml.safe_load((REPO / ".snakemake-workflow-catalog.yml").read_text())["usage"]
    assert usage["software-stack-deployment"]["conda"]
    assert usage["report"]
    for name in ("README.md", "LICENSE", "config/README.md", "config/config.yaml", "workflow/Snakefile"):
        assert (REPO / name).is_file()


def test_the_workflows_test_is_the_reduced_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # wherever it is started
    reduced, own = (validate(load(REPO / name)) for name in (".ci/reduced.yaml", ".test/config/config.yaml"))
    assert own == {**reduced, "run": "test"}


@pytest.mark.parametrize("name", ["main", "release"])
def test_actions_call_targets_and_files_that_exist(name):
    jobs = yaml.safe_load((REPO / f".github/workflows/{name}.yml").read_text())["jobs"]
    commands = [step["run"] for job in jobs.values() for step in job["steps"] if "run" in step]
    targets = set(re.findall(r"^([\w$()/.]+):", (REPO / "Makefile").read_text(), re.M)) | {".venv/.installed"}
    made = [word for command in commands for word in re.findall(r"^make (\S+)", command, re.M)]
    assert made
    assert set(made) <= targets
    for path in re.findall(r"--(?:configfile|directory) (\S+)", " ".join(commands)):
        assert (REPO / path).exists()


def test_actions_run_the_tests_with_all_that_ci_run_installs():
    job = yaml.safe_load((REPO / ".github/workflows/main.yml").read_text())["jobs"]["test"]
    commands = "\n".join(step.get("run", "") for step in job["steps"])
    run = (REPO / ".ci/run").read_text()
    installed, made = (
        [set(re.search(pattern, text, re.M)[1].split()) for text in (run, commands)]
        for pattern in (r"--no-install-recommends ([\w -]+)", r"^ *make (cluster .+)")
    )
    assert installed[0] == installed[1] >= {"ffmpeg", "chromium"}
    assert made[0] == made[1]
    required = dict(word.split("=") for word in re.search(r"export (GMSDI_.+)", run)[1].split())
    assert job["steps"][-1]["env"] == required
