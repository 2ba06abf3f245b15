"""Families of models that an installed package names: known without an import, and opened by every door."""

import os
import subprocess
import sys

import numpy as np
import pytest
import soundfile

import gmsdi
from gmsdi.errors import UserError
from gmsdi.models import families, registry
from gmsdi.sampling.solver import Guidance, Solver
from gmsdi.study import pretrained
from gmsdi.study.setups import GmsdiSetup
from tests.helpers.families import install

LABELS = ("Bass", "Drums", "Piano")


@pytest.fixture
def toys(tmp_path, monkeypatch):
    """A folder on the path with an installed family, "toy"."""
    folder = install(tmp_path / "site")
    monkeypatch.syspath_prepend(folder)
    yield folder
    sys.modules.pop("toy_models", None)


def test_an_installed_family_is_opened_by_the_library(toys):
    assert families.names() == ["toy"]
    assert families.is_of_family("toy:0.1")
    assert "toy_models" not in sys.modules
    model = gmsdi.load("toy:0.1")
    assert (model.sample_rate, model.sigma_range) == (8000, (0.1, 500.0))
    assert registry.load_for("toy", 3.0).window == 256
    with pytest.raises(UserError, match=r"toy:0\.1: a model of a family"):
        registry.folder_of("toy:0.1")


def test_an_installed_family_is_opened_by_the_command_line(toys, tmp_path):
    """In a process of its own, which imports nothing of the family by itself."""
    soundfile.write(tmp_path / "song.wav", 0.1 * np.random.default_rng(0).normal(size=600), 8000, subtype="FLOAT")
    path = os.pathsep.join([str(toys), os.environ.get("PYTHONPATH", "")])
    said = ["separate", "song.wav", "--model", "toy", "--device", "cpu", "--steps", "12"]
    command = [sys.executable, "-c", f"from gmsdi.cli import main; raise SystemExit(main({said}))"]
    done = subprocess.run(
        command, cwd=tmp_path, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    found = {file.stem for file in tmp_path.rglob("*.*") if file.suffix in (".flac", ".wav")}
    assert {"bass", "drums", "piano"} <= found, found


def test_jobs_open_an_installed_family_with_the_models_own_range(toys):
    """As the workflow's jobs do: what is named in the configuration, by the setup."""
    config = {"model": {"train": False, "folder": "toy:0.1"}, "separation": {"rows": {}}}
    ((key, where),) = pretrained.named(config)
    found = pretrained.find(key, where)
    assert (found.opened, found.folder) == ("toy:0.1", None)
    assert pretrained.is_pretrained(where)
    pretrained.refuse_opening(found, config)
    system = GmsdiSetup(labels=LABELS, seconds=0.5).open([found.opened], device="cpu", precision="float32")
    own = {"guidance": Guidance(), "seeds": [0]}
    stem = system.sample(["Bass"], solver=Solver("euler", steps=4, sigma_min=0.2, sigma_max=2.0), **own)
    assert stem.shape == (1, 1, 256)
    with pytest.raises(UserError, match=r"0\.1 to 500"):
        system.sample(["Bass"], solver=Solver("euler", steps=4, sigma_min=0.01, sigma_max=2.0), **own)


def test_a_family_that_cannot_be_imported_is_refused_before_the_first_job(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(install(tmp_path, "broken", "import nothing_of_that_name\n"))
    found = pretrained.find("model.folder", "broken:x")
    with pytest.raises(UserError, match=r"^config: model.folder: broken:x: the family broken, .*cannot be imported"):
        pretrained.refuse_opening(found, {})


def test_the_digest_is_of_what_the_model_names(toys, tmp_path):
    place = tmp_path / "checkpoint.pt"
    place.write_bytes(b"0" * 3_000_000)
    before = families.digest(f"toy:{place}")
    assert before != families.digest("toy:0.1")
    place.write_bytes(b"0" * 2_999_999 + b"1")
    assert families.digest(f"toy:{place}") != before
