"""Costs: counts against the networks' own counters, memory against what jobs hold, the layout against its bounds."""

import json
import os
import pickle
import subprocess
import sys
import warnings
from dataclasses import replace

import numpy as np
import pytest
import yaml

from gmsdi.cli import main
from gmsdi.errors import UserError
from gmsdi.study import cost, work
from gmsdi.study.cost import networks
from gmsdi.study.midi import settings as midi_settings
from gmsdi.study.study import Study
from tests import REPO
from tests.helpers import dag, rows, tiny

LABELS = ["Bass", "Drums", "Guitar", "Piano"]
CLASSES = {"Bass": ["32-39"], "Drums": ["drums"], "Guitar": ["24-31"], "Piano": ["0-7"]}
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


# --- Jobs -------------------------------------------------------------------------------------------------------------


SLAKH = {
    "run": "slakh",
    "data": {"kind": "slakh", "root": "slakh", "sample_rate": 22050, "window": 262144},
    "model": {"train": True},
    "baselines": {"train": True},
    "demo_training": {"enabled": False},
    "separation": {"chunks": None, "bss_eval": True, "rows": {"separator": {"w": 3, "constrained": "Drums"}}},
    "grid": {"chunks": None, "validation": {"chunks": None}},
    "fad": {"reference_clips": None},
    "generation": {"negatives": dict.fromkeys(LABELS)},
    "costs": {"steps": []},
    "jobs": {"separation": 16, "generation": 3},
}


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", [*(f"config/mini_{kind}.yaml" for kind in ("full", "clap", "latent")), ".ci/reduced.yaml", "slakh"]
)
def test_every_job_that_asks_for_a_gpu_says_what_it_works(name, tmp_path, monkeypatch):
    (tmp_path / "slakh").mkdir()
    file = REPO / name
    if name == "slakh":
        file = tmp_path / "slakh.yaml"
        file.write_text(yaml.safe_dump(SLAKH))
    monkeypatch.chdir(tmp_path)
    gpus = {}
    for job in dag.jobs(REPO, [file]):
        words = "/".join(value for key, value in job["wildcards"].items() if key != "shards")
        gpus[f"{job['rule']} {words}".strip()] = job["gpu"]

    jobs = cost.jobs([file])
    assert {job.name for job in jobs} == set(gpus)
    beside = ("train_clap", "embed_windows", "train_codec")  # which are not counted
    for job in jobs:
        assert (job.work.network is not None) == (gpus[job.name] > 0 and job.rule not in beside), job.name
        assert not job.work.network or job.work.devices == gpus[job.name]
    places = {job.name: place for place, job in enumerate(jobs)}
    assert all(places[other] < places[job.name] for job in jobs for other in job.after)
    if name == ".ci/reduced.yaml":  # whose settings are chosen from the grid, each from the part that is the method's
        separations = [job for job in jobs if job.name.startswith("separate separator/")]
        assert separations
        parts = {f"grid test/separator_{label}" for label in ("Bass", "Drums", "Guitar", "Piano")}
        assert all({other for other in job.after if other.startswith("grid ")} == parts for job in separations)


def test_the_demo_is_for_minutes():
    study = Study(cost.resolved([]))
    works = work.Works(study)
    found = [works.grid(name, "test") for name in {*study.grid_rows, *study.deciding("test")}]
    found += [works.separation(name, 1, 1) for name in study.rows]
    found += [works.generation(name, 1, 1) for name in study.tasks]
    sizes = work.Sizes(study.config["data"]["window"])
    assert study.config["jobs"]["separation"] == study.config["jobs"]["generation"] == 1
    assert sum(part.count(sizes).evaluations for part in found) <= 35_000


def test_tracks_are_as_long_as_composed_ones(tmp_path):
    from gmsdi.data.mini import MiniConfig, compose_dataset
    from gmsdi.data.windows import build_windows

    sections = {"sections": [1, 1], "section_sizes": {"4": 1.0}}
    config = cost.resolved([{"run": "x", "data": {"mini": {"tracks": {"test": 1}, **sections}}}])
    study = Study(config)
    guessed, _ = cost.track_frames(study, "test-1", tmp_path)

    mini = {key: value for key, value in config["data"]["mini"].items() if key != "tracks"}
    root, data = tmp_path / "slakh", config["data"]
    compose_dataset(root, MiniConfig(**mini, tracks={"test": 1}), seed=data["seed"])
    out = tmp_path / "data" / study.dataset_id() / "test-1" / "windows"
    options = {key: data[key] for key in ("sample_rate", "window", "classes", "min_active")}
    build_windows(root, "test", out, stems=True, **options)
    read, source = cost.track_frames(study, "test-1", tmp_path)
    assert read == guessed
    assert str(out) in source
    # int16 arrays of the mixture and four stems
    cut = cost.Job("chunk", "chunk", work.Works(study).cut("test-1", stems=True))
    sizes, _ = cost.sizes_of(study, [cut], results=tmp_path)
    (counted,) = cost.counted([cut], sizes)
    assert counted.amount.disk == sum(np.load(out / name).nbytes for name in ("mix.npy", "stems.npy"))
    assert sizes.chunks["test-1"] == len((out / "windows.csv").read_text().splitlines()) - 1


@pytest.mark.parametrize("kind", ["composed", "files"])
def test_midi_songs_are_as_long_as_their_tracks(tmp_path, kind):
    """Against what is listed of the songs that are written."""
    from gmsdi.data.midi_dataset import MidiConfig, list_songs
    from gmsdi.data.songs import write_songs

    write_songs(tmp_path / "songs", "composed", "test", 3, seed=0)
    source = {"kind": "composed", "tracks": {"test": 3}}
    if kind == "files":
        source = {"kind": "files", "root": str(tmp_path / "songs")}
    midi = {
        "songs": [source],
        "versions": {"test": 2},
        "split_shares": {"train": 0, "validation": 0, "test": 1},
        "soundfonts": {"test": ["TimGM6mb"]},
    }
    config = cost.resolved([{"run": "x", "data": {"kind": "midi", "seed": 0, "midi": midi, "classes": CLASSES}}])
    lengths, note = cost.track_frames(Study(config), "test-all", tmp_path)
    assert "looked at" in note
    listed = list_songs(
        [tmp_path / "songs"], MidiConfig.of(midi_settings(config["data"], "test")), seed=0, split="test", workers=1
    )
    rate = config["data"]["sample_rate"]
    assert sorted(lengths) == pytest.approx(sorted([*(listed["seconds"] * rate)] * 2), abs=0.1 * rate)


def test_scores_and_embeddings_need_the_memory_of_a_track_however_many_there_are():
    config = cost.resolved([])
    config["separation"] |= {"chunks": None, "bss_eval": True}
    config["generation"]["clips"] = 10_000
    study, works = Study(config), work.Works(Study(config))
    test = study.part("test")
    every = {
        "score_separation": works.scores(),
        "bss_eval": works.bss_eval(),
        "embed_generated": works.embedding("total"),
        "embed_references": works.embedding(None),
    }
    needed = []
    for chunks in (500, 50_000):
        sizes = work.Sizes(config["data"]["window"], chunks={test: chunks}, longest={test: 20})
        needed.append({rule: one.count(sizes).memory for rule, one in every.items()})
    assert needed[0] == needed[1]
    run = 20 * 4 * config["data"]["window"] * 4
    assert needed[0]["score_separation"] == 4 * run
    assert max(needed[0].values()) == needed[0]["bss_eval"] < 25 * run + 170e6
    unknown = work.Sizes(config["data"]["window"], chunks={test: 500})
    assert every["score_separation"].count(unknown).memory == 25 * 4 * run


def test_work_makes_no_job_run_again():
    """Snakemake compares the parameters of a job, but not those of a kind that it does not know."""
    from snakemake.persistence import UNREPRESENTABLE, PersistenceBase

    stated = work.Works(Study(cost.resolved([]))).training("demo")
    assert pickle.loads(pickle.dumps(stated)) == stated
    assert PersistenceBase._serialize_param_builtin(None, stated) is UNREPRESENTABLE


# --- The layout and the estimate --------------------------------------------------------------------------------------


ALONE = {"run": "alone", "separation": rows.ALONE}
"""The demo without the paper's other systems, so that one network is all that costs."""


def job(name, *after):
    return cost.Job("rule", name, work.Work(work.TABLE1, network="gmsdi"), after)


def test_layout_keeps_the_order_and_grahams_bound():
    """Greedy schedules end within total/n + (1 − 1/n)·chain (Graham 1969), and never before total/n or the chain."""
    rng = np.random.default_rng(0)
    for _ in range(30):
        jobs = [job(f"{k}", *(f"{j}" for j in range(k) if rng.random() < 0.1)) for k in range(25)]
        lengths = {x.name: float(rng.exponential()) for x in jobs}
        chain = max(cost.layout(jobs, lengths, len(jobs)).values())
        total = sum(lengths.values())
        for n in (1, 2, 5):
            done = cost.layout(jobs, lengths, n)
            for x in jobs:
                assert all(done[other] <= done[x.name] - lengths[x.name] + 1e-9 for other in x.after)
            ends = [(done[x.name] - lengths[x.name], done[x.name]) for x in jobs]
            assert max(sum(a <= t < b - 1e-9 for a, b in ends) for t, _ in ends) <= n
            assert max(total / n, chain) - 1e-9 <= max(done.values()) <= total / n + (1 - 1 / n) * chain + 1e-9


def test_layout_of_jobs_by_hand():
    jobs = [job("a"), job("b"), job("c", "a"), job("d", "elsewhere")]
    assert cost.layout(jobs, {"a": 1.0, "b": 3.0, "c": 3.0, "d": 1.0}, 2) == {"a": 1.0, "b": 3.0, "c": 4.0, "d": 4.0}


def test_a_training_takes_several_devices_and_shares_its_hours(tmp_path):
    two, eight = (work.Work(work.TRAIN, network="gmsdi", devices=devices) for devices in (2, 8))
    jobs = [replace(job("a"), work=two), job("b"), replace(job("c"), work=eight), job("d")]
    lengths = {"a": 2.0, "b": 3.0, "c": 1.0, "d": 1.0}
    assert cost.layout(jobs, lengths, 2) == {"b": 3.0, "d": 1.0, "a": 5.0, "c": 6.0}
    assert cost.layout(jobs, lengths, 3) == {"b": 3.0, "a": 2.0, "d": 3.0, "c": 4.0}

    config = [ALONE, {"model": {"train": True}, "demo_training": {"enabled": False}}]
    costs = cost.given_costs(["gmsdi"], ["1"])
    one = cost.estimate(config, costs, devices=8, results=tmp_path)
    config.append({"training": {"devices": 4}})
    four = cost.estimate(config, costs, devices=8, results=tmp_path)
    two = cost.estimate(config, costs, devices=2, results=tmp_path)
    (long,), (short,), (half,) = ([part for part in x.parts if part.name == work.TRAIN] for x in (one, four, two))
    assert short.hours == long.hours == long.longest == 4 * short.longest == 2 * half.longest
    assert one.longest_chain - four.longest_chain == pytest.approx(long.hours * 3 / 4)


def run(tmp_path, *words, capsys, **changes):
    file = tmp_path / "mine.yaml"
    file.write_text(yaml.safe_dump({"run": "mine", "separation": rows.ALONE, **changes}))
    status = main(["cost", "--config", str(file), *words])
    captured = capsys.readouterr()
    return status, captured.out, captured.err


def test_hours_are_evaluations_times_seconds(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = ["--seconds-per-evaluation", "0.36", "--seconds-per-step", "gmsdi=36", "--devices", "3"]
    status, out, _ = run(tmp_path, *words, "--json", capsys=capsys, costs={"steps": []})
    assert status == 0
    result = json.loads(out)
    parts = {part["name"]: part for part in result["parts"]}
    # Table 1: 6 chunks, 6 values of w of which 0 needs one pass, 6 steps, 4 stems: 2·4 rows; 4 times 4 rows.
    assert parts["Table 1"]["evaluations"] == 10 * 12 * 4 * (8 + 4 * 4)
    assert parts["Table 1"]["hours"] == pytest.approx(parts["Table 1"]["evaluations"] * 1e-4)
    # 100 steps, 2 validations of 4 batches of 8
    assert parts["Demo training"]["hours"] == pytest.approx(100 * 1e-2 + 2 * 4 * 8 * 1e-4)
    assert result["hours"] == pytest.approx(sum(part["hours"] for part in parts.values()))
    assert result["wall"] >= max(result["hours"] / 3, result["longest_chain"]) - 1e-9
    # 14 chunks of 4 stems in float32, of 2 methods and an extra
    assert parts["Table 2"]["disk"] == 3 * 14 * 4 * 32768 * 4
    assert run(tmp_path, *words, "--json", capsys=capsys, costs={"steps": []})[1] == out
    table = run(tmp_path, *words, capsys=capsys, costs={"steps": [2]})[1].splitlines()
    shown = ("Table 1", "Table 2", "Figure 2", "Figure 3", "Figures 2 and 3, distances")
    assert [line.split("  ")[0] for line in table if line.startswith(("Table", "Figure"))] == [*shown, "Figure 4"]


def test_more_shards_change_the_costs_only_by_what_fills_up_calls(tmp_path):
    costs = cost.given_costs(["gmsdi"], ["1"])
    one = cost.estimate([ALONE], costs, devices=8, results=tmp_path)
    shards = {"jobs": {"separation": 3, "generation": 8}}
    many = cost.estimate([ALONE, shards], costs, devices=8, results=tmp_path)
    assert many.jobs == one.jobs + 2 * 3 + 7 * 6  # six tasks
    assert many.wall < one.wall
    assert one.hours <= many.hours < 1.3 * one.hours


@pytest.mark.parametrize(
    ("words", "changes", "says"),
    [
        (["--seconds-per-evaluation", "fast"], {}, "write SECONDS or NETWORK=SECONDS, with gmsdi"),
        (["--seconds-per-evaluation", "0"], {}, "write SECONDS"),
        (["--seconds-per-evaluation", "msdm=1"], {}, "'msdm=1'"),
        (["--seconds-per-evaluation", "gmsdi=1"], {"separation": {}}, "none for demucs_gibbs"),
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


def test_a_split_that_cannot_be_counted_asks_for_its_chunks():
    config = cost.resolved([{"run": "x", "separation": {"chunks": None}}])
    study = Study(config)
    job = cost.Job("separate", "separate", work.Works(study).separation("extractor", 1, 1))
    sizes, _ = cost.sizes_of(study, [job])  # nothing says that there are tracks
    with pytest.raises(UserError, match="--chunks N"):
        cost.counted([job], sizes)
    sizes, _ = cost.sizes_of(study, [job], chunks=100)
    assert cost.counted([job], sizes)[0].amount.evaluations > 0


def test_costs_need_no_torch(tmp_path):
    code = "import sys; sys.modules['torch'] = None; from gmsdi.cli import main; sys.exit(main(sys.argv[1:]))"
    command = [sys.executable, "-c", code, "cost", "--seconds-per-evaluation", "0.01"]
    environment = {**os.environ, "PYTHONPATH": str(REPO)}
    result = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert "Table 2" in result.stdout
    assert result.stderr == ""
    assert list(tmp_path.iterdir()) == []


def test_rows_and_tasks_of_a_further_model_cost_what_its_network_does(tmp_path):
    further = {"extractor_general": {"kind": "extractor", "title": "of general", "model": "general", "w": 6}}
    overlay = {
        "run": "two",
        "separation": {"rows": {**rows.ALONE["rows"], **further}},
        "generation": {"models": {"general": {"model": "general"}}},
    }
    names = list(Study(cost.resolved([overlay])).networks)
    assert names == ["gmsdi", "general"]
    planned = cost.jobs([overlay])
    of_general = [job.name for job in planned if job.work.network == "general"]
    tasks = {f"{task}_of_general" for task in ("single", "single_negative", "total", "partial")}
    assert {name.split()[1].split("/")[0] for name in of_general} == {"extractor_general", *tasks}

    def hours(seconds):
        costs = cost.given_costs(names, ["gmsdi=1", f"general={seconds}"])
        return cost.estimate([overlay], costs, results=tmp_path, planned=planned).hours

    own = [job.amount.evaluations for job in cost.counted(planned, work.Sizes(32768)) if job.name in of_general]
    assert hours(3) - hours(1) == pytest.approx(2 * sum(own) / 3600)


# --- Measuring --------------------------------------------------------------------------------------------------------


def test_a_timing_on_a_loaded_processor_is_named_once(monkeypatch):
    """40% and 50% of a core for two networks, then all of one."""
    walls, worked = iter([0.0, 2.0, 5.0, 5.0, 7.0, 10.0, 10.0, 12.0, 15.0]), iter([0, 1, 2, 2, 3, 4.5, 5, 7, 10])
    monkeypatch.setattr(networks.time, "perf_counter", lambda: next(walls))
    monkeypatch.setattr(networks.time, "process_time", lambda: next(worked))

    def told(networks_timed):
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("default")  # as where the command runs
            for _ in range(networks_timed):
                clock = networks.Clock("cpu")
                for _ in range(3):
                    clock.tick()
                assert clock.seconds(2) == cost.Seconds(1.25, 1.0, 1.5)
        return [str(warning.message) for warning in said]

    (line,) = told(2)
    assert "less than 80% of a core" in line
    assert told(1) == []


@pytest.mark.filterwarnings("ignore:the processor gave")
def test_every_network_is_measured(tmp_path):
    pytest.importorskip("demucs")

    folder = tiny.write(tmp_path / "model")
    further = {"kind": "extractor", "title": "further", "model": str(folder), "w": 1}
    solver = {"training": {"steps": 1, "batch": 2}}
    overlay = {
        "run": "measured",
        "data": {"window": 1024},
        "separation": {"chunks": None, "rows": {"further": further}},
        "grid": {"chunks": None},
        "costs": {"chunks": None},
        "training": {"batch": 2},
        "model": {"train": True},
        "baselines": {
            "train": True,
            "msdm": {"model": {"unet": {"channels": 16}}, **solver},
            "weak_msdm": {"model": {"unet": {"channels": 16}}, **solver},
            "demucs_gibbs": {"model": {"demucs": tiny.DEMUCS}, **solver},
        },
    }
    config = cost.resolved([overlay])
    config["model"]["config"] |= {key: tiny.CONFIG[key] for key in ("unet", "text", "sigma_data")}
    config["baselines"]["demucs_gibbs"]["model"]["demucs"] = tiny.DEMUCS
    said = []
    costs, device = cost.measure(config, device="cpu", repetitions=2, progress=said.append)
    trained = ["gmsdi", "demucs_gibbs", "weak_msdm", "msdm"]
    assert list(costs) == [*trained, str(folder)]
    assert len(said) == 9
    assert device.startswith("cpu, threads: 1")
    for one in costs.values():
        assert 0 < one.evaluation.low <= one.evaluation.median <= one.evaluation.high < 1
        assert min(one.parameters, one.memory) > 1000
    for name in trained:
        assert costs[name].step.low > 0
        assert costs[name].training_memory > 1000
    result = cost.estimate([overlay], costs, device=device, results=tmp_path)
    assert {"Training", "Training, baselines"} <= {part.name for part in result.parts}
    assert "weak_msdm" in cost.text(result)
