"""Figures, gallery and report: same input, same bytes; nothing from outside; nothing unescaped."""

import hashlib
import json
import re

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_rgba

from gmsdi.study import figures as plots
from gmsdi.study import report
from gmsdi.study.gallery import spectrogram
from gmsdi.study.tables.generation import references_note
from gmsdi.study.trainings import training_facts, trainings_note
from tests.helpers.report_page import rendered


def fad_table(bars, series, lines):
    rows = [(bar, name, "model", 3.0 + k) for k, name in enumerate(series) for bar in bars]
    rows += [(bar, name, kind, value) for bar, name, kind, value in lines]
    table = pd.DataFrame(rows, columns=["bar", "series", "kind", "fad"])
    facts = {"clips": 16, "frames": 48, "reference_clips": 100, "reference_frames": 300, "embedding": "an embedding"}
    intervals = {"fad_low": table["fad"] - 0.5, "fad_high": table["fad"] + 0.75, "reference_tracks": 12}
    return table.assign(fad_inf=table["fad"] - 1, **facts, **intervals)


@pytest.fixture
def mixtures():
    lines = [("", "white noise", "line", 9.0), ("", "held-out test chunks", "line", 2.0)]
    return fad_table(["All", "Bass", "Bass, Drums"], ["GMSDI"], lines)


def test_figures_are_the_same_bytes_each_time(tmp_path, mixtures):
    lines = [(stem, "white noise", "line", 50.0) for stem in ("Bass", "Drums")]
    lines += [("Bass", "Drums", "other stem", 6.0), ("Drums", "Bass", "other stem", 5.0)]
    lines += [(stem, "held-out test chunks", "line", 4.0) for stem in ("Bass", "Drums")]
    series = ["without, w = 1", "with, w = 1", "without, w = 3", "weakly supervised MSDM"]
    stems = fad_table(["Bass", "Drums"], series, lines)
    stems["w"] = stems["series"].map({series[0]: 1.0, series[1]: 1.0, series[2]: 3.0})
    stems["negative"] = stems["series"].map({series[0]: False, series[1]: True, series[2]: False})
    for draw, table in ((plots.fad_stems, stems), (plots.fad_mixtures, mixtures)):
        written = []
        for attempt in "ab":
            files = [tmp_path / f"{attempt}.{kind}" for kind in ("svg", "pdf", "png")]
            plots.save(draw(table), *files)
            written.append([file.read_bytes() for file in files])
        assert written[0] == written[1]
    names = ("without negative prompts", "with negative prompts", series[-1])
    light, dark, other = (to_rgba(plots.COLOURS[name]) for name in names)
    bars = plots.fad_stems(stems).axes[0].containers
    looks = {bar.get_label(): (bar[0].get_facecolor(), bar[0].get_hatch()) for bar in bars if hasattr(bar, "patches")}
    assert looks == dict(zip(series, [(light, ""), (dark, ""), (light, "///"), (other, "xx")], strict=True))

    more = stems[stems["series"] == series[1]].assign(series="with, w = 1, other", model="other")
    bars = plots.fad_stems(pd.concat([stems.assign(model=["", *[None] * (len(stems) - 1)]), more])).axes[0].containers
    faces = {bar.get_label(): bar[0].get_facecolor() for bar in bars if hasattr(bar, "patches")}
    expected = {name: face for name, (face, _) in looks.items()}
    assert faces == {**expected, "with, w = 1, other": to_rgba(plots.OF_MODELS[0][0])}


def test_figure_shows_bars_and_lines_at_their_height(mixtures):
    figure = plots.fad_mixtures(mixtures)
    many = fad_table([f"Bass, Drums, Instrument {k}" for k in range(30)], ["GMSDI", "MSDM"], [])
    for drawn in (figure, plots.fad_mixtures(many)):
        assert drawn.get_figwidth() <= 7.2  # inches: it can be read at page width, whatever the number of bars
    axes = figure.axes[0]
    assert [patch.get_width() for patch in axes.patches] == [3.0, 3.0, 3.0]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["All (total)", "Bass", "Bass + Drums"]
    assert any(list(line.get_xdata()) == [9.0, 9.0] for line in axes.lines)
    bars, band = axes.collections
    assert [segment[:, 0].tolist() for segment in bars.get_segments()] == [[2.5, 3.75]] * 3
    assert set(band.get_paths()[0].vertices[:, 0]) == {1.5, 2.75}
    assert "48 frames per bar, 300 reference frames of 12 tracks" in axes.get_title(loc="left")


def test_bars_of_a_series_that_has_not_all_leave_no_gap(mixtures):
    """The bars of each place stand side by side around its middle, and all are as wide."""
    more = mixtures[mixtures["bar"] == "All"].assign(series="GMSDI, one by one")
    axes = plots.fad_mixtures(pd.concat([mixtures, more])).axes[0]
    spans = sorted((patch.get_y(), patch.get_y() + patch.get_height()) for patch in axes.patches)
    assert len(spans) == 4
    assert [round(sum(span) / 2, 6) for span in spans] == [-0.2, 0.2, 1.0, 2.0]
    assert len({round(end - start, 6) for start, end in spans}) == 1


def test_spectrogram_shows_a_tone_in_its_band():
    rate = 8000
    t = np.arange(2 * rate) / rate
    low, high = (spectrogram(np.sin(2 * np.pi * f * t).astype(np.float32), rate) for f in (200, 3000))
    assert low.shape[0] == 80
    assert low.mean(axis=1).argmax() < 15
    assert high.mean(axis=1).argmax() > 60


def test_page_renders_what_it_is_given(tmp_path):
    row = {
        "label": "<Bass>",
        "role": "given",
        "together": "stems",
        "audio": "a.flac",
        "image": "a.png",
    }
    for name in ("a.flac", "a.png"):
        (tmp_path / name).write_bytes(b"\0")
    rows = [row, {**row, "role": "true", "together": "true stems"}, {**row, "label": "Drums", "together": ""}]
    page = rendered(tmp_path, rows)
    assert "a &amp; b" in page
    assert "by our own composer" in page
    assert "Trained on: one &amp; two." in page
    assert "&lt;Bass&gt;" in page
    lines = page.split('<div class="line">')[1:]
    assert [line.count("<audio") for line in lines] == [2, 1]  # estimate and truth side by side
    assert re.findall(r'<button type="button" data-together="([^"]*)"', page) == ["stems", "true stems"]
    assert "<table>1</table>" in page
    assert "<table>4</table>\n<table>3</table>" in page
    assert "<table>5</table>" in page
    assert "<table>6</table>" in page
    assert "http" not in page
    assert "short training" not in page.lower()


def test_training_data_and_time_are_read_from_provenance():
    def told(hardware, seconds, **more):
        source = {"dataset": "tracks", "split": "train", "tracks": 9}
        return {"hardware": hardware, "seconds_of_last_run": seconds, "data": {"source": source}, **more}

    own = told("a CPU, 4 threads", 3600, resumed=False)
    gpu = told("2 x A GPU", 300, devices=2, training={"initial": "another"})
    weak = {f"weak_msdm_{label}": told("a CPU, 1 threads", 1800) for label in ("Bass", "Drums")}
    strong = told("a CPU, 1 threads", 9 * 3600)
    facts = training_facts({"own": own, "gpu": gpu, **weak, "msdm": strong, "demucs_gibbs": told("some chip", 60)})
    assert facts["own"] == "9 tracks; 4.00 core hours"
    assert facts["gpu"] == "9 tracks; at least 10 GPU minutes"  # the training that it began with is not counted
    first = {**told("1 x A GPU", 600, devices=1), "data": {"source": {"dataset": "tracks", "tracks": 5}}}
    longer = {"gpu": {**gpu, "earlier_trainings": [first]}, "own": {**own, "earlier_trainings": [{"seconds": 1800}]}}
    assert training_facts(longer)["gpu"] == "5 tracks, then 9 tracks; 20 GPU minutes"
    assert training_facts(longer)["own"] == "9 tracks; 6.00 core hours"  # on the hardware of the last, of unknown data
    assert training_facts({"both": {**gpu, "earlier_trainings": [own]}})["both"] == "9 tracks; time not recorded"
    untimed = {key: value for key, value in first.items() if key != "seconds_of_last_run"}
    least = training_facts({"gpu": {**gpu, "earlier_trainings": [untimed]}})["gpu"]
    assert least == "5 tracks, then 9 tracks; at least 10 GPU minutes"
    assert facts["Weakly supervised MSDM"] == "9 tracks; 1.00 core hours for its 2 models together"
    assert facts["MSDM"] == "9 tracks; 9.00 core hours"
    assert facts["Demucs + Gibbs"] == "9 tracks; time not recorded"
    # Only what is known and cheaper: neither MSDM, with more hours, nor Demucs + Gibbs.
    assert facts["compared"].startswith("Weakly supervised MSDM: fewer core hours than the text-conditioned model (25%")
    assert trainings_note(facts).endswith(f"{facts['compared']}.")
    resumed = {"own": own | {"resumed": True}, "msdm": strong}
    assert training_facts(resumed) == {"own": "9 tracks; at least 4.00 core hours", "MSDM": facts["MSDM"]}
    assert "compared" not in training_facts({"gpu": gpu, "msdm": strong})  # hours of a GPU are no core hours


def test_the_note_below_figure_3_counts_reference_and_shared_tracks():
    counts = [("model", 4, 0), ("model", 4, 3), ("line", 2, 2)]
    table = pd.DataFrame(counts, columns=["kind", "reference_tracks", "shared_tracks"])
    assert references_note(table).startswith("References: 4 tracks. Up to 3 of the 4 also provide the given stems")
    assert references_note(table[:1]) == "References: 4 tracks, none of which the clips of a bar use."


def test_times_are_summed_by_kind(tmp_path):
    (tmp_path / "grid").mkdir()
    for path, seconds in (("grid/a.tsv", 2.0), ("grid/b.tsv", 3.5), ("train.tsv", 1.0)):
        (tmp_path / path).write_text(f"s\th:m:s\n{seconds}\t0:00:01\n")
    assert report.times(tmp_path) == [("grid", 5.5), ("train", 1.0)]


def test_model_facts_name_the_weights(tmp_path):
    (tmp_path / "model.safetensors").write_bytes(b"weights")
    digest = f"0.0 MB, sha256 {hashlib.sha256(b'weights').hexdigest()}"
    assert report.model_brief(tmp_path) == digest  # where nothing else is known
    known = {"val_loss": 0.5, "steps": 7, "hardware": "two cores", "training": {"steps": 3}}
    (tmp_path / "provenance.json").write_text(json.dumps(known))
    facts = dict(report.model_facts(tmp_path))
    assert facts["val loss"] == "0.5"
    assert facts["share of solos"] == "not recorded"
    (tmp_path / "provenance.json").write_text(json.dumps(known | {"share_of_solos": 0.27}))
    assert dict(report.model_facts(tmp_path))["share of solos"] == "27%"
    (tmp_path / "provenance.json").write_text(json.dumps(known))
    assert facts["model.safetensors"] == digest
    assert report.model_brief(tmp_path) == f"{digest}; 7 steps on two cores"
    data = {"source": {"dataset": "mini", "split": "train", "tracks": 3}}
    (tmp_path / "provenance.json").write_text(json.dumps(known | {"data": data}))
    assert report.model_brief(tmp_path).endswith("7 steps on two cores; mini, 3 tracks; time not recorded")
    assert "training" not in facts
