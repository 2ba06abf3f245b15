"""What the workflow's jobs do with chunks, clips and scores."""

import io
import re
import tracemalloc
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.spatial.distance import cosine as cosine_distance

from gmsdi.errors import UserError
from gmsdi.io.tables import read_table
from gmsdi.metrics import si_sdr
from gmsdi.metrics.coherence import coherence
from gmsdi.metrics.embeddings import get_embedding
from gmsdi.metrics.frechet import frechet_distance
from gmsdi.study.chunks import draw, item_seed, select_chunks
from gmsdi.study.coherence import coherences
from gmsdi.study.counting import share
from gmsdi.study.embedding import embed, mixdown
from gmsdi.study.fad import distances
from gmsdi.study.generation import clips_of
from gmsdi.study.methods import Ensemble
from gmsdi.study.references import reference_audio
from gmsdi.study.scoring import consecutive, score_bss_eval, score_separation
from gmsdi.study.selection import choose_settings
from gmsdi.study.shards import join_shards, open_audio
from gmsdi.study.sheets import Cell, markdown
from gmsdi.study.stems import made_stems, stems_of_mixtures
from gmsdi.study.tables.generation import coherence_sheet, negatives, negatives_sheets, stems_sheet
from gmsdi.study.tables.table1 import table1, table1_sheets
from gmsdi.study.tables.table2 import differences_sheet, table2, table2_differences, table2_sheets
from tests import REPO
from tests.helpers.rows import make_row, make_task

PAPER = REPO / "workflow" / "resources"
STEMS = ["Bass", "Drums", "Guitar", "Piano"]
PARTIAL = {"guidance": {"w": 1.0}, "gamma_x": 1.0, "gamma_y": 1.0}
SEPARATOR = {"title": "GMSDI Separator", "paper": "GMSDI Separator", "published": True}
EXTRACTOR = {"title": "GMSDI Extractor", "paper": "GMSDI Extractor", "published": True}
BOTH = Ensemble(name="ensemble", title="Ensemble", of=("separator", "extractor"), paper="Ensemble")
VALIDATED = Ensemble(
    **{"name": "ensemble_validated", "title": "Ensemble, chosen on validation chunks", "chosen_on": "validation"},
    of=("separator_validated", "extractor_validated"),
)


def partial(labels=STEMS, clips=1):
    return make_task("partial", labels, **PARTIAL, clips=clips)


def papers(**settings):
    """The paper's two rows, the Separator with these settings."""
    separator = make_row("separator", **{**SEPARATOR, "w": 3.0, "constrained": "Drums", **settings})
    return {"separator": separator, "extractor": make_row("extractor", **EXTRACTOR, w=7.5)}


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
    return table.assign(level=-10.0 - table.index % 7, **columns)


class Windows:
    """A test split of random stems, some of them silent; counts the bytes that a call reads at most."""

    channels = 1

    def __init__(self, tracks, chunks, window, sample_rate):
        rng = np.random.default_rng(7)
        self.labels, self.window, self.sample_rate, self.folder, self.largest = STEMS, window, sample_rate, "windows", 0
        sounding = rng.random((tracks * chunks, len(STEMS))) < 0.8
        sounding[:, 0] = True
        self.audio = (0.1 * rng.standard_normal((len(sounding), len(STEMS), 1, window))).astype(np.float32)
        self.audio *= sounding[:, :, None, None]
        rows = [
            (f"Track{i // chunks}", window * (i % chunks), ", ".join(np.array(STEMS)[row]))
            for i, row in enumerate(sounding)
        ]
        self.table = pd.DataFrame(rows, columns=["track", "offset", "active"])

    def stems(self, ids):
        found = self.audio[list(ids)]
        self.largest = max(self.largest, found.nbytes)
        return found

    def mixture(self, ids):
        return self.stems(ids).sum(axis=1)


def write_shards(folder, table, audio, bounds):
    """The files of shards, as the workflow's jobs write them."""
    folder.mkdir()
    files = [], []
    for number, (start, stop) in enumerate(pairwise([0, *bounds, len(audio)])):
        for paths, suffix in zip(files, (".csv", ".npy"), strict=True):
            paths.append(folder / f"{number}{suffix}")
        table.iloc[start:stop].to_csv(files[0][-1], index_label="chunk")
        np.save(files[1][-1], audio[start:stop])
    return files


def peak_of(function):
    """What a function returns, and the bytes of the greatest amount of memory that its arrays took."""
    tracemalloc.start()
    try:
        return function(), tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


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
    eligible = {0, 2, 3, 4, 6, 7, 8, 10}
    for seed in range(20):
        five = select_chunks(table, 5, seed=seed)
        assert five == sorted(set(five))
        assert set(five) <= eligible
        assert sorted(table.loc[five, "track"].value_counts()) == [1, 2, 2]
        assert len(set(table.loc[select_chunks(table, 3, seed=seed), "track"])) == 3
        assert set(select_chunks(table, 3, seed=seed)) < set(five)  # fewer are a part of more
    assert select_chunks(table, None, seed=1) == list(range(12))
    assert select_chunks(table, 8, seed=1) == sorted(eligible)
    with pytest.raises(UserError, match="9 chunks with at least 2"):
        select_chunks(table, 9, seed=1)


def test_no_part_of_the_music_is_preferred():
    """Over many seeds every chunk of a track, and every track, is as likely as any other; a draw is of its purpose."""
    rows = [(f"Track{track}", 100 * k, "Bass, Drums") for track in range(5) for k in range(6)]
    table = pd.DataFrame(rows, columns=["track", "offset", "active"])
    seeds = 600
    drawn = np.array([draw(table, table.index, 2, seed, "x") for seed in range(seeds)])
    expected = 2 * seeds / 30
    statistic = ((np.bincount(drawn.ravel(), minlength=30) - expected) ** 2 / expected).sum()
    assert statistic < 52  # chi-squared with 29 degrees of freedom: p = 0.005
    assert (table.loc[drawn[:, 0], "track"].to_numpy() != table.loc[drawn[:, 1], "track"].to_numpy()).all()
    assert draw(table, table.index, 2, 1, "x") != draw(table, table.index, 2, 1, "y")
    # A chunk keeps its place where the rest of its track is cut off, and the rows are in another order.
    order = [chunk for chunk in draw(table, table.index, None, 3, "x") if chunk < 6]
    kept = [1, 3, 4]
    assert draw(table, reversed(kept), None, 3, "x") == [chunk for chunk in order if chunk in kept]


def test_only_neighbours_are_joined():
    assert consecutive(chunk_table(), [0, 2, 3, 4, 5, 7], 100) == [[0], [2, 3], [4, 5], [7]]


def test_every_subset_of_given_stems_has_its_bar():
    class Windows:
        table = chunk_table()
        folder = Path("windows")

    bars = clips_of(partial(["Bass", "Drums"], 12), Windows(), seed=1)
    assert (bars["track"] == Windows.table.loc[bars["chunk"], "track"].to_numpy()).all()
    assert set(bars["bar"]) == {"Bass", "Drums"}
    # Eight chunks have both stems; twelve clips use some of them again, the same in each bar.
    chunks = bars.groupby("bar")["chunk"].apply(list)
    assert chunks["Bass"] == chunks["Drums"]
    assert len(set(chunks["Bass"])) == 8
    singles = clips_of(make_task("single", guidance={"w": 1.0}, clips=3))
    assert singles["bar"].value_counts().to_dict() == dict.fromkeys(STEMS, 3)
    assert clips_of(make_task("total_msdm", clips=3))["bar"].tolist() == ["All"] * 3


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
    free = {"extractor": make_row("extractor"), "separator": make_row("separator")}
    free |= {"other": make_row("extractor", chosen_on="validation"), "projected": make_row("projected")}
    chosen = choose_settings(grids, free, by="protocol")
    assert chosen["extractor"].w == 1
    assert (chosen["separator"].constrained, chosen["separator"].w) == ("Bass", 0)
    assert chosen["projected"].w == 0  # of the Separator's
    assert chosen["other"].w == 0
    assert "validation" in chosen["other"].chosen_by
    assert not any(row.is_open for row in chosen.values())
    pinned = {"extractor": make_row("extractor", w=0), "separator": make_row("separator", constrained="Drums")}
    chosen = choose_settings(grids, pinned, by="protocol")
    assert chosen["extractor"] == make_row("extractor", w=0, chosen_by="configuration")
    assert (chosen["separator"].constrained, chosen["separator"].w) == ("Drums", 1)
    assert choose_settings({}, {"extractor": make_row("extractor", w=2)}, by="active")["extractor"].w == 2
    with pytest.raises(UserError, match="fixes"):
        choose_settings(grids, {"separator": make_row("separator", w=7)}, by="active")


def test_table1_marks_the_best_and_prints_the_paper_beside():
    rows = pd.concat(
        [
            scores([1, 1, 1, 1], model="extractor", constrained="", w=1.0),
            scores([5, 5, 5, 5], model="extractor", constrained="", w=3.0),
        ]
    )
    table = table1(rows, pd.read_csv(PAPER / "paper_table1.csv", keep_default_na=False))
    overall = table[table["stem"] == "All"].set_index("w")
    expected = rows[rows["w"] == 3].groupby("stem")["si_sdri"].mean().mean()
    assert overall.at[3, "protocol"] == pytest.approx(expected)
    assert overall.at[3, "paper"] == 7.66
    assert np.isnan(overall.at[1, "paper"])
    protocol, active = table1_sheets(table, convention="paper", steps={"extractor": 12, "separator": 16})
    assert protocol.rows[0][2] == Cell(f"{expected:.2f}", aside="paper 7.66", bold=True)
    assert active.rows[0][2].aside == ""
    assert "Solver steps: GMSDI Extractor 12, GMSDI Separator 16." in active.notes[0]
    others = rows.replace({"stem": {"Guitar": "Other", "Piano": "Vocals"}})
    assert table1(others, pd.read_csv(PAPER / "paper_table1.csv", keep_default_na=False))["paper"].isna().all()


def test_table2_is_the_papers_with_ours_filled_in():
    paper = pd.read_csv(PAPER / "paper_table2.csv")
    ours = {"separator": scores([9, 1, 9, 1], 1), "extractor": scores([1, 9, 1, 9], 2)}
    table = table2(ours, papers(), paper, ensembles=[BOTH])
    assert table["model"].unique().tolist() == paper["model"].tolist()
    cells = table.set_index(["model", "stem"])
    for stem, method in zip(STEMS, ["separator", "extractor"] * 2, strict=True):
        rows = ours[method][ours[method]["stem"] == stem]
        assert cells.at[("Ensemble", stem), "protocol"] == pytest.approx(rows["si_sdri"].mean())
        assert cells.at[("Ensemble", stem), "active"] == pytest.approx(rows[rows["active"]]["si_sdri"].mean())
    assert cells.at[("MSDM", "All"), "status"] == "not run"
    assert cells.at[("GMSDI Extractor", "All"), "paper"] == 10.30
    sheets = table2_sheets(table, papers(), [BOTH], chunks=60)
    text = markdown(sheets)
    assert "| Weakly Supervised MSDM | not run (paper 19.36) |" in text
    assert "w = 3, constrained Drums" in text
    # It reads the same from the file.
    again = pd.read_csv(io.StringIO(table.to_csv(index=False)))
    assert markdown(table2_sheets(again, papers(), [BOTH], chunks=60)) == text
    alone = table2(ours, papers(), paper)
    assert alone.set_index(["model", "stem"]).at[("Ensemble", "All"), "status"] == "not run"
    assert "optimistic" in text
    assert "optimistic" not in markdown(table2_sheets(alone, papers(), chunks=60))
    silent = ours["extractor"][~ours["extractor"]["active"]]
    assert set(silent["stem"]) == {"Piano"}
    assert cells.at[("GMSDI Extractor", "Piano"), "silent_level"] == silent["level"].median()
    assert np.isnan(cells.at[("GMSDI Extractor", "Bass"), "silent_level"])
    for row in sheets[1].rows:
        assert row[-1] == f"{cells.at[(row[0], 'All'), 'silent_level']:.1f}"
    assert sheets[0].rows[1][-1] == "–"  # not run
    # Phases aside: of active stems, a mean of the stems, in the table of active stems alone.
    heard = {name: rows.assign(log_mel=np.arange(len(rows)) % 7) for name, rows in ours.items()}
    protocol, active = table2_sheets(table2(heard, papers(), paper), papers(), chunks=60)
    rows = heard["extractor"].query("active").groupby("stem")["log_mel"].mean()
    (row,) = (row for row in active.rows if row[0] == "GMSDI Extractor")
    assert row[active.header.index("Log-Mel L1")] == f"{rows.mean():.2f}"
    assert "Log-Mel L1" not in [*protocol.header, *sheets[1].header]


def test_table2_has_rows_beyond_the_paper():
    paper = pd.read_csv(PAPER / "paper_table2.csv")
    ours = {
        "separator": scores([9, 1, 9, 1], 1),
        "extractor": scores([1, 9, 1, 9], 2),
        "mean": scores([9, 9, 9, 9], 3),
        "separator_validated": scores([8, 1, 8, 1], 4),
        "extractor_validated": scores([2, 8, 2, 8], 5),
    }
    mean = {"w": 3.0, "solver": {"steps": 5}, "title": "MEAN", "samples": 4, "inverted": True, "consistent": True}
    selection = papers() | {"mean": make_row("extractor", **mean, by_power={"amount": 0.25}, wiener={})}
    for kind in ("separator", "extractor"):
        selection[f"{kind}_validated"] = make_row(kind, title=f"{kind}_validated".upper(), w=3.0, twin=kind)
    # On validation data the Extractor is the better one for Bass too.
    validation = {"separator_validated": scores([0, 0, 9, 0], 6), "extractor_validated": scores([9, 9, 0, 9], 7)}
    ensembles = [BOTH, VALIDATED, Ensemble(name="best", title="BEST", of=("extractor", "mean"))]
    table = table2(ours, selection, paper, ensembles=ensembles, validation=validation)
    assert table["model"].unique().tolist()[len(paper) :] == [
        "MEAN", "SEPARATOR_VALIDATED", "EXTRACTOR_VALIDATED", "Ensemble, chosen on validation chunks",
        "BEST",
    ]  # fmt: skip
    cells = table.set_index(["model", "stem"])
    said = "w = 3, 5 steps, mean of 4 runs, every other inverted, 25% by power, 100% filtered"
    assert cells.at[("MEAN", "All"), "settings"] == said
    for stem, method in zip(STEMS, ["extractor", "extractor", "separator", "extractor"], strict=True):
        rows = ours[f"{method}_validated"]
        expected = rows[rows["stem"] == stem]["si_sdri"].mean()
        assert cells.at[("Ensemble, chosen on validation chunks", stem), "protocol"] == pytest.approx(expected)
    text = markdown(table2_sheets(table, selection, ensembles, chunks=60))
    assert "BEST: the better of GMSDI Extractor and MEAN for each stem" in text  # two of one method, by their titles
    assert "chosen on validation chunks: Bass: Extractor, Drums: Extractor, Guitar: Separator" in text


def test_the_papers_row_of_other_steps_stands_beside_ours():
    paper = pd.read_csv(PAPER / "paper_table2.csv")
    ours = {
        method: scores([1, 2, 3, 4], seed) for seed, method in enumerate(["separator", "extractor", "demucs_gibbs"])
    }
    gibbs = {"title": "Demucs + Gibbs, {steps} steps", "paper": "Demucs + Gibbs (512 steps)", "steps": 32}
    selection = papers() | {"demucs_gibbs": make_row("demucs_gibbs", **gibbs).titled()}
    table = table2(ours, selection, paper)
    row = table.set_index(["model", "stem"]).loc[("Demucs + Gibbs, 32 steps", "All")]
    assert (row["status"], row["paper"], row["settings"]) == ("run", 17.73, "32 steps")
    text = markdown(table2_sheets(table, selection, chunks=60))
    assert "(512 steps)" not in text
    assert "of Demucs + Gibbs, 512 steps: context" in text
    assert "60 chunks of 6 tracks" in text


def test_negative_prompts_are_told_where_they_help_and_where_they_harm():
    def row(bar, w, negative, fad, *difference):
        facts = {"kind": "model", "clips": 16, "reference_tracks": 5, "fad_low": fad - 2, "fad_high": fad + 2}
        paired = dict(zip(("difference", "difference_low", "difference_high"), difference, strict=False))
        return {"bar": bar, "w": w, "negative": negative, "fad": fad, **facts, **paired}

    # The intervals of the two distances overlap in all pairs; what counts is that of the difference.
    rows = [row("Bass", 1.0, False, 10), row("Bass", 1.0, True, 13, 3, 1, 5)]
    rows += [row("Piano", 1.0, False, 10), row("Piano", 1.0, True, 7, -3, -5, -1)]
    rows += [row("Drums", 1.0, False, 10), row("Drums", 1.0, True, 9, -1, -3, 1)]
    rows += [row("Drums", 3.0, False, 10), {**row("Drums", None, None, 1), "kind": "line"}]
    text = pd.DataFrame(rows).to_csv(index=False)
    stems = pd.read_csv(io.StringIO(text), keep_default_na=False, na_values=[""])
    table = negatives(stems, stems.iloc[:0])
    assert table["difference"].tolist() == [3, -3, -1]  # Drums at w = 3 have no twin
    assert table["verdict"].tolist() == ["farther", "nearer", "open"]
    (sheet,) = negatives_sheets(table)
    assert sheet.rows[0] == [
        "Bass, w = 1",
        Cell("10.0", ("8.0", "12.0")),
        Cell("13.0", ("11.0", "15.0")),
        Cell("+3.0", ("+1.0", "+5.0")),
        "farther",
    ]
    for said in ("They help: Piano at w = 1.", "They harm: Bass at w = 1.", "exclude 0: Drums at w = 1."):
        assert said in sheet.notes[0]
    assert [len(found) for found in map(negatives_sheets, [negatives(stems, stems)])] == [2]
    both = negatives(pd.concat([stems.assign(model=np.nan), stems.assign(model="other")]))
    assert both["difference"].tolist() == 2 * [3, -3, -1]  # each model beside itself
    assert [row[0] for row in negatives_sheets(both)[0].rows][2:4] == ["Drums, w = 1", "Bass, w = 1, other"]


def test_differences_are_paired_over_tracks():
    """Tracks differ by 10 dB, the methods by 1 dB on each: only the paired interval can tell."""
    rng = np.random.default_rng(8)
    one = scores([5, 5, 5, 5], 1)
    tracks = one["track"].map(dict(zip(one["track"].unique(), 10 * rng.standard_normal(6), strict=True)))
    one["si_sdri"] += tracks
    other = one.assign(si_sdri=one["si_sdri"] - 1 + 0.1 * rng.standard_normal(len(one)))
    ours = {"separator": other, "extractor": one, "mean": one.assign(si_sdri=one["si_sdri"] + 2)}
    selection = papers() | {"mean": make_row("extractor", w=1.0, title="MEAN")}
    table = table2_differences(ours, selection)
    cells = table.set_index(["model", "other", "stem"])
    overall = cells.loc[("GMSDI Extractor", "GMSDI Separator", "All")]
    assert overall["active"] == pytest.approx(1, abs=0.05)
    assert 0.8 < overall["active_low"] < overall["active"] < overall["active_high"] < 1.2
    own = table2(ours, selection, pd.read_csv(PAPER / "paper_table2.csv")).set_index(["model", "stem"])
    assert own.at[("GMSDI Extractor", "All"), "active_low"] < own.at[("GMSDI Separator", "All"), "active_high"] - 5
    back = cells.loc[("GMSDI Separator", "GMSDI Extractor", "All")]
    assert back["protocol_low"] == pytest.approx(-overall["protocol_high"])
    sheet = differences_sheet(pd.read_csv(io.StringIO(table.to_csv(index=False))))
    assert sheet.header == ["Model", "minus GMSDI Separator", "minus GMSDI Extractor"]
    by = {row[0]: row[1:] for row in sheet.rows}
    assert by["MEAN"][1] == Cell("+2.00", ("+2.00", "+2.00"), bold=True)
    assert by["GMSDI Separator"][0] == "–"
    assert by["GMSDI Separator"][1].text.startswith("-")
    with pytest.raises(UserError, match="different sub-windows"):
        table2_differences({**ours, "mean": one.iloc[:-4]}, selection)


def test_the_papers_numbers_stand_beside_the_model_of_labels():
    paper = pd.read_csv(PAPER / "paper_table2.csv")
    free = {"w": 1.0, "published": True}
    selection = {kind: make_row(kind, **free, title=f"{kind}, of a CLAP") for kind in ("separator", "extractor")}
    selection["weak"] = make_row("extractor", w=1.0, title="By a model of labels", paper="GMSDI Extractor")
    ours = {name: scores([1, 2, 3, 4], seed) for seed, name in enumerate(selection)}
    both = BOTH.model_copy(update={"paper": None})
    cells = table2(ours, selection, paper, ensembles=[both]).set_index(["model", "stem"])
    weak = cells.loc[("By a model of labels", "All")]
    assert (weak["status"], weak["paper"]) == ("run", 10.30)
    assert cells.at[("GMSDI Separator", "All"), "status"] == "not run"
    for model in ("extractor, of a CLAP", "Ensemble"):
        assert cells.at[(model, "All"), "status"] == "run"
        assert pd.isna(cells.at[(model, "All"), "paper"])
    assert "GMSDI Extractor" not in cells.index.get_level_values("model")


def test_distances_have_their_references():
    rng = np.random.default_rng(0)

    def frames(clips, shift=0.0):
        return (rng.standard_normal((clips, 3, 5)) + shift).astype(np.float32)

    shifts = dict(zip(STEMS, (0, 1, 2, 3), strict=True))
    references = {f"stem/{stem}": frames(40, shift) for stem, shift in shifts.items()}
    references |= {f"held-out/{stem}": frames(8, shift) for stem, shift in shifts.items()}
    references |= {f"noise/{stem}": frames(8, 9) for stem in STEMS}
    references |= {"mixture": frames(40), "held-out/mixture": frames(8), "noise/mixture": frames(8, 9)}
    references["shuffled"] = frames(8, 2)
    real = [f"Track{clip // 4}" for clip in range(40)]
    tracks = {name: real[: len(found)] if "noise" not in name else [""] * 8 for name, found in references.items()}
    tracks |= {"shuffled": [""] * 8, "partial": ["Track1"] * 4 + ["Track20"] * 4}
    generated = {
        "single": {stem: frames(8, shift + 1.5) for stem, shift in shifts.items()},
        "single_negative": {stem: frames(8, shift) for stem, shift in shifts.items()},
        "total": {"All": frames(8)},
        "partial": {"Bass": frames(8, 1)},
        "partial_conditioned": {"Bass": frames(8, 0.5)},
    }
    singles = {"single": "without negative prompts", "single_negative": "with negative prompts"}
    sums = {"total": "GMSDI", "partial": "GMSDI", "partial_conditioned": "GMSDI, conditioned"}
    minus = {"single_negative": "single"}
    given = {"tracks": tracks, "singles": singles, "mixtures": sums, "minus": minus}
    stems, mixtures = distances(STEMS, generated, references, seed=1, **given)
    series = stems.set_index(["series", "bar"])
    pair = [series.loc[singles[task], "fad"] for task in ("single_negative", "single")]
    difference = series.loc[singles["single_negative"], "difference"]
    np.testing.assert_allclose(difference, pair[0] - pair[1])
    assert (series.loc[singles["single_negative"], "difference_high"] < 0).all()
    assert series.loc[singles["single"], "difference"].isna().all()
    bass = stems[stems["bar"] == "Bass"].set_index("series")["fad"]
    assert bass["with negative prompts"] < bass["without negative prompts"] < bass["white noise"]
    assert bass["held-out test chunks"] < bass["Drums"] < bass["Guitar"] < bass["Piano"]
    lines = mixtures.set_index(["bar", "series"])["fad"]
    assert lines["All", "GMSDI"] < lines["Bass", "GMSDI, conditioned"] < lines["Bass", "GMSDI"]
    assert lines["Bass", "GMSDI"] < lines["", "shuffled stems"] < lines["", "white noise"]
    model = stems[stems["kind"] == "model"]
    assert (model["frames"] == 24).all()
    assert (model["reference_frames"] == 120).all()
    every = pd.concat([stems, mixtures])
    assert (every["fad_low"] < every["fad"]).all()
    assert (every["fad"] < every["fad_high"]).all()
    # The held-out chunks are of two of the ten tracks, which the reference is then without.
    counts = ["clips", "tracks", "reference_clips", "reference_tracks", "shared_tracks"]
    facts = every.set_index(["bar", "series"])[counts]
    assert facts.loc[("", "held-out test chunks")].tolist() == [8, 2, 32, 8, 0]
    assert facts.loc[("Bass", "Drums")].tolist() == [8, 2, 40, 10, 2]
    assert facts.loc[("Bass", "GMSDI")].tolist() == [8, 2, 40, 10, 1]
    assert facts.loc[("All", "GMSDI")].tolist() == [8, 0, 40, 10, 0]


def test_accompaniments_are_compared_with_real_ones(tmp_path):
    """Each stem of a chunk has the chunk's rhythm, so that the given stems go with the others of their own chunk."""
    windows = Windows(tracks=9, chunks=2, window=8000, sample_rate=4000)
    rng = np.random.default_rng(3)
    beats = np.repeat(rng.random((len(windows.audio), 1, 1, 20)) < 0.4, 400, axis=-1)
    windows.audio = (beats * rng.normal(size=windows.audio.shape)).astype(np.float32)
    every = clips_of(partial(clips=18), Windows(tracks=9, chunks=2, window=8, sample_rate=4))
    every = every.drop(columns="chunk").set_index("clip", drop=False)
    audio = np.zeros((len(every), 5, 8000), np.float32)
    audio[:, :4] = windows.audio[every["clip"], :, 0]
    made = {"GMSDI": join_shards(*write_shards(tmp_path / "a", every, audio, [100]))}
    audio[:, 1:4] = 0
    made["MSDM"] = join_shards(*write_shards(tmp_path / "b", every, audio, [100]))
    table = coherences(STEMS, made, windows)
    assert (table["clips"] == 18).all()
    by = table.set_index(["series", "bar"])[["harmony", "onsets", "copied"]]
    pd.testing.assert_frame_equal(by.loc["GMSDI"], by.loc["real stems of the chunk"])
    assert (by.loc["GMSDI", "onsets"] > by.loc["real stems of another chunk", "onsets"] + 0.3).all()
    assert by.loc[("MSDM", "Bass")].tolist() == [0, 0, 0]
    text = markdown([coherence_sheet(table)])
    assert f"| {by.loc['GMSDI', 'onsets'].iloc[:4].mean():.2f} |" in text


@pytest.mark.parametrize("clips", [6, 12])
def test_another_chunk_is_another_however_many_clips_there_are(clips):
    """Six chunks with all stems, each of a rhythm of its own; twelve clips use each of them twice."""
    windows = Windows(tracks=6, chunks=1, window=8000, sample_rate=4000)
    rng = np.random.default_rng(5)
    beats = np.repeat(rng.random((6, 1, 1, 20)) < 0.4, 400, axis=-1)
    windows.audio = (0.1 * beats * rng.normal(size=windows.audio.shape)).astype(np.float32)
    windows.table["active"] = ", ".join(STEMS)
    every = clips_of(partial(clips=clips), windows)
    audio = np.concatenate([windows.audio[every["chunk"], :, 0], np.zeros((len(every), 1, 8000), np.float32)], axis=1)
    onsets = coherences(STEMS, {"GMSDI": (every, audio)}, windows).groupby("series")["onsets"]
    assert onsets.min()["real stems of the chunk"] > onsets.max()["real stems of another chunk"] + 0.3


def test_names_of_tracks_are_texts_in_every_table(tmp_path):
    """Distances, scores and differences are the same whether tracks are called by plain names or like numbers."""
    found = []
    for names in (["A", "B", "C", "D", "E", "F"], ["1", "01", "001", "NA", "null", "1e3"]):
        rng = np.random.default_rng(2)
        tracks = [name for name in names for _ in range(4)]
        frames = np.repeat(rng.normal(size=(6, 1, 5)), 4, axis=0) + 0.1 * rng.normal(size=(24, 3, 5))
        clips = pd.DataFrame({"bar": "Bass", "clip": range(24), "track": tracks})
        folder = tmp_path / names[0]
        table, _ = join_shards(*write_shards(folder, clips, np.zeros((24, 3, 8), np.float32), [7]))
        references = {name: frames for stem in STEMS for name in (f"stem/{stem}", f"held-out/{stem}", f"noise/{stem}")}
        references |= dict.fromkeys(("mixture", "held-out/mixture", "noise/mixture", "shuffled"), frames)
        references |= {name: frames[:12] for name in references if name.startswith("held-out")}
        clusters = {name: tracks[: len(every)] for name, every in references.items()}
        clusters |= {"partial": table["track"].to_numpy(dtype=str)}
        mixtures = {"partial": "GMSDI"}
        made = {"partial": {"Bass": frames + 0.05}}
        sums = distances(STEMS, made, references, seed=1, tracks=clusters, singles={}, mixtures=mixtures)[1]
        scores = pd.DataFrame({"track": tracks, "offset": 0, "sub": list(range(4)) * 6, "stem": "Bass", "active": True})
        scores.assign(si_sdri=rng.normal(size=24), level=-3.0).to_csv(folder / "scores.csv", index=False)
        read = read_table(folder / "scores.csv")
        other = read.assign(si_sdri=read["si_sdri"] * 0.5)
        found.append([sums, si_sdr.summarize(read), si_sdr.differences(read, other)])
    for plain, odd in zip(*found, strict=True):
        pd.testing.assert_frame_equal(plain, odd)


def test_stems_that_are_shared_out_of_a_mixture_are_found_out(tmp_path):
    """Cosines against numpy's; fractions of one signal are alike and nearest to what the signal is."""
    rng = np.random.default_rng(11)
    every = clips_of(partial(clips=6), Windows(tracks=9, chunks=2, window=8, sample_rate=4))
    audio = rng.standard_normal((len(every), 5, 4000)).astype(np.float32)
    audio[:, 2] = 0.5 * audio[:, 1] + 0.1 * audio[:, 2]  # Guitar is mostly Drums
    audio[3] = 0  # silent clips have no cosines
    made = join_shards(*write_shards(tmp_path / "a", every.drop(columns="chunk"), audio, [20]))
    chosen, pairs = made_stems(*made, STEMS, count=6, sample_rate=8000)
    by = pairs.set_index(["stem", "other"])
    assert len(by) == 12
    for i, j in ((1, 2), (0, 3)):
        rows = [n for n, bar in enumerate(every["bar"]) if STEMS[i] not in bar.split(", ") and n != 3]
        expected = [1 - cosine_distance(audio[n, i], audio[n, j]) for n in rows]
        means = [np.mean(expected), np.mean(np.abs(expected))]
        means += [np.mean(found) for found in coherence(audio[rows, i], audio[rows, j], 8000)[:2]]
        np.testing.assert_allclose(by.loc[(STEMS[i], STEMS[j])], means, rtol=1e-4, atol=1e-6)
    assert by.at[("Guitar", "Drums"), "cosine"] > 0.9 > 0.2 > by["absolute"].min()
    for stem, numbers in chosen.items():
        bars = every.loc[numbers, "bar"]
        assert not any(stem in bar.split(", ") for bar in bars)
        assert (len(numbers), bars.nunique(), every.loc[numbers, "clip"].nunique()) == (6, 6, 6)

    def frames(clips, shift):
        return (rng.standard_normal((clips, 3, 5)) + shift).astype(np.float32)

    references = {f"stem/{stem}": frames(40, 2 * k) for k, stem in enumerate(STEMS)}
    references |= {f"held-out/{stem}": frames(8, 2 * k) for k, stem in enumerate(STEMS)}
    tracks = {name: [f"Track{clip // 4}" for clip in range(len(found))] for name, found in references.items()}
    generated = {
        "single": {stem: frames(8, 2 * k) for k, stem in enumerate(STEMS)},
        "total": {stem: frames(8, 2.2) for stem in STEMS},
        "partial": {stem: frames(8, 5.9) for stem in STEMS},
    }
    named = {"single": "GMSDI, single stems", "total": "GMSDI, total generation"}
    named["partial"] = "GMSDI, partial generation"
    table = stems_of_mixtures(generated, {"total": pairs}, references, series=named, seed=1, tracks=tracks)
    assert len(table) == 4 * 4 * 4
    nearest = table[table["nearest"]].set_index(["series", "stem"])["reference"]
    assert nearest["GMSDI, total generation"].tolist() == ["Drums"] * 4
    assert nearest["GMSDI, partial generation"].tolist() == ["Piano"] * 4
    for series in ("GMSDI, single stems", "held-out test chunks"):
        assert nearest[series].to_dict() == dict(zip(STEMS, STEMS, strict=True))
    one = table.set_index(["series", "stem", "reference"]).loc[("GMSDI, total generation", "Piano", "Bass")]
    flat = [x.reshape(-1, 5) for x in (references["stem/Bass"], generated["total"]["Piano"])]
    moments = [moment for x in flat for moment in (x.mean(axis=0), np.cov(x.T))]
    assert one["fad"] == pytest.approx(frechet_distance(*moments), rel=1e-4)
    assert one["cosine"] == pytest.approx(by.at[("Piano", "Bass"), "cosine"])
    text = markdown([stems_sheet(table)])
    assert re.search(r"GMSDI, total generation \| [\d.]+ \(Drums [\d.]+\) \| [\d.]+ \| [\d.]+ \(Drums", text)
    assert re.search(r"GMSDI, single stems \|( [\d.]+ \|){4}", text)


# --- Memory: a run of chunks, or the clips of a call, and never all shards --------------------------------------------


def test_scores_of_shards_are_those_of_the_whole_and_read_a_run_at_a_time(tmp_path):
    windows = Windows(tracks=12, chunks=10, window=2000, sample_rate=500)
    rng = np.random.default_rng(1)
    ids = [chunk for chunk in windows.table.index if chunk % 13]  # gaps, so that runs are of several lengths
    estimates = windows.audio[ids, :, 0] + rng.normal(scale=0.05, size=(len(ids), 4, 2000)).astype(np.float32)
    files = write_shards(tmp_path / "shards", windows.table.loc[ids], estimates, [3, 3, 50, 51])
    table, shards = join_shards(*files)
    assert table["chunk"].tolist() == ids
    rows = [0, len(ids) - 1, 2, 3, 3, 50]
    np.testing.assert_array_equal(shards[rows], estimates[rows])

    # The joined computation: everything in memory, cut at the gaps.
    joined, place, everything = [], 0, windows.audio[ids, :, 0]
    while place < len(ids):
        stop = place + 1
        while stop < len(ids) and ids[stop] == ids[stop - 1] + 1 and ids[stop] % 10:
            stop += 1
        signals = (np.concatenate(list(x[place:stop]), axis=-1) for x in (estimates, everything))
        scored = si_sdr.si_sdri_windows(*signals, None, 500, labels=STEMS)
        first = windows.table.loc[ids[place]]
        scored.insert(0, "offset", first["offset"])
        scored.insert(0, "track", first["track"])
        joined.append(scored)
        place = stop
    expected = pd.concat(joined, ignore_index=True)

    score_separation(windows, table["chunk"].tolist()[:1], estimates[:1])  # modules are imported on first use
    result, peak = peak_of(lambda: score_separation(windows, table["chunk"].tolist(), join_shards(*files)[1]))
    pd.testing.assert_frame_equal(result.drop(columns="log_mel"), expected, check_exact=True)
    run = 10 * 4 * 2000 * 4  # a track of ten chunks
    assert windows.largest <= run
    assert peak < 5 * run + 250_000 < estimates.nbytes + 250_000  # and the rows of the result


def test_chunks_of_two_seconds_are_scored_only_where_they_follow_one_another():
    windows = Windows(tracks=1, chunks=4, window=1000, sample_rate=500)
    estimates = windows.audio[:, :, 0]
    assert score_separation(windows, [0, 1], estimates)["sub"].tolist() == [0] * 4
    with pytest.raises(UserError, match="SI-SDRi: nothing to score"):
        score_separation(windows, [0, 2], estimates)


def test_bss_eval_of_shards_is_that_of_the_whole(tmp_path, monkeypatch):
    windows = Windows(tracks=2, chunks=2, window=600, sample_rate=600)
    estimates = windows.audio[:, :, 0] * np.float32(0.5)
    files = write_shards(tmp_path / "shards", windows.table, estimates, [1, 3])
    seen = []

    def recorded(estimate, target, sample_rate, *, labels, channels):
        seen.append((estimate, target))
        return pd.DataFrame({"sub": [0]})

    monkeypatch.setattr("gmsdi.metrics.bss_eval.bss_eval_windows", recorded)
    table, shards = join_shards(*files)
    assert len(score_bss_eval(windows, table["chunk"].tolist(), shards)) == 2
    for track, (estimate, target) in enumerate(seen):
        both = windows.audio[2 * track : 2 * track + 2, :, 0]
        np.testing.assert_array_equal(target, np.concatenate(list(both), axis=-1))
        np.testing.assert_array_equal(estimate, 0.5 * target)


def whole_references(windows, *, clips, limit, mixtures, seed, groups=()):
    """The clips of `reference_audio` of a split of few tracks, and their tracks, all arrays in memory at once."""
    active = windows.table["active"].map(lambda text: set(text.split(", ")))
    tracks, offsets = windows.table["track"], windows.table["offset"]

    def order(ids, *purpose):
        """One chunk of each track, then a second; tracks and chunks by their hashes."""
        left = {
            track: sorted(
                (chunk for chunk in ids if tracks[chunk] == track),
                key=lambda chunk: item_seed(seed, *purpose, tracks[chunk], offsets[chunk]),
            )
            for track in sorted(set(tracks[ids]), key=lambda track: item_seed(seed, *purpose, track))
        }
        found = []
        while any(left.values()):
            found += [chunks.pop(0) for chunks in left.values() if chunks]
        return found

    def noise(name, like):
        rng = np.random.default_rng(item_seed(seed, "noise", name))
        level = np.sqrt(np.mean(like[np.arange(clips) % len(like)] ** 2, axis=-1, keepdims=True))
        return (level * rng.standard_normal((clips, like.shape[-1]))).astype(np.float32)

    found, of = {}, {}

    def add(name, short, ids, audio):
        chosen = sorted(order(ids, "reference", name)[:limit])
        known = sorted(set(tracks[chosen]), key=lambda track: item_seed(seed, "held out", name, track))
        apart = [chunk for chunk in ids if tracks[chunk] in known[: len(known) // 2]]
        held_out = sorted(order(apart, "held out", name)[:clips])
        found.update({name: audio(chosen), f"held-out/{short}": audio(held_out)})
        found[f"noise/{short}"] = noise(short, found[name])
        of.update({name: tracks[chosen].tolist(), f"held-out/{short}": tracks[held_out].tolist()})
        of[f"noise/{short}"] = [""] * clips

    for k, label in enumerate(windows.labels):
        ids = active.index[[label in labels for labels in active]]
        add(f"stem/{label}", label, ids, lambda chosen, k=k: windows.stems(chosen)[:, k, 0])
    for group in groups:
        ids, members = active.index[active >= set(group)], [windows.labels.index(label) for label in group]
        name = ", ".join(group)
        add(f"stem/{name}", name, ids, lambda chosen, m=members: windows.stems(chosen)[:, m, 0].sum(axis=1))
    full = active.index[[mixtures == "any" or len(labels) == len(windows.labels) for labels in active]]
    add("mixture", "mixture", full, lambda chosen: windows.mixture(chosen)[:, 0])
    rng = np.random.default_rng(item_seed(seed, "shuffled"))
    found["shuffled"], of["shuffled"] = np.zeros((clips, windows.window), np.float32), [""] * clips
    for clip in found["shuffled"]:
        shuffled = rng.permutation(full)
        distinct = [chunk for i, chunk in enumerate(shuffled) if tracks[chunk] not in set(tracks[shuffled[:i]])]
        for k, chunk in enumerate((distinct * len(windows.labels))[: len(windows.labels)]):
            clip += windows.stems([chunk])[0, k, 0]
    return found, of


@pytest.mark.parametrize(
    ("tracks", "options"),
    [
        (6, {"limit": None, "mixtures": "any", "clips": 70, "groups": [["Bass", "Piano"], ["Drums", "Guitar"]]}),
        (2, {"limit": 9, "mixtures": "all", "clips": 5}),
    ],
)
def test_references_one_by_one_are_those_of_the_whole(tracks, options):
    windows = Windows(tracks, chunks=20, window=1100, sample_rate=500)
    expected, tracks_of = whole_references(windows, **options, seed=3)
    windows.largest = 0
    result = list(reference_audio(windows, **options, seed=3))  # all begun before any is read
    assert [reference.name for reference in result] == list(expected)
    for reference in result:
        clips = np.stack(list(reference.clips))
        assert clips.dtype == np.float32
        np.testing.assert_array_equal(clips, expected[reference.name])
        assert reference.tracks == tracks_of[reference.name]
    assert windows.largest == 4 * 1100 * 4


def test_nothing_is_compared_with_its_own_tracks_where_there_are_enough():
    windows = Windows(60, chunks=4, window=40, sample_rate=20)
    sets = {
        reference.name: reference for reference in reference_audio(windows, clips=16, limit=40, mixtures="all", seed=5)
    }
    reference = {name: set(sets[name].tracks) for name in ("mixture", *(f"stem/{label}" for label in STEMS))}
    used = set.union(*reference.values())
    held_out = set.union(*(set(sets[name].tracks) for name in sets if name.startswith("held-out/")))
    given = set(clips_of(partial(clips=16), windows, seed=5)["track"])
    assert min(map(len, reference.values())) >= 20  # a chunk of each track before a second of any
    assert len(given) >= 10
    assert not used & (held_out | given)
    parts = []
    windows.stems = lambda ids: parts.extend(windows.table.loc[list(ids), "track"]) or windows.audio[list(ids)]
    list(sets["shuffled"].clips)
    assert len(set(parts)) >= 10
    assert not used & set(parts)


@pytest.mark.parametrize(("tracks", "apart"), [(14, True), (13, False)])  # in 10 and 9, all stems never sound at once
def test_reference_mixtures_of_any_stems_leave_out_given_tracks(tracks, apart):
    windows = Windows(tracks, chunks=4, window=40, sample_rate=20)
    rarely = windows.table["track"].isin(sorted(set(windows.table["track"]))[4:])
    windows.table.loc[rarely, "active"] = "Bass, Drums"
    every = {x.name: set(x.tracks) for x in reference_audio(windows, clips=9, limit=40, mixtures="any", seed=5)}
    given = set(clips_of(partial(clips=16), windows, seed=5)["track"])
    assert given == set(windows.table.loc[~rarely, "track"])
    assert bool(given & every["mixture"]) != apart
    assert len(every["mixture"]) == (tracks - 4 if apart else tracks)
    assert every["held-out/mixture"] < every["mixture"]
    assert given <= every["stem/Bass"]  # stems are compared with those of all tracks


@pytest.mark.parametrize(("seconds", "number"), [(3.4, 6), (5.0, 5), (12.0, 2)])  # one, five and nineteen windows each
def test_embedding_clip_by_clip_changes_no_bit(seconds, number):
    musicnn = get_embedding("musicnn-MTT-penultimate200", batch=5)
    rng = np.random.default_rng(0)
    clips = (0.1 * rng.standard_normal((number, round(seconds * 22050)))).astype(np.float32)
    whole = musicnn.frames(clips, 22050)
    result = embed(musicnn, iter(clips), 22050)
    np.testing.assert_array_equal(result.reshape(whole.shape), whole)
    assert result.shape[0] == len(clips)


def test_embedding_holds_the_clips_of_a_call_and_no_more(tmp_path):
    class Embedding:
        def clips_at_once(self, samples, sample_rate):
            return 4

        def frames(self, audio, sample_rate):
            sizes.append(len(audio))
            return np.repeat(audio.mean(axis=1, keepdims=True), 3, axis=0)

    sizes = []
    audio = np.random.default_rng(0).standard_normal((90, 5, 10_000), dtype=np.float32)
    files = write_shards(tmp_path / "shards", pd.DataFrame({"bar": ["All"] * 90}), audio, [20, 75])
    shards = join_shards(*files)[1]
    made, peak = peak_of(lambda: embed(Embedding(), (mixdown(shards[[row]])[0] for row in range(90)), 8000))
    assert sizes == [4] * 22 + [2]
    np.testing.assert_array_equal(made[:, 2, 0], mixdown(audio).mean(axis=1))
    assert peak < 16 * 10_000 * 4 < audio.nbytes / 25


def test_shards_that_do_not_fit_together_are_named(tmp_path):
    audio = np.zeros((4, 2, 10), np.float32)
    tables, files = write_shards(tmp_path / "shards", pd.DataFrame({"bar": list("abcd")}), audio, [2])
    assert isinstance(open_audio(files[0]), np.memmap)
    np.save(tmp_path / "whole.npy", audio)
    with pytest.raises(UserError, match=r"0\.csv: 2 items, but 4 in .*whole\.npy; remove both"):
        join_shards(tables, [tmp_path / "whole.npy", files[1]])
    np.save(files[1], audio[:2, :1])
    with pytest.raises(UserError, match=r"1\.npy: items are float32 \(1, 10\), but float32 \(2, 10\) in .*0\.npy"):
        join_shards(tables, files)
    files[1].write_bytes(files[0].read_bytes()[:-8])
    with pytest.raises(UserError, match=r"1\.npy: not a complete \.npy array"):
        join_shards(tables, files)
    files[1].write_bytes(b"")
    with pytest.raises(UserError, match=r"1\.npy: not a complete"):
        join_shards(tables, files)
