"""The curve of general's training: its scores are those of the published pages, its table is that of the page."""

import pandas as pd
import pytest

from benchmarks.training_curve import FIGURE, LOG, PAGE, SCORES, draw, errors, lines, runs
from gmsdi.study.figures import save
from tests import REPO

PAGES = {"songs by others": "by_others", "unseen grooves and SoundFont": "arranged"}
ROWS = {
    "Extractor, consistent, w = 10": "Extractor, consistent, model general",
    "GMSDI Extractor, w = 6, σ from 1": "GMSDI Extractor, model general",
}


def test_the_last_scores_are_the_published_ones():
    scores = pd.read_csv(SCORES)
    for (where, method), own in scores[scores["set"].isin(PAGES)].groupby(["set", "method"]):
        (last,) = own[own["after"] == len(runs())].to_dict("records")
        table = pd.read_csv(REPO / "docs" / PAGES[where] / "table2_separation.csv")
        published = table[table["model"] == ROWS[method]].set_index("stem")["active"]
        assert [last[stem.lower()] for stem in published.index] == pytest.approx(published.tolist(), abs=0.006)


def test_table_and_figure_are_those_of_the_records(tmp_path):
    log, scores = pd.read_csv(LOG), pd.read_csv(SCORES)
    assert "\n".join(lines(scores)) in PAGE.read_text(encoding="utf-8")
    save(draw(log, scores), tmp_path / FIGURE.name)
    assert (tmp_path / FIGURE.name).read_text().count("<g id=") == FIGURE.read_text().count("<g id=")


def test_windows_are_counted_over_all_runs():
    last = errors(pd.read_csv(LOG)).iloc[-1]
    assert last["windows"] == 5126 * 128 + 4729 * 256 + 3000 * 256
    assert last["0.03"] == pytest.approx(0.3277 / 0.2326)
