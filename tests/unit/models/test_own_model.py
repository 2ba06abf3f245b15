"""Models of others without the libraries that they need: one's own as docs/pretrained.md has it, and refusals."""

import json
import re
import sys

import numpy as np
import pytest
import soundfile

import gmsdi
from gmsdi.errors import UserError
from tests import REPO

PAGE = (REPO / "docs" / "pretrained.md").read_text(encoding="utf-8")


def test_the_example_of_the_page_runs(tmp_path, monkeypatch):
    samples = 0.1 * np.random.default_rng(0).normal(size=(30000, 2))
    soundfile.write(tmp_path / "song.wav", samples, 44100, subtype="FLOAT")
    monkeypatch.chdir(tmp_path)
    (code,) = re.findall(r"test_own_model\.py -->\n```python\n(.*?)```", PAGE, flags=re.DOTALL)
    names = {}
    exec(compile(code, "docs/pretrained.md", "exec"), names)
    assert list(names["stems"].parts) == ["bass", "drums"]
    assert np.abs(names["stems"].residual).max() < 1e-5
    assert np.abs(names["stems"].mixture - samples.T).max() < 1e-6


def pipeline(folder, kind):
    folder.mkdir()
    (folder / "model_index.json").write_text(json.dumps({"_class_name": kind, "vae": ["diffusers", "AutoencoderKL"]}))
    return folder


def test_refusals_come_before_anything_is_opened(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "diffusers", None)
    with pytest.raises(UserError, match=r"diffusers, which is not installed; run: pip install diffusers"):
        gmsdi.load(pipeline(tmp_path / "audio", "StableAudioPipeline"))
    for kind in ("AudioLDMPipeline", "AudioLDM2Pipeline", "MusicLDMPipeline"):
        with pytest.raises(UserError, match=rf"{kind} works on mel spectrograms, which have no phase"):
            gmsdi.load(pipeline(tmp_path / kind, kind))
    with pytest.raises(UserError, match="seconds is -1; it must be positive"):
        gmsdi.load(tmp_path / "audio", seconds=-1)
    with pytest.raises(UserError, match="mini: not a diffusers pipeline, so that its window is fixed; leave out"):
        gmsdi.load("mini", seconds=3)
