"""What runs again after an edit or a move, and the workflow as a module of another one."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.integration.test_workflow import REDUCED, REPO, write_config, write_model

FOLDERS = {"slakh", "gallery"}
"""Outputs that are folders."""


def snakemake(repository, folder, *arguments, **environment):
    command = [sys.executable, "-m", "snakemake", "-s", repository / "workflow" / "Snakefile", "--cores", "1"]
    return subprocess.run(
        [str(part) for part in (*command, *arguments)],
        cwd=folder,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=600,
    )


def planned(result):
    """The rules of a dry run, without the one that only gathers the targets."""
    assert result.returncode == 0, result.stderr[-4000:]
    said = result.stdout + result.stderr
    found = set(re.findall(r"^(?:local)?rule (\w+):$", said, re.MULTILINE)) - {"all"}
    assert found or "Nothing to be done" in said
    return found


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A checkout with the results of a run in it, which are empty files: what Snakemake knows of them is real."""
    repository = tmp_path_factory.mktemp("place") / "checkout"
    for name in ("gmsdi", "workflow", "config", "envs"):
        shutil.copytree(REPO / name, repository / name, ignore=shutil.ignore_patterns("__pycache__", "baselines"))
    reduced = yaml.safe_load(REDUCED.read_text())
    del reduced["model"]  # so that it is the bundled one
    (repository / "reduced.yaml").write_text(yaml.safe_dump(reduced))
    dag = [sys.executable, REPO / "tests" / "helpers" / "dag.py", repository, "reduced.yaml"]
    result = subprocess.run(dag, cwd=repository, capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stderr[-4000:]
    for job in json.loads(result.stdout.splitlines()[-1]):
        for output in map(Path, job["output"]):
            path = repository / output
            path.parent.mkdir(parents=True, exist_ok=True)
            path.mkdir() if output.name in FOLDERS else path.touch()
    result = snakemake(repository, repository, "--configfile", "reduced.yaml", "--touch", "--forceall")
    assert result.returncode == 0, result.stderr[-4000:]
    return repository


def dry_run_of_edited(repository, *edits):
    """A dry run after edits (file, old, new), which are taken back."""
    before = {file: (repository / file).read_text() for file, _, _ in edits}
    for file, old, new in edits:
        text = (repository / file).read_text()
        assert old in text, (file, old)
        (repository / file).write_text(text.replace(old, new, 1))
    result = snakemake(repository, repository, "--configfile", "reduced.yaml", "-n")
    for file, text in before.items():
        (repository / file).write_text(text)
    return result


def edited(repository, *edits):
    """The rules that would run after edits."""
    return planned(dry_run_of_edited(repository, *edits))


@pytest.mark.slow
def test_comments_and_docstrings_make_nothing_run_again(place):
    found = edited(
        place,
        ("gmsdi/models/adapters/adp.py", "from __future__", "# A comment.\nfrom __future__"),
        ("gmsdi/inference/separation.py", '"""', '"""Another word. '),
        ("gmsdi/metrics/si_sdr.py", '    """', '    """Another word. '),
        ("workflow/scripts/separate.py", '"""', '"""Another word. '),
        ("workflow/rules/separate.smk", "# The separations", "# All separations"),
    )
    assert found == set()


@pytest.mark.slow
def test_an_edit_makes_its_stage_and_what_follows_run_again(place):
    fad = edited(place, ("gmsdi/metrics/frechet.py", "return _distance(*_stat", "return 1.0 * _distance(*_stat"))
    assert {"fad", "figure2", "figure3", "page"} <= fad
    assert not fad & {"grid", "separate", "generate", "embed_generated", "score_separation", "chunk_with_stems"}

    steps = edited(place, ("workflow/scripts/cost.py", "before + done * share", "before + 1.0 * done * share"))
    assert steps == {"cost", "costs", "figure4", "page"}

    sampling = edited(place, ("gmsdi/sampling/samplers.py", "return x", "return 1.0 * x"))
    assert {"grid", "select", "separate", "generate", "cost", "table1", "table2", "fad", "page"} <= sampling
    assert not sampling & {"compose", "chunk", "chunk_with_stems", "embed_references", "train_short"}

    # Files of the workflow's folder, and the bundled weights.
    assert edited(place, ("workflow/report/page.html.j2", "<title>", "<title>The ")) == {"page"}
    assert "grid" in edited(place, ("gmsdi/weights/mini/config.json", "{", "{ "))


def methods(result, rule):
    """The rows of a rule's jobs in a dry run."""
    jobs = re.findall(rf"^rule {rule}:\n((?:    .*\n)+)", result.stdout + result.stderr, re.MULTILINE)
    return sorted(re.search(r"wildcards: method=(\w+)", job)[1] for job in jobs)


@pytest.mark.slow
def test_another_title_separates_nothing_again(place):
    result = dry_run_of_edited(
        place,
        ("reduced.yaml", "title: Separator, projected", "title: The mean has this row"),
        ("reduced.yaml", "demucs_gibbs:\n      steps: 2", "demucs_gibbs:\n      title: Another\n      steps: 2"),
        ("reduced.yaml", "separator:\n      solver:", "separator:\n      title: In Table 1\n      solver:"),
        ("reduced.yaml", "costed: false", "costed: true"),
    )
    found = planned(result)
    assert {"select", "table2", "costs", "figure4", "page"} <= found
    assert not found & {"grid", "separate", "average", "score_separation", "generate"}
    assert methods(result, "cost") == ["extractor_consistent"]  # the first that was not costed


@pytest.mark.slow
def test_an_edit_of_a_row_runs_that_row_again(place):
    result = dry_run_of_edited(
        place,
        ("reduced.yaml", "title: Separator, projected", "title: Separator, projected\n      w: 1.5"),
        ("reduced.yaml", "demucs_gibbs:\n      steps: 2", "demucs_gibbs:\n      steps: 3"),
        ("reduced.yaml", "\n  rows:\n", "\n  rows:\n    own: {kind: extractor, w: 3, title: Added}\n"),
    )
    assert {"select", "average", "score_separation", "table2", "costs"} <= planned(result)
    assert methods(result, "separate") == ["demucs_gibbs", "own", "separator_projected"]
    assert methods(result, "cost") == ["demucs_gibbs", "own"]
    assert methods(result, "grid") == []


@pytest.mark.slow
def test_another_precision_runs_the_networks_again(place):
    found = edited(place, ("reduced.yaml", "jobs:\n", "jobs:\n  precision: bf16\n"))
    assert {"grid", "separate", "cost", "generate", "page"} <= found
    assert not found & {"chunk", "chunk_with_stems", "train", "train_baseline", "embed_references"}
    again = edited(place, ("reduced.yaml", "jobs:\n", "jobs:\n  batch: 2\n  device: cpu\n"))
    assert again <= {"resolved_config", "page"}


@pytest.mark.slow
def test_a_checkout_that_is_copied_or_moved_with_its_results_has_nothing_to_do(place, tmp_path):
    shutil.copytree(place, tmp_path / "copy")
    for path in (tmp_path / "copy" / "workflow" / "scripts").glob("*.py"):
        path.touch()  # as a fresh checkout does
    moved = (tmp_path / "copy").rename(tmp_path / "o'brien's")
    result = snakemake(moved, moved, "--configfile", "reduced.yaml", "-n")
    assert planned(result) == set()

    # Jobs run there, too, whatever shells and Snakemake make of the names of folders.
    (moved / "results/reduced/config.yaml").unlink()
    arguments = ["results/reduced/config.yaml", "--configfile", "reduced.yaml"]
    result = snakemake(moved, moved, *arguments, PYTHONPATH=os.pathsep.join([str(tmp_path / "{of} $HOME"), str(REPO)]))
    assert planned(result) == {"resolved_config"}
    assert yaml.safe_load((moved / "results/reduced/config.yaml").read_text())["run"] == "reduced"


@pytest.mark.slow
def test_the_workflow_is_a_module_of_another(tmp_path):
    """The package lies elsewhere, as one that is installed does, and the paths are those of the run."""
    for name in ("workflow", "config", "envs"):
        shutil.copytree(REPO / name, tmp_path / "downloaded" / name)
    (tmp_path / "installed").mkdir()
    (tmp_path / "installed" / "gmsdi").symlink_to(REPO / "gmsdi")
    own = tmp_path / "own"
    own.mkdir()
    write_model(own / "model")
    study = yaml.safe_load(write_config(own).read_text())
    (own / "config.yaml").write_text(yaml.safe_dump({"study": study}))
    (own / "Snakefile").write_text(
        """
configfile: "config.yaml"

module gmsdi:
    snakefile: "../downloaded/workflow/Snakefile"
    config: config["study"]

use rule * from gmsdi as gmsdi_*

rule mine:
    default_target: True
    input: "results/reduced/grid/test/extractor.csv", "results/reduced/config.yaml"
    output: "mine.csv"
    shell: "cp {input[0]} {output}"
"""
    )
    command = [sys.executable, "-m", "snakemake", "--cores", "1"]
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "installed")}
    options = {"cwd": own, "env": environment, "capture_output": True, "text": True, "timeout": 600}
    assert "gmsdi_page" in planned(subprocess.run([*command, "-n", "results/reduced/report.html"], **options))
    result = subprocess.run(command, **options)
    assert result.returncode == 0, result.stderr[-4000:]
    assert len((own / "mine.csv").read_text().splitlines()) > 4
    resolved = yaml.safe_load((own / "results" / "reduced" / "config.yaml").read_text())
    assert resolved["separation"]["chunks"] == study["separation"]["chunks"]
    assert resolved["intervals"]  # of the workflow's own configuration


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("git") is None, reason="there is no git")
def test_the_workflow_is_a_module_from_a_repository_elsewhere(tmp_path):
    """As snakedeploy writes it. The package is installed; GitHub is a folder here, to which git is told to go."""
    hosted = tmp_path / "hosted" / "me" / "gmsdi"
    for name in ("workflow", "config", "envs"):
        shutil.copytree(REPO / name, hosted / name, ignore=shutil.ignore_patterns("__pycache__"))
    author = ["-c", "user.name=me", "-c", "user.email=me@localhost"]
    for words in (["init", "-q", "-b", "main"], ["add", "-A"], [*author, "commit", "-q", "-m", "v1"], ["tag", "v1"]):
        subprocess.run(["git", *words], cwd=hosted, check=True)
    own = tmp_path / "own"
    (own / "workflow").mkdir(parents=True)
    (own / "config.yaml").write_text("run: mine\nseparation: {rows: {msdm_gaussian: null}}\n")
    (own / "workflow" / "Snakefile").write_text(
        """
configfile: "config.yaml"

module gmsdi:
    snakefile: github("me/gmsdi", path="workflow/Snakefile", tag="v1")
    config: config

use rule * from gmsdi
"""
    )
    there = {"GIT_CONFIG_COUNT": "1", "GIT_CONFIG_KEY_0": f"url.{tmp_path / 'hosted'}/.insteadOf"}
    there |= {"GIT_CONFIG_VALUE_0": "https://github.com/", "XDG_CACHE_HOME": str(tmp_path / "cache")}
    environment = {**os.environ, "PYTHONPATH": str(REPO), **there}
    command = [sys.executable, "-m", "snakemake", "--cores", "1"]
    options = {"cwd": own, "env": environment, "capture_output": True, "text": True, "timeout": 600}
    assert {"compose", "separate", "page"} <= planned(subprocess.run([*command, "-n"], **options))
    result = subprocess.run([*command, "results/mine/config.yaml"], **options)
    assert result.returncode == 0, result.stderr[-4000:]
    assert yaml.safe_load((own / "results/mine/config.yaml").read_text())["separation"]["rows"].keys() >= {"msdm"}
