"""Every row of Table 2 and task of Figures 2 and 3, from model folders to stems, as the workflow's jobs run them."""

import inspect

import numpy as np
import pandas as pd
import pytest
import torch

from gmsdi.errors import UserError
from gmsdi.models.checkpoint import build_model, save_model
from gmsdi.sampling.noise import sample_seeds
from gmsdi.study import tasks
from gmsdi.study.generation import generate
from gmsdi.study.methods import METHODS as KINDS
from gmsdi.study.separation import separate
from gmsdi.study.setups import SETUPS, GmsdiSetup
from gmsdi.study.tasks import Clips
from gmsdi.systems import base
from gmsdi.systems.base import System
from gmsdi.systems.demucs_gibbs import GibbsSeparator
from gmsdi.systems.gmsdi import Gmsdi
from gmsdi.systems.msdm import JointMSDM
from gmsdi.systems.weak_msdm import WeakMSDM
from tests.helpers import tiny
from tests.helpers.rows import make_row, make_task

LABELS = tiny.CONFIG["labels"]
WINDOW = tiny.CONFIG["window"]
SOLVER = {"name": "euler", "steps": 3, "sigma_max": 0.5, "s_churn": 1.0}
GUIDED = {"w": 1.0, "solver": SOLVER}
METHODS = {
    "extractor": ("extractor", {**GUIDED, "negatives": {"Bass": "Drums"}}),
    "consistent mean": ("extractor", {**GUIDED, "consistent": True, "samples": 2}),
    "filtered": ("extractor", {**GUIDED, "wiener": {"amount": 0.5, "seconds": 0.02}}),
    "separator": ("separator", {**GUIDED, "constrained": "Drums"}),
    "projected": ("projected", {**GUIDED, "w": 0.0}),
    "msdm": ("msdm", {"solver": SOLVER, "constrained": "Piano"}),
    "gaussian": ("msdm_gaussian", {"solver": {**SOLVER, "steps": 12}}),
    "weak_msdm": ("weak_msdm", {"solver": SOLVER, "constrained": "Bass"}),
    "demucs_gibbs": ("demucs_gibbs", {"steps": 2, "noise": 0.1}),
}
SIGMA = {"sigma": 2.0}
PLAIN = {"guidance": {"w": 1.0}, "solver": {**SOLVER, "s_churn": 0.0}}
EXTRACTION = {"name": "extraction", "title": "", "system": {"labels": LABELS}, "consistent": True, **GUIDED}
TASKS = {
    "single": PLAIN,
    "total": {**PLAIN, "gamma_x": SIGMA, "gamma_y": float("inf")},
    "total_groups": {**PLAIN, "gamma_x": SIGMA, "gamma_y": SIGMA, "groups": [["Bass", "Piano"], ["Drums"]]},
    "total_sequential": {**PLAIN, "order": ["Piano", "Drums", "Bass"]},
    "total_extracted": {**PLAIN, "extraction": EXTRACTION},
    "partial": {**PLAIN, "gamma_x": SIGMA, "gamma_y": SIGMA},
    "partial_conditioned": {**PLAIN, "share": 0.4},
    "single_weak_msdm": {"solver": PLAIN["solver"]},
    "total_msdm": {"solver": PLAIN["solver"]},
    "partial_msdm": {"solver": PLAIN["solver"], "best_of": 2},
}


def write(folder, seed, **changes):
    torch.manual_seed(seed)
    model = build_model({**tiny.CONFIG, **changes})
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    save_model(folder, model)
    return folder


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """For each system its model folders."""
    root = tmp_path_factory.mktemp("models")
    unet, plain = tiny.CONFIG["unet"], {"kind": "none"}
    joint = write(root / "msdm", 1, unet={**unet, "in_channels": 3}, text=plain, target="stems")
    return {
        "gmsdi": [write(root / "gmsdi", 0)],
        "msdm": [joint],
        "weak_msdm": [write(root / label, k + 2, text=plain, target=label) for k, label in enumerate(LABELS)],
        "demucs_gibbs": [write(root / "gibbs", 9, kind="gibbs", target="stems", demucs=tiny.DEMUCS)],
    }


def opened(folders, setup):
    return setup.open(folders[setup.kind], device="cpu", precision="float32", fixed_batch=True)


@pytest.mark.parametrize("method", METHODS)
def test_a_chunk_depends_on_its_own_seed_alone(folders, windows, method):
    """Bit for bit the same in any batch, share and order."""
    kind, settings = METHODS[method]
    row = make_row(kind, LABELS, **settings)
    runner = opened(folders, row.system)
    assert isinstance(runner, System)
    assert (runner.labels, runner.sample_rate, runner.window) == (LABELS, tiny.CONFIG["sample_rate"], WINDOW)

    def run(ids, batch):
        return separate(row, runner, windows, ids, seed=1, batch=batch)

    whole = run(range(7), 7)
    assert whole.shape == (7, 3, WINDOW)
    assert run([], 7).shape == (0, 3, WINDOW)  # an empty shard
    assert np.isfinite(whole).all()
    np.testing.assert_array_equal(np.concatenate([run([0, 1, 2], 2), run([3, 4, 5, 6], 8)]), whole)
    np.testing.assert_array_equal(run([6, 5], 1)[::-1], whole[5:])
    assert not np.array_equal(whole[0], whole[1])
    if method in ("separator", "projected", "weak_msdm", "msdm", "consistent mean"):
        np.testing.assert_allclose(whole.sum(axis=1), windows.mixture(range(7))[:, 0], atol=1e-5)


@pytest.mark.parametrize("kind", TASKS)
def test_clips_of_every_task(folders, windows, kind):
    task = make_task(kind, LABELS, **TASKS[kind])
    bars = ["Bass, Piano"] if task.given else task.bars()
    clips = pd.DataFrame([(bar, k, 2 * k) for k in range(3) for bar in bars], columns=["bar", "clip", "chunk"])
    runner = opened(folders, task.system)
    audio = generate(task, runner, clips, seed=1, batch=8, windows=windows)
    again = np.concatenate(
        [generate(task, runner, clips.iloc[[k]], seed=1, batch=1, windows=windows) for k in range(len(clips))]
    )
    np.testing.assert_array_equal(again, audio)
    assert audio.shape == (len(clips), len(task.rows) + 1 if task.mixed else 1, WINDOW)
    assert len(np.unique(audio[:, 0, 0])) == len(clips)
    if task.given:
        np.testing.assert_array_equal(audio[:, [0, 2]], windows.stems(clips["chunk"])[:, [0, 2], 0])
    if kind in ("total_msdm", "partial_msdm", "total_sequential", "total_extracted"):
        np.testing.assert_allclose(audio[:, :3].sum(axis=1), audio[:, 3], atol=1e-5)


@pytest.mark.parametrize(
    "settings",
    [
        {"samples": 2},
        {"samples": 2, "inverted": True},
        {"by_power": {"amount": 1.0, "seconds": 0.02}},
        {"wiener": {"amount": 0.5, "seconds": 0.02}},
        {"negatives": {"Bass": "Drums"}},
    ],
    ids=lambda settings: " ".join(settings),
)
def test_a_generated_mixture_is_extracted_as_a_row_of_the_same_settings_would(folders, settings):
    plain, own = (make_row("extractor", LABELS, **{**EXTRACTION, **more}) for more in ({}, settings))
    runner = opened(folders, plain.system)
    made = []
    for row in (plain, own):
        task = make_task("total_extracted", LABELS, **PLAIN, extraction=row.model_dump())
        stems = torch.from_numpy(task.generate(runner, Clips(task.bars() * 2, [3, 5])))
        others = [sample_seeds([seed], 2)[1] for seed in (3, 5)]
        levels = None if runner.level is None else [runner.level] * 2
        torch.testing.assert_close(stems[:, :-1], row.separate(runner, stems[:, -1], seeds=others, levels=levels))
        made.append(stems)
    torch.testing.assert_close(made[0][:, -1], made[1][:, -1])
    assert (made[0] - made[1]).abs().max() > 1e-4
    of_the_task = make_task(
        "total_extracted", LABELS, **PLAIN, extraction=own.model_dump(), negatives={"Bass": "Piano"}
    )
    assert not torch.allclose(torch.from_numpy(of_the_task.generate(runner, Clips(["All"] * 2, [3, 5]))), made[1])


@pytest.mark.parametrize("kind", ["total_msdm", "single_weak_msdm"])
def test_a_baselines_clamp_limits_what_it_denoises(folders, kind):
    """The last step ends at the denoised signal."""
    peaks = []
    for clamp in (None, 0.01):
        task = make_task(kind, LABELS, **TASKS[kind], system={"labels": LABELS, "clamp": clamp})
        clips = pd.DataFrame({"bar": task.bars() * 3, "clip": np.arange(3 * len(task.bars()))}).iloc[:3]
        audio = generate(task, opened(folders, task.system), clips, seed=1, batch=8)
        peaks.append(np.abs(audio[:, : len(LABELS)]).max())
    assert peaks[1] == pytest.approx(0.01)
    assert peaks[0] > 0.02


@pytest.mark.parametrize(
    ("ability", "methods"),
    [
        (base.Separate, [Gmsdi.separate, Gmsdi.extract, JointMSDM.separate, JointMSDM.separate_gaussian]),
        (base.Separate, [WeakMSDM.separate, GibbsSeparator.separate]),
        (base.Sample, [Gmsdi.sample, WeakMSDM.sample]),
        (base.Generate, [Gmsdi.generate, Gmsdi.generate_sequential, Gmsdi.generate_extracted, JointMSDM.generate]),
        (base.Accompany, [Gmsdi.accompany, Gmsdi.accompany_conditioned, JointMSDM.accompany]),
    ],
)
def test_what_several_systems_do_has_one_signature(ability, methods):
    shared = inspect.signature(ability.__call__)
    for method in methods:
        own = inspect.signature(method)
        assert own.return_annotation == shared.return_annotation
        for name, parameter in shared.parameters.items():
            if name != "procedure":
                found = own.parameters[name]
                assert (found.kind, found.default) == (parameter.kind, parameter.default), (method, name)
        positional = [x for x in own.parameters.values() if x.kind is x.POSITIONAL_OR_KEYWORD and x.default is x.empty]
        assert [x.name for x in positional] == [
            name for name, x in shared.parameters.items() if x.kind is x.POSITIONAL_OR_KEYWORD
        ]


def test_every_system_has_rows():
    assert list(SETUPS) == [setup.model_fields["kind"].default for setup in SETUPS.values()]
    assert {"gmsdi", *SETUPS} == {row.system_name() for row in KINDS.values()}


def test_every_kind_of_row_and_task_is_run_here():
    assert {kind for kind, _ in METHODS.values()} == KINDS.keys()
    assert TASKS.keys() == tasks.TASKS.keys()


def test_models_of_other_labels_or_targets_are_refused(folders):
    for kind in SETUPS:
        with pytest.raises(UserError, match="model of mixtures"):
            GmsdiSetup(labels=LABELS).open(folders[kind][:1], device="cpu")
    with pytest.raises(
        UserError, match="the model of msdm has the labels Bass, Drums, Piano, but the data Bass, Drums"
    ):
        SETUPS["msdm"](labels=["Bass", "Drums"]).open(folders["msdm"], device="cpu")
