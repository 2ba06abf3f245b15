"""What rows and tasks count, against the networks' own counters."""

import math
from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import yaml

from gmsdi.inference.wiener import Wiener
from gmsdi.models.demucs import ConditionalSeparator
from gmsdi.sampling import samplers, schedules
from gmsdi.sampling import solver as solvers
from gmsdi.sampling.session import Batch
from gmsdi.sampling.solver import SAMPLERS, Solver
from gmsdi.study import methods, tasks
from gmsdi.study.config import base, load, validate
from gmsdi.study.config.rows import section_of
from gmsdi.study.counting import CALL, evaluation_sigmas, passes, share
from gmsdi.study.generation import clips_of, generate
from gmsdi.study.separation import separate
from gmsdi.study.table_rows import Rows
from gmsdi.systems.demucs_gibbs import GibbsSeparator
from gmsdi.systems.gmsdi import Gmsdi
from gmsdi.systems.msdm import JointMSDM
from gmsdi.systems.weak_msdm import WeakMSDM
from tests.helpers.pipes import model_of
from tests.helpers.rows import defined_by, example, example_of_a_method, make_row, make_task

LABELS = ["Bass", "Drums", "Guitar", "Piano"]
WINDOW = 32
EULER = {"name": "euler", "steps": 3, "sigma_min": 0.01, "sigma_max": 0.5, "rho": 7, "s_churn": 1.0}
ADPM2 = {"name": "adpm2", "steps": 4, "sigma_min": 0.01, "sigma_max": 0.5, "rho": 7}
HEUN = {**EULER, "name": "heun"}
TWICE = {**EULER, "resamples": 2}
MULTISTEP = {**ADPM2, "name": "dpmpp_2m"}


class Halving:
    """A denoiser of any signal and text."""

    def embed(self, texts):
        return SimpleNamespace(select=lambda index: None)

    def denoise(self, x, sigma, cond):
        return self(x, sigma, cond)

    def __call__(self, x, sigma, cond):
        return x / 2


def system(kind):
    config = {"sample_rate": 8000, "window": WINDOW, "labels": LABELS}
    options = {"max_batch": CALL, "fixed_batch": True}
    if kind == "msdm":
        return JointMSDM(Halving(), config, **options)
    if kind == "weak_msdm":
        return WeakMSDM(dict.fromkeys(LABELS, Halving()), config, **options)
    if kind == "demucs_gibbs":
        net = torch.nn.Sequential(torch.nn.Conv1d(9, 4, 1), torch.nn.Unflatten(1, (4, 1)))
        return GibbsSeparator(ConditionalSeparator(net, config), **options)
    return Gmsdi(model_of(Halving(), config), LABELS, batch=Batch(CALL, fixed=True))


METHODS = [
    *(("extractor", {"w": 2.0, "solver": EULER, "guidance": x}) for x in ({}, {"interval": [0.02, 0.3]})),
    ("extractor", {"w": 1.0, "solver": TWICE, "consistent": True, "samples": 2, "guidance": {"convention": "adp"}}),
    ("separator", {"w": 0.0, "solver": {**HEUN, "steps": 8}, "constrained": "Drums"}),
    ("projected", {"w": -1.0, "solver": MULTISTEP, "samples": 3}),
    ("msdm", {"solver": EULER, "constrained": "Piano"}),
    ("msdm_gaussian", {"solver": {**EULER, "steps": 12}}),
    ("weak_msdm", {"solver": TWICE, "constrained": "Bass"}),
    ("demucs_gibbs", {"steps": 3}),
]


@pytest.mark.parametrize(("kind", "settings"), METHODS)
def test_separation_takes_the_evaluations_that_are_counted(windows, kind, settings):
    row = make_row(kind, LABELS, **settings)
    for items, batch in ((7, 3), (5, 8), (1, 1)):
        runner = system(row.system.kind)
        separate(row, runner, windows, range(items), seed=1, batch=batch)
        assert row.taken(items, batch).evaluations == runner.evaluations


def test_every_kind_is_counted():
    assert {kind for kind, _ in METHODS} == methods.METHODS.keys()
    assert TASKS.keys() == tasks.TASKS.keys()


SIGMA = {"sigma": 3.0}
EXTRACTION = {
    **{"name": "extraction", "title": "", "system": {"labels": LABELS}, "w": 2.0, "samples": 2, "consistent": True},
    **{"solver": {**TWICE, "last": "estimate"}, "by_power": {"amount": 0.25, "seconds": 0.001}},
}
TASKS = {
    "single": {},
    "total": {"gamma_x": SIGMA, "gamma_y": SIGMA},
    "total_groups": {"gamma_x": SIGMA, "gamma_y": SIGMA, "groups": [["Bass", "Piano"], ["Drums"], ["Guitar"]]},
    "total_sequential": {"share": 0.4},
    "total_extracted": {"extraction": EXTRACTION},
    "partial": {"gamma_x": SIGMA, "gamma_y": SIGMA},
    "partial_conditioned": {"share": 0.4},
    "single_weak_msdm": None,
    "total_msdm": None,
    "partial_msdm": None,
}


@pytest.mark.parametrize("interval", [None, [0.02, 0.3]])
@pytest.mark.parametrize("solver", [EULER, ADPM2], ids=lambda solver: solver["name"])
@pytest.mark.parametrize("kind", TASKS)
def test_generation_takes_the_evaluations_that_are_counted(windows, kind, solver, interval):
    own = TASKS[kind]
    if own is None:  # no guidance
        own = {"best_of": 5} if kind == "partial_msdm" else {}
    else:
        own = {**own, "guidance": {"w": 1.0, "interval": interval}}
    task = make_task(kind, LABELS, **own, solver=solver, clips=5)
    every = clips_of(task, windows)
    assert task.bars() * 5 == every["bar"].tolist()
    for shard, batch in ((1, 3), (2, 8)):
        clips = every.iloc[list(share(range(len(every)), shard, 2))]
        runner = system(task.system.kind)
        audio = generate(task, runner, clips, seed=1, batch=batch, windows=windows)
        assert audio.shape == (len(clips), task.signals, WINDOW)
        assert audio.any(axis=(1, 2)).all()
        assert task.taken(clips["bar"].tolist(), batch).evaluations == runner.evaluations


@pytest.mark.parametrize(
    "solver",
    [
        *({"name": name, "steps": steps} for name in SAMPLERS for steps in (1, 4)),
        *(EULER, {**EULER, "s_churn": 100.0}, TWICE, HEUN),
        *({**ADPM2, "midpoint_rho": 3.0}, {**ADPM2, "midpoint": "geometric"}),
    ],
)
def test_noise_levels_are_those_of_the_samplers(solver):
    evaluates_where_it_says(solver)


def evaluates_where_it_says(solver):
    seen = []

    def derivative(x, sigma):
        seen.append(sigma)
        return torch.zeros_like(x)

    made = Solver(**solver)
    made.sample(derivative, torch.zeros(1), noise=torch.zeros_like)
    assert evaluation_sigmas(solver) == made.evaluated_at() == seen
    assert len(seen) == made.evaluations
    assert pytest.approx(2**0.5 - 1) == schedules.MAX_CHURN


def test_open_guidance_counts_as_guidance():
    assert passes(EULER, {}, None) == passes(EULER, {}, 3.0) == 2 * passes(EULER, {}, 0.0)


def test_the_worked_example_of_a_method_is_true(windows, monkeypatch):
    """The class in CONTRIBUTING.md is a row: a configuration has it, it separates, counts and says itself."""
    kind = example_of_a_method()
    settings = {"system": {"labels": LABELS}, "solver": EULER, "w": 1.0}
    row = kind(name="turns", title="Turns", **settings)
    runner = system("gmsdi")
    found = separate(row, runner, windows, range(5), seed=1, batch=4)
    assert row.taken(5, 4).evaluations == runner.evaluations
    parts = [
        separate(
            make_row("separator", **settings, constrained=label), system("gmsdi"), windows, range(5), seed=1, batch=4
        )
        for label in LABELS
    ]
    np.testing.assert_allclose(found, np.mean(parts, axis=0), atol=1e-6)
    assert [cell.w for cell in row.cells([0, 2], {})] == [0, 2]
    assert row.summary() == "w = 1, 3 steps"

    filtered = kind(name="turns", title="Turns", **settings, wiener={"seconds": 0.001})
    stems = separate(filtered, system("gmsdi"), windows, range(5), seed=1, batch=4)
    mixture = torch.from_numpy(windows.mixture(range(5))).reshape(5, 1, WINDOW)
    wiener = Wiener(8000, seconds=0.001)(torch.from_numpy(found).reshape(5, 4, 1, WINDOW), mixture)
    np.testing.assert_allclose(stems.reshape(wiener.shape), wiener, atol=1e-6)
    assert not np.allclose(stems, found, atol=1e-3)
    assert filtered.summary() == "w = 1, 3 steps, 100% filtered"

    monkeypatch.setitem(methods.METHODS, "turns", kind)
    config, given = validate(load()), yaml.safe_load(example("separation:", "yaml"))["separation"]["rows"]["turns"]
    config["separation"]["rows"]["turns"] = section_of(kind).model_validate(given).model_dump()
    row = Rows(config).table["turns"]
    assert (type(row), row.title, row.w, row.paper) == (kind, "GMSDI Separator, every stem in turn", 3, None)
    assert row.solver == {**Rows(config).table["extractor"].solver, "steps": 20}
    assert Rows(config).cells(row, "test")[-1].w == 24


def test_the_worked_example_of_a_sampler_is_true(windows, monkeypatch):
    """The function and the class in CONTRIBUTING.md are a sampler that a configuration has."""
    names, others = defined_by("def midpoint", samplers), defined_by("@dataclass", solvers)
    monkeypatch.setattr(samplers, "midpoint", names["midpoint"], raising=False)
    monkeypatch.setitem(SAMPLERS, "midpoint", others["Midpoint"])
    own = {"name": "midpoint", "steps": 4, "sigma_min": 0.01, "sigma_max": 0.5}
    evaluates_where_it_says(own)
    made = Solver(**own)
    sigmas = made.sigmas()
    steps = made.step(lambda x, sigma: x, 1.0, sigmas)  # dx/dσ = x
    expected = math.prod(1 + h + h**2 / 2 * (b > 0) for a, b in pairwise(sigmas) if (h := b - a))
    assert steps == pytest.approx(expected, rel=1e-12)

    row = make_row("extractor", LABELS, solver=own, w=1.0, guidance={"interval": [0.02, 0.3]})
    runner = system("gmsdi")
    separate(row, runner, windows, range(3), seed=1, batch=8)
    assert row.taken(3, 8).evaluations == runner.evaluations

    assert base._all_options()(name="midpoint", steps=4).model_dump() == {"name": "midpoint", "steps": 4}
    assert base.model_of(others["Midpoint"]).model_validate(own).model_dump() == {**own, "rho": 7.0}
