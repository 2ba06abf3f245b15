"""The models that come with the package: whole, documented, and those that the configurations describe."""

import json
from dataclasses import fields

import pytest

from gmsdi.models.checkpoint import WEIGHTS, build_model, load_model
from gmsdi.study import cost
from gmsdi.study.config.files import FOLDER as CONFIGURATIONS
from gmsdi.study.config.files import WEIGHTS as FOLDER
from gmsdi.study.study import Study
from gmsdi.training.config import TrainingConfig

BASELINES = FOLDER / "baselines"
STUDY = Study(cost.resolved([]))
GENERAL = Study(cost.resolved([CONFIGURATIONS / "bundled.yaml"]))
FOLDERS = {
    "gmsdi": FOLDER / "mini",
    "general": FOLDER / "general",
    **{name: BASELINES / name for name in STUDY.baseline_models},
}


@pytest.mark.parametrize("name", FOLDERS)
def test_a_bundled_model_is_the_configured_one(name):
    if name == "demucs_gibbs":
        pytest.importorskip("demucs")
    study, network = (GENERAL, "gmsdi") if name == "general" else (STUDY, name)
    model, configured = load_model(FOLDERS[name]), build_model(study.model_config(network))
    shapes = {key: value.shape for key, value in configured.state_dict().items()}
    assert {key: value.shape for key, value in model.state_dict().items()} == shapes
    provenance = json.loads((FOLDERS[name] / "provenance.json").read_text())
    assert {"description", "command", "seed", "hardware", "steps", "training", "data"} <= provenance.keys()
    if name in ("gmsdi", "general"):
        assert str(study.config["seed"]) == str(provenance["seed"])
    if name != "gmsdi":  # that one has a history, which its provenance tells
        # Settings that the class has got since had its defaults then.
        defaults = {field.name: field.default for field in fields(TrainingConfig)}
        trained = defaults | provenance["training"]
        if name == "general":  # named after the training before; how often it is stored is of no account
            trained |= {key: study.training(network)[key] for key in ("initial", "checkpoint_every")}
        assert study.training(network) == {key: trained[key] for key in study.training(network)}


def test_they_are_small():
    megabytes = {name: (folder / WEIGHTS).stat().st_size / 1e6 for name, folder in FOLDERS.items()}
    assert megabytes["gmsdi"] <= 25
    assert megabytes["general"] <= 40
    assert sum(megabytes.values()) <= 120
