"""Searches: their variants, what is compared, and which defaults a table is said to support."""

import numpy as np
import pandas as pd
import pytest
import yaml

from gmsdi.errors import UserError
from gmsdi.study import cost, work
from gmsdi.study.scoring import score_separation
from gmsdi.study.search import choices
from gmsdi.study.study import Study
from gmsdi.study.tuning import compare_rows, defaults_sheet, rows_sheet, rows_summary
from tests import REPO
from tests.helpers.rows import make_row

CONFIG = REPO / "config"
LABELS = ["Bass", "Drums", "Guitar", "Piano"]
WINDOW = 32768


def search(**given):
    return Study(cost.resolved([{"run": "x", "tuning": {"searches": {"one": given}}}])).searches["one"]


def test_variants_are_all_combinations_and_the_default_is_found():
    shares = [None, {"amount": 0.25}]
    vary = {"by_power": shares, "solver.steps": [6, 12]}
    found = search(of=["extractor_consistent"], settings={"w": 2}, vary=vary, items=3)
    assert [(row.by_power and row.by_power.amount, row.solver["steps"]) for row in found.rows] == [
        *((None, 6), (None, 12), (0.25, 6), (0.25, 12))
    ]
    assert {row.w for row in found.rows} == {2}
    assert found.default == found.rows[-1].name
    assert len({row.name for row in found.rows}) == 4
    tasks = search(of=["total"], vary={"solver": [{"steps": 8}, {"name": "heun"}]}).tasks
    assert [task.solver["name"] for task in tasks] == ["dpmpp_2m", "heun"]
    assert {task.clips for task in tasks} == {16}


def test_one_setting_at_a_time_differs_from_the_default():
    vary = {"by_power": [None], "solver.steps": [6, 12], "w": [1, 2, 3]}
    decides = {"separation.rows.extractor_consistent.by_power.amount": "by_power", "separation.solver.steps": None}
    found = search(of=["extractor_consistent"], settings={"w": 2}, vary=vary, combine=False, decides=decides)
    assert [(row.w, row.solver["steps"], row.by_power is None) for row in found.rows] == [
        *((2, 12, False), (2, 12, True), (2, 6, False), (1, 12, False), (3, 12, False))
    ]
    names = [row.name for row in found.rows]
    assert found.default == names[0]
    assert list(found.decides.values()) == [names[:2], names]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"of": ["extractors"]}, "names 'extractors'"),
        ({"of": ["extractor"]}, "leaves w open"),
        ({"of": ["extractor", "total"]}, "not all rows, or all tasks, of one system"),
        (
            {"of": ["extractor_consistent"], "settings": {"w": 2}, "vary": {"model": [None, "mini"]}},
            "rows of several models",
        ),
        ({"of": ["single"], "vary": {"model": [None, "general"]}}, "tasks of several models"),
        ({"of": ["total"], "items": 3}, "items is 3, but distances take at least 4 clips"),
        ({"of": ["total"], "decides": {"generation.total.w": "w"}}, "decides.generation.total.w names 'w'"),
        ({"of": ["total"], "vary": {"gama_x": [1.0]}}, "has the setting gama_x"),
        ({"of": ["total"], "vary": {"noise": ["loud"]}}, "noise: Input should be"),
        ({"of": ["total"], "vary": {"solver.step": [1]}}, "step"),
    ],
)
def test_a_mistake_in_a_search_is_said_before_any_job(given, message):
    with pytest.raises(UserError, match=message) as caught:
        search(**given)
    assert str(caught.value).startswith("config: tuning.searches.one")


def test_the_searches_of_make_tune_decide_what_there_is_to_decide():
    study = Study(cost.resolved([CONFIG / "tuning.yaml"]))
    known = choices(yaml.safe_load((CONFIG / "config.yaml").read_text()))
    assert {key for one in study.searches.values() for key in one.decides} <= set(known)
    assert all(one.default for one in study.searches.values() if one.decides)
    works, sizes = work.Works(study), work.Sizes(study.config["data"]["window"])
    # At 45 ms an evaluation, on each of two cores, an hour.
    assert sum(works.search(name).count(sizes).evaluations for name in study.searches) < 165_000


def published_defaults(page):
    """The table of docs/tuning/README.md: the value of each key, without its mark."""
    lines = (line.strip("| ").split(" | ") for line in page.splitlines() if line.startswith("| "))
    return {key: value.removesuffix(" (?)").replace("\\", "") for key, value, _ in lines if "." in key}


def test_published_searches_are_of_the_defaults_as_they_are():
    """A default that is changed, added or removed needs `make tune` anew, and a search of other variants, too."""
    page = (REPO / "docs" / "tuning" / "README.md").read_text()
    known = choices(yaml.safe_load((CONFIG / "config.yaml").read_text()))
    assert published_defaults(page) == known
    changed = page.replace("| separation.solver.steps | 12 |", "| separation.solver.steps | 13 (?) |")
    assert {key for key, value in published_defaults(changed).items() if value != known[key]} == {
        "separation.solver.steps"
    }


@pytest.mark.parametrize(("run", "folder"), [("tuning", "tuning"), ("by_others", "tuning/by_others")])
def test_published_searches_compare_with_the_configured_values(run, folder):
    tables = [pd.read_csv(file) for file in sorted((REPO / "docs" / folder).glob("*.csv"))]
    found = pd.concat(tables).groupby("search")
    searches = Study(cost.resolved([CONFIG / f"{run}.yaml"])).searches
    assert set(found.groups) == set(searches)
    for name, table in found:
        defaults = table.loc[table["default"], "variant"].tolist()
        assert defaults == [searches[name].default] * bool(searches[name].default), name


def test_a_default_is_supported_where_the_best_is_not_clearly_better(windows, monkeypatch):
    """Rows that add noise of known size: a little more makes no clear difference, much more does."""

    class System:
        evaluations, level = 0, None

    def separated(row, system, windows, ids, *, seed, batch, progress=None):
        system.evaluations += 10 * len(ids)
        noise = np.random.default_rng(len(row.name)).normal(size=(len(ids), 4, windows.window))
        return windows.stems(ids)[:, :, 0] + row.w * noise

    monkeypatch.setattr("gmsdi.study.separation.separate", separated)
    summaries = {}
    for default in (1.0, 1.001, 3.0):
        rows = [make_row("extractor", LABELS, w=w, name=f"w {w}") for w in (1.0, default, 3.0)]
        rows = list({row.name: row for row in rows}.values())
        options = {"seed": 1, "batch": 8, "default": f"w {default}"}
        table = compare_rows(rows, System(), windows, range(7), **options)
        summaries[default] = rows_summary(table)
        own = table[(table["variant"] == "w 3.0") & (table["stem"] == "Bass")].iloc[0]
        direct = score_separation(windows, range(7), separated(rows[-1], System(), windows, range(7), seed=1, batch=8))
        assert own["evaluations"] == 10
        assert own["active"] == pytest.approx(direct.query("stem == 'Bass' and active")["si_sdri"].mean())
    said = {}
    for default, summary in summaries.items():
        tests = {"noise": {"a.w": list(summary["variant"]), "c": [f"w {default}", "w 3.0"]}}
        sheet = defaults_sheet({"a.w": str(default), "b": "1", "c": "2"}, tests, {"noise": summary})
        said[default] = sheet.rows[0]
        assert sheet.rows[1] == ["b", "1 (?)", "no search"]
        assert sheet.rows[2] == ["c", "2", "Noise: the best"]  # among the variants that bear on it
        assert rows_sheet("noise", summary, chunks=7, tracks=3).rows
    assert said[1.0] == ["a.w", "1.0", "Noise: the best"]
    assert said[1.001][1] == "1.001"
    assert said[3.0] == ["a.w", "3.0 (?)", "Noise: w 1.0 is better"]
    with pytest.raises(UserError, match="names c"):
        defaults_sheet({"a": "1"}, {"noise": {"c": []}}, summaries)
    assert pd.api.types.is_bool_dtype(summaries[1.0]["default"])
