"""The plan: counts against the networks' own counters, jobs against Snakemake's, the layout against its bounds."""

import ast
import json
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import yaml

from gmsdi import pipeline
from gmsdi.cli import main
from gmsdi.errors import UserError
from gmsdi.sampling import samplers
from gmsdi.sampling import solver as solver_settings
from gmsdi.study import plan
from gmsdi.study.experiments import CALL, PARTIAL, SINGLE, TOTAL, generate, separate, share
from gmsdi.study.experiments import plan as clips_of
from gmsdi.study.study import Study
from gmsdi.systems.demucs_gibbs import GibbsSeparator
from gmsdi.systems.msdm import JointMSDM, WeakMSDM
from tests.unit import tiny

REPO = Path(__file__).parents[2]
LABELS = ["Bass", "Drums", "Guitar", "Piano"]
CONDITIONED = "conditioned"
OTHERS = {
    "groups": {"groups": [["Bass", "Piano"], ["Drums"], ["Guitar"]]},
    "sequential": {"way": "sequential", "order": None},
    "extracted": {"way": "extracted"},
}
WINDOW = 32
EULER = {"name": "euler", "steps": 3, "sigma_min": 0.01, "sigma_max": 0.5, "rho": 7, "s_churn": 1.0}
ADPM2 = {"name": "adpm2", "steps": 4, "sigma_min": 0.01, "sigma_max": 0.5, "rho": 7}
HEUN = {**EULER, "name": "heun"}
TWICE = {**EULER, "resamples": 2}
MULTISTEP = {**ADPM2, "name": "dpmpp_2m"}


class Halving:
    """A denoiser of any signal and text."""

    def encode(self, texts):
        return SimpleNamespace(select=lambda index: None)

    def __call__(self, x, sigma, cond):
        return x / 2


def system(name):
    config = {"sample_rate": 8000, "window": WINDOW, "labels": LABELS}
    if name == "msdm":
        return JointMSDM(Halving(), config, max_batch=CALL, fixed_batch=True)
    if name == "weak_msdm":
        return WeakMSDM(dict.fromkeys(LABELS, Halving()), config, max_batch=CALL, fixed_batch=True)
    if name == "demucs_gibbs":
        model = GibbsSeparator(torch.nn.Conv1d(9, 4, 1), config)
        model.net = torch.nn.Sequential(model.net, torch.nn.Unflatten(1, (4, 1)))
        model.max_batch, model.fixed_batch = CALL, True
        return model
    return pipeline.Pipeline(Halving(), config, max_batch=CALL, fixed_batch=True)


# --- Counts -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("guidance", [{}, {"interval": [0.02, 0.3]}, {"convention": "adp"}])
@pytest.mark.parametrize(
    "settings",
    [
        {"name": "extractor", "w": 2.0, "solver": EULER},
        {"name": "extractor", "w": 1.0, "solver": TWICE, "consistent": True, "samples": 2},
        {"name": "separator", "w": 0.0, "solver": HEUN, "constrained": "Drums"},
        {"name": "separator", "w": -1.0, "solver": MULTISTEP, "projected": True, "samples": 3},
        {"name": "msdm", "solver": EULER, "constrained": "Piano"},
        {"name": "msdm", "solver": {**EULER, "steps": 12}, "gaussian": True},
        {"name": "weak_msdm", "solver": TWICE, "constrained": "Bass"},
        {"name": "demucs_gibbs", "steps": 3, "block": "uniform", "noise": 0.0},
    ],
)
def test_separation_takes_the_evaluations_that_are_counted(windows, settings, guidance):
    for items, batch in ((7, 3), (5, 8), (1, 1)):
        runner = system(settings["name"])
        options = {"guidance": guidance, "seed": 1, "batch": batch}
        separate(runner, windows, range(items), {**settings, "negatives": {}}, **options)
        counted = plan.separation_evaluations(settings, guidance, labels=4, items=items, batch=batch)
        assert counted == runner.evaluations


@pytest.mark.parametrize("interval", [None, [0.02, 0.3]])
@pytest.mark.parametrize("solver", [EULER, ADPM2], ids=lambda solver: solver["name"])
@pytest.mark.parametrize(
    ("name", "task"),
    [
        *(("gmsdi", task) for task in (SINGLE, TOTAL, PARTIAL, CONDITIONED, *OTHERS)),
        ("weak_msdm", SINGLE),
        ("msdm", TOTAL),
        ("msdm", PARTIAL),
    ],
)
def test_generation_takes_the_evaluations_that_are_counted(windows, name, task, solver, interval):
    sigma = {"sigma": 3.0}
    likelihood = {} if task == SINGLE else {"gamma_x": sigma, "gamma_y": sigma}
    if task == CONDITIONED:
        task, likelihood = PARTIAL, {"share": 0.4}
    other = OTHERS.get(task, {})
    task = TOTAL if other else task
    if "way" in other:
        likelihood = {"share": 0.4} if other["way"] == "sequential" else {}
    settings = {
        "system": name,
        "task": task,
        "solver": solver,
        **other,
        "likelihood": likelihood if name == "gmsdi" else {},
    }
    if name == "gmsdi":
        settings["guidance"] = {"w": 1.0, "interval": interval}
    if other.get("way") == "extracted":
        settings["extraction"] = {
            **{"name": "extractor", "w": 2.0, "solver": {**TWICE, "last": "estimate"}, "samples": 2},
            **{"guidance": {"interval": interval}, "by_power": {"amount": 0.25, "seconds": 0.001}},
        }
    if name == "msdm":
        settings["best_of"] = 5
    every = clips_of(task, LABELS, 5, windows)
    assert plan.bars(task, LABELS) * 5 == every["bar"].tolist()
    for shard, batch in ((1, 3), (2, 8)):
        numbers = list(share(range(len(every)), shard, 2))
        clips = every.iloc[numbers]
        runner = system(name)
        audio = generate(runner, clips, LABELS, settings, seed=1, batch=batch, windows=windows)
        assert audio.shape == (len(clips), 1 if task == SINGLE else len(other.get("groups", LABELS)) + 1, WINDOW)
        assert audio.any(axis=(1, 2)).all()
        counted = plan.generation_evaluations(settings, clips["bar"].tolist(), labels=LABELS, batch=batch)
        assert counted == runner.evaluations
        assert numbers == list(plan.shares(len(every), 2)[shard - 1])


@pytest.mark.parametrize(
    "solver",
    [
        *(EULER, {**EULER, "s_churn": 100.0}, TWICE),
        *(HEUN, {**HEUN, "steps": 1}),
        *(ADPM2, {**ADPM2, "midpoint_rho": 3.0}, {**ADPM2, "midpoint": "geometric"}),
        MULTISTEP,
    ],
)
def test_noise_levels_are_those_of_the_samplers(solver):
    seen = []

    def derivative(x, sigma):
        seen.append(sigma)
        return torch.zeros_like(x)

    made = solver_settings.Solver(**solver)
    made.sample(derivative, torch.zeros(1), noise=torch.zeros_like)
    assert plan.evaluation_sigmas(solver) == pytest.approx(seen)
    assert len(seen) == made.evaluations
    assert solver["name"] in solver_settings.SAMPLERS
    assert pytest.approx(2**0.5 - 1) == samplers.MAX_CHURN


def test_open_guidance_counts_as_guidance():
    assert plan.passes(EULER, {}, None) == plan.passes(EULER, {}, 3.0) == 2 * plan.passes(EULER, {}, 0.0)


def test_constants_are_those_of_the_code():
    source = ast.parse((REPO / "gmsdi" / "training" / "config.py").read_text())
    (config,) = [node for node in source.body if isinstance(node, ast.ClassDef) and node.name == "TrainingConfig"]
    defaults = {
        x.target.id: x.value.value
        for x in config.body
        if isinstance(getattr(x, "value", None), ast.Constant) and isinstance(x, ast.AnnAssign)
    }
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
