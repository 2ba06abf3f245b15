"""The plan: counts against the networks' own counters, jobs against Snakemake's, the layout against its bounds."""

import json
import subprocess
import sys
from collections import Counter
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
import yaml

from gmsdi.cli import main
from gmsdi.errors import UserError
from gmsdi.study import plan
from gmsdi.study.study import Study
from gmsdi.training.config import TrainingConfig
from tests.unit import tiny

REPO = Path(__file__).parents[2]
LABELS = ["Bass", "Drums", "Guitar", "Piano"]


def test_constants_are_those_of_the_code():
    defaults = {field.name: field.default for field in fields(TrainingConfig)}
    assert {key: defaults[key] for key in plan.TRAINING} == plan.TRAINING


# --- Jobs -------------------------------------------------------------------------------------------------------------


SLAKH = {
    "run": "slakh",
    "data": {"kind": "slakh", "root": "slakh", "sample_rate": 22050, "window": 262144},
    "model": {"train": True},
    "demo_training": {"enabled": False},
    "separation": {"chunks": None, "bss_eval": True, "separator": {"w": 3, "constrained": "Drums"}},
    "grid": {"chunks": None, "validation": {"chunks": None}},
    "fad": {"reference_clips": None},
    "generation": {"negatives": dict.fromkeys(LABELS)},
    "costs": {"steps": []},
    "jobs": {"separation": 16, "generation": 3},
}


@pytest.mark.slow
@pytest.mark.parametrize("name", ["config/mini_full.yaml", "config/mini_clap.yaml", ".ci/reduced.yaml", "slakh"])
def test_jobs_are_those_of_the_workflow(name, tmp_path):
    (tmp_path / "slakh").mkdir()
    file = REPO / name
    if name == "slakh":
        file = tmp_path / "slakh.yaml"
        file.write_text(yaml.safe_dump(SLAKH))
    command = [sys.executable, Path(__file__).with_name("dag.py"), REPO, file]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stderr[-4000:]
    workflow = json.loads(result.stdout.splitlines()[-1])
    config = plan.resolved([file])
    study, (jobs, _) = Study(config), plan.count(config, results=tmp_path / "results")

    def named(job):
        words = "/".join(value for key, value in job["wildcards"].items() if key != "shards")
        return f"{job['rule']} {words}".strip()

    assert Counter(job.name for job in jobs) == Counter(map(named, workflow))
    assert all(job.rule == job.name.split()[0] for job in jobs)
    made = {(job["rule"], file.split("/")[3]) for job in workflow for file in job["output"] if "/data/" in file}
    assert made >= {(rule, part) for rule, parts in plan.data_parts(study).items() for part in parts}
    folders = {file.split("/")[2] for job in workflow for file in job["output"] if "/data/" in file}
    assert folders == {study.dataset_id()}


def test_tracks_are_as_long_as_composed_ones(tmp_path):
    from gmsdi.data.mini import MiniConfig, compose_dataset
    from gmsdi.data.windows import build_windows

    sections = {"sections": [1, 1], "section_sizes": {"4": 1.0}}
    overlay = tmp_path / "config.yaml"
    overlay.write_text(yaml.safe_dump({"run": "x", "data": {"mini": {"tracks": {"test": 1}, **sections}}}))
    config = plan.resolved([overlay])
    study = Study(config)
    guessed, _ = plan.track_frames(study, "test-1", tmp_path)

    mini = {key: value for key, value in config["data"]["mini"].items() if key != "tracks"}
    root, data = tmp_path / "slakh", config["data"]
    compose_dataset(root, MiniConfig(**mini, tracks={"test": 1}), seed=data["seed"])
    out = tmp_path / "data" / study.dataset_id() / "test-1" / "windows"
    options = {key: data[key] for key in ("sample_rate", "window", "classes", "min_active")}
    build_windows(root, "test", out, stems=True, **options)
    read, source = plan.track_frames(study, "test-1", tmp_path)
    assert read == guessed
    assert str(out) in source
    # int16 arrays of the mixture and four stems
    (chunked,) = [job for job in plan.count(config, results=tmp_path)[0] if job.name == "chunk_with_stems test-1"]
    assert chunked.disk == sum(np.load(out / name).nbytes for name in ("mix.npy", "stems.npy"))


def test_scores_and_embeddings_need_the_memory_of_a_track_however_many_there_are():
    config = plan.resolved([])
    config["separation"] |= {"chunks": None, "bss_eval": True}
    config["generation"]["clips"] = 10_000
    study = plan.Study(config)
    frames = dict.fromkeys(name for names in plan.data_parts(study).values() for name in names)
    needed = []
    for chunks in (500, 50_000):
        jobs = plan.jobs_of(study, {"test": chunks, "validation": chunks}, frames, longest=20)
        rules = ("score_separation", "bss_eval", "embed_generated", "embed_references")
        needed.append({rule: max(job.memory for job in jobs if job.rule == rule) for rule in rules})
    assert needed[0] == needed[1]
    run = 20 * 4 * config["data"]["window"] * 4
    assert needed[0]["score_separation"] == 4 * run
    assert max(needed[0].values()) == needed[0]["bss_eval"] < 25 * run + 170e6
    unknown = plan.jobs_of(study, {"test": 500, "validation": 500}, frames)
    assert max(job.memory for job in unknown if job.rule == "score_separation") == 25 * 4 * run


# --- The layout and the estimate --------------------------------------------------------------------------------------


def alone():
    """The demo without the paper's other systems, so that one network is all that costs."""
    config = plan.resolved([])
    config["baselines"]["enabled"] = []
    return config


def job(name, *after):
    return plan.Job("rule", name, plan.TABLE1, network="gmsdi", after=after)


def test_layout_keeps_the_order_and_grahams_bound():
    """Greedy schedules end within total/n + (1 − 1/n)·chain (Graham 1969), and never before total/n or the chain."""
    rng = np.random.default_rng(0)
    for _ in range(30):
        jobs = [job(f"{k}", *(f"{j}" for j in range(k) if rng.random() < 0.1)) for k in range(25)]
        lengths = {x.name: float(rng.exponential()) for x in jobs}
        chain = max(plan.layout(jobs, lengths, len(jobs)).values())
        total = sum(lengths.values())
        for n in (1, 2, 5):
            done = plan.layout(jobs, lengths, n)
            for x in jobs:
                assert all(done[other] <= done[x.name] - lengths[x.name] + 1e-9 for other in x.after)
            ends = [(done[x.name] - lengths[x.name], done[x.name]) for x in jobs]
            assert max(sum(a <= t < b - 1e-9 for a, b in ends) for t, _ in ends) <= n
            assert max(total / n, chain) - 1e-9 <= max(done.values()) <= total / n + (1 - 1 / n) * chain + 1e-9


def test_layout_of_jobs_by_hand():
    jobs = [job("a"), job("b"), job("c", "a"), job("d", "elsewhere")]
    assert plan.layout(jobs, {"a": 1.0, "b": 3.0, "c": 3.0, "d": 1.0}, 2) == {"a": 1.0, "b": 3.0, "c": 4.0, "d": 4.0}


def test_a_training_takes_several_devices_and_shares_its_hours(tmp_path):
    jobs = [replace(job("a"), devices=2), job("b"), replace(job("c"), devices=8), job("d")]
    lengths = {"a": 2.0, "b": 3.0, "c": 1.0, "d": 1.0}
    assert plan.layout(jobs, lengths, 2) == {"b": 3.0, "d": 1.0, "a": 5.0, "c": 6.0}
    assert plan.layout(jobs, lengths, 3) == {"b": 3.0, "a": 2.0, "d": 3.0, "c": 4.0}

    config = alone()
    config["model"]["train"], config["demo_training"]["enabled"] = True, False
    costs = plan.given_costs(["gmsdi"], ["1"])
    one = plan.estimate(config, costs, devices=8, results=tmp_path)
    config["training"]["devices"] = 4
    four = plan.estimate(config, costs, devices=8, results=tmp_path)
    two = plan.estimate(config, costs, devices=2, results=tmp_path)
    (long,), (short,), (half,) = ([part for part in x.parts if part.name == plan.TRAIN] for x in (one, four, two))
    assert short.hours == long.hours == long.longest == 4 * short.longest == 2 * half.longest
    assert one.longest_chain - four.longest_chain == pytest.approx(long.hours * 3 / 4)


def run(tmp_path, *words, capsys, **changes):
    file = tmp_path / "plan.yaml"
    file.write_text(yaml.safe_dump({"run": "planned", "baselines": {"enabled": []}, **changes}))
    status = main(["plan", "--config", str(file), *words])
    captured = capsys.readouterr()
    return status, captured.out, captured.err


def test_hours_are_evaluations_times_seconds(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = ["--seconds-per-evaluation", "0.36", "--seconds-per-step", "gmsdi=36", "--devices", "3"]
    status, out, _ = run(tmp_path, *words, "--json", capsys=capsys, costs={"steps": []})
    assert status == 0
    result = json.loads(out)
    parts = {part["name"]: part for part in result["parts"]}
    # Table 1: 8 chunks, 6 values of w of which 0 needs one pass, 4 stems: 2·4 rows of 12 steps; 4 times 4 rows of 16.
    assert parts["Table 1"]["evaluations"] == 11 * 8 * (8 * 12 + 4 * 4 * 16)
    assert parts["Table 1"]["hours"] == pytest.approx(parts["Table 1"]["evaluations"] * 1e-4)
    # 150 steps, 3 validations of 4 batches of 8
    assert parts["Demo training"]["hours"] == pytest.approx(150 * 1e-2 + 3 * 4 * 8 * 1e-4)
    assert result["hours"] == pytest.approx(sum(part["hours"] for part in parts.values()))
    assert result["wall"] >= max(result["hours"] / 3, result["longest_chain"]) - 1e-9
    # 24 chunks of 4 stems in float32, of 2 methods and an extra
    assert parts["Table 2"]["disk"] == 3 * 24 * 4 * 32768 * 4
    assert run(tmp_path, *words, "--json", capsys=capsys, costs={"steps": []})[1] == out
    table = run(tmp_path, *words, capsys=capsys, costs={"steps": [2]})[1].splitlines()
    shown = ("Table 1", "Table 2", "Figure 2", "Figure 3", "Figures 2 and 3, distances")
    assert [line.split("  ")[0] for line in table if line.startswith(("Table", "Figure"))] == [*shown, "Figure 4"]


def test_more_shards_change_the_plan_only_by_what_fills_up_calls(tmp_path):
    config = alone()
    costs = plan.given_costs(["gmsdi"], ["1"])
    one = plan.estimate(config, costs, devices=8, results=tmp_path)
    config["jobs"] |= {"separation": 3, "generation": 8}
    many = plan.estimate(config, costs, devices=8, results=tmp_path)
    assert many.jobs == one.jobs + 2 * 3 + 6 * 6  # six tasks
    assert many.wall < one.wall
    assert one.hours <= many.hours < 1.3 * one.hours


@pytest.mark.parametrize(
    ("words", "changes", "says"),
    [
        (["--seconds-per-evaluation", "fast"], {}, "write SECONDS or NETWORK=SECONDS, with gmsdi"),
        (["--seconds-per-evaluation", "0"], {}, "write SECONDS"),
        (["--seconds-per-evaluation", "msdm=1"], {}, "'msdm=1'"),
        (["--seconds-per-evaluation", "gmsdi=1"], {"baselines": {"enabled": ["msdm"]}}, "none for msdm"),
        (["--seconds-per-step", "1"], {}, "--seconds-per-evaluation"),
        (["--seconds-per-evaluation", "1"], {"grids": {}}, "unknown key 'grids'"),
        (["--config", "nowhere.yaml"], {}, "nowhere.yaml: cannot be read"),
    ],
)
def test_mistakes_end_in_one_line(tmp_path, capsys, words, changes, says):
    status, _, err = run(tmp_path, *words, capsys=capsys, **changes)
    assert status == 1
    assert says in err
    assert len(err.splitlines()) == 1


def test_a_split_that_cannot_be_counted_asks_for_its_chunks(tmp_path):
    config = alone()
    config["data"]["kind"], config["separation"]["chunks"] = "other", None
    costs = plan.given_costs(["gmsdi"], ["1"])
    with pytest.raises(UserError, match="--chunks N"):
        plan.estimate(config, costs, results=tmp_path)
    assert plan.estimate(config, costs, chunks=100, results=tmp_path).hours > 0


def test_planning_needs_no_torch():
    code = "import sys; sys.modules['torch'] = None; from gmsdi.cli import main; sys.exit(main(sys.argv[1:]))"
    command = [sys.executable, "-c", code, "plan", "--seconds-per-evaluation", "0.01"]
    result = subprocess.run(command, cwd=REPO, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert "Table 2" in result.stdout


# --- Measuring --------------------------------------------------------------------------------------------------------


def test_a_timing_on_a_loaded_processor_is_named(monkeypatch):
    walls, worked = iter([0.0, 2.0, 5.0]), iter([0.0, 1.0, 2.0])
    monkeypatch.setattr(plan.time, "perf_counter", lambda: next(walls))
    monkeypatch.setattr(plan.time, "process_time", lambda: next(worked))
    clock = plan._Clock("cpu")
    for _ in range(3):
        clock.tick()
    with pytest.warns(UserWarning, match="40% of a core"):
        assert clock.seconds(2) == plan.Seconds(1.25, 1.0, 1.5)


@pytest.mark.filterwarnings("ignore:the processor gave")
def test_every_network_is_measured(tmp_path):
    pytest.importorskip("demucs")
    from tests.unit.test_systems import DEMUCS

    solver = {"training": {"steps": 1, "batch": 2}}
    overlay = tmp_path / "config.yaml"
    overlay.write_text(
        yaml.safe_dump(
            {
                "run": "measured",
                "data": {"window": 1024},
                "training": {"batch": 2},
                "model": {"train": True},
                "baselines": {
                    "enabled": ["msdm", "weak_msdm", "demucs_gibbs"],
                    "train": True,
                    "msdm": {"model": {"unet": {"channels": 16}}, **solver},
                    "weak_msdm": {"model": {"unet": {"channels": 16}}, **solver},
                    "demucs_gibbs": {"model": {"demucs": DEMUCS}, **solver},
                },
            }
        )
    )
    config = plan.resolved([overlay])
    config["model"]["config"] = {key: tiny.CONFIG[key] for key in ("unet", "text", "sigma_data")}
    config["baselines"]["demucs_gibbs"]["model"]["demucs"] = DEMUCS
    said = []
    costs, device = plan.measure(config, device="cpu", repetitions=2, progress=said.append)
    assert list(costs) == ["gmsdi", "msdm", "weak_msdm", "demucs_gibbs"]
    assert len(said) == 8
    assert device.startswith("cpu, threads: 1")
    for cost in costs.values():
        assert 0 < cost.evaluation.low <= cost.evaluation.median <= cost.evaluation.high < 1
        assert cost.step is not None
        assert cost.step.low > 0
        assert min(cost.parameters, cost.memory, cost.training_memory) > 1000
    result = plan.estimate(config, costs, device=device, results=tmp_path)
    assert {"Training", "Training, baselines"} <= {part.name for part in result.parts}
    assert "weak_msdm" in plan.text(result)
