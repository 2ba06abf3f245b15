"""Every system of Table 2 and Figures 2 and 3, from model folders to stems, as the workflow's jobs run them."""

import numpy as np
import pandas as pd
import pytest
import torch

from gmsdi.errors import UserError
from gmsdi.models.checkpoint import build_model, save_model
from gmsdi.study.experiments import PARTIAL, SINGLE, TOTAL, generate, load_system, separate
from tests.unit import tiny

LABELS = tiny.CONFIG["labels"]
WINDOW = tiny.CONFIG["window"]
SOLVER = {"name": "euler", "steps": 3, "sigma_max": 0.5, "s_churn": 1.0}
DEMUCS = {
    "channels": 4,
    "depth": 2,
    "dconv_depth": 1,
    "resample": False,
    "norm_starts": 2,
    "dconv_attn": 2,
    "dconv_lstm": 2,
}
METHODS = {
    "extractor": {"w": 1.0, "solver": SOLVER, "negatives": {"Bass": "Drums"}},
    "extractor, consistent mean": {"w": 1.0, "solver": SOLVER, "consistent": True, "samples": 2},
    "extractor, filtered": {"w": 1.0, "solver": SOLVER, "wiener": {"amount": 0.5, "seconds": 0.02}},
    "separator": {"w": 1.0, "solver": SOLVER, "constrained": "Drums"},
    "separator, projected": {"w": 0.0, "solver": SOLVER, "projected": True},
    "msdm": {"solver": SOLVER, "constrained": "Piano"},
    "msdm, gaussian": {"solver": {**SOLVER, "steps": 12}, "gaussian": True},
    "weak_msdm": {"solver": SOLVER, "constrained": "Bass"},
    "demucs_gibbs": {"steps": 2, "block": "uniform", "noise": 0.1},
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
    """For each system its model folders by target."""
    root = tmp_path_factory.mktemp("models")
    unet, plain = tiny.CONFIG["unet"], {"kind": "none"}
    joint = write(root / "msdm", 1, unet={**unet, "in_channels": 3}, text=plain, target="stems")
    return {
        "gmsdi": {"mixture": write(root / "gmsdi", 0)},
        "msdm": {"stems": joint},
        "weak_msdm": {label: write(root / label, k + 2, text=plain, target=label) for k, label in enumerate(LABELS)},
        "demucs_gibbs": {"stems": write(root / "gibbs", 9, kind="gibbs", target="stems", demucs=DEMUCS)},
    }


def system(folders, name):
    base = name if name in folders else "gmsdi"
    options = {"device": "cpu", "precision": "float32", "fixed_batch": True}
    return load_system(name, folders[base], labels=LABELS, **options)


@pytest.mark.parametrize("method", METHODS)
def test_a_chunk_depends_on_its_own_seed_alone(folders, windows, method):
    """Bit for bit the same in any batch, share and order."""
    name = method.split(",")[0]
    runner, settings = system(folders, name), {"name": name, **METHODS[method]}

    def run(ids, batch):
        return separate(runner, windows, ids, settings, guidance={}, seed=1, batch=batch)

    whole = run(range(7), 7)
    assert whole.shape == (7, 3, WINDOW)
    assert np.isfinite(whole).all()
    np.testing.assert_array_equal(np.concatenate([run([0, 1, 2], 2), run([3, 4, 5, 6], 8)]), whole)
    np.testing.assert_array_equal(run([6, 5], 1)[::-1], whole[5:])
    assert not np.array_equal(whole[0], whole[1])
    if name in ("separator", "weak_msdm") or method in ("msdm", "extractor, consistent mean"):
        np.testing.assert_allclose(whole.sum(axis=1), windows.mixture(range(7))[:, 0], atol=1e-5)


@pytest.mark.parametrize(
    ("name", "task"),
    [
        ("gmsdi", SINGLE),
        ("gmsdi", TOTAL),
        ("gmsdi", PARTIAL),
        ("weak_msdm", SINGLE),
        ("msdm", TOTAL),
        ("msdm", PARTIAL),
    ],
)
def test_clips_of_every_task(folders, windows, name, task):
    bars = {SINGLE: LABELS, TOTAL: ["All"], PARTIAL: ["Bass, Piano"]}[task]
    clips = pd.DataFrame([(bar, k, 2 * k) for k in range(3) for bar in bars], columns=["bar", "clip", "chunk"])
    sigma = {"sigma": 2.0}
    likelihood = {TOTAL: {"gamma_x": sigma, "gamma_y": float("inf")}, PARTIAL: {"gamma_x": sigma, "gamma_y": sigma}}
    settings = {"system": name, "task": task, "solver": {**SOLVER, "s_churn": 0.0}}
    if name == "gmsdi":
        settings |= {"guidance": {"w": 1.0}, "negatives": {}, "likelihood": likelihood.get(task, {})}
    if name == "msdm":
        settings["best_of"] = 2
    runner = system(folders, name)
    audio = generate(runner, clips, LABELS, settings, seed=1, batch=8, windows=windows)
    again = np.concatenate(
        [
            generate(runner, clips.iloc[[k]], LABELS, settings, seed=1, batch=1, windows=windows)
            for k in range(len(clips))
        ]
    )
    np.testing.assert_array_equal(again, audio)
    assert audio.shape == (len(clips), 1 if task == SINGLE else 4, WINDOW)
    assert len(np.unique(audio[:, 0, 0])) == len(clips)
    if task == PARTIAL:
        np.testing.assert_array_equal(audio[:, [0, 2]], windows.stems(clips["chunk"])[:, [0, 2], 0])
    if name == "msdm":
        np.testing.assert_allclose(audio[:, :3].sum(axis=1), audio[:, 3], atol=1e-5)


@pytest.mark.parametrize(("name", "task"), [("msdm", TOTAL), ("weak_msdm", SINGLE)])
def test_a_baselines_clamp_limits_what_it_denoises(folders, name, task):
    """The last step ends at the denoised signal."""
    bars = LABELS if task == SINGLE else ["All"] * 3
    clips = pd.DataFrame({"bar": bars, "clip": range(3)})
    settings = {"system": name, "task": task, "solver": {**SOLVER, "s_churn": 0.0}}
    peaks = []
    for clamp in (None, 0.01):
        runner = load_system(name, folders[name], labels=LABELS, clamp=clamp, device="cpu", precision="float32")
        peaks.append(np.abs(generate(runner, clips, LABELS, settings, seed=1, batch=8)[:, : len(LABELS)]).max())
    assert peaks[1] == pytest.approx(0.01)
    assert peaks[0] > 0.02


def test_models_of_other_labels_or_targets_are_refused(folders):
    for path in (folders["msdm"]["stems"], folders["weak_msdm"]["Bass"], folders["demucs_gibbs"]["stems"]):
        with pytest.raises(UserError, match="model of mixtures"):
            load_system("gmsdi", {"mixture": path}, labels=LABELS, device="cpu")
    with pytest.raises(UserError, match="the model of msdm has Bass, Drums, Piano, the data Bass, Drums"):
        load_system("msdm", folders["msdm"], labels=["Bass", "Drums"])
