"""Configuration: overlays, defaults, and errors that name the key."""

from dataclasses import fields
from pathlib import Path

import pytest
import yaml

from gmsdi.errors import UserError
from gmsdi.study.config import digest, load, slug, validate, writable

REPO = Path(__file__).parents[2]
MINI = REPO / "config" / "config.yaml"


def objects(schema, path=""):
    """All sub-schemas of type object that list their properties."""
    if isinstance(schema, dict):
        if "properties" in schema and schema.get("type") == "object":
            yield path, schema
        for key, value in schema.items():
            yield from objects(value, f"{path}/{key}")


def test_overlay_changes_single_keys():
    config = load(REPO / "config" / "mini_full.yaml")
    assert config["run"] == "mini_full"
    assert config["separation"]["solver"]["steps"] == 25
    assert config["separation"]["solver"]["sigma_max"] == load()["separation"]["solver"]["sigma_max"]


def test_shipped_configurations_are_valid_and_complete():
    for overlay in ([], [REPO / "config" / "mini_full.yaml"]):
        config = validate(load(*overlay))
        assert config["generation"]["partial"]["beta"] == 1
        assert config["separation"]["guidance"] == {"convention": "paper", "interval": None, "clamp": None}
        assert validate(config) == config


def test_demo_is_large_enough():
    config = validate(load())
    assert config["separation"]["chunks"] >= 24
    assert config["grid"]["chunks"] >= 8
    assert config["generation"]["clips"] >= 16
    assert {3, 7.5, 15, 24} <= set(config["grid"]["w"])
    assert min(config["grid"]["w"]) < 3


def test_the_input_is_left_alone():
    config = load()
    before = yaml.safe_dump(config)
    validate(config)
    assert yaml.safe_dump(config) == before


def extra(config):
    return config["separation"]["extras"]["extractor_consistent"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c["separation"].update(sover={}), "unknown key 'sover' in separation; did you mean 'solver'"),
        (lambda c: c["data"]["classes"].update(Bass="Bass"), "data.classes.Bass must be of type array"),
        (lambda c: c["generation"].update(clips=1.5), "generation.clips must be of type integer, not 1.5"),
        (lambda c: c["separation"]["solver"].update(sigma_min="1e-4"), "YAML reads 1e-4 as text, write 0.0001"),
        (lambda c: c["separation"]["solver"].update(name="ddim"), 'separation.solver.name is "ddim"'),
        (lambda c: c["generation"]["total"].update(gamma_x=-1), "generation.total.gamma_x is -1"),
        (lambda c: c["generation"]["negatives"].update(Base="Drums"), "generation.negatives names the stem 'Base'"),
        (lambda c: c["separation"]["separator"].update(constrained="Vocals"), "names the stem 'Vocals'"),
        (lambda c: extra(c).update(solver={"name": "euler", "last": "first"}), 'solver.last is "first"'),
        (lambda c: extra(c).pop("consistent"), "has by_power, which is for the extractor with consistent"),
        (lambda c: extra(c).update(title="Extractor, 13 steps"), "title says 13, but the row has 12 steps"),
        (lambda c: extra(c).update(title="mean of 4", samples=2), "title says 4, but the row has 2 samples"),
        (lambda c: extra(c).update(title="{stpes} steps"), "title has {stpes}"),
        (lambda c: extra(c).update(title="{steps"), "title has {}"),
        (lambda c: extra(c).update(samples=1, inverted=True), "has inverted, which is for samples of 2 or more"),
        (lambda c: extra(c).update(model="bundled"), "has a model of its own"),
        (lambda c: c["separation"]["extras"].update(my_msdm=extra(c)), "separation.extras"),
        (lambda c: c["generation"].update(groups=[["Bass", "Drums"], ["Guitar"]]), "generation.groups has Bass"),
        (
            lambda c: c["generation"].update(groups=[["Bass"], ["Bass", "Drums", "Guitar", "Piano"]]),
            "generation.groups has Bass",
        ),
        (lambda c: c["generation"].update(sequential={"order": ["Bass"]}), "generation.sequential.order has Bass"),
        (
            lambda c: c["generation"]["total"].update(gamma_x={"sigma": 1, "above": 2, "below": 1}),
            "generation.total.gamma_x: above is not under below",
        ),
        (lambda c: c.pop("data"), "key 'data' is missing"),
        (lambda c: c["data"].update(source="slakh"), "data.source is"),
        (lambda c: c["fad"].update(checkpoint="vggish.pth"), "fad.checkpoint is for VGGish and CLAP"),
        (lambda c: c["fad"].update(sha256="10086976"), 'fad.sha256 is "10086976"'),
        (lambda c: c["fad"].update(hop=0), "fad.hop is 0"),
        (lambda c: c.update(run="../elsewhere"), 'run is "../elsewhere"'),
        (lambda c: c["demo_training"]["training"].update(step=3), "unknown key 'step' in demo_training.training"),
    ],
)
def test_mistakes_are_named_in_one_line(change, message):
    config = load()
    change(config)
    with pytest.raises(UserError) as error:
        validate(config)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_a_class_of_the_base_configuration_can_be_left_out(tmp_path):
    overlay = tmp_path / "three.yaml"
    overlay.write_text("data: {classes: {Piano: null}}\ngeneration: {negatives: {Piano: null}}\n")
    config = validate(load(overlay))
    assert list(config["data"]["classes"]) == ["Bass", "Drums", "Guitar"]
    assert "Piano" not in config["generation"]["negatives"]


def test_unreadable_files_are_named(tmp_path):
    with pytest.raises(UserError, match=r"nowhere\.yaml: cannot be read"):
        load(tmp_path / "nowhere.yaml")
    (tmp_path / "bad.yaml").write_text("a: [1, 2")
    with pytest.raises(UserError, match=r"bad\.yaml: not YAML"):
        load(tmp_path / "bad.yaml")
    (tmp_path / "list.yaml").write_text("- a")
    with pytest.raises(UserError, match=r"list\.yaml"):
        load(tmp_path / "list.yaml")


def test_no_part_of_the_schema_takes_unknown_keys():
    found = list(objects(yaml.safe_load(SCHEMA.read_text())))
    assert len(found) > 15
    assert [path for path, schema in found if schema.get("additionalProperties") is not False] == []


def test_schema_knows_the_keys_of_the_classes_that_it_configures():
    from gmsdi.data.mini import MiniConfig
    from gmsdi.models.edm.unet import UNetConfig
    from gmsdi.sampling.solver import Guidance, Solver
    from gmsdi.training.config import TrainingConfig

    schema = yaml.safe_load(SCHEMA.read_text())
    properties, definitions = schema["properties"], schema["$defs"]
    for keys, configured, elsewhere in (
        (properties["data"]["properties"]["mini"], MiniConfig, {"sample_rate"}),
        (definitions["unet"], UNetConfig, {"text_features"}),
        (definitions["training"], TrainingConfig, set()),
        (definitions["solver"], Solver, set()),
        (definitions["guidance"], Guidance, {"w"}),
    ):
        assert set(keys["properties"]) == {field.name for field in fields(configured)} - elsewhere


def test_digest_ignores_the_order_of_keys():
    assert digest({"a": 1, "b": [1, 2]}) == digest({"b": [1, 2], "a": 1})
    assert digest({"a": 1}) != digest({"a": 2})


def test_slug_makes_file_names():
    assert slug("Synth Lead/é") == "Synth_Lead__"


def test_writable_names_what_is_in_the_way(tmp_path):
    writable(tmp_path / "a" / "b")
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="file is not a folder"):
        writable(tmp_path / "file" / "run")
