"""The wheel, installed where no checkout is: the library, the command line, and a folder to run the workflow in."""

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import numpy as np
import pytest
import soundfile
import yaml

import gmsdi

REPO = Path(__file__).parents[2]
LEFT_OUT = shutil.ignore_patterns("__pycache__", "baselines", "general", "*.egg-info")
APART = re.compile("weights/(baselines|general)/")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    source, out = (tmp_path_factory.mktemp(name) for name in ("source", "wheels"))
    for name in ("gmsdi", "workflow", "config", "envs"):
        shutil.copytree(REPO / name, source / name, ignore=LEFT_OUT)
    for name in ("pyproject.toml", "setup.py", "MANIFEST.in", "README.md", "LICENSE"):
        shutil.copy(REPO / name, source)
    # Witnesses that they are left out.
    for name in ("baselines/msdm", "general"):
        shutil.copytree(REPO / "gmsdi/weights" / name, source / "gmsdi/weights" / name)
    command = [sys.executable, "-m", "pip", "wheel", ".", "--no-deps", "--no-build-isolation", "-q", "-w", str(out)]
    result = subprocess.run(command, cwd=source, capture_output=True, text=True, timeout=600)
    assert result.returncode == 0, result.stderr[-3000:]
    (file,) = out.glob("*.whl")
    return file


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """Runs commands in a folder, with the installed package and nothing of the checkout."""
    target = tmp_path_factory.mktemp("installed")
    command = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", str(target), str(wheel)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert result.returncode == 0, result.stderr[-3000:]

    def run(folder, *words):
        command = [sys.executable, *map(str, words)]
        environment = {**os.environ, "PYTHONPATH": str(target), "OMP_NUM_THREADS": "1"}
        result = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=600)
        assert result.returncode == 0, result.stderr[-3000:]
        return result.stdout + result.stderr

    run.target = target
    run.gmsdi = target / "bin" / "gmsdi"
    return run


@pytest.mark.slow
def test_the_wheel_is_small_and_has_all_that_git_has_but_what_is_apart(wheel):
    assert wheel.stat().st_size < 50e6
    names = set(zipfile.ZipFile(wheel).namelist())
    assert not [name for name in names if APART.search(name)]
    listed = subprocess.run(["git", "ls-files", "-co", "--exclude-standard"], cwd=REPO, capture_output=True, text=True)
    if listed.returncode != 0:
        pytest.skip("no git checkout")
    tracked = {name for name in listed.stdout.splitlines() if not APART.search(name)}
    there = {name for name in tracked if name.startswith("gmsdi/")}
    there |= {f"gmsdi/share/{name}" for name in tracked if re.match(r"(workflow|config|envs)/", name)}
    assert there <= names
    assert {name for name in names if not re.match(r"gmsdi-[\w.]+dist-info/", name)} <= there


def test_versions_agree():
    citation = yaml.safe_load((REPO / "CITATION.cff").read_text())
    assert citation["version"] == gmsdi.__version__
    released = re.findall(r"^## (\d.*)$", (REPO / "CHANGELOG.md").read_text(encoding="utf-8"), re.M)
    assert released[0] == f"{gmsdi.__version__} – {citation['date-released']}"
    for name in ("baselines", "general"):
        project = tomllib.loads((REPO / f"packages/{name}/pyproject.toml").read_text())["project"]
        assert project["version"] == gmsdi.__version__
        assert project["dependencies"] == [f"gmsdi=={gmsdi.__version__}"]


@pytest.mark.slow
def test_a_song_is_separated_by_the_installed_command(installed, tmp_path):
    song = 0.1 * np.random.default_rng(0).standard_normal(8000).cumsum().clip(-5, 5) / 5
    soundfile.write(tmp_path / "song.wav", song, 8000, subtype="FLOAT")
    code = "import gmsdi, sys; print(gmsdi.__file__, 'torch' in sys.modules, *gmsdi.load('mini', device='cpu').labels)"
    where = [str(installed.target / "gmsdi" / "__init__.py"), "False", "Bass", "Drums", "Guitar", "Piano"]
    assert installed(tmp_path, "-c", code).split() == where
    installed(tmp_path, installed.gmsdi, "separate", "song.wav", "--format", "wav", "--preset", "fast")
    stems = [soundfile.read(file)[0] for file in sorted((tmp_path / "song").glob("*.wav"))]
    assert len(stems) == 4
    np.testing.assert_allclose(sum(stems), song, atol=1e-4)


@pytest.mark.slow
def test_a_folder_is_laid_out_and_the_workflow_runs_there(installed, tmp_path):
    made = installed(tmp_path, installed.gmsdi, "workflow", "init", "mine")
    assert "cd mine && snakemake --cores 8" in made
    mine = tmp_path / "mine"
    planned = installed(mine, "-m", "snakemake", "--cores", "1", "-n")
    drawn = (REPO / "docs/figures/rulegraph.svg").read_text()
    rules = set(re.findall(r"^(?:local)?rule (\w+):$", planned, re.M))
    assert {"compose", "separate", "table2", "figure3", "page"} <= rules
    assert {rule for rule in rules if f">{rule}</text>" not in drawn} == set(), "draw docs/figures/rulegraph.svg again"
    assert "msdm" not in planned  # their weights are not installed
    installed(mine, "-m", "snakemake", "--cores", "1", "results/mine/config.yaml")
    resolved = yaml.safe_load((mine / "results/mine/config.yaml").read_text())
    assert resolved["run"] == "mine"
    assert list(resolved["separation"]["rows"]) == ["separator", "extractor", "ensemble", "extractor_consistent"]
    cost = installed(
        mine, installed.gmsdi, "cost", "--config", "config/config.yaml", "--json",
        "--seconds-per-evaluation", "0.01", "--seconds-per-step", "0.1",
    )  # fmt: skip
    assert json.loads(cost[cost.index("{") :])
    again = subprocess.run(
        [sys.executable, str(installed.gmsdi), "workflow", "init", str(mine)],
        env={**os.environ, "PYTHONPATH": str(installed.target)},
        capture_output=True,
        text=True,
    )
    assert again.returncode == 1
    assert "config.yaml: already exists" in again.stderr
