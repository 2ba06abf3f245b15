"""Presets: typed, stored with a model, those of the study's rows; the default is the best of them."""

import inspect
import json
import re
import warnings
from dataclasses import asdict, replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

import gmsdi
from gmsdi import inference, song, tasks
from gmsdi.cli import main
from gmsdi.data.mini import MiniConfig, compose_track, master, render
from gmsdi.errors import UserError
from gmsdi.inference import ShareOut, Wiener
from gmsdi.io.audio import Audio, as_source, write
from gmsdi.metrics.si_sdr import si_sdr
from gmsdi.models import registry
from gmsdi.models.checkpoint import build_model
from gmsdi.models.protocol import Traits
from gmsdi.models.registry import BUNDLED
from gmsdi.presets import Preset, preset_of, presets_by, presets_of
from gmsdi.sampling import samplers
from gmsdi.sampling.session import Session
from gmsdi.sampling.solver import Guidance, Solver
from gmsdi.song.generating import EXTRACTED_W_FACTOR
from gmsdi.stability import check_separator, noise_left
from gmsdi.study import cost
from gmsdi.study.study import Study
from tests import REPO
from tests.helpers import tiny

ROWS = {
    "best": "extractor_consistent",
    "fast": "extractor_few",
    "slow": "extractor_mean4",
    "projected": "separator_projected",
    "paper-separator": "separator",
    "paper-extractor": "extractor",
}
"""The rows of docs/mini_full that separate as the bundled model's presets do."""
FAST = presets_by(Traits())["fast"]


def tiny_model():
    return build_model({**tiny.CONFIG, "labels": ["Bass", "Drums", "Guitar", "Piano"]}).eval()


def published_rows():
    return Study(cost.resolved([REPO / "config" / "mini_full.yaml"])).rows


def test_the_bundled_models_presets_are_stored_with_it():
    """All of their settings but those of the solver that have not been tuned."""
    stored = json.loads((BUNDLED / "mini" / "config.json").read_text())["presets"]
    assert stored.keys() == ROWS.keys()
    for name, preset in presets_of(gmsdi.load("mini", device="cpu")).items():
        assert preset.method == stored[name]["method"]
        assert preset.solver == Solver(**stored[name]["solver"])
        assert preset.guidance == Guidance(**stored[name]["guidance"])
        for key in ("runs", "inverted", "by_power", "filtered"):
            assert getattr(preset, key) == stored[name].get(key, Preset.__dataclass_fields__[key].default), (name, key)


def test_the_page_says_of_every_setting_whether_a_search_supports_it():
    text = (REPO / "docs" / "bundled_training.md").read_text()
    told = {}
    for model, preset, *cells in re.findall(r"^\| `(\w+)` \| `([\w-]+)` \|(.*?)\|(.*?)\|$", text, re.M):
        told[model, preset] = sorted(word.strip() for cell in cells for word in cell.split(",") if word.strip())
    stored = {}
    for model in ("mini", "general"):
        presets = json.loads((BUNDLED / model / "config.json").read_text())["presets"]
        for name, settings in presets.items():
            flat = {**settings, **settings.get("solver", {}), **settings["guidance"]}
            own = {key: value for key, value in flat.items() if key not in ("method", "solver", "guidance")}
            stored[model, name] = sorted(
                key if value is True else f"{key} {value if isinstance(value, str) else f'{value:g}'}"
                for key, value in own.items()
            )
    assert told == stored


SAMPLED = (
    *((tasks, f"generate{ending}") for ending in ("", "_extracted", "_sequential")),
    *((tasks, f"accompany{ending}") for ending in ("", "_conditioned")),
    *((tasks.generation, "Total"), (tasks.accompaniment, "Partial"), (tasks.accompaniment, "Conditioned")),
)
"""What `generate` and `accompany` run: a task, then what couples its signals, which has the last word on γ."""
SEARCHED = {
    "`generate`, `accompany`": {
        **dict.fromkeys(["name dpmpp_2m", "sigma_max 8", "rho 7"], ("single", "single")),
        "sigma_min 0.015": ("single", "solver.sigma_min 0.015"),
        "interval none": ("single", "guidance.interval none"),
    },
    "`generate`": {
        "method extracted": ("total_ways", "total_extracted"),
        **dict.fromkeys(["w 2", "extraction w 6", "extraction by_power 0.25"], ("total_extracted", "total_extracted")),
    },
    "`generate` of one stem": {"w 2": ("single", "guidance.w 2"), "negatives none": ("single_negatives", "single")},
    "`generate --method sequential`": dict.fromkeys(["w 2", "share 0.3", "order drawn"], ("total_sequential",) * 2),
    "`generate --method total`": {
        **dict.fromkeys(["noise coupled", "consistent true"], ("total", "total")),
        "w 2": ("total", "guidance.w 2"),
        "gamma_y inf": ("total_mixture", "total"),
    },
    "`generate --groups`": {"noise coupled": ("total_groups", "total_groups")},
    "`accompany`": dict.fromkeys(["w 1", "given_noise coupled", "share none"], ("partial", "partial")),
    "`accompany --share`": {},
}
"""By command, the search and the variant that support a default."""


def sampled_by(words, folder, monkeypatch):
    """The arguments, defaults included, of all in `SAMPLED` that a command runs; `task` is the first of them."""
    told = {}

    def recorded(real):
        def run(*args, **named):
            bound = inspect.signature(real).bind(*args, **named)
            bound.apply_defaults()
            told.update(bound.arguments, task=told.get("task", real.__name__))
            return real(*args, **named)

        return run

    with monkeypatch.context() as patched:
        for place, name in SAMPLED:
            patched.setattr(place, name, recorded(getattr(place, name)))
        assert main([*words, "--model", str(folder / "tiny"), "--device", "cpu", "--out", str(folder / "made")]) == 0
    return told


def items(told, *keys):
    """Settings as the page writes them; K is the number of generated stems or groups."""
    K, found = len(told.get("groups") or told.get("stems", ())), set()
    for key in keys:
        value = told[key]
        if callable(value):
            value = {K + 1: "√(K + 1)·σ", K: "√K·σ"}[round((value(0.5) / 0.5) ** 2, 9)]
        elif value is None or value == {}:
            value = "drawn" if key == "order" else "none"
        found.add(f"{key} {'true' if value is True else value if isinstance(value, str) else f'{value:g}'}")
    return found


def test_the_page_says_of_every_default_of_generate_and_accompany_whether_a_search_supports_it(tmp_path, monkeypatch):
    """The defaults are those that the commands sample with, and the searches give those that the page says they do."""
    text = (REPO / "docs" / "bundled_training.md").read_text().partition("### Defaults of generate and accompany")[2]
    told = {
        command: [{word.strip() for word in cell.split(",") if word.strip()} for cell in cells]
        for command, *cells in re.findall(r"^\| (`(?:generate|accompany).*?) \|(.*?)\|(.*?)\|$", text, re.M)
    }
    assert {command: supported for command, (supported, _) in told.items()} == {
        command: set(found) for command, found in SEARCHED.items()
    }
    lines = pd.read_csv(REPO / "docs" / "tuning" / "generation.csv").set_index(["search", "variant"])
    for search, variant in {line for found in SEARCHED.values() for line in found.values()}:
        assert lines.loc[(search, variant), "score"] <= lines.loc[search].iloc[0]["score_high"], (search, variant)
    assert lines.loc["conditioned"].iloc[0]["score"] > lines.loc["partial"].iloc[0]["score_high"]  # share none

    tiny.write(tmp_path / "tiny")
    write(tmp_path / "bass.wav", Audio(np.zeros((1, 512), np.float32) + 0.1, 8000))
    given, common = ["accompany", "--given", f"bass={tmp_path / 'bass.wav'}"], told.pop("`generate`, `accompany`")
    total = ["gamma_x", "gamma_y", "noise", "consistent"]
    commands = {
        "`generate`": (["generate"], []),
        "`generate` of one stem": (["generate", "--stems", "bass"], []),
        "`generate --method sequential`": (["generate", "--method", "sequential"], ["share", "order", "lags"]),
        "`generate --method total`": (["generate", "--method", "total"], total),
        "`generate --groups`": (["generate", "--groups", "bass, drums", "piano"], total),
        "`accompany`": (given, ["gamma_x", "gamma_y", "alpha", "beta", "given_noise"]),
        "`accompany --share`": ([*given, "--share", "0.4"], ["gamma_x", "lags"]),
    }
    assert told.keys() == commands.keys()
    for command, (words, keys) in commands.items():
        found = sampled_by(words, tmp_path, monkeypatch)
        guidance = asdict(found["session"].guidance)
        sampler = {**asdict(found["session"].solver), "interval": guidance["interval"], "clamp": guidance["clamp"]}
        assert items(sampler, *sampler) == set.union(*common), command
        expected = items({**found, "w": guidance["w"]}, "w", "negatives", *keys)
        if command == "`generate`":
            assert (found["task"], found["wiener"]) == ("generate_extracted", None)
            assert found["separation"].solver == presets_by(Traits())["best"].solver
            general = json.loads((BUNDLED / "general" / "config.json").read_text())["presets"]
            twice = EXTRACTED_W_FACTOR * presets_by(Traits(presets=general))["best"].guidance.w
            expected |= {
                *("method extracted", "extraction solver of `best`", "extraction filtered 0"),
                f"extraction w {found['separation'].guidance.w:g}",
                f"extraction w {twice:g} of `general`",
                f"extraction by_power {found['consistent'].amount:g}",
                f"extraction runs {found['average'].runs}",
            }
        if command == "`accompany`":
            assert found["task"] == "accompany"
            expected.add("share none")
        assert set.union(*told[command]) == expected, command


def test_they_are_the_rows_of_the_readmes_table():
    rows = published_rows()
    presets = presets_of(gmsdi.load("mini", device="cpu"))
    assert presets.keys() == ROWS.keys()
    for name, preset in presets.items():
        row = rows[ROWS[name]]
        assert preset.solver == Solver(**row.solver), name
        assert row.w in (None, preset.guidance.w), name  # None: chosen in each run
        assert (preset.runs, preset.inverted) == (row.samples, row.inverted), name
        assert preset.filtered == (0 if row.wiener is None else row.wiener.amount), name
        if row.kind == "extractor":
            assert preset.method == ("consistent" if row.consistent else "extractor"), name
            assert preset.by_power == (0 if row.by_power is None else row.by_power.amount), name
        else:
            assert preset.method == row.kind, name


def test_a_model_changes_the_defaults_and_adds_its_own():
    own = {"best": {"guidance": {"w": 2}}, "mine": {"method": "projected", "solver": {"name": "heun", "steps": 9}}}
    model = SimpleNamespace(presets=own, sigma_data=1.0, sigma_range=(0.3, 500.0))
    presets = presets_of(model)
    assert (presets["best"].guidance, presets["best"].solver.steps) == (Guidance(w=2), 12)
    assert (presets["best"].solver.sigma_min, presets["best"].solver.sigma_max) == (0.3, 5.0)  # as its signals, known
    assert presets["mine"].solver == Solver("heun", steps=9, sigma_min=0.3, sigma_max=5.0, s_churn=5.0)
    assert presets["fast"].guidance.w == FAST.guidance.w
    usual = presets_by(Traits())
    assert usual == presets_of(gmsdi.load("mini", device="cpu"))  # a model that has none takes the bundled model's
    for name, preset in presets_by(Traits(sigma_data=0.5)).items():  # at noise levels five times as high
        levels = {key: 5 * getattr(usual[name].solver, key) for key in ("sigma_min", "sigma_max")}
        assert preset == replace(usual[name], solver=replace(usual[name].solver, **levels))
    for name, settings, says in (
        ("best", {"steps": 3}, "'steps'"),
        ("best", {"method": "magic"}, "magic"),
        ("best", {"guidance": {"w": "3"}}, "w is '3'"),
        ("best", {"guidance": {"v": 3}}, "v"),
        ("best", {"solver": {"steps": 0}}, "steps is 0"),
        ("best", {"solver": 5}, "preset 'best'"),
        ("best", {"runs": 0}, "runs is 0"),
        ("best", {"runs": 1.5}, "runs is 1.5"),
        ("best", {"filtered": 2}, "filtered is 2"),
        ("best", {"inverted": "yes"}, "inverted is 'yes'"),
        ("mine", {"constrained": "Bass"}, "paper-separator"),
        ("mine", 7, "is 7"),
    ):
        with pytest.raises(UserError, match="preset") as caught:
            presets_by(Traits(presets={name: settings}))
        assert says in str(caught.value), settings
    with pytest.raises(UserError, match="the model has best, fast"):
        preset_of(model, "quick")
    with pytest.raises(UserError, match="mapping"):
        presets_by(Traits(presets=["best"]))


def test_what_is_told_overrides_a_preset(tmp_path):
    model = gmsdi.load(tiny.write(tmp_path / "tiny"), device="cpu")
    made = song.separation(model, "bass, Drums", rest="piano", preset="fast", steps=5, w=1.0, runs=3)
    assert (made.prompts, made.labels) == (["Bass", "Drums", "Piano"], ["Bass", "Drums"])
    assert (made.preset.solver.steps, made.preset.solver.sigma_min) == (5, FAST.solver.sigma_min)
    assert (made.session.guidance.w, made.average.runs) == (1.0, 3)
    assert isinstance(made.consistent, ShareOut)
    assert made.consistent.seconds == made.wiener.seconds == 0.016  # half of this model's window
    assert isinstance(made.wiener, Wiener)
    alone = song.separation(model, ["Bass"], rest=None)
    assert (alone.prompts, alone.labels) == (["Bass", "Drums, Piano"], ["Bass"])  # the rest as one signal
    assert song.separation(model, constrained="Bass").preset.name == "paper-separator"
    assert song.separation(model, method="projected").preset.name == "projected"
    with pytest.raises(UserError, match=r"or more"):
        song.separation(model, constrained="Bass", steps=4)


def test_a_generated_mixture_is_taken_apart_as_the_models_best_preset_says_with_twice_its_w(tmp_path):
    model = gmsdi.load(tiny.write(tmp_path / "tiny"), device="cpu")
    solver = Solver("dpmpp_2m", steps=2)
    session = Session(model, solver, Guidance(w=1.0))

    def expected(best, **settings):
        separation = session.using(best.solver, replace(best.guidance, w=2 * best.guidance.w))
        stems, _ = tasks.generate_extracted(session, model.labels, separation=separation, seeds=[0], **settings)
        return stems[0].numpy()

    plain = {"by_power": 0, "filtered": 0, "solver": {"steps": 5}}
    found = []
    for own, told in (
        ({}, {}),
        ({"by_power": 1.0}, {"consistent": ShareOut(8000, 1.0, 0.016)}),  # half of this model's window
        ({"filtered": 0.5}, {"wiener": Wiener(8000, 0.5, 0.016)}),
        ({"runs": 2}, {"average": tasks.Average(2)}),
        ({"runs": 2, "inverted": True}, {"average": tasks.Average(2, inverted=True)}),
        ({"negatives": {"Bass": "Drums"}}, {"negatives": {"Bass": "Drums"}}),
    ):
        model.config["presets"] = {"best": {**plain, **own}}
        made = gmsdi.generate(model, method="extracted", solver=solver, guidance=Guidance(w=1.0))
        np.testing.assert_array_equal(np.stack(list(made.parts.values())), expected(preset_of(model, "best"), **told))
        found.append(made.parts["Bass"])
    assert len({stem.tobytes() for stem in found}) == len(found)
    bare = gmsdi.generate(model, method="extracted", solver=solver, guidance=Guidance(w=1.0), negatives={})
    np.testing.assert_array_equal(bare.parts["Bass"], found[0])


def test_schedules_that_blow_up_the_separator_are_told_from_those_that_do_not():
    """As they did with the bundled model on a chunk of four stems: peaks of 85 and 14 times, and below full scale."""
    for steps, sigma_max, churn, fails in (
        *((2, 2.0, 8.0, True), (8, 2.0, 8.0, True), (10, 2.0, 8.0, True), (25, 2.0, 8.0, False)),
        *((8, 1.0, 5.0, True), (16, 1.0, 5.0, False), (50, 1.0, 8.0, False)),
    ):
        solver = Solver("euler", steps=steps, sigma_max=sigma_max, s_churn=churn)
        if fails:
            with pytest.raises(UserError, match=rf"{steps} steps are too few for the Separator of 4 stems"):
                check_separator(solver, 4)
        else:
            check_separator(solver, 4)
    check_separator(Solver("euler", steps=12, sigma_max=2.0, s_churn=8.0), 3)  # fewer stems pull less


@pytest.mark.parametrize(
    ("preset", "noise", "some", "enough"),
    [("best", 4, None, 5), ("fast", 3, 4, 5), ("projected", 5, 6, 7), ("paper-extractor", 6, None, 8)],
)
def test_steps_that_leave_noise_are_refused_or_warned_of(preset, noise, some, enough, monkeypatch):
    """Four steps of "best" left stems of noise that cancelled in their sum, at an SI-SDR of -13 dB; six, 2.5 dB."""
    says = r"steps leave noise in the stems, up to (\d+)% of the music's level; take \d+ steps or more"
    with monkeypatch.context() as unopened:
        unopened.setattr(registry, "load", lambda *_, **__: pytest.fail("the model is loaded"))
        with pytest.raises(UserError, match=says):
            song.separation("mini", preset=preset, steps=noise)
    model = tiny_model()
    if some is not None:
        with pytest.warns(UserWarning, match=rf"{some} {says}"):
            song.separation(model, preset=preset, steps=some)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        song.separation(model, preset=preset, steps=enough)
        song.separation(model, preset=preset)


def test_noise_of_the_other_doors():
    """Of the mixture that is taken apart after its generation; of Eq. 13, whose estimate is the least exact."""
    model = tiny_model()
    with pytest.raises(UserError, match="3 steps leave noise"):
        gmsdi.generate(model, separation_solver=replace(preset_of(model, "best").solver, steps=3))
    with pytest.warns(UserWarning, match="20 steps leave noise"):
        song.separation(model, preset="paper-separator", steps=20)


@pytest.mark.parametrize("last", ["step", "estimate"])
@pytest.mark.parametrize("steps", [3, 4, 5, 6, 12])
def test_noise_left_is_that_of_a_linear_denoiser(last, steps):
    """The Extractor itself with pure noise in its state, of a network that answers 0 until the last step.

    At the last one it is the linear estimate of white music by the power that it hears, less that of the noise.
    """
    solver = replace(preset_of(tiny_model(), "best").solver, steps=steps, last=last, s_churn=0.0)
    sigmas = solver.sigmas()

    def estimate(x, sigma, prompts):
        expected = (1 - sigma**2 / x.square().mean()).clamp_min(0) if last == "estimate" else 0.0
        return x * expected if sigma <= sigmas[-2] else 0 * x

    derivative = inference.extractor(estimate, torch.zeros(1, 1, 4096), ["Bass", "Drums"])
    unit, found = torch.randn(1, 2, 1, 4096, generator=torch.Generator().manual_seed(0)), []
    unit /= unit.square().mean().sqrt()
    for place in range(steps):
        gain = {"last_gain": derivative.gain} if last == "estimate" else {}
        left = samplers.euler(derivative, sigmas[place] * unit, sigmas[place:], **gain)
        found.append(left.square().mean().sqrt().item())
    assert noise_left(solver, 2) == pytest.approx(max(found), rel=1e-3, abs=1e-4)


def test_the_default_has_the_best_published_scores_for_its_cost():
    """On the chunks of docs/mini_full; the mean of four runs is better, at four times the cost."""
    rows = published_rows()
    table = pd.read_csv(REPO / "docs" / "mini_full" / "table2_separation.csv")
    scores = table[table["stem"] == "All"].set_index("model")["active"]
    found = {name: scores[rows[row].titled().title] for name, row in ROWS.items()}
    evaluations = {name: rows[row].taken_of(1).evaluations for name, row in ROWS.items()}
    assert found["slow"] > found["best"]
    assert evaluations["slow"] == 4 * evaluations["best"]
    for name in ROWS.keys() - {"best", "slow"}:
        assert found["best"] > found[name], name
    assert evaluations["best"] < min(evaluations[name] for name in ROWS if name not in ("best", "fast"))


def test_no_preset_of_the_same_cost_is_better_than_the_default():
    """All stems of a test piece of the demo, where all four play; as presets are, no step left out."""
    data = cost.resolved([])["data"]
    config = MiniConfig(sample_rate=data["sample_rate"], **data["mini"])
    model = gmsdi.load("mini", device="cpu")
    stems, _, _ = master(render(compose_track(config, seed=data["seed"], split="test", index=0), config), config)
    x = np.stack([stems[label] for label in model.labels]).astype(np.float32) / 32768
    windows = [x[:, at : at + model.window] for at in range(0, x.shape[1] - model.window + 1, model.window)]
    truth = max(windows, key=lambda window: (window**2).mean(axis=1).min())  # the softest stem is the loudest
    mixture = truth.sum(axis=0)

    def improvement(preset):
        made = song.separation(model, model.labels, preset=preset)
        parts = made.collected(as_source(mixture, model.sample_rate)).parts
        estimate = np.stack([parts[label][0] for label in model.labels])
        return (si_sdr(estimate, truth) - si_sdr(mixture, truth)).mean()

    # Not those of four times the cost.
    others = [name for name in presets_of(model) if name not in ("best", "slow", "paper-separator")]
    found = {name: improvement(name) for name in [None, *others]}  # None: what is taken unless told otherwise
    default = found.pop(None)
    assert len(found) == 3
    assert default > 6
    assert default > max(found.values()) - 0.3, (default, found)
