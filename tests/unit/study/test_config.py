"""Configuration: overlays, defaults, and errors that name the key."""

import json
import re
import shlex
import subprocess
import sys
from dataclasses import fields

import pytest
import yaml

from gmsdi.data.settings import MiniConfig
from gmsdi.errors import UserError
from gmsdi.models.settings import UNetConfig
from gmsdi.sampling.solver import Solver
from gmsdi.study.config import load, retyped, validate, writable
from gmsdi.study.config.schema import schema
from gmsdi.study.config_reference import editors
from gmsdi.study.study import Study
from gmsdi.training.config import TrainingConfig
from tests import REPO
from tests.helpers.rows import ALONE


def objects(schema, path=""):
    """All sub-schemas of type object that list their properties."""
    if isinstance(schema, dict):
        if "properties" in schema:
            yield path, schema
        for key, value in schema.items():
            yield from objects(value, f"{path}/{key}")
    elif isinstance(schema, list):
        for place, value in enumerate(schema):
            yield from objects(value, f"{path}/{place}")


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
    assert config["separation"]["chunks"] >= 14
    assert config["grid"]["chunks"] >= 4
    assert not config["grid"]["solver"]  # the steps of Table 2; with half of them, stems are noise
    assert config["generation"]["clips"] >= 12
    assert {3, 7.5, 15, 24} <= set(config["grid"]["w"])
    assert min(config["grid"]["w"]) < 3


def test_the_input_is_left_alone():
    config = load()
    before = yaml.safe_dump(config)
    validate(config)
    assert yaml.safe_dump(config) == before


def rows(config):
    return config["separation"]["rows"]


def extra(config):
    return rows(config)["extractor_consistent"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c["separation"].update(sover={}), "unknown key 'sover' in separation; did you mean 'solver'"),
        (lambda c: c["data"]["classes"].update(Bass="Bass"), "data.classes.Bass must be of type array"),
        (lambda c: c["generation"].update(clips=1.5), "generation.clips must be of type integer, not 1.5"),
        (lambda c: c["separation"]["solver"].update(sigma_min="1e-4"), "YAML reads 1e-4 as text: write 0.0001"),
        (lambda c: c["separation"]["solver"].update(name="ddim"), 'separation.solver.name is "ddim"'),
        (lambda c: c["generation"]["total"].update(gamma_x=-1), "generation.total.gamma_x is -1"),
        (lambda c: c["generation"]["negatives"].update(Base="Drums"), "generation.negatives names the stem 'Base'"),
        (lambda c: rows(c)["separator"].update(constrained="Vocals"), "names the stem 'Vocals'"),
        (lambda c: extra(c).update(solver={"name": "euler", "last": "first"}), 'solver.last is "first"'),
        (lambda c: extra(c).pop("consistent"), "has by_power, which needs consistent: true"),
        (lambda c: extra(c).update(title="Extractor, 13 steps"), "title says 13, but the row has 12 steps"),
        (lambda c: extra(c).update(title="mean of 4", samples=2), "title says 4, but the row has 2 samples"),
        (lambda c: extra(c).update(title="{stpes} steps"), "title has {stpes}"),
        (lambda c: extra(c).update(title="{steps"), "title has {}"),
        (lambda c: extra(c).update(samples=1, inverted=True), "has inverted, which needs samples of 2 or more"),
        (
            lambda c: extra(c).update(model="mini"),
            "has its own model, which Table 1 does not cover; give its w",
        ),
        (
            lambda c: extra(c).update(consistant=True),
            "unknown key 'consistant' in separation.rows.extractor_consistent; did you mean 'consistent'?",
        ),
        (lambda c: rows(c)["msdm"].update(w=3), "unknown key 'w' in separation.rows.msdm; known keys: kind"),
        (lambda c: extra(c).update(kind="extracter"), "kind is \"extracter\": did you mean 'extractor'?"),
        (
            lambda c: extra(c).update(kind=["extractor"]),
            'consistent.kind is ["extractor"]: choose extractor, ',
        ),
        (lambda c: rows(c).update(x={"w": 1}), "key 'kind' is missing in separation.rows.x; every row has one"),
        (lambda c: rows(c).update(extractor_consistant={"w": 1}), "did you mean 'extractor_consistent'?"),
        (lambda c: rows(c).update(x=3), "separation.rows.x must be of type object, not 3"),
        (lambda c: rows(c).update(X=extra(c)), "separation.rows.X: a name must be like [a-z][a-z0-9_]{0,99}"),
        (
            lambda c: (
                c["data"]["classes"].update(drums=c["data"]["classes"].pop("Drums"))
                or c["generation"].update(negatives={})
                or rows(c).update(separator_drums={"kind": "projected"})
            ),
            "separation.rows.separator_drums: a name must be like [a-z][a-z0-9_]{0,99} and not that of a row",
        ),
        (
            lambda c: rows(c).pop("separator"),
            "needs the row separator, from which Table 1 is made: separator: {kind: sep",
        ),
        (lambda c: rows(c)["extractor"].update(published=False), "needs the row extractor, from which Table 1 is made"),
        (
            lambda c: rows(c).update(x={"kind": "msdm", "published": True}),
            "rows.x has published: true, and so does msdm",
        ),
        (lambda c: extra(c).update(paper=True), "extractor_consistent has the paper's numbers, and so does extractor"),
        (lambda c: extra(c).update(title="MSDM"), "title is 'MSDM', which is the paper's name for a method"),
        (lambda c: rows(c)["separator"].update(w=5), "has w 5, which the grid on test chunks does not cover"),
        (lambda c: rows(c).update(x={"kind": "validated", "twin": "separator"}), "set grid.validation.chunks"),
        (lambda c: rows(c).update(x={"kind": "validated", "twin": "msdm"}), "x.twin is 'msdm'; it must be a published"),
        (lambda c: rows(c).update(x={"kind": "ensemble", "of": ["msdm", "x"]}), "x.of has 'x'; choose from the rows"),
        (lambda c: rows(c).update(x={"kind": "ensemble", "of": ["msdm"]}), "it must have at least 2 entries"),
        (lambda c: rows(c)["extractor"].update(guidance={"interval": [3, 1]}), "guidance.interval is [3, 1]"),
        (lambda c: c["generation"].update(groups=[["Bass", "Drums"], ["Guitar"]]), "generation.groups has Bass"),
        (
            lambda c: c["generation"].update(groups=[["Bass"], ["Bass", "Drums", "Guitar", "Piano"]]),
            "generation.groups has Bass",
        ),
        (lambda c: c["generation"].update(sequential={"order": ["Bass"]}), "generation.sequential.order has Bass"),
        (
            lambda c: c["generation"]["total"].update(gamma_x={"sigma": 1, "above": 2, "below": 1}),
            "generation.total.gamma_x: above must be less than below",
        ),
        (lambda c: c.pop("data"), "key 'data' is missing"),
        (lambda c: c["data"].update(source="slakh"), "data.source is"),
        (lambda c: c["fad"].update(checkpoint="vggish.pth"), "fad.checkpoint is for VGGish and CLAP"),
        (lambda c: c["fad"].update(sha256="10086976"), 'fad.sha256 is "10086976"'),
        (lambda c: c["fad"].update(hop=0), "fad.hop is 0"),
        (lambda c: c.update(run="../elsewhere"), 'run is "../elsewhere"'),
        (lambda c: c.update(run="x" * 101), 'run is "xxx'),
        (lambda c: c.update(seed=10**400), "it must be a whole number"),
        (lambda c: c["separation"]["solver"].update(rho=1e-9), "separation.solver: rho 1e-09 leaves no distance"),
        (lambda c: c.update(base=None, generation={}), "key 'name' is missing in generation.solver"),
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


@pytest.mark.parametrize(
    ("overlay", "message"),
    [
        ("separation: {rows: {msdm: {constrained: Paino}}}", "names the stem 'Paino'; did you mean 'Piano'?"),
        ("separation: {rows: {demucs_gibbs: {block: unifrom}}}", "\"unifrom\": did you mean 'uniform'?"),
        ("separation: {rows: {demucs_gibbs: {block: 9}}}", "demucs_gibbs has block 9; at most all 4 stems"),
        ("separation: {extras: {x: {of: extractor}}}", "unknown key 'extras' in separation; known keys: chunks, "),
        ("baselines: {demucs_gibbs: {model: {demucs: {chanels: 8}}}}", "unknown key 'chanels' in baselines"),
        ("generation: {guidance: {interval: [3, 1]}}", "generation.guidance: guidance interval is [3, 1]"),
        ("separation: {solver: {last: estimate}}", "separation.solver.last is estimate, which only Extractors"),
        ("data: {window: 65535}", "data.window is 65535"),
        ("data: {window: 65536}", "data.window is 65536, but the model of model.folder was trained with 32768 samples"),
        ("data: {window: 131072}", "data.window is 131072, but the model of model.folder was trained with 32768"),
        ("{data: {window: 131072}, model: {train: true}}", "but the model of baselines.folder (weak_msdm_Bass) was"),
        ("data: {window: 16384, sample_rate: 8192}", "separation.chunks is 14, but single chunks of 2 s"),
        ("{data: {window: 8192}, separation: {chunks: null}}", "grid.chunks is 4, but single chunks of 1.02 s"),
        ("data: {sample_rate: 16000}", "model.folder was trained with 8000 Hz"),
        ("data: {classes: {All: [Bass]}}", "the label 'All' is reserved for all stems together"),
        ("data: {classes: {'Bass, Drums': [Bass]}}", "must be one line of text without commas"),
        ("data: {classes: {Бас: [Bass], Рог: [Piano]}}", "'Рог' and 'Бас' have the same file name, '___'"),
        ("data: {classes: {Horn: [Horn]}}", "data.classes.Horn has 'Horn'; mini has Bass, Drums, Guitar, Piano"),
        ("data: {kind: midi, classes: {Bass: ['32'], Drums: [drums], Guitar: ['24'], Piano: ['0']}, midi: {required: "
         "[Drum]}}", "data.midi.required names the stem 'Drum'; did you mean 'Drums'?"),
        ("data: {kind: midi, classes: {Bass: ['3-2']}}", "'3-2' is not a General MIDI program"),
        ("separation: {solver: {name: dpmpp_2m, s_churn: 3}}", "'s_churn' in separation.solver; it belongs to euler"),
        ("separation: {rows: {extractor: {solver: {name: dpmpp_2m, s_churn: 3}}}}", "extractor.solver: dpmpp_2m has"),
        ("separation: {rows: {extractor: {solver: {sigma_min: 9}}}}", "extractor.solver: sigma_min 9 and sigma_max 2"),
        ("separation: {rows: {separator: {solver: {last: estimate}}}}", "separator.solver.last is estimate, which"),
        ("separation: {rows: {again: {title: 'Extractor, consistent', kind: extractor}}}", "and so is that of"),
        ("training: {p_extra: {share: 0.5, low: 2, high: 1}}", "training.p_extra: low is 2, which is not below high"),
        ("training: {ema_power: [0.5]}", "ema_power.0 is 0.5: it must be a number above 0"),
        ("model: {train: true, config: {unet: {factors: [1, 3, 2, 2]}}}", "not a multiple of the network's stride 384"),
        ("model: {train: true, config: {unet: {num_blocks: [1]}}}", "num_blocks has 1 entries for 4 levels"),
        ("demo_training: {training: {batch: 3, devices: 2}}", "training.batch is 3, not a multiple of its 2"),
        ("separation: {rows: {x: {title: X, kind: extractor, wiener: {seconds: 99}}}}", "x.wiener.seconds is 99"),
        ("data: {mini: {section_sizes: {'9': 1}}}", "section_sizes has the key '9'"),
        ("base: dmeo", "base is 'dmeo', which is not a file"),
        ("generation: {total: {gamma_x: 0.0001}}", "generation.total, with gamma_x, gamma_y and solver as they are: "),
        ("generation: {total: {gamma_x: {sigma: 2}, gamma_y: {sigma: 0.3}}}", "unstable; raise gamma: 2.24*sigma"),
        ("generation: {partial: {gamma_x: 0.0001}}", "it is unstable; raise gamma: 2*sigma is stable"),
        ("generation: {groups: [[Bass, Drums], [Guitar, Piano]], total: {gamma_x: 0.1}}", "config: generation.total"),
        ("separation: {rows: {msdm_gaussian: {solver: {steps: 3}}}}", "3 steps are too few for the Gaussian "
         "separator of 4 stems: step 1 multiplies the mixture's error by -2.34; take 22 steps or more"),
        ("{costs: {steps: [50, 2]}, separation: {rows: {msdm_gaussian: {costed: true}}}}", "costs.steps has 2, with "
         "which separation.rows.msdm_gaussian is unstable"),
        ("{costs: {steps: [5]}, separation: {rows: {x: {kind: projected, w: 1, solver: {steps: 1, sigma_min: 2}}}}}",
         "costs.steps has 5, with which separation.rows.x has a solver that cannot be used: sigma_min and"),
        ("separation: {rows: {separator: {solver: {steps: 2, sigma_max: 2000}}}}", "2 steps are too few for the"),
        ("separation: {rows: {weak_msdm: {solver: {steps: 4, sigma_max: 100}}}}", "4 steps are too few for the"),
        ("separation: {rows: {msdm: {solver: {steps: 4, sigma_max: 100}}}}", "4 steps are too few for the"),
        ("grid: {solver: {steps: 4, sigma_max: 1000}}", "grid.solver, for separator: the row is unstable: 4 steps are"),
        ("baselines: {train: true, demucs_gibbs: {model: {demucs: {depth: 20}}}}", "depth 20, kernel_size 16 and"),
    ],
)  # fmt: skip
def test_what_a_job_would_refuse_is_refused_before_it(tmp_path, overlay, message):
    file = tmp_path / "own.yaml"
    file.write_text(overlay)
    with pytest.raises(UserError) as error:
        validate(load(file))
    assert message in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(("window", "fits"), [(65536, False), (131072, True), (32768, True)])
def test_a_row_may_have_a_model_whose_overlapping_windows_fill_the_chunks(tmp_path, window, fits):
    """Demucs + Gibbs takes any length."""
    file = tmp_path / "own.yaml"
    row = "{kind: extractor, title: X, model: mini, w: 3}"
    file.write_text(
        f"{{data: {{window: {window}}}, model: {{train: true}}, "
        f"separation: {{rows: {{x: {row}, msdm: null, msdm_gaussian: null, weak_msdm: null}}}}}}"
    )
    if fits:
        assert validate(load(file))["data"]["window"] == window
    else:
        with pytest.raises(UserError, match=f"data.window is {window}, but the model of separation.rows.x.model was"):
            validate(load(file))


def test_the_order_of_the_classes_is_that_of_systems_that_make_all_stems_at_once():
    """The order comes from the first file alone, so that only a configuration without a base changes it."""
    config = load()
    config["data"]["classes"] = {name: [name] for name in ("Drums", "Bass", "Guitar", "Piano")}
    with pytest.raises(UserError, match="the order Drums, Bass, Guitar, Piano, but the model"):
        validate(config)
    config["baselines"]["train"] = True
    assert Study(validate(config)).labels == ["Drums", "Bass", "Guitar", "Piano"]


@pytest.mark.parametrize(
    ("item", "key", "value", "message"),
    [
        ("extractor", "guidance.intervl", "[0.1, 1]", "guidance has no intervl; did you mean 'interval'?"),
        ("extractor", "guidance.interval", "[1, 0.1]", "guidance interval is [1, 0.1]"),
        ("extractor", "guidance", "{w: 3}", "guidance has no w; known keys: convention, interval, clamp"),
        ("total", "guidance", "{w: 3, strength: 2}", "guidance has no strength; known keys: w, convention"),
    ],
)
def test_a_search_has_only_settings_of_guidance(tmp_path, item, key, value, message):
    file = tmp_path / "own.yaml"
    file.write_text(f"tuning: {{searches: {{a: {{of: [{item}], vary: {{{key}: [{value}]}}}}}}}}")
    with pytest.raises(UserError) as error:
        Study(validate(load(file)))
    assert message in str(error.value)
    file.write_text("tuning: {searches: {a: {of: [total], vary: {guidance: [{interval: null}]}}}}")
    (task,) = Study(validate(load(file))).searches["a"].tasks
    assert task.guidance == {**Study(validate(load(file))).tasks["total"].guidance, "interval": None}


def test_a_search_of_which_no_variant_can_run_is_refused(tmp_path):
    """One that is unstable is shown beside the others; all of them would make the job fail."""
    file = tmp_path / "own.yaml"
    for gammas, runs in (("[0.001, {sigma: 3}]", True), ("[0.001, 0.002]", False)):
        file.write_text(f"tuning: {{searches: {{a: {{of: [total], vary: {{gamma_x: {gammas}}}}}}}}}")
        config = validate(load(file))
        if runs:
            assert len(Study(config).searches["a"].tasks) == 2
        else:
            with pytest.raises(UserError, match=r"tuning.searches.a: no variant can run: step 1 of 8"):
                Study(config)


@pytest.mark.parametrize("left_out", ["gamma_x", "gamma_y"])
def test_gammas_that_are_left_out_are_the_methods_defaults(left_out):
    config = load()
    for task in ("total", "partial"):
        del config["generation"][task][left_out]
    tasks = Study(validate(config)).tasks
    assert getattr(tasks["total"], left_out) is getattr(tasks["partial"], left_out) is None
    assert left_out not in tasks["total"]._coupled()


def test_depths_of_demucs_are_those_that_the_window_has_room_for(tmp_path):
    """The package pads to its valid length: to little more than the window, or to many times as much."""
    from demucs.demucs import Demucs

    file = tmp_path / "own.yaml"
    for depth, fits in ((6, True), (7, True), (8, False)):
        options = {"depth": depth, "kernel_size": 8, "stride": 4, "resample": True}
        net = Demucs(["a"], channels=1, growth=1, lstm_layers=0, norm_starts=99, dconv_mode=0, **options)
        assert (net.valid_length(32768) < 1.5 * 32768) == fits
        file.write_text(f"baselines: {{train: true, demucs_gibbs: {{model: {{demucs: {json.dumps(options)}}}}}}}")
        if fits:
            validate(load(file))
        else:
            with pytest.raises(UserError, match=f"depth {depth}"):
                validate(load(file))


def test_every_default_is_written_out(tmp_path):
    """Also those of settings in mappings of the user's own names, which jobs and tables read."""
    file = tmp_path / "own.yaml"
    row = "title: X, kind: extractor, consistent: true, by_power: {seconds: 0.25}, wiener: {}"
    file.write_text(f"separation: {{rows: {{x: {{{row}}}}}}}")
    config = validate(load(file))
    assert rows(config)["x"]["by_power"] == {"amount": 1, "seconds": 0.25}
    assert rows(config)["x"]["wiener"] == {"amount": 1, "seconds": 0.25}
    made = TrainingConfig(**config["training"])
    assert {field.name for field in fields(made)} == set(config["training"])
    assert set(config["model"]["config"]["unet"]) == {field.name for field in fields(UNetConfig)} - {"text_features"}
    assert set(config["data"]["mini"]) == {field.name for field in fields(MiniConfig)} - {"sample_rate"}
    kept = tmp_path / "kept.yaml"  # a run's own record is the whole of it
    kept.write_text(yaml.safe_dump(config))
    assert validate(load(kept)) == config


def test_another_sampler_leaves_the_options_of_its_base_behind(tmp_path):
    file = tmp_path / "own.yaml"
    file.write_text("separation: {solver: {name: dpmpp_2m}}")
    config = validate(load(file))
    demo = validate(load())
    shared = ("steps", "sigma_min", "sigma_max", "rho")
    assert config["separation"]["solver"] == {
        "name": "dpmpp_2m", **{key: demo["separation"]["solver"][key] for key in shared}
    }  # fmt: skip
    assert rows(config)["separator"]["solver"] == {"steps": 12, "sigma_max": 0.5, "sigma_min": 0.005, "rho": 50}
    assert "last" not in extra(config)["solver"]
    assert rows(config)["msdm"]["solver"] == {"steps": 50, "sigma_max": 1}
    file.write_text("separation: {rows: {extractor: {solver: {name: dpmpp_2m}}}}")
    study = Study(validate(load(file)))
    assert Solver(**study.rows["extractor"].solver).name == "dpmpp_2m"
    assert Solver(**study.rows["separator"].solver).name == "euler"


def test_files_add_change_and_leave_out_single_rows(tmp_path):
    """By the merge that all keys have, whichever file a row is from; in the order in which rows are first named."""
    one, two = tmp_path / "one.yaml", tmp_path / "two.yaml"
    one.write_text(
        "separation: {rows: {msdm: null, mean: {kind: extractor, title: Mean, samples: 2}, extractor: {w: 3}}}"
    )
    two.write_text("separation: {rows: {mean: {samples: 4}, demucs_gibbs: null, last: {kind: projected}}}")
    demo, both = rows(validate(load())), rows(validate(load(one, two)))
    left = [name for name in demo if name not in ("msdm", "demucs_gibbs")]
    assert list(both) == [*left, "mean", "last"]
    assert both["extractor"] == {**demo["extractor"], "w": 3}
    assert (both["mean"]["kind"], both["mean"]["title"], both["mean"]["samples"]) == ("extractor", "Mean", 4)
    assert all(both[name] == demo[name] for name in left if name != "extractor")
    assert list(Study(validate(load(one, two))).systems) == ["gmsdi", "weak_msdm", "msdm"]


@pytest.mark.parametrize(
    ("file", "section", "key", "name"),
    [("mini_latent", "codec", "variants", "additive_100"), ("by_others", "tuning", "searches", "consistent_w")],
)
def test_files_leave_out_codecs_and_searches(tmp_path, file, section, key, name):
    own, path = tmp_path / "own.yaml", REPO / "config" / f"{file}.yaml"
    own.write_text(yaml.safe_dump({section: {key: {name: None}}}))
    whole, left = (list(validate(load(path, *overlay))[section][key]) for overlay in ([], [own]))
    assert name in whole
    assert left == [each for each in whole if each != name]


def test_a_base_by_name_and_by_path(tmp_path):
    own, mine = tmp_path / "own.yaml", tmp_path / "mine.yaml"
    own.write_text("base: mini_full\nrun: own\ncosts: {chunks: 3}\n")
    full = validate(load(REPO / "config" / "mini_full.yaml"))
    assert validate(load(own)) == {**full, "run": "own", "costs": {**full["costs"], "chunks": 3}}
    mine.write_text(f"base: {own}\nseed: 5\n")
    assert validate(load(mine)) == {**validate(load(own)), "seed": 5}
    own.write_text(f"base: {mine}\n")
    with pytest.raises(UserError, match="is based on itself"):
        load(mine)
    own.write_text("base: null\nrun: bare\n")
    with pytest.raises(UserError, match="key 'data' is missing"):
        validate(load(own))


def test_the_command_line_has_the_types_of_a_file(tmp_path):
    """Snakemake's own parser makes texts of all that is nested; a file with the same YAML has numbers."""
    from snakemake.cli import parse_config
    from snakemake.utils import update_config

    documented = re.findall(r"# --config (.*)", (REPO / "config" / "bundled.yaml").read_text())
    assert len(documented) == 2
    sizes, seed = 'data={mini: {section_sizes: {"1": 0, "4": .5}, kits: ["0"]}}', "seed=7"
    for words in ([sizes, seed, "generation={total: {gamma_y: .inf, noise: coupled}}"], *map(shlex.split, documented)):
        own = tmp_path / "own.yaml"
        own.write_text("".join(word.replace("=", ": ", 1) + "\n" for word in words))
        as_texts = parse_config(words)
        assert as_texts != yaml.safe_load(own.read_text())
        assert retyped(as_texts, words) == yaml.safe_load(own.read_text())
        # What has been overridden since is left alone, as are words that are no YAML.
        update_config(as_texts, {"run": "other", "data": {"mini": {"kits": [24]}}})
        found = retyped(as_texts, [*words, "run={", "absent={a: 1}"])
        assert (found["run"], found["data"]["mini"]["kits"]) == ("other", [24])


def test_nothing_heavy_is_imported():
    code = "import sys, gmsdi.study.config as c; c.validate(c.load()); print({'torch', 'numpy'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], cwd=REPO, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_a_class_of_the_base_configuration_can_be_left_out(tmp_path):
    overlay = tmp_path / "three.yaml"
    three = "data: {classes: {Piano: null}}\ngeneration: {negatives: {Piano: null}}\n"
    overlay.write_text(three)
    with pytest.raises(UserError, match="constrained names the stem 'Piano'"):
        validate(load(overlay))
    overlay.write_text(yaml.safe_dump({**yaml.safe_load(three), "separation": ALONE}))
    config = validate(load(overlay))
    assert list(rows(config)) == ["separator", "extractor", "ensemble", "extractor_consistent"]
    assert list(Study(config).systems) == ["gmsdi"]
    assert list(config["data"]["classes"]) == ["Bass", "Drums", "Guitar"]
    assert "Piano" not in config["generation"]["negatives"]


def test_unreadable_files_are_named(tmp_path):
    with pytest.raises(UserError, match=r"nowhere\.yaml: cannot be read"):
        load(tmp_path / "nowhere.yaml")
    (tmp_path / "bad.yaml").write_text("a: [1, 2")
    with pytest.raises(UserError, match=r"bad\.yaml: not YAML"):
        load(tmp_path / "bad.yaml")
    (tmp_path / "twice.yaml").write_text("run: a\nseparation:\n  rows: {}\n  chunks: 3\n  rows: {a: null}\n")
    with pytest.raises(UserError, match=r"twice\.yaml: not YAML \(the key 'rows' is there twice .* line 5"):
        load(tmp_path / "twice.yaml")
    (tmp_path / "list.yaml").write_text("- a")
    with pytest.raises(UserError, match=r"list\.yaml"):
        load(tmp_path / "list.yaml")


def test_no_part_of_the_schema_takes_unknown_keys():
    found = list(objects(schema()))
    assert len(found) > 50
    assert [path for path, part in found if part.get("additionalProperties") is not False] == []


def test_the_schema_for_editors_takes_what_is_shipped():
    """By a validator of its own: the JSON schema says the same as the models."""
    jsonschema = pytest.importorskip("jsonschema")
    validator = jsonschema.Draft202012Validator(json.loads(editors()))
    for file in (REPO / "config").glob("*.yaml"):
        given = yaml.safe_load(file.read_text())
        assert [error.message for error in validator.iter_errors({"run": "x", **given})] == [], file
    wrong = {"run": "x", "separation": {"solver": {"name": "dpmpp_2m", "s_churn": 1}}}
    assert not validator.is_valid(wrong)


def test_writable_names_what_is_in_the_way(tmp_path):
    writable(tmp_path / "a" / "b")
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="file is not a folder"):
        writable(tmp_path / "file" / "run")
