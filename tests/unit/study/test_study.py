"""What a configuration asks for, against settings written out by hand."""

import copy
import json
import re

import pandas as pd
import pytest
import yaml

from gmsdi.errors import UserError
from gmsdi.study import midi
from gmsdi.study.config import load, validate
from gmsdi.study.data_kinds import KINDS
from gmsdi.study.methods import load_row, without_steps
from gmsdi.study.study import CLAP_KEYS, Study
from gmsdi.study.tasks import Single, load_task
from tests import REPO
from tests.helpers.rows import make_row

LABELS = ["Bass", "Drums", "Guitar", "Piano"]
EULER = {
    "name": "euler",
    "last": "step",
    "resamples": 1,
    "rho": 7,
    "sigma_min": 0.002,
}
EXTRACTOR = {**EULER, "steps": 5, "sigma_max": 2, "s_churn": 8}
SEPARATOR = {**EULER, "steps": 6, "sigma_min": 0.005, "rho": 50, "sigma_max": 1, "s_churn": 5}
PROJECTED = {**EULER, "steps": 6, "sigma_max": 1, "s_churn": 5}
MSDM = {**EULER, "steps": 25, "sigma_max": 1, "s_churn": 20}
NEGATIVES = {"Bass": "Drums, Guitar, Piano", "Drums": "Bass", "Guitar": "Bass, Drums", "Piano": "Bass, Drums"}
OVERLAY = {
    "data": {"mini": {"tracks": {"test": 6}}},
    "model": {"train": True},
    "training": {"steps": 40, "lr": 0.002},
    "demo_training": {"training": {"steps": 20}},
    "separation": {
        "solver": {"name": "euler", "steps": 5, "sigma_min": 0.002, "sigma_max": 2, "rho": 7, "s_churn": 8},
        "rows": {
            "separator": {"solver": {"steps": 6, "sigma_max": 1, "s_churn": 5}},
            "demucs_gibbs": {"steps": 2},
            "weak_msdm": {"constrained": None},
            "msdm": {"constrained": None, "solver": {"steps": 25}},
            "msdm_gaussian": {"solver": {"steps": 25}},
            "extractor_consistent": None,
            "separator_projected": {
                **{"kind": "projected", "title": "Projected", "solver": {"steps": 6, "sigma_max": 1, "s_churn": 5}},
                "guidance": {"interval": [0.5, 2]},
            },
            "extractor_mean": {
                **{"title": "Mean", "kind": "extractor", "consistent": True, "samples": 2, "solver": {"steps": 3}},
            },
            "separator_validated": {"kind": "validated", "twin": "separator"},
            "extractor_validated": {"kind": "validated", "twin": "extractor"},
            "ensemble_validated": {"kind": "ensemble", "of": ["separator_validated", "extractor_validated"]},
        },
    },
    "grid": {"w": [0, 3, 15], "solver": {"steps": 7}, "validation": {"chunks": 2, "w": [0, 3]}},
    "baselines": {
        "train": True,
        "msdm": {
            "generation": {"best_of": 4, "partial": {"solver": {"name": "euler", "s_churn": 3}}},
            "clamp": 0.5,
        },
        "weak_msdm": {
            "model": {"unet": {"channels": 64}},
            "training": {"steps": 10},
        },
    },
    "generation": {
        "solver": {"name": "adpm2", "steps": 8, "sigma_min": 0.002, "sigma_max": 2, "rho": 7},
        "guidance": {"interval": [0.1, 10]},
        "w": 2,
        "negatives": NEGATIVES,
        "single": {"solver": {"name": "heun", "sigma_min": 0.002}, "w": [1, 2.5], "w_curve": [0, 1], "curve_clips": 4},
        "partial": {"solver": {"sigma_max": 2}},
        "sequential": {"order": ["Piano", "Bass", "Drums", "Guitar"], "w": 4, "negatives": False},
        "extracted": {"solver": {"steps": 4}, "extraction": {"w": 5, "samples": 2, "solver": {"last": "estimate"}}},
        "groups": [["Bass", "Piano"], ["Drums"], ["Guitar"]],
        "conditioned": {"share": 0.3, "lags": 8, "negatives": False, "solver": {"name": "euler", "s_churn": 5}},
        "total": {"solver": {"steps": 9}, "w": 3, "gamma_x": {"sigma": 2.0}, "gamma_y": float("inf")},
    },
}


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    """Everything that can run: the paper's other systems, and rows beyond the paper."""
    overlay = tmp_path_factory.mktemp("config") / "overlay.yaml"
    overlay.write_text(yaml.safe_dump(OVERLAY))
    return validate(load(overlay))


@pytest.fixture(scope="module")
def study(config):
    before = copy.deepcopy(config)
    study = Study(config)
    assert config == before  # which it only reads
    return study


def test_names_and_their_systems(study):
    assert study.labels == LABELS
    assert {name: row.system.kind for name, row in study.rows.items()} == {
        "separator": "gmsdi",
        "extractor": "gmsdi",
        "msdm": "msdm",
        "weak_msdm": "weak_msdm",
        "demucs_gibbs": "demucs_gibbs",
        "msdm_gaussian": "msdm",
        "separator_projected": "gmsdi",
        "extractor_mean": "gmsdi",
        "separator_validated": "gmsdi",
        "extractor_validated": "gmsdi",
    }
    assert {name: task.system.kind for name, task in study.tasks.items()} == {
        **dict.fromkeys(["single", "single_negative", "single_w2_5", "single_negative_w2_5"], "gmsdi"),
        **dict.fromkeys(["single_curve_w0", "single_negative_curve_w0"], "gmsdi"),
        **dict.fromkeys(["single_curve_w1", "single_negative_curve_w1"], "gmsdi"),
        **dict.fromkeys(["total", "partial", "partial_conditioned"], "gmsdi"),
        **dict.fromkeys(["total_sequential", "total_extracted", "total_groups"], "gmsdi"),
        "single_weak_msdm": "weak_msdm",
        **dict.fromkeys(["total_msdm", "partial_msdm"], "msdm"),
    }
    weak = ["weak_msdm_Bass", "weak_msdm_Drums", "weak_msdm_Guitar", "weak_msdm_Piano"]
    assert study.trained() == ["gmsdi", "demucs_gibbs", *weak, "msdm"]
    assert study.tasks["single_weak_msdm"].system.models == dict(zip(weak, LABELS, strict=True))
    assert study.rows["msdm_gaussian"].system.models == {"msdm": "stems"}
    assert study.rows["extractor_mean"].system.models == {"gmsdi": "mixture"}


def test_rows_and_tasks_come_back_from_the_parameters_of_a_job(study):
    for row in (*study.rows.values(), *study.grid_rows.values()):
        again = load_row(json.loads(json.dumps(row.model_dump())))
        assert (type(again), again) == (type(row), row)
    for task in study.tasks.values():
        again = load_task(task.model_dump())
        assert (type(again), again) == (type(task), task)


GUIDED = {
    **{"w": None, "negatives": {}, "guidance": {"convention": "paper", "interval": None, "clamp": None}},
    **{"samples": 1, "inverted": False, "wiener": None, "model": None},
}
PLAIN = {"consistent": False, "by_power": None}
BEYOND = {"paper": None, "published": False, "chosen_on": "validation"}
PAPERS = {"published": True, "chosen_on": "test"}
SYSTEM = {"kind": "gmsdi", "labels": tuple(LABELS), "prompts": {}, "seconds": 4.096}


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        (
            "extractor",
            {
                **{"kind": "extractor", **GUIDED, **PLAIN, "solver": EXTRACTOR, **PAPERS, "system": SYSTEM},
                **{"title": "GMSDI Extractor", "paper": "GMSDI Extractor"},
            },
        ),
        (
            "separator_Drums",
            {
                **{"kind": "separator", **GUIDED, "solver": SEPARATOR, "constrained": "Drums", "system": SYSTEM},
                **{"title": "GMSDI Separator", "chosen_on": "validation"},
            },
        ),
        (
            "separator_validated",
            {
                **{"kind": "separator", **GUIDED, "solver": SEPARATOR, "constrained": None, **BEYOND},
                **{"title": "GMSDI Separator, chosen on validation chunks", "twin": "separator", "costed": False},
            },
        ),
        (
            "separator_projected",
            {
                **{"kind": "projected", **GUIDED, "solver": PROJECTED, **BEYOND, "title": "Projected"},
                "guidance": {"convention": "paper", "interval": [0.5, 2], "clamp": None},
            },
        ),
        (
            "extractor_mean",
            {
                **{"kind": "extractor", **GUIDED, "solver": {**EXTRACTOR, "steps": 3}, "samples": 2},
                **{"consistent": True, "by_power": None, **BEYOND, "title": "Mean"},
            },
        ),
        (
            "msdm",
            {
                **{"kind": "msdm", "title": "MSDM", "paper": "MSDM", "solver": MSDM, "constrained": None, **PAPERS},
                "system": {"kind": "msdm", "labels": tuple(LABELS), "clamp": 0.5},
            },
        ),
        (
            "msdm_gaussian",
            {
                **{"kind": "msdm_gaussian", "title": "MSDM, Gaussian likelihood", "paper": None, "solver": MSDM},
                **{"system": {"kind": "msdm", "labels": tuple(LABELS), "clamp": 0.5}, "costed": False},
            },
        ),
        (
            "demucs_gibbs",
            {
                **{"kind": "demucs_gibbs", "title": "Demucs + Gibbs, 2 steps", "steps": 2, "block": "uniform"},
                **{"noise": 0, "paper": "Demucs + Gibbs (512 steps)", **PAPERS},
            },
        ),
    ],
)
def test_settings_of_a_row(study, name, settings):
    found = study.row(name).model_dump()
    assert {key: found[key] for key in settings} == settings
    assert found["name"] == name


def test_ensembles_are_rows_of_others(study):
    assert [(row.name, row.title, row.of, row.paper, row.chosen_on) for row in study.ensembles.values()] == [
        ("ensemble", "Ensemble", ("separator", "extractor"), "Ensemble", "test"),
        (
            *("ensemble_validated", "Ensemble, chosen on validation chunks"),
            *(("separator_validated", "extractor_validated"), None, "validation"),
        ),
    ]
    assert not study.ensembles.keys() & study.rows.keys()


def test_cells_of_the_grid(config):
    config = copy.deepcopy(config)
    study = Study(config)
    cells = {split: study.grid_cells("extractor", split) for split in ("test", "validation")}
    assert [cell.w for cell in cells["test"]] == [0, 3, 15]
    assert [cell.w for cell in cells["validation"]] == [0, 3]
    assert all(cell.solver == {**EXTRACTOR, "steps": 7} for cell in cells["test"] + cells["validation"])
    assert [cell.constrained for cell in study.grid_cells("weak_msdm", "test")] == LABELS
    assert study.grid_cells("weak_msdm", "test")[1].cell() == {"w": 0, "model": "weak_msdm", "constrained": "Drums"}
    assert cells["test"][1].cell() == {"w": 3, "model": "extractor", "constrained": ""}
    assert study.grid_steps() == {"extractor": 7, "separator": 7}
    config["grid"]["validation"]["w"] = None
    assert [cell.w for cell in study.grid_cells("extractor", "validation")] == [0, 3, 15]


def test_the_grid_decides_what_is_open_and_nothing_else(config):
    config = copy.deepcopy(config)
    grid = ["extractor", *(f"separator_{label}" for label in LABELS)]
    assert sorted(Study(config).deciding("test")) == sorted([*grid, "weak_msdm", "msdm"])
    assert sorted(Study(config).deciding("validation")) == sorted(grid)
    # A row waits for no more than decides its own settings.
    assert Study(config).deciding("test", ["extractor", "msdm"]) == ["extractor", "msdm"]
    assert Study(config).deciding("test", ["separator"]) == grid[1:]
    assert Study(config).deciding("validation", ["separator", "extractor_validated"]) == ["extractor"]
    config["grid"]["validation"]["chunks"] = None
    rows = config["separation"]["rows"]
    for name in ("separator_validated", "extractor_validated", "ensemble_validated"):
        rows.pop(name)
    assert Study(config).deciding("validation") == []
    rows["separator"] |= {"w": 3, "constrained": "Drums"}
    rows["extractor"]["w"] = 3
    rows["other_msdm"] = {**rows["msdm"], "title": "Another", "published": False}
    del rows["separator_projected"], rows["extractor_mean"]
    study = Study(config)
    assert study.deciding("test") == ["weak_msdm", "msdm", "other_msdm"]
    # Rows of one method that have a grid of their own each are told apart there.
    cells = {name: study.grid_cells(name, "test")[0].cell()["model"] for name in ("msdm", "other_msdm")}
    assert cells == {"msdm": "msdm", "other_msdm": "other_msdm"}


def test_stems_depend_on_no_more_than_a_row_and_its_twin(config):
    def separated(name, **rows):
        changed = copy.deepcopy(config)
        for other, own in rows.items():
            changed["separation"]["rows"][other] = {**changed["separation"]["rows"][other], **own}
        return {other: row.model_dump() for other, row in Study(changed).separated(name).items()}

    for name in ("extractor", "extractor_mean", "separator_validated"):
        shown = {"separator": {"title": "One"}, "extractor": {"title": "Two"}, "extractor_mean": {"title": "Three"}}
        shown |= {"extractor_validated": {"title": "Four"}, "msdm": {"costed": False}}
        assert separated(name, **shown) == separated(name)
        assert separated(name, msdm={"constrained": "Drums"}) == separated(name)
    assert separated("extractor", extractor={"w": 3}) != separated("extractor")
    assert list(separated("separator_validated")) == ["separator_validated", "separator"]
    assert separated("separator_validated", separator={"w": 3}) != separated("separator_validated")


def test_settings_of_tasks(study):
    def holds(name, **settings):
        found = study.tasks[name].model_dump()
        assert {key: found[key] for key in settings} == settings

    shared = {"steps": 8, "sigma_min": 0.002, "sigma_max": 2, "rho": 7}
    adpm2 = {**shared, "name": "adpm2", "midpoint": "power", "midpoint_rho": 1}
    guidance = {"convention": "paper", "interval": [0.1, 10], "clamp": None, "w": 2}
    heun = {**shared, "name": "heun"}
    for w, ending in ((1, ""), (2.5, "_w2_5"), (0, "_curve_w0")):
        at = {"solver": heun, "guidance": {**guidance, "w": w}}
        holds(f"single{ending}", kind="single", negatives={}, **at)
        holds(f"single_negative{ending}", kind="single", negatives=NEGATIVES, **at)
    total = {"negatives": NEGATIVES, "solver": {**adpm2, "steps": 9}, "guidance": {**guidance, "w": 3}}
    total |= {"gamma_x": {"sigma": 2.0}, "gamma_y": float("inf"), "noise": "coupled", "consistent": True}
    holds("total", kind="total", **total)
    holds("total_groups", kind="total_groups", groups=[["Bass", "Piano"], ["Drums"], ["Guitar"]], **total)
    assert study.tasks["total_groups"].rows == ["Bass, Piano", "Drums", "Guitar"]
    assert study.tasks["total"].rows == study.tasks["partial_msdm"].rows == LABELS
    order = ["Piano", "Bass", "Drums", "Guitar"]
    at = {"negatives": {}, "solver": adpm2, "guidance": {**guidance, "w": 4}}
    holds("total_sequential", order=order, share=0.3, lags=16, **at)
    holds("total_extracted", negatives={}, solver={**adpm2, "steps": 4}, guidance=guidance)
    extraction = study.tasks["total_extracted"].extraction
    assert (extraction.w, extraction.samples, extraction.consistent, extraction.by_power) == (5, 2, True, None)
    assert extraction.solver == {**EXTRACTOR, "last": "estimate"}
    assert extraction.guidance == study.config["separation"]["guidance"]
    holds("partial", solver=adpm2, negatives=NEGATIVES)
    conditioned = {**shared, "name": "euler", "s_churn": 5}
    holds("partial_conditioned", negatives={}, solver=conditioned, guidance=guidance, share=0.3, lags=8)
    system = {"kind": "msdm", "labels": tuple(LABELS), "clamp": 0.5}
    holds("total_msdm", system=system, solver={**adpm2, "steps": 9})
    holds("partial_msdm", system=system, best_of=4, solver={**shared, "name": "euler", "s_churn": 3})
    holds("single_weak_msdm", solver=heun)
    assert [task.name for task in study.figure3()] == [
        *("total", "partial", "partial_conditioned", "total_sequential", "total_extracted", "total_groups"),
        *("total_msdm", "partial_msdm"),
    ]


def test_extracted_mixtures_take_what_the_row_extractor_says(tmp_path):
    """All of it that `extraction` has no key of its own for."""

    def extracted(extraction=None, **row):
        generation = {"negatives": {"Bass": "Piano"}, "extracted": {"extraction": extraction or {}}}
        overlay = {"separation": {"rows": {"extractor": row}}, "generation": generation}
        (tmp_path / "overlay.yaml").write_text(yaml.safe_dump(overlay))
        return Study(validate(load(tmp_path / "overlay.yaml"))).tasks["total_extracted"]

    told = {"wiener": {"amount": 0.5, "seconds": 0.2}, "inverted": True, "negatives": {"Drums": "Bass"}}
    task = extracted(**told, samples=4)
    found = task.extraction.model_dump()
    assert {key: found[key] for key in told} == told
    assert (task.extraction.samples, task.negatives) == (4, {})
    assert extracted({"samples": 2}, **told, samples=4).extraction.samples == 2
    assert extracted().extraction.samples == 1
    with pytest.raises(UserError, match=r"^config: generation\.extracted, .*has inverted, which needs samples"):
        extracted({"samples": 1}, **told, samples=4)
    with pytest.raises(UserError, match=r"^config: generation\.extracted .* a model of its own; leave that model out"):
        extracted(model="mini", w=1)


def test_models_and_their_trainings(study, config):
    shared = {"sample_rate": 8000, "window": 32768, "labels": LABELS}
    unet = config["model"]["config"]["unet"]
    text = {key: value for key, value in config["model"]["config"]["text"].items() if key not in CLAP_KEYS}
    own = {key: value for key, value in config["model"]["config"].items() if key not in ("kind", "additive")}
    assert study.model_config("gmsdi") == {**own, "text": text, **shared}
    weak, joint = study.model_config("weak_msdm_Drums"), study.model_config("msdm")
    assert weak["unet"] == {**unet, "channels": 64, "in_channels": 1}
    assert (weak["target"], joint["target"], joint["unet"]["in_channels"]) == ("Drums", "stems", 4)
    assert weak["text"] == joint["text"] == {"kind": "none"}
    assert all({key: model[key] for key in shared} == shared for model in (weak, joint))
    assert study.model_config("demucs_gibbs")["kind"] == "gibbs"
    assert (study.training("gmsdi")["steps"], study.training("demo")["steps"]) == (40, 20)
    assert study.training("weak_msdm_Drums")["initial"] is None
    assert (study.training("weak_msdm_Drums")["steps"], study.training("weak_msdm_Drums")["lr"]) == (10, 0.002)


def test_an_unsupervised_model_stands_beside_one_of_labels():
    config = validate(load(REPO / "config" / "mini_clap.yaml"))
    study = Study(config)
    assert study.rows["extractor"].title == "GMSDI Extractor, by a CLAP that has seen labels"
    assert study.rows["extractor"].paper is None
    config["clap"]["train"] = False
    assert Study(config).rows["extractor"].title == "GMSDI Extractor, unsupervised (CLAP)"
    config["clap"]["train"] = True
    weak = study.rows["separator_weak"]
    assert (weak.title, weak.w, weak.constrained) == ("GMSDI Separator, weakly supervised", 1, "Guitar")
    papers = {row.name: row.paper for row in study.rows.values() if row.paper}
    assert papers == {"extractor_weak": "GMSDI Extractor", "separator_weak": "GMSDI Separator"}
    others = {row.name: row.model for row in study.rows.values() if row.model}
    assert others == dict.fromkeys(["extractor_weak", "separator_weak"], "mini")
    model, clap = study.model_config("gmsdi"), study.model_config("clap")
    assert model["text"]["checkpoint"] == "results/mini_clap/clap/model"
    assert model["text"]["features"] == clap["features"] == 64
    assert study.training("clap")["p_drop"] == 0
    assert study.training("gmsdi")["p_drop"] == 0.1
    config["separation"]["rows"]["separator_weak"].pop("constrained")
    with pytest.raises(UserError, match=r"rows\.separator_weak has its own model, .* give its constrained"):
        validate(config)


def test_the_dataset_is_named_by_what_its_chunks_depend_on(config):
    changed = copy.deepcopy(config)
    changed["data"]["mini"]["tracks"]["test"] += 1
    assert Study(changed).dataset_id() == Study(config).dataset_id()
    assert (Study(config).part("test"), Study(changed).part("test")) == ("test-6", "test-7")
    assert Study(config).part("train", 3) == "train-3"
    changed["data"]["sample_rate"] = 16000
    assert Study(changed).dataset_id() != Study(config).dataset_id()


def test_other_step_counts_keep_the_churn_of_a_step():
    solver = {**EULER, "steps": 20, "s_churn": 8}
    row = make_row("extractor", solver=solver)
    assert row.with_steps(5) == make_row("extractor", solver={**solver, "steps": 5, "s_churn": 2})
    assert make_row("demucs_gibbs", steps=512).with_steps(32) == make_row("demucs_gibbs", steps=32)


def test_both_series_of_figure_2_have_the_same_w(study, config):
    """Every task of single stems has a twin that differs in nothing but its negative prompts."""
    singles = {name: task for name, task in study.tasks.items() if isinstance(task, Single)}
    for name, task in singles.items():
        if task.negative:
            continue
        twin = singles[name.replace("single", "single_negative")]
        assert task.model_copy(update={"name": twin.name, "negatives": NEGATIVES, "negative": True}) == twin
        assert f"w = {task.w:g}" in task.series
        assert task.clips == (4 if task.curve else config["generation"]["clips"])
    ways = ["total_sequential", "total_extracted", "total_groups"]
    shown = [name for name, task in study.tasks.items() if task.shown]
    assert shown == ["single", "single_negative", "total", *ways, "partial", "partial_conditioned"]
    assert len({task.series for task in singles.values()}) == len(singles) == 8
    assert study.tasks["total"].clips == config["generation"]["clips"]
    changed = copy.deepcopy(config)
    changed["generation"]["single"] |= {"w": None, "w_curve": []}
    assert {task.w for task in Study(changed).figure2() if isinstance(task, Single)} == {changed["generation"]["w"]}
    changed["generation"]["negatives"] = {}
    assert [task.name for task in Study(changed).figure2()] == ["single", "single_weak_msdm"]


def test_further_models_do_the_papers_tasks_in_series_of_their_own(config):
    """They differ from the run's own in nothing but model, names and, if it is given, w."""
    config = copy.deepcopy(config)
    config["generation"]["models"] = {"waves": {"model": "mini", "title": "of waveforms", "w": 2}, "none": None}
    study = Study(config)
    paper = ("single", "single_negative", "total", "partial")
    own, others = ([study.tasks[f"{name}{end}"] for name in paper] for end in ("", "_of_waves"))
    assert [task.name for task in study.tasks.values() if getattr(task, "model", None)] == [o.name for o in others]
    said = {"model", "title", "name", "guidance", "shown"}
    for one, other in zip(own, others, strict=True):
        assert one.model_dump(exclude=said) == other.model_dump(exclude=said)
        assert other.guidance == {**one.guidance, "w": 2}
        assert other.series.endswith(", of waveforms")
        assert not other.shown
        load_task(other.model_dump())
    names = [task.stems_series for task in study.tasks.values()]
    assert len(set(names)) == len(names)


def test_titles_say_the_steps_that_are_run():
    for name in ("config", "mini_full", "mini_clap", "mini_latent", "slakh2100", "mtg_jamendo"):
        shipped = Study(validate(load(REPO / "config" / f"{name}.yaml")))  # each on the base that it names
        for row in shipped.rows.values():
            for said in re.findall(r"(\d+) steps", row.title):
                assert int(said) == row.step_count()
            for said in re.findall(r"mean of (\d+)", row.title):
                assert int(said) == row.samples
        if "demucs_gibbs" in shipped.rows:
            assert "steps" in shipped.rows["demucs_gibbs"].title
    titled = make_row("demucs_gibbs", title="{steps} steps, mean of {samples}", steps=3).titled()
    assert titled.title == "3 steps, mean of 1"
    titles = {"a": "A, 12 steps, filtered", "b": "B, 6 steps", "c": "B, 9 steps"}
    rows = [make_row("extractor", name=name, title=title) for name, title in titles.items()]
    assert without_steps(rows) == {"a": "A, filtered", "b": "B, 6 steps", "c": "B, 9 steps"}


def test_few_steps_are_warned_of_where_a_search_measured_noise():
    """The variants in docs/tuning, and the SI-SDRi that they have there."""
    searches = Study(validate(load(REPO / "config" / "tuning.yaml"))).searches
    measured = pd.read_csv(REPO / "docs" / "tuning" / "separation.csv").set_index(["search", "variant"])["score"]
    for search in ("extractor", "extractor_consistent"):
        for row in searches[search].rows:
            assert (row.warning(0.1) is None) == (measured[search, row.name] > 0), row.name


def test_a_warning_names_the_key_and_no_shipped_configuration_has_one(tmp_path):
    shipped = [load(path) for path in (REPO / "config").glob("*.yaml")]
    for config in [one for one in shipped if "run" in one]:
        assert not Study(validate(config)).warnings()
    overlay = tmp_path / "few.yaml"
    overlay.write_text(yaml.safe_dump({"separation": {"solver": {"steps": 6}}, "grid": {"solver": {"steps": 12}}}))
    (found,) = Study(validate(load(overlay))).warnings()
    assert re.match(r"separation\.rows\.extractor: 6 steps leave noise in the stems, .*; take 7 steps or more", found)
    overlay.write_text(yaml.safe_dump({"grid": {"solver": {"steps": 6}}}))
    (found,) = Study(validate(load(overlay))).warnings()
    assert found.startswith("grid.solver of extractor: 6 steps")


def test_two_sources_of_a_kind_have_different_songs(config):
    changed = copy.deepcopy(config)
    tracks = {"tracks": {"train": 2}}
    kinds = ["drawn", "composed", "drawn", "drawn"]
    changed["data"]["midi"]["songs"] = [{"kind": kind, **tracks} for kind in kinds]
    seeds = {name: source["seed"] for name, source in midi.composed(changed["data"]).items()}
    assert list(seeds) == ["drawn-1", "composed-2", "drawn-3", "drawn-4"]
    assert seeds["drawn-1"] == seeds["composed-2"] == changed["data"]["seed"]
    assert len({seeds["drawn-1"], seeds["drawn-3"], seeds["drawn-4"]}) == 3


class Reads(dict):
    """A mapping that notes the keys that are read."""

    def __init__(self, given):
        super().__init__(given)
        self.keys_read = set()

    def __getitem__(self, key):
        self.keys_read.add(key)
        return super().__getitem__(key)


@pytest.mark.parametrize("kind", KINDS)
def test_all_that_the_tracks_of_a_kind_depend_on_names_their_folder(kind):
    config = validate(load())
    data = {**config["data"], "kind": kind}
    name = Study({**config, "data": data}).dataset_id()
    assert name.startswith(f"{kind}-")
    needed = {kind} & data.keys() | ({"seed"} if KINDS[kind].MADE else {"root"})
    assert needed <= set(KINDS[kind].KEYS)
    for key in KINDS[kind].KEYS:
        other = {**data[key], "other": 1} if isinstance(data[key], dict) else f"other than {data[key]}"
        assert Study({**config, "data": {**data, key: other}}).dataset_id() != name, key
    read = Reads(data)
    KINDS[kind].cutting(read, "test")
    assert read.keys_read <= {*KINDS[kind].KEYS, "classes", "download"}  # where archives are stored changes no track
    for key, left_out in KINDS[kind].LEFT_OUT.items():
        same = {**data, key: {**data[key], left_out: "other"}}
        assert KINDS[kind].identity(same) == KINDS[kind].identity(data)


def test_a_kind_of_data_without_an_entry_has_no_folder():
    config = validate(load())
    config["data"]["kind"] = "other"
    with pytest.raises(KeyError, match="other"):
        Study(config).dataset_id()
