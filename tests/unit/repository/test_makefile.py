"""What the targets that remove things leave."""

import shutil
import subprocess

import pytest

from tests import REPO


@pytest.mark.skipif(shutil.which("make") is None, reason="there is no make")
def test_clean_keeps_results_and_asks_before_they_go(tmp_path):
    shutil.copy(REPO / "Makefile", tmp_path)
    kept = [
        "results/README.md",
        "results/downloads/a.tar",
        "results/mini/model/m",
        ".snakemake/metadata/a",
        "gmsdi/a.py",
    ]
    gone = [".venv/bin/python", ".snakemake/conda/a", ".mypy_cache/a", "gmsdi/__pycache__/a.pyc", "tests/__pycache__/b"]
    for name in [*kept, *gone, "benchmarks/a", "workflow/a"]:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("")

    def make(*arguments, answer=""):
        command = ["make", "-s", *arguments]
        return subprocess.run(command, cwd=tmp_path, input=answer, capture_output=True, text=True)

    assert make("clean").returncode == 0
    assert [(tmp_path / name).exists() for name in [*kept, *gone]] == [True] * len(kept) + [False] * len(gone)
    for answer in ("", "no\n"):
        asked = make("clean_results", answer=answer)
        assert asked.returncode != 0
        assert "results/downloads" in asked.stdout
        assert (tmp_path / "results/downloads/a.tar").exists()
    assert make("clean_results", answer="yes\n").returncode == 0
    assert [path.name for path in (tmp_path / "results").iterdir()] == ["README.md"]
