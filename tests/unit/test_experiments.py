"""What the workflow's jobs do with chunks, clips and scores."""

import io
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from gmsdi.errors import UserError
from gmsdi.experiments import (
    PARTIAL,
    SINGLE,
    TOTAL,
    choose_settings,
    consecutive,
    distances,
    item_seed,
    mixdown,
    plan,
    select_chunks,
    share,
)
from gmsdi.tables import latex, markdown, table1, table1_sheets, table2, table2_brief, table2_sheets

PAPER = Path(__file__).parents[2] / "workflow" / "resources"
STEMS = ["Bass", "Drums", "Guitar", "Piano"]


def chunk_table():
    """Three tracks of four chunks; the second chunk of each has one active stem, the fourth of the last none."""
    rows = [
        (f"Track{track}", "test", 100 * k, "Bass" if k == 1 else "Bass, Drums") for track in range(3) for k in range(4)
    ]
    table = pd.DataFrame(rows, columns=["track", "split", "offset", "active"])
    table.loc[11, "active"] = ""
    return table


def scores(means, seed=0, **columns):
    """Sub-window scores with these means for Bass to Piano, 6 tracks of 5 sub-windows; the last stem rests in half."""
    rng = np.random.default_rng(seed)
    rows = [
        (f"Track{track}", 0, sub, stem, not (stem == "Piano" and sub % 2), mean + rng.normal())
        for track in range(6)
        for sub in range(5)
        for stem, mean in zip(STEMS, means, strict=True)
    ]
    table = pd.DataFrame(rows, columns=["track", "offset", "sub", "stem", "active", "si_sdri"])
    return table.assign(**columns)


def test_shares_are_the_whole_in_order():
    items = list(range(11))
    for shards in (1, 2, 3, 7, 11, 13):
        parts = [share(items, shard, shards) for shard in range(1, shards + 1)]
        assert [item for part in parts for item in part] == items
        assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_seeds_differ_and_stay():
    assert item_seed(1, "separation", "Track00001", 0) == 54070946294258861
    seeds = {item_seed(1, task, bar, clip) for task in "ab" for bar in "xyz" for clip in range(100)}
    assert len(seeds) == 600
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert item_seed("a", "b") != item_seed("ab")


def test_chunks_are_spread_over_tracks():
    table = chunk_table()
    assert select_chunks(table, 3) == [0, 4, 8]
    assert select_chunks(table, 5) == [0, 2, 4, 6, 8]
    assert select_chunks(table, None) == list(range(12))
    assert len(select_chunks(table, 8)) == 8
    with pytest.raises(UserError, match="9 chunks with at least 2"):
        select_chunks(table, 9)


def test_only_neighbours_are_joined():
    assert consecutive(chunk_table(), [0, 2, 3, 4, 5, 7], 100) == [[0], [2, 3], [4, 5], [7]]


def test_every_subset_of_given_stems_has_its_bar():
    class Windows:
        table = chunk_table()
        folder = Path("windows")

    bars = plan(PARTIAL, ["Bass", "Drums"], 12, Windows())
    assert set(bars["bar"]) == {"Bass", "Drums"}
    # Eight chunks have both stems; twelve clips use some of them again, the same in each bar.
    chunks = bars.groupby("bar")["chunk"].apply(list)
    assert chunks["Bass"] == chunks["Drums"]
    assert len(set(chunks["Bass"])) == 8
    assert plan(SINGLE, STEMS, 3)["bar"].value_counts().to_dict() == dict.fromkeys(STEMS, 3)
    assert plan(TOTAL, STEMS, 3)["bar"].tolist() == ["All"] * 3


def test_mixdown_leaves_the_mixture_row_out():
    audio = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    np.testing.assert_array_equal(mixdown(audio), audio[:, 0] + audio[:, 1])
    np.testing.assert_array_equal(mixdown(audio[:, :1]), audio[:, 0])


def test_best_of_table1_is_chosen_unless_pinned():
    rows = [
        scores([1, 1, 1, 1], model="extractor", constrained="", w=0.0),
        scores([3, 3, 3, 3], model="extractor", constrained="", w=1.0),
        scores([2, 2, 2, 9], model="separator", constrained="Drums", w=1.0),
        scores([4, 4, 4, 4], model="separator", constrained="Bass", w=0.0),
    ]
    grids = {"test": rows, "validation": [scores([9, 9, 9, 9], model="extractor", constrained="", w=0.0)]}
    extractor = {"name": "extractor", "chosen_on": "test", "w": None}
    separator = {"name": "separator", "chosen_on": "test", "w": None, "constrained": None}
    free = {"extractor": extractor, "separator": separator, "other": {**extractor, "chosen_on": "validation"}}
    chosen = choose_settings(grids, free, by="protocol")
    assert chosen["extractor"]["w"] == 1
    assert (chosen["separator"]["constrained"], chosen["separator"]["w"]) == ("Bass", 0)
    assert chosen["other"]["w"] == 0
    assert "validation" in chosen["other"]["chosen_by"]
    pinned = {"extractor": {**extractor, "w": 0}, "separator": {**separator, "constrained": "Drums"}}
    chosen = choose_settings(grids, pinned, by="protocol")
    assert chosen["extractor"] == {"name": "extractor", "w": 0, "chosen_by": "configuration"}
    assert (chosen["separator"]["constrained"], chosen["separator"]["w"]) == ("Drums", 1)
    assert choose_settings({}, {"extractor": {**extractor, "w": 2}}, by="active")["extractor"]["w"] == 2
    with pytest.raises(UserError, match="pins"):
        choose_settings(grids, {"separator": {**separator, "w": 7}}, by="active")


def test_table1_marks_the_best_and_prints_the_paper_beside():
    rows = pd.concat(
        [
            scores([1, 1, 1, 1], model="extractor", constrained="", w=1.0),
            scores([5, 5, 5, 5], model="extractor", constrained="", w=3.0),
        ]
    )
    table = table1(rows, pd.read_csv(PAPER / "paper_table1.csv", keep_default_na=False), resamples=100)
    overall = table[table["stem"] == "All"].set_index("w")
    expected = rows[rows["w"] == 3].groupby("stem")["si_sdri"].mean().mean()
    assert overall.at[3, "protocol"] == pytest.approx(expected)
    assert overall.at[3, "paper"] == 7.66
    assert np.isnan(overall.at[1, "paper"])
    protocol, active = table1_sheets(table, convention="paper")
    assert protocol.rows[0][2] == f"**{expected:.2f}** (paper 7.66)"
    assert "paper" not in active.rows[0][2]


def test_table2_is_the_papers_with_ours_filled_in():
    paper = pd.read_csv(PAPER / "paper_table2.csv")
    ours = {"separator": scores([9, 1, 9, 1], 1), "extractor": scores([1, 9, 1, 9], 2)}
    selection = {"separator": {"w": 3.0, "constrained": "Drums"}, "extractor": {"w": 7.5}}
    table = table2(ours, selection, paper, resamples=100)
    assert table["model"].unique().tolist() == paper["model"].tolist()
    cells = table.set_index(["model", "stem"])
    for stem, method in zip(STEMS, ["separator", "extractor"] * 2, strict=True):
        rows = ours[method][ours[method]["stem"] == stem]
        assert cells.at[("Ensemble", stem), "protocol"] == pytest.approx(rows["si_sdri"].mean())
        assert cells.at[("Ensemble", stem), "active"] == pytest.approx(rows[rows["active"]]["si_sdri"].mean())
    assert cells.at[("MSDM", "All"), "status"] == "not run"
    assert cells.at[("GMSDI Extractor", "All"), "paper"] == 10.30
    sheets = table2_sheets(table, chunks=60)
    text = markdown(sheets)
    assert "| Weakly Supervised MSDM | not run (paper 19.36) |" in text
    assert "w = 3, constrained Drums" in text
    # It reads the same from the file, in short too.
    again = pd.read_csv(io.StringIO(table.to_csv(index=False)))
    assert markdown(table2_sheets(again, chunks=60)) == text
    brief = markdown([table2_brief(again)])
    overall = cells.loc[("GMSDI Extractor", "All")]
    assert f"| {overall['active']:.2f} [{overall['active_low']:.2f}, {overall['active_high']:.2f}] |" in brief
    assert "| Weakly Supervised MSDM |" + " not run |" * 6 + " 17.27 |" in brief


def test_table2_has_rows_beyond_the_paper():
    paper = pd.read_csv(PAPER / "paper_table2.csv")
    ours = {
        "separator": scores([9, 1, 9, 1], 1),
        "extractor": scores([1, 9, 1, 9], 2),
        "mean": scores([9, 9, 9, 9], 3),
        "separator_validated": scores([8, 1, 8, 1], 4),
        "extractor_validated": scores([2, 8, 2, 8], 5),
    }
    plain = {"w": 3.0, "solver": {"steps": 5}}
    selection = {method: {**plain, "title": method.upper()} for method in ours}
    selection |= {"separator": plain, "extractor": plain, "mean": {**plain, "title": "MEAN", "samples": 4}}
    # On validation data the Extractor is the better one for Bass too.
    validation = {"separator_validated": scores([0, 0, 9, 0], 6), "extractor_validated": scores([9, 9, 0, 9], 7)}
    table = table2(ours, selection, paper, validation=validation, resamples=100)
    assert table["model"].unique().tolist()[len(paper) :] == [
        "MEAN", "SEPARATOR_VALIDATED", "EXTRACTOR_VALIDATED", "Ensemble, chosen on validation chunks",
    ]  # fmt: skip
    cells = table.set_index(["model", "stem"])
    assert cells.at[("MEAN", "All"), "settings"] == "w = 3, 5 steps, mean of 4 runs"
    for stem, method in zip(STEMS, ["extractor", "extractor", "separator", "extractor"], strict=True):
        rows = ours[f"{method}_validated"]
        expected = rows[rows["stem"] == stem]["si_sdri"].mean()
        assert cells.at[("Ensemble, chosen on validation chunks", stem), "protocol"] == pytest.approx(expected)
    text = markdown(table2_sheets(table, chunks=60))
    assert "chosen on validation chunks: Bass: Extractor, Drums: Extractor, Guitar: Separator" in text


def test_latex_is_balanced_and_escaped():
    rows = scores([1, 2, 3, 4], model="extractor", constrained="", w=3.0)
    table = table1(rows, pd.read_csv(PAPER / "paper_table1.csv", keep_default_na=False), resamples=100)
    text = latex(table1_sheets(table, convention="paper"))
    assert text.count("\\begin{") == text.count("\\end{") == 4
    assert text.count("{") == text.count("}")
    assert "\\textbf{" in text
    assert "**" not in text


def test_distances_have_their_references():
    rng = np.random.default_rng(0)

    def frames(clips, shift=0.0):
        return (rng.standard_normal((clips, 3, 5)) + shift).astype(np.float32)

    shifts = dict(zip(STEMS, (0, 1, 2, 3), strict=True))
    references = {f"stem/{stem}": frames(40, shift) for stem, shift in shifts.items()}
    references |= {f"noise/{stem}": frames(8, 9) for stem in STEMS}
    references |= {"mixture": frames(40), "noise/mixture": frames(8, 9), "shuffled": frames(8, 2)}
    generated = {
        "single": {stem: frames(8, shift + 1.5) for stem, shift in shifts.items()},
        "single_negative": {stem: frames(8, shift) for stem, shift in shifts.items()},
        "total": {"All": frames(8)},
        "partial": {"Bass": frames(8, 1)},
    }
    stems, mixtures = distances(STEMS, generated, references, seed=1)
    bass = stems[stems["bar"] == "Bass"].set_index("series")["fad"]
    assert bass["with negative prompts"] < bass["without negative prompts"] < bass["white noise"]
    assert bass["held-out test chunks"] < bass["Drums"] < bass["Guitar"] < bass["Piano"]
    lines = mixtures.set_index(["bar", "series"])["fad"]
    assert lines["All", "GMSDI"] < lines["Bass", "GMSDI"] < lines["", "shuffled stems"] < lines["", "white noise"]
    model = stems[stems["kind"] == "model"]
    assert (model["frames"] == 24).all()
    assert (model["reference_frames"] == 120).all()
