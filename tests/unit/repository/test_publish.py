"""Published pages say of how many runs and tracks they are, and a page that hides it is found."""

import json
import re
import shutil
from pathlib import Path

import pandas as pd
import pytest

from benchmarks.publish import MIXED, ONE, ROWS, TEST_SETS, TITLES, faults, headline, mixed, notes, page, side_by_side
from tests import REPO

DOCS = REPO / "docs"
PUBLISHED = sorted(path.parent.name for path in DOCS.glob("*/provenance.json"))


@pytest.fixture
def folder(tmp_path):
    """A published page that may be tampered with."""
    return Path(shutil.copytree(DOCS / "mini_full", tmp_path / "mini_full"))


def edit(folder, change):
    provenance = json.loads((folder / "provenance.json").read_text())
    change(provenance)
    (folder / "provenance.json").write_text(json.dumps(provenance))


@pytest.mark.parametrize("run", PUBLISHED)
def test_published_pages_claim_no_more_than_their_provenance(run):
    assert faults(DOCS / run) == []
    assert (DOCS / run / "README.md").read_text() == page(run, DOCS / run), f"python -m benchmarks.publish --page {run}"


def test_the_readme_has_the_scores_of_the_published_runs():
    text = (DOCS.parent / "README.md").read_text()
    assert headline(DOCS) + notes(DOCS) in text
    gallery = (DOCS / "gallery.md").read_text()
    assert side_by_side(DOCS) in gallery
    assert "|  | Songs by others | Unseen grooves and SoundFont | Our composed pieces |" in gallery
    (row,) = (line.split(" | ")[1:] for line in gallery.splitlines() if line.startswith("| shuffled stems |"))
    for run, cell in zip(TEST_SETS, row, strict=True):
        distances = pd.read_csv(DOCS / run / "fad_mixtures.csv").set_index("series")["fad"]
        assert cell.startswith(f"{distances['shuffled stems']:.1f} [")
    for run in set(TEST_SETS) & set(PUBLISHED):
        table = pd.read_csv(DOCS / run / "table2_separation.csv")
        scores = table[(table["stem"] == "All") & (table["status"] == "run")].set_index("model")["active"]
        (row,) = (line for line in text.splitlines() if line.startswith(f"| {ROWS['extractor_consistent']} |"))
        title = re.compile(r"Extractor, consistent(, \d+ steps)?")  # some pages have the number of steps
        score = next(value for model, value in scores.items() if title.fullmatch(model))
        assert f"| {score:.1f} [" in row


def test_the_numbers_in_prose_are_those_of_the_table():
    rows = [[cell.strip() for cell in line.strip(" |\n").split(" | ")] for line in headline(DOCS).splitlines()]
    tracks = re.findall(r"(\d+) tracks", " ".join(rows[0]))  # by others, arranged, composed
    scores = {row[0]: [cell.split(" [")[0] for cell in row[-3:]] for row in rows[2:]}
    mini, general, mean = (scores[ROWS[row]] for row in ("extractor_consistent", "extractor_general", "mean_of_models"))
    own = [mini[2], mini[0], general[0], mean[0]]
    readme = " ".join((DOCS.parent / "README.md").read_text().split("## Two commands")[0].split())
    assert re.findall(r"(\d+\.\d) dB", readme) == own
    assert re.findall(r"\((\d+) (?:test pieces|songs)\)", readme) == [tracks[2], tracks[0]]
    limits = " ".join((DOCS / "limits.md").read_text().split("**Test and training tracks")[0].split())
    first = limits.split("**The default model")[0]
    assert re.findall(r"(\d+\.\d) dB", first) == [*own, mini[1], general[1], mean[1], general[2], mean[2]]
    assert re.findall(r"(\d+) tracks", first) == [tracks[2], tracks[0], tracks[1]]


def test_the_shares_of_solos_in_prose_are_those_on_record():
    general = json.loads((REPO / "gmsdi" / "weights" / "general" / "provenance.json").read_text())["share_of_solos"]
    composed = json.loads((DOCS / "mini_latent" / "provenance.json").read_text())  # of 400 of mini's pieces
    assert composed["Training"]["model"].startswith("mini, 400 tracks")
    for page_of in (REPO / "README.md", DOCS / "limits.md"):
        told = re.findall(r"(\d+%) of (?:the training windows of `general`|those of `mini`)", page_of.read_text())
        assert told == [f"{general:.0%}", composed["Model"]["share of solos"]]


def test_what_the_columns_of_the_readme_do_not_have_in_common_is_told(tmp_path):
    for run in TEST_SETS:
        (tmp_path / run).mkdir()
        same = {"extractor": {"w": 1, "solver": {"steps": 12, "s_churn": 8}}}
        (tmp_path / run / "selection.json").write_text(json.dumps(same))
    assert notes(tmp_path) == ""
    other = {"extractor": {"w": 3, "solver": {"steps": 25, "s_churn": 8}}, "msdm": {"constrained": "Piano"}}
    (tmp_path / "mini_full" / "selection.json").write_text(json.dumps(other))
    assert "other settings in one column than in another (w, steps);" in notes(tmp_path)
    assert "optimistic" not in notes(tmp_path)
    best = {"separator": {"w": 1, "chosen_by": "best score of Table 1"}, "msdm": {"chosen_by": "configuration"}}
    (tmp_path / "arranged" / "selection.json").write_text(json.dumps(same | best))
    assert "optimistic: of GMSDI Separator, on one page or more." in notes(tmp_path)


def test_all_pages_are_looked_at():
    assert set(PUBLISHED) <= set(TITLES)
    assert all((DOCS.parent / "config" / f"{run}.yaml").is_file() for run in TITLES)


def test_a_page_that_hides_that_it_mixes_runs_is_rejected(folder):
    def whole(provenance):
        for title in set(provenance) - {"Model", "Data", "Software", "Time"}:
            provenance.pop(title)
        provenance["Run"] = {"seed": 1}

    edit(folder, whole)
    (folder / "README.md").write_text(page("mini_full", folder))
    assert ONE in (folder / "README.md").read_text()
    assert faults(folder) == []
    edit(folder, lambda provenance: provenance.update({"Added on 2026-11-25": {"a row": "of another day"}}))
    hidden = faults(folder)
    assert len(hidden) == 3
    assert all("Added on 2026-11-25 (a row)" in fault for fault in hidden)
    text = page("mini_full", folder)
    assert MIXED in text
    assert ONE not in text
    (folder / "README.md").write_text(text)
    assert faults(folder) == []
    # At the bottom alone it does not count.
    (folder / "README.md").write_text(text.replace("Added on 2026-11-25 (a row)", "", 1))
    assert faults(folder) != []


def test_missing_sections_are_no_single_run(folder):
    assert mixed({"Model": {}, "Data": {}, "Software": {}, "Time": {}}) == ["no section Run"]
    edit(folder, lambda provenance: provenance.update({"Run": {"seed": 2}}))
    assert "different seeds" in " ".join(faults(folder))


def test_the_number_of_tracks_is_said(folder):
    said = json.loads((folder / "provenance.json").read_text())["Data"]["test split"]
    assert f"Test split: {said}" in page("mini_full", folder)
    edit(folder, lambda provenance: provenance["Data"].update({"test split": "7 tracks, 30 chunks"}))
    assert "Test split: 7 tracks, 30 chunks" in page("mini_full", folder)


def test_pages_say_how_their_models_were_trained_and_what_they_heard(folder):
    """Recomputed here: the six baselines' seconds of one thread, and the model's two trainings on two."""
    weights = REPO / "gmsdi" / "weights"
    told = {path.parent.name: json.loads(path.read_text()) for path in weights.rglob("provenance.json")}
    spent = {name: known.get("seconds", known.get("seconds_of_last_run")) for name, known in told.items()}
    own = 2 * (spent["mini"] + told["mini"]["earlier_trainings"][0]["seconds"]) / 3600
    weak = sum(seconds for name, seconds in spent.items() if name.startswith("weak_msdm")) / 3600
    text = page("by_others", DOCS / "by_others")
    assert f"mini: mini, 1200 tracks; {own:.2f} core hours." in text
    assert f"MSDM: mini, 1200 tracks; {spent['msdm'] / 3600:.2f} core hours." in text
    assert f"Weakly supervised MSDM: mini, 1200 tracks; {weak:.2f} core hours for its 4 models together." in text
    assert f"Demucs + Gibbs: mini, 1200 tracks; {spent['demucs_gibbs'] / 3600:.2f} core hours." in text
    assert "general: 3373 tracks, then 2972 tracks, then 3600 tracks; at least 18 GPU minutes." in text
    assert "fewer core hours than the text-conditioned model" in text
    assert "our own composer" not in text
    assert "our own composer" in page("mini_full", folder)
