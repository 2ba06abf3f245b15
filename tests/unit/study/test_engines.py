"""Engines by other people's packages: what a configuration may ask of them, left-out imports, and the table of both."""

import importlib
import sys

import pandas as pd
import pytest

from gmsdi.errors import UserError
from gmsdi.io.foreign import left_out
from gmsdi.study.config.engines import check_engine, check_text, require_engines
from gmsdi.study.engines import compared, engines_sheet
from gmsdi.study.sheets import markdown

VGGISH = "vggish-YouTube8M-linear128"
FAD = {
    "engine": "gmsdi",
    "compare_engines": False,
    "embedding": VGGISH,
    "hop": None,
    "checkpoint": None,
    "folder": None,
}
LIBRARY = {"engine": "frechet_audio_distance"}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {**LIBRARY, "embedding": "musicnn-MTT-penultimate200"},
            "fad.engine is frechet_audio_distance, but .* no musicnn",
        ),
        ({"compare_engines": True, "hop": 0.5}, "fad.compare_engines is true, but .* takes no hop"),
        ({**LIBRARY, "checkpoint": "vggish.pth"}, "fad.checkpoint is a file, but .* reads a folder"),
        ({"folder": "hub"}, "fad.folder is for fad.engine frechet_audio_distance"),
    ],
)
def test_what_an_engine_does_not_take_is_refused(changes, said):
    with pytest.raises(UserError, match=said):
        check_engine({**FAD, **changes})


def test_what_an_engine_takes_is_not():
    for changes in ({}, LIBRARY, {"compare_engines": True, "checkpoint": "vggish.pth", "folder": "hub"}):
        check_engine({**FAD, **changes})


def config(**text):
    own = {"kind": "laion_clap", "features": 512, **text}
    return {"model": {"train": True, "config": {"text": own}}, "clap": {"train": False}, "fad": FAD}


def test_laion_clap_has_its_own_weights_and_width():
    check_text(config())
    with pytest.raises(UserError, match="features is 64, but LAION's embeddings have 512"):
        check_text(config(features=64))
    with pytest.raises(UserError, match=r"clap\.train makes a CLAP of its own"):
        check_text({**config(), "clap": {"train": True}})


def test_a_package_that_is_missing_is_named_before_the_first_job(monkeypatch):
    monkeypatch.setattr("gmsdi.study.config.engines.find_spec", lambda name: None if name == "resampy" else name)
    require_engines(config())
    with pytest.raises(UserError, match=r"fad\.compare_engines needs resampy, not installed here; add --use-conda"):
        require_engines({**config(), "fad": {**FAD, "compare_engines": True}})


def test_what_is_left_out_of_an_import_is_a_name_and_no_more(tmp_path, monkeypatch):
    (tmp_path / "needs_absent.py").write_text(
        "import absent_one\nfrom absent_two.deep import Thing\n\n\nclass Own(Thing):\n    pass\n\n\ndef use():\n"
        "    return absent_one.call(3)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModuleNotFoundError, match="absent_one"):
        importlib.import_module("needs_absent")
    with left_out(["absent_one", "absent_two"]):
        module = importlib.import_module("needs_absent")
    monkeypatch.delitem(sys.modules, "needs_absent")
    with pytest.raises(UserError, match=r"absent_one\.call is needed"):
        module.use()
    with pytest.raises(UserError, match="is needed"):
        module.Own()
    assert "absent_one" not in sys.modules
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("absent_one")


def tables(factor=1.0, clips=4):
    rows = {"bar": ["Bass", None], "series": ["GMSDI", "white noise"], "kind": ["model", "line"], "fad": [2.0, 8.0]}
    stems = pd.DataFrame({**rows, "fad_low": [1.5, 7.0], "fad_high": [2.5, 9.0], "clips": clips, "reference_clips": 9})
    stems = stems.assign(frames=16, embedding=VGGISH if factor == 1 else f"{VGGISH} by frechet-audio-distance")
    stems["fad"] *= factor
    return [stems, stems]


def test_engines_stand_side_by_side():
    table = compared(tables(), tables(1.01))
    assert table["figure"].tolist() == [2, 2, 3, 3]
    assert table["difference"].tolist() == pytest.approx([0.02, 0.08] * 2)
    assert table["relative"].tolist() == pytest.approx([0.01] * 4)
    assert set(table["embedding"]) == {VGGISH}
    text = markdown([engines_sheet(table)])
    assert "| Figure 3: white noise | 8 [7, 9] | 8.08 | +0.08 | +1.00 % |" in text.replace("\\", "")
    with pytest.raises(UserError, match="of different clips"):
        compared(tables(), tables(1.01, clips=5))
