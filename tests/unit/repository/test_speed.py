"""What benchmarks/speed.py compares is the same work, and its table says what was measured."""

import importlib.util
import os

import numpy as np
import pytest

from benchmarks import scoring, speed
from benchmarks.scaling import fill
from tests import REPO

TINY = speed.Size(channels=64, batch=1, strides=1, steps=1)
needs = {
    name: pytest.mark.skipif(
        importlib.util.find_spec(name) is None and os.environ.get("GMSDI_PEERS") != "required",
        reason=f"{name} not installed; see the peers extra in pyproject.toml",
    )
    for name in ("audio_diffusion_pytorch", "frechet_audio_distance", "torchvggish")
}


@needs["audio_diffusion_pytorch"]
@pytest.mark.parametrize("task", ["joint", "guided"])
def test_both_loops_sample_the_same(task):
    ours, theirs = speed.loops(task, TINY, "float32")
    np.testing.assert_allclose(ours(), theirs(), rtol=0, atol=1e-4)


@needs["frechet_audio_distance"]
def test_both_distances_are_the_same():
    ours, theirs = speed.distance()
    assert ours() == pytest.approx(theirs(), rel=1e-6)


@needs["frechet_audio_distance"]
@needs["torchvggish"]
def test_both_embed_the_same_clips(tmp_path):
    ours, theirs = (each() for each in speed.embeddings(tmp_path, seconds=1.0, count=2))
    assert ours.shape == theirs.shape
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-3 * theirs.std())


def test_a_row_has_medians_and_the_ratios_of_rounds():
    cells = speed.Pair("a", "b", ours=[1.0, 2.0, 4.0], theirs=[3.0, 4.0, 4.0], difference="0").cells()
    assert cells == ["a", "b", "4", "2", "2.00", "1.00 to 3.00", "0"]
    assert len(cells) == len(speed.HEAD)


def test_a_difference_is_relative():
    assert speed.difference([1.0, 1.1], [1.0, 1.0]) == "7e-02"


def test_the_page_has_places_for_the_table_and_the_machine(tmp_path):
    page = tmp_path / "speed.md"
    page.write_text(speed.PAGE.read_text())
    for name in ("speed", "machine"):
        fill(name, [f"new {name}"], page)
    assert {"new speed", "new machine"} <= set(page.read_text().splitlines())


def rows_of(page, name):
    """The cells of a table in a page, without its head."""
    lines = page.partition(f"<!-- {name} -->\n")[2].partition("<!-- end -->")[0].splitlines()
    return [line.strip("| ").split(" | ") for line in lines if line.startswith("|")][2:]


def test_scoring_writes_its_tables_into_the_page(tmp_path, monkeypatch, capsys):
    page = tmp_path / "speed.md"
    page.write_text(scoring.PAGE.read_text())
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setattr(scoring.torch, "set_num_threads", lambda number: None)  # of the whole process
    options = ["--seconds", "9", "--rate", "500", "--rounds", "1", "--lengths", "9", "18", "--page", str(page)]
    monkeypatch.setattr("sys.argv", ["scoring", *options])
    scoring.main()
    text = page.read_text()
    assert rows_of(text, "scoring")[0][0] == "9 s at 500 Hz, four stems"
    assert [row[0] for row in rows_of(text, "lengths")] == ["9", "18"]
    assert rows_of(text, "speed") == rows_of(scoring.PAGE.read_text(), "speed")
    assert "9 s at 500 Hz" in capsys.readouterr().out
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    with pytest.raises(SystemExit):
        scoring.main()


def test_published_scoring_is_fast_exact_and_linear():
    page = scoring.PAGE.read_text()
    (row,) = rows_of(page, "scoring")
    assert row[0].startswith("250 s")
    assert float(row[3]) >= 2.5  # times as fast as MSDM's loop
    assert float(row[5].removesuffix(" dB")) <= 1e-4
    lengths, _, per_second = (list(map(float, column)) for column in zip(*rows_of(page, "lengths"), strict=True))
    assert lengths[-1] >= 8 * lengths[0]
    assert per_second[-1] < 1.5 * min(per_second)  # of a track that is eight times as long or more


def test_make_knows_it():
    assert "python -m benchmarks.speed" in (REPO / "Makefile").read_text()
