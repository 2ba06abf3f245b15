"""`kill -9` of a whole run while it writes separations and clips; started again, it comes to the same bytes."""

import os
import signal
import subprocess

import pytest

from tests.helpers.rows import ALONE
from tests.integration.test_workflow import command, snakemake, write_config, write_model

# Loaded by every Python process: kills all processes of the run when half of a file is written.
FAULT = """
import os, signal, sys
name = os.environ.get("END_IN")
def hook(event, arguments):
    if event == "os.rename" and str(arguments[1]).endswith(name):
        os.truncate(arguments[0], os.path.getsize(arguments[0]) // 2)
        os.killpg(os.getpgrp(), signal.SIGKILL)
if name:
    sys.addaudithook(hook)
"""
SHARDS = ("separation/separator/1-of-1", "generation/total/1-of-1")
FILES = [f"results/reduced/{shard}.{kind}" for shard in SHARDS for kind in ("npy", "csv")]


@pytest.fixture
def folder(tmp_path):
    """A working directory for separations and clips that wait for no table."""
    write_model(tmp_path / "model")
    w = {"w": 1, "solver": {"steps": 2, "s_churn": 1}}
    rows = {"extractor": w, "separator": {**w, "constrained": "Drums"}, **ALONE["rows"], "extractor_consistent": None}
    separation = {"rows": rows}
    data = {"mini": {"tracks": {"test": 2}, "sections": [3, 3], "section_sizes": {"4": 1.0}}}
    file = write_config(tmp_path, data=data, separation=separation, grid={"validation": {"chunks": None}})
    file.rename(tmp_path / "config.yaml")
    (tmp_path / "sitecustomize.py").write_text(FAULT)
    return tmp_path


def partials(folder):
    return list((folder / "results").rglob(".*.partial*"))


@pytest.mark.slow
def test_kill_9_while_shards_are_written_changes_nothing(folder):
    # One core, so that the jobs follow one another in the order of their priorities.
    arguments = ["--configfile", "config.yaml", "--cores", "1", "--", *FILES]
    result = snakemake(folder, *arguments)
    assert result.returncode == 0, result.stderr[-4000:]
    expected = {file: (folder / file).read_bytes() for file in FILES}
    for file in FILES:
        (folder / file).unlink()

    # In the first, the separations have their name already, and their table has not.
    for name in ("separator/1-of-1.csv", "total/1-of-1.npy"):
        run = subprocess.Popen(
            [str(part) for part in command(*arguments)],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")])}
            | {"END_IN": name},
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        assert run.wait(600) == -signal.SIGKILL
        complete = [file for file in FILES if (folder / file).exists()]
        assert len(complete) < len(FILES)
        assert all((folder / file).read_bytes() == expected[file] for file in complete)
        assert len(partials(folder)) == 1
        assert snakemake(folder, *arguments[:2], "--unlock").returncode == 0

    result = snakemake(folder, *arguments)
    assert result.returncode == 0, result.stderr[-4000:]
    assert {file: (folder / file).read_bytes() for file in FILES} == expected
    assert partials(folder) == []
