"""Runs of the workflow in other processes: what they would do, what they did, and how they are killed."""

import json
import resource
import subprocess
import sys
from pathlib import Path

from tests import REPO

NO_TORCH = (
    "import runpy, sys; sys.modules['torch'] = None; sys.argv.pop(0); runpy.run_path(sys.argv[0], run_name='__main__')"
)
# Loaded by every Python process: ends it at the n-th file of a name that it opens.
FAULT = """
import os, signal, sys
pattern, left = os.environ.get("END_AT"), [int(os.environ.get("END_AFTER", 0))]
def hook(event, arguments):
    if event == "open" and pattern in str(arguments[0]):
        left[0] -= 1
        if left[0] < 0:
            os.kill(os.getpid(), signal.SIGKILL)
if pattern:
    sys.addaudithook(hook)
"""


def dry_run(folder: Path, *configs: Path) -> list[dict]:
    """The jobs of a dry run in a folder, see `dag.py`; without torch, which planning must not need."""
    words = [sys.executable, "-c", NO_TORCH, REPO / "tests" / "helpers" / "dag.py", REPO, *configs]
    result = subprocess.run(words, cwd=folder, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr[-4000:]
    return json.loads(result.stdout.splitlines()[-1])


def planned(folder: Path, config: Path) -> list[dict]:
    """The jobs of a dry run, which takes at most three times the demo's processor time."""

    def seconds(config: Path) -> tuple[list[dict], float]:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        jobs = dry_run(folder, config)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return jobs, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    (_, demo), (jobs, own) = seconds(REPO / "config" / "config.yaml"), seconds(config)
    assert own < 3 * demo
    return jobs


def rules_run(process: subprocess.Popen) -> list[str]:
    _, errors = process.communicate(timeout=1200)
    assert process.returncode == 0, errors[-4000:]
    lines = (line.removeprefix("local").rstrip(":") for line in errors.splitlines())
    return [line.removeprefix("rule ") for line in lines if line.startswith("rule ")]
