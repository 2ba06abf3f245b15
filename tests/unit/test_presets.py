"""Presets: typed, stored with a model, those of the study's rows; the default is the best of them."""

import warnings
from types import SimpleNamespace

import numpy as np
import pytest

import gmsdi
from gmsdi import song
from gmsdi.data.mini import MiniConfig, compose_track, render
from gmsdi.errors import UserError
from gmsdi.inference import ShareOut, Wiener
from gmsdi.metrics.si_sdr import si_sdr
from gmsdi.models.protocol import Traits
from gmsdi.presets import DEFAULTS, preset_of, presets_by, presets_of
from gmsdi.sampling.solver import Guidance, Solver
from gmsdi.stability import check_separator
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


def test_the_defaults_are_the_rows_of_the_readmes_table():
    rows = Study(cost.resolved([REPO / "config" / "mini_full.yaml"])).rows
    presets = presets_by(Traits())
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
    assert presets["fast"].guidance.w == DEFAULTS["fast"]["guidance"]["w"]
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
    made = song.separation(model, "bass, Drums", rest="piano", preset="fast", steps=4, w=1.0, runs=3)
    assert (made.prompts, made.labels) == (["Bass", "Drums", "Piano"], ["Bass", "Drums"])
    assert (made.preset.solver.steps, made.preset.solver.sigma_min) == (4, DEFAULTS["fast"]["solver"]["sigma_min"])
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
    ("preset", "few", "enough"),
    [("best", 4, 5), ("projected", 6, 7), ("paper-extractor", 6, 8), ("paper-separator", 20, 25)],
)
def test_steps_that_leave_noise_are_warned_of(preset, few, enough):
    """Three steps of "best" left stems of noise that cancelled in their sum, with twice the song's power."""
    model = gmsdi.load("mini", device="cpu")
    with pytest.warns(UserWarning, match=rf"{few} steps leave noise in the stems, .*; take \d+ steps or more"):
        song.separation(model, preset=preset, steps=few)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        song.separation(model, preset=preset, steps=enough)
        song.separation(model, preset=preset)


def test_the_default_is_the_best_preset_of_the_bundled_model():
    """On two chunks of a composed piece in which all four instruments play."""
    config = MiniConfig(sections=(6, 8))
    stems = render(compose_track(config, seed=12, split="test", index=0), config)
    model = gmsdi.load("mini", device="cpu")
    x = np.stack([stems[label] for label in model.labels])
    x *= 0.9 / np.abs(x.sum(axis=0)).max()
    starts = range(0, x.shape[1] - model.window, model.window // 2)
    loudest = sorted(starts, key=lambda at: -np.log((x[:, at : at + model.window] ** 2).mean(axis=1) + 1e-9).sum())
    chunks = [x[:, at : at + model.window] for at in (loudest[0], loudest[2])]

    def score(**options):
        scores = []
        for chunk in chunks:
            mixture = chunk.sum(axis=0)
            found = gmsdi.separate(model, mixture, sample_rate=model.sample_rate, **options)
            estimates = np.concatenate([found.parts[label] for label in model.labels])
            scores.append((si_sdr(estimates, chunk) - si_sdr(mixture, chunk)).mean())
        return np.mean(scores)

    default = score()
    others = {"fast": score(preset="fast")}
    for name, steps in (("paper-separator", 25), ("paper-extractor", 16)):  # half of theirs, for the sake of time
        others[name] = score(preset=name, steps=steps)
    assert default > 3
    assert default > others["paper-separator"]
    assert default > max(others.values()) - 0.5  # the fast one and Eq. 14 are near
