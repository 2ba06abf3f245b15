"""`snakemake --use-conda`, with the stand-in of tests/conda in conda's place: environments, activation, isolation."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.helpers import tiny_pipelines

REPO = Path(__file__).parents[2]
STANDIN = REPO / "tests" / "conda" / "bin"
CONFIG = REPO / "tests" / "conda" / "config.yaml"


def snakemake(folder, *arguments):
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    environment |= {"PATH": f"{STANDIN}{os.pathsep}{os.environ['PATH']}", "CONDA_STANDIN_PYTHON": sys.executable}
    command = [sys.executable, "-m", "snakemake", "-s", REPO / "workflow" / "Snakefile", "--cores", "2", "--use-conda"]
    return subprocess.run(
        [str(word) for word in [*command, "--configfile", CONFIG, *arguments]],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=600,
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A working directory with the environments of all rules."""
    folder = tmp_path_factory.mktemp("conda")
    result = snakemake(folder, "--conda-create-envs-only")
    assert result.returncode == 0, result.stderr[-4000:]
    return folder


def prefixes(folder):
    """The environments by the name of their file."""
    known = {path.read_text(): path.stem for path in (REPO / "envs").glob("*.yaml")}
    return {known[path.read_text()]: path.with_suffix("") for path in (folder / ".snakemake/conda").glob("*.yaml")}


def python(prefix, code, **environment):
    command = [prefix / "bin" / "python", "-c", code]
    return subprocess.run(command, cwd=prefix, env=environment, capture_output=True, text=True, timeout=300)


@pytest.mark.slow
def test_every_environment_is_made_with_what_is_installed_afterwards(folder):
    made = prefixes(folder)
    assert sorted(made) == sorted(path.stem for path in (REPO / "envs").glob("*.yaml"))
    find = "import importlib.util as u; print(*[name for name in {names} if u.find_spec(name)])"
    names = ["torch", "demucs", "diffusers", "museval", "pandas", "laion_clap", "frechet_audio_distance", "pytest"]
    found = {name: python(prefix, find.format(names=names)).stdout.split() for name, prefix in made.items()}
    assert found == {
        "core": ["torch", "demucs", "diffusers", "pandas"],
        "bss_eval": ["museval", "pandas"],
        "clap": ["torch", "pandas", "laion_clap"],
        "fad": ["torch", "pandas", "laion_clap", "frechet_audio_distance"],
    }
    # What these import on the way is there.
    for name, load in (("clap", "laion.imported()"), ("fad", "fad_library._imported(clap=True)")):
        code = f"from gmsdi.models.clap import laion; from gmsdi.metrics import fad_library; {load}"
        result = python(made[name], code, PYTHONPATH=str(REPO))
        assert result.returncode == 0, result.stderr[-4000:]
    assert "No module named 'gmsdi'" in python(made["core"], "import gmsdi").stderr
    assert python(made["core"], "import gmsdi.study.config", PYTHONPATH=str(REPO)).returncode == 0


@pytest.mark.slow
def test_pretrained_models_open_in_the_environment_of_their_jobs(folder, tmp_path):
    pytest.importorskip("diffusers")
    tiny_pipelines.stable_audio(tmp_path / "pipeline")
    code = "from pathlib import Path; from gmsdi.models.adapters.pipelines import open_pipeline; "
    code += f"print(open_pipeline(Path({str(tmp_path / 'pipeline')!r}), 'pipeline', device='cpu').sample_rate)"
    result = python(prefixes(folder)["core"], code, PYTHONPATH=str(REPO))
    assert result.returncode == 0, result.stderr[-4000:]
    assert result.stdout.split() == ["4410"]


@pytest.mark.slow
def test_jobs_run_in_their_environment_and_find_the_package(folder):
    targets = ["--until", "resolved_config", "chunk_with_stems"]
    result = snakemake(folder, *targets)
    assert result.returncode == 0, result.stderr[-4000:]
    assert yaml.safe_load((folder / "results/conda/config.yaml").read_text())["run"] == "conda"
    (windows,) = (folder / "results/data").glob("*/test-1/windows/windows.csv")
    assert len(windows.read_text().splitlines()) > 1

    runs = [json.loads(line) for line in (prefixes(folder)["core"] / "runs.log").read_text().splitlines()]
    scripts = {}
    for run in runs:
        if found := re.search(r"\.snakemake/scripts/\w+\.(\w+)\.py$", run["command"][-1]):
            scripts[found[1]] = run["pythonpath"]
    assert scripts == dict.fromkeys(["compose", "chunk", "resolved_config"], str(REPO))

    again = snakemake(folder, "--until", "resolved_config")
    assert again.returncode == 0, again.stderr[-4000:]
    assert not re.search(r"Creating conda environment|^(local)?rule ", again.stderr, re.MULTILINE)


@pytest.mark.slow
def test_a_version_that_cannot_be_had_is_named(tmp_path):
    """The stand-in refuses what is not installed, so that the tests above show that the files ask for what exists."""
    file = tmp_path / "env.yaml"
    file.write_text("dependencies: [pip, {pip: [numpy==0.1]}]\n")
    command = [STANDIN / "conda", "env", "create", "--file", file, "--prefix", tmp_path / "env"]
    environment = {**os.environ, "CONDA_STANDIN_PYTHON": sys.executable}
    result = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert result.returncode == 1
    assert "PackagesNotFoundError: numpy==0.1" in result.stderr
