"""What a configuration asks for, against settings written out by hand."""

import copy
import re
from pathlib import Path

import pytest
import yaml

from gmsdi.errors import UserError
from gmsdi.study.config import load, validate
from gmsdi.study.study import CLAP_KEYS, Study, system_of, titled, with_steps, without_steps

REPO = Path(__file__).parents[2]
LABELS = ["Bass", "Drums", "Guitar", "Piano"]
EULER = {
    "name": "euler",
    "last": "step",
    "resamples": 1,
    "rho": 7,
    "sigma_min": 0.002,
}
EXTRACTOR = {**EULER, "steps": 5, "sigma_max": 2, "s_churn": 8}
SEPARATOR = {**EULER, "steps": 6, "sigma_max": 1, "s_churn": 5}
MSDM = {**EULER, "steps": 25, "sigma_max": 1, "s_churn": 12}
NEGATIVES = {"Bass": "Drums, Guitar, Piano", "Drums": "Bass", "Guitar": "Bass, Drums", "Piano": "Bass, Drums"}
OVERLAY = {
    "data": {"mini": {"tracks": {"test": 6}}},
    "model": {"train": True},
    "training": {"steps": 40, "lr": 0.002},
    "demo_training": {"training": {"steps": 20}},
    "separation": {
        "solver": {"name": "euler", "steps": 5, "sigma_min": 0.002, "sigma_max": 2, "rho": 7, "s_churn": 8},
        "extractor": {"w": None, "negatives": {}},
        "separator": {"w": None, "constrained": None, "solver": {"steps": 6, "sigma_max": 1, "s_churn": 5}},
        "extras": {
            "extractor_consistent": None,
            "separator_projected": {"title": "Projected", "of": "separator", "projected": True},
            "extractor_mean": {
                **{"title": "Mean", "of": "extractor", "consistent": True, "samples": 2, "solver": {"steps": 3}},
            },
        },
    },
    "grid": {"w": [0, 3, 15], "solver": {"steps": 7}, "validation": {"chunks": 2, "w": [0, 3]}},
    "baselines": {
        "enabled": ["msdm", "weak_msdm", "demucs_gibbs"],
        "train": True,
        "msdm": {
            "separation": {"constrained": None, "solver": {"steps": 25, "sigma_max": 1, "s_churn": 12}},
            "generation": {"best_of": 4, "partial": {"solver": {"name": "euler", "s_churn": 3}}},
            "clamp": 0.5,
        },
        "weak_msdm": {
            "separation": {"constrained": None},
            "model": {"unet": {"channels": 64}},
            "training": {"steps": 10},
        },
        "demucs_gibbs": {"separation": {"steps": 2}},
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
    return Study(config)


def test_names_and_their_systems(study):
    assert study.labels == LABELS
    assert {name: system_of(name) for name in study.methods} == {
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
    assert {name: system_of(name) for name in study.tasks} == {
        **dict.fromkeys(["single", "single_negative", "single_w2_5", "single_negative_w2_5"], "gmsdi"),
        **dict.fromkeys(["single_curve_w0", "single_negative_curve_w0"], "gmsdi"),
        **dict.fromkeys(["single_curve_w1", "single_negative_curve_w1"], "gmsdi"),
        **dict.fromkeys(["total", "partial", "partial_conditioned"], "gmsdi"),
        **dict.fromkeys(["total_sequential", "total_extracted", "total_groups"], "gmsdi"),
        "single_weak_msdm": "weak_msdm",
        **dict.fromkeys(["total_msdm", "partial_msdm"], "msdm"),
    }
    weak = ["weak_msdm_Bass", "weak_msdm_Drums", "weak_msdm_Guitar", "weak_msdm_Piano"]
    assert study.trained() == ["gmsdi", "msdm", *weak, "demucs_gibbs"]
    assert study.models("single_weak_msdm") == weak
    assert study.targets("single_weak_msdm") == LABELS
    assert (study.models("msdm_gaussian"), study.targets("msdm_gaussian")) == (["msdm"], ["stems"])
    assert (study.models("extractor_mean"), study.targets("extractor_mean")) == (["gmsdi"], ["mixture"])


@pytest.mark.parametrize(
    ("method", "settings"),
    [
        ("extractor", {"name": "extractor", "w": None, "negatives": {}, "solver": EXTRACTOR, "chosen_on": "test"}),
        (
            "separator_Drums",
            {
                **{"name": "separator", "w": None, "negatives": {}, "solver": SEPARATOR, "constrained": "Drums"},
                "chosen_on": "validation",
            },
        ),
        (
            "separator_validated",
            {
                **{"name": "separator", "w": None, "negatives": {}, "solver": SEPARATOR, "constrained": None},
                **{"chosen_on": "validation", "title": "GMSDI Separator, chosen on validation chunks"},
            },
        ),
        (
            "separator_projected",
            {
                **{"name": "separator", "w": None, "negatives": {}, "solver": SEPARATOR, "projected": True},
                **{"chosen_on": "validation", "title": "Projected"},
            },
        ),
        (
            "extractor_mean",
            {
                **{"name": "extractor", "w": None, "negatives": {}, "solver": {**EXTRACTOR, "steps": 3}},
                **{"consistent": True, "samples": 2},
                **{"chosen_on": "validation", "title": "Mean"},
            },
        ),
        (
            "msdm",
            {
                **{"name": "msdm", "title": "MSDM", "chosen_on": "test", "solver": MSDM, "constrained": None},
                "clamp": 0.5,
            },
        ),
        (
            "msdm_gaussian",
            {
                **{"name": "msdm", "title": "MSDM, Gaussian likelihood", "chosen_on": "test", "solver": MSDM},
                "clamp": 0.5,
                "gaussian": True,
            },
        ),
        (
            "demucs_gibbs",
            {
                **{"name": "demucs_gibbs", "title": "Demucs + Gibbs, 2 steps", "chosen_on": "test"},
                **{"steps": 2, "block": "uniform", "noise": 0},
            },
        ),
    ],
)
def test_settings_of_a_method(study, method, settings):
    assert study.method_settings(method) == settings


def test_cells_of_the_grid(config):
    config = copy.deepcopy(config)
    study = Study(config)
    cells = {split: study.grid_cells("extractor", split) for split in ("test", "validation")}
    assert [cell["w"] for cell in cells["test"]] == [0, 3, 15]
    assert [cell["w"] for cell in cells["validation"]] == [0, 3]
    assert all(cell["solver"] == {**EXTRACTOR, "steps": 7} for cell in cells["test"] + cells["validation"])
    assert [cell["constrained"] for cell in study.grid_cells("weak_msdm", "test")] == LABELS
    config["grid"]["validation"]["w"] = None
    assert [cell["w"] for cell in study.grid_cells("extractor", "validation")] == [0, 3, 15]


def test_the_grid_decides_what_is_open_and_nothing_else(config):
    config = copy.deepcopy(config)
    grid = ["extractor", *(f"separator_{label}" for label in LABELS)]
    assert Study(config).deciding("test") == [*grid, "msdm", "weak_msdm"]
    assert Study(config).deciding("validation") == grid
    config["grid"]["validation"]["chunks"] = None
    assert Study(config).deciding("validation") == []
    config["separation"]["separator"] |= {"w": 3, "constrained": "Drums"}
    config["separation"]["extractor"]["w"] = 3
    config["separation"]["extras"] = {}
    assert Study(config).deciding("test") == ["msdm", "weak_msdm"]


def test_settings_of_tasks(study):
    adpm2 = {"name": "adpm2", "steps": 8, "sigma_min": 0.002, "sigma_max": 2, "rho": 7}
    adpm2 |= {"midpoint": "power", "midpoint_rho": 1}
    shared = {key: value for key, value in adpm2.items() if "midpoint" not in key}
    guidance = {"convention": "paper", "interval": [0.1, 10], "clamp": None, "w": 2}
    heun = {**shared, "name": "heun"}
    single = {"system": "gmsdi", "task": "single", "solver": heun, "guidance": guidance, "likelihood": {}}
    for w, ending in ((1, ""), (2.5, "_w2_5"), (0, "_curve_w0")):
        at = {**single, "guidance": {**guidance, "w": w}}
        assert study.task_settings(f"single{ending}") == {**at, "negatives": {}}
        assert study.task_settings(f"single_negative{ending}") == {**at, "negatives": NEGATIVES}
    assert study.task_settings("total") == {
        **{**single, "task": "total", "negatives": NEGATIVES},
        "solver": {**adpm2, "steps": 9},
        "guidance": {**guidance, "w": 3},
        "likelihood": {"gamma_x": {"sigma": 2.0}, "gamma_y": float("inf"), "noise": "coupled", "consistent": True},
    }
    total = study.task_settings("total")
    assert study.task_settings("total_groups") == {**total, "groups": [["Bass", "Piano"], ["Drums"], ["Guitar"]]}
    assert study.rows("total_groups") == ["Bass, Piano", "Drums", "Guitar"]
    assert study.rows("total") == study.rows("partial_msdm") == LABELS
    assert study.task_settings("total_sequential") == {
        **{**single, "task": "total", "negatives": {}, "solver": adpm2, "guidance": {**guidance, "w": 4}},
        **{"way": "sequential", "order": ["Piano", "Bass", "Drums", "Guitar"]},
        "likelihood": {"share": 0.3, "lags": 16},
    }
    extracted = study.task_settings("total_extracted")
    assert extracted.pop("extraction") == {
        **{"name": "extractor", "w": 5, "samples": 2, "by_power": None},
        **{"solver": {**EXTRACTOR, "last": "estimate"}, "guidance": study.config["separation"]["guidance"]},
    }
    assert extracted == {
        **{**single, "task": "total", "negatives": {}, "solver": {**adpm2, "steps": 4}, "way": "extracted"},
    }
    assert study.task_settings("partial_conditioned") == {
        **{**single, "task": "partial", "negatives": {}},
        "solver": {**shared, "name": "euler", "s_churn": 5},
        "likelihood": {"share": 0.3, "lags": 8},
    }
    joint = {"system": "msdm", "solver": adpm2, "clamp": 0.5, "best_of": 4}
    assert study.task_settings("total_msdm") == {**joint, "task": "total", "solver": {**adpm2, "steps": 9}}
    assert study.task_settings("partial_msdm") == {
        **joint,
        "task": "partial",
        "solver": {**shared, "name": "euler", "s_churn": 3},
    }
    assert study.task_settings("single_weak_msdm") == {"system": "weak_msdm", "task": "single", "solver": heun}


def test_models_and_their_trainings(study, config):
    shared = {"sample_rate": 8000, "window": 32768, "labels": LABELS}
    unet = config["model"]["config"]["unet"]
    text = {key: value for key, value in config["model"]["config"]["text"].items() if key not in CLAP_KEYS}
    assert study.model_config("gmsdi") == {**config["model"]["config"], "text": text, **shared}
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
    settings = {method: study.method_settings(method) for method in study.methods}
    assert settings["extractor"]["title"] == "GMSDI Extractor, by a CLAP that has seen labels"
    config["clap"]["train"] = False
    assert Study(config).method_settings("extractor")["title"] == "GMSDI Extractor, unsupervised (CLAP)"
    config["clap"]["train"] = True
    weak = settings["separator_weak"]
    assert (weak["title"], weak["w"], weak["constrained"]) == ("GMSDI Separator, weakly supervised", 1, "Guitar")
    others = {method: study.model_of(method) for method in study.methods if study.model_of(method)}
    assert others == dict.fromkeys(["extractor_weak", "separator_weak"], "bundled")
    model, clap = study.model_config("gmsdi"), study.model_config("clap")
    assert model["text"]["checkpoint"] == "results/mini_clap/clap/model"
    assert model["text"]["features"] == clap["features"] == 64
    assert study.training("clap")["p_drop"] == 0
    assert study.training("gmsdi")["p_drop"] == 0.1
    config["separation"]["extras"]["separator_weak"].pop("constrained")
    with pytest.raises(UserError, match=r"extras\.separator_weak has a model of its own, .* give its w"):
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
    changed = with_steps({"name": "extractor", "solver": solver}, 5)
    assert changed == {"name": "extractor", "solver": {**solver, "steps": 5, "s_churn": 2}}
    assert with_steps({"name": "demucs_gibbs", "steps": 512}, 32) == {"name": "demucs_gibbs", "steps": 32}


def test_both_series_of_figure_2_have_the_same_w(study, config):
    """Every task of single stems has a twin that differs in nothing but its negative prompts."""
    for task, single in study.singles.items():
        twin = task.replace("single", "single_negative")
        if single.negative:
            continue
        settings, other = study.task_settings(task), study.task_settings(twin)
        assert (settings.pop("negatives"), other.pop("negatives")) == ({}, NEGATIVES)
        assert settings == other
        assert settings["guidance"]["w"] == single.w == study.singles[twin].w
        assert f"w = {single.w:g}" in single.series
        assert study.clips(task) == study.clips(twin) == (4 if single.curve else config["generation"]["clips"])
    ways = ["total_sequential", "total_extracted", "total_groups"]
    assert study.shown == ["single", "single_negative", "total", *ways, "partial", "partial_conditioned"]
    assert len({single.series for single in study.singles.values()}) == len(study.singles) == 8
    assert study.clips("total") == config["generation"]["clips"]
    changed = copy.deepcopy(config)
    changed["generation"]["single"] |= {"w": None, "w_curve": []}
    assert {single.w for single in Study(changed).singles.values()} == {changed["generation"]["w"]}
    changed["generation"]["negatives"] = {}
    assert list(Study(changed).singles) == ["single"]


def test_titles_say_the_steps_that_are_run():
    files = [[], ["mini_full.yaml"], ["mini_clap.yaml"], ["slakh2100.yaml"], ["mtg_jamendo.yaml"]]
    for overlays in files:
        paths = [REPO / "config" / name for name in ("config.yaml", *overlays)]
        shipped = Study(validate(load(*paths)))
        for method in shipped.methods:
            settings = shipped.method_settings(method)
            steps = settings["solver"]["steps"] if "solver" in settings else settings["steps"]
            for said in re.findall(r"(\d+) steps", settings.get("title", "")):
                assert int(said) == steps
            for said in re.findall(r"mean of (\d+)", settings.get("title", "")):
                assert int(said) == settings["samples"]
        if "demucs_gibbs" in shipped.methods:
            assert "steps" in shipped.method_settings("demucs_gibbs")["title"]
    assert titled({"title": "{steps} steps, mean of {samples}", "steps": 3})["title"] == "3 steps, mean of 1"
    titles = {"a": "A, 12 steps, filtered", "b": "B, 6 steps", "c": "B, 9 steps"}
    assert without_steps(titles) == {"a": "A, filtered", "b": "B, 6 steps", "c": "B, 9 steps"}


def test_two_sources_of_a_kind_have_different_songs(config):
    changed = copy.deepcopy(config)
    tracks = {"tracks": {"train": 2}}
    kinds = ["drawn", "composed", "drawn", "drawn"]
    changed["data"]["midi"]["songs"] = [{"kind": kind, **tracks} for kind in kinds]
    seeds = {name: source["seed"] for name, source in Study(changed).song_sources().items()}
    assert list(seeds) == ["drawn-1", "composed-2", "drawn-3", "drawn-4"]
    assert seeds["drawn-1"] == seeds["composed-2"] == changed["data"]["seed"]
    assert len({seeds["drawn-1"], seeds["drawn-3"], seeds["drawn-4"]}) == 3
