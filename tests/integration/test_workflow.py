"""The workflow as its users meet it: a whole run of `.test`, run again, a deleted figure, killed jobs, and mistakes."""

import csv
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import psutil
import pytest
import yaml

from tests.helpers.rows import ALONE

REPO = Path(__file__).parents[2]
REDUCED = REPO / ".ci" / "reduced.yaml"
TEST = REPO / ".test" / "config" / "config.yaml"
"""The same under another name."""
UNET = {
    "channels": 8,
    "patch": "conv",
    "patch_factor": 32,
    "multipliers": [1, 1, 2],
    "factors": [4, 4],
    "num_blocks": [1, 1],
    "attentions": [False, True],
    "cross_attentions": [True, True],
    "attention_heads": 2,
    "attention_features": 8,
    "resnet_groups": 4,
}
TEXT = {"kind": "tiny", "features": 16, "heads": 2, "layers": 1, "max_length": 28}
SHORT = {"steps": 4, "batch": 4, "warmup": 1, "validate_every": 2, "validation_batches": 1, "checkpoint_every": 2}
"""A training."""


def command(*arguments):
    return [sys.executable, "-m", "snakemake", "-s", REPO / "workflow" / "Snakefile", "--cores", "2", *arguments]


def snakemake(folder, *arguments, **environment):
    return subprocess.run(
        [str(part) for part in command(*arguments)],
        cwd=folder,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=3600,
    )


def rules_run(result):
    """The rules whose jobs ran, without the one that only gathers the targets."""
    return set(re.findall(r"^(?:local)?rule (\w+):$", result.stderr, re.MULTILINE)) - {"all"}


def write_model(folder):
    import torch

    from gmsdi.models.checkpoint import build_model, save_model

    torch.manual_seed(0)
    model = {"unet": UNET, "text": TEXT, "sigma_data": 0.1, "sample_rate": 8000, "window": 32768}
    save_model(folder, build_model({**model, "labels": ["Bass", "Drums", "Guitar", "Piano"]}))


def least(**changes):
    """The least that has both tables and the report: one task of each kind, and two rows, of which nothing is open."""
    data = yaml.safe_load(REDUCED.read_text())["data"]
    data["mini"]["tracks"]["validation"] = 2
    solver = {"steps": 2, "s_churn": 1}
    rows = {"separator": {"w": 1, "constrained": "Drums", "solver": solver}, "extractor": {"w": 1}}
    single = {"w": [1], "solver": {"steps": 2}}
    generation = {
        "clips": 4,
        "solver": {"steps": 2},
        "single": single,
        "negatives": dict.fromkeys(["Bass", "Drums", "Guitar", "Piano"]),
    }
    config = {
        "run": "least",
        "data": data,
        "demo_training": {"enabled": False},
        "separation": {"chunks": 2, "solver": solver, "rows": {**rows, "extractor_consistent": None, **ALONE["rows"]}},
        "grid": {"w": [1], "chunks": 2, "solver": {"steps": 2}},
        "costs": {"steps": []},
        "generation": {**generation, "sequential": None, "extracted": None},
        "fad": {"hop": 3, "reference_clips": 8},
        "gallery": {"examples": 1},
        "jobs": {"generation": 1, "threads": 1},
    }
    return {**config, **changes}


def write_config(folder, **changes):
    """The reduced run with a given model, and with changes of its sections."""
    config = yaml.safe_load(REDUCED.read_text())
    config["model"] = {"folder": "model", "config": {"unet": UNET, "text": TEXT}}
    for key, value in changes.items():
        config[key] = {**config[key], **value} if isinstance(value, dict) and key in config else value
    path = folder / f"{'_'.join(changes) or 'config'}.yaml"
    path.write_text(yaml.safe_dump(config, sort_keys=False))
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A working directory in which the whole workflow has run."""
    folder = tmp_path_factory.mktemp("run")
    result = snakemake(REPO, "--directory", folder, "--configfile", TEST)
    assert result.returncode == 0, result.stderr[-4000:]
    assert "generating, partial: 100%" in result.stderr  # long steps show their progress
    return folder


def test_every_output_is_there(folder):
    results = folder / "results" / "test"
    for name in ("table1_grid", "table2_separation"):
        for kind in ("csv", "md", "tex"):
            assert (results / "tables" / f"{name}.{kind}").stat().st_size > 200
    for name in ("report.html", "model/model.safetensors", "demo_training/losses.csv", "config.yaml"):
        assert (results / name).stat().st_size > 0
    for name in ("figure2_fad_stems", "figure3_fad_mixtures", "figure4_costs"):
        for kind in ("svg", "pdf", "png"):
            assert (results / "figures" / f"{name}.{kind}").stat().st_size > 5000
    resolved = yaml.safe_load((results / "config.yaml").read_text())
    validation = {"chunks": 2, "w": [1]}
    own = {"w": [0, 1], "chunks": 2, "solver": {"steps": 2}, "select_by": "active"}
    assert resolved["grid"] == {**own, "validation": validation}
    log = (results / "logs" / "generate" / "partial-1-of-1.log").read_text()
    assert "generating, partial: 100%" in log
    assert "\r" not in log


def test_tables_have_every_row_of_the_paper(folder):
    with (folder / "results/test/tables/table2_separation.csv").open() as file:
        rows = {(row["model"], row["stem"]): row for row in csv.DictReader(file)}
    # Beyond the paper: four rows, the mean of two, and three with settings chosen on validation chunks.
    assert len(rows) == (6 + 4 + 1 + 3) * 5
    assert {row["status"] for row in rows.values()} == {"run"}
    title = "Mean of GMSDI Extractor and Separator, projected"
    assert rows[title, "All"]["settings"] == "mean of “GMSDI Extractor” and “Separator, projected”"
    stems = [
        np.load(folder / f"results/test/separation/{name}/1-of-1.npy")
        for name in ("extractor", "separator_projected", "mean")
    ]
    np.testing.assert_allclose(stems[2], (stems[0] + stems[1]) / 2, atol=1e-6)
    assert "mean of 2 runs" in rows["Extractor, consistent, mean", "All"]["settings"]
    assert float(rows["Ensemble", "All"]["paper"]) == 11.56
    for stem in ("Bass", "Drums", "Guitar", "Piano"):
        ours = [float(rows[f"GMSDI {method}", stem]["protocol"]) for method in ("Separator", "Extractor")]
        assert float(rows["Ensemble", stem]["protocol"]) == max(ours)
    with (folder / "results/test/tables/table1_grid.csv").open() as file:
        assert len(list(csv.DictReader(file))) == 5 * 2 * 5


@pytest.mark.parametrize("task", ["partial", "partial_conditioned"])
def test_partial_generation_keeps_the_given_stems(folder, task):
    import numpy as np
    import pandas as pd

    from gmsdi.data.windows import WindowSet

    made = folder / "results/test/generation" / task
    clips, audio = pd.read_csv(made / "1-of-1.csv"), np.load(made / "1-of-1.npy")
    windows = WindowSet(next((folder / "results/data").glob("*/test-6/windows")))
    assert clips["bar"].nunique() == 14
    for place, clip in clips.iterrows():
        given = [windows.labels.index(label) for label in clip["bar"].split(", ")]
        np.testing.assert_array_equal(audio[place, given], windows.stems([clip["chunk"]])[0, given, 0])


def test_report_is_one_self_contained_page(folder):
    page = (folder / "results/test/report.html").read_text()
    for address in re.findall(r'(?:src|href)="([^"]{1,40})', page):
        assert address.startswith(("data:", "#"))
    assert page.count("<audio") == page.count("data:audio/flac;base64,") > 20
    assert "Separate from the results: a short training" in page
    assert "The test pieces are by our own composer" in page
    assert "References: " in page
    assert "Trained on: " in page


def test_searches_on_validation_data_say_which_defaults_they_support(folder):
    vary = {"gamma_x": [{"sigma": 2.0}, {"sigma": 1, "above": 0.3}]}
    searches = {
        "steps": {"of": ["extractor"], "settings": {"w": 1}, "vary": {"solver.steps": [1, 2]}},
        "ways": {"of": ["total"], "vary": vary, "decides": {"generation.total.gamma_x.sigma": "gamma_x"}},
        "accompaniment": {"of": ["partial_conditioned"]},
    }
    overlay = folder / "tuning.yaml"
    tuning = {"chunks": 2, "clips": 4, "searches": searches}
    overlay.write_text(yaml.safe_dump({"tuning": tuning}, sort_keys=False))
    result = snakemake(folder, "--configfile", TEST, overlay, "--", "tune")
    assert result.returncode == 0, result.stderr[-4000:]
    tables = {name: pd.read_csv(folder / f"results/test/tuning/{name}.csv") for name in ("separation", "generation")}
    assert tables["separation"].loc[tables["separation"]["default"], "variant"].tolist() == ["solver.steps 2"]
    per_chunk = tables["separation"].set_index("variant")["evaluations"]
    assert per_chunk["solver.steps 2"] == 2 * per_chunk["solver.steps 1"]
    ways = tables["generation"].set_index(["search", "variant"]).loc["ways"]
    assert set(ways.index) == {"gamma_x sigma 2", "gamma_x sigma 1 above 0.3", "held-out test chunks"}
    measured = ways[["Bass", "sum", "absolute", "harmony", "onsets"]].notna()
    assert measured.drop(index="gamma_x sigma 1 above 0.3").all(axis=None)
    assert "it is unstable" in ways.at["gamma_x sigma 1 above 0.3", "refused"]
    assert not measured.loc["gamma_x sigma 1 above 0.3"].any()
    page = (folder / "results/test/tuning/README.md").read_text()
    (line,) = (line for line in page.splitlines() if "generation.total.gamma_x.sigma" in line)
    assert "Ways: " in line
    assert "| separation.solver.steps | 12 (?) | no search |" in page

    # What was searched is not searched again.
    (folder / "results/test/searches/separation/steps.csv").unlink()
    shutil.rmtree(folder / "results/test/tuning")
    result = snakemake(folder, "--configfile", TEST, overlay, "--", "tune")
    assert rules_run(result) == {"search_rows", "tuning", "tune"}


def test_again_there_is_nothing_to_do(folder):
    result = snakemake(REPO, "--directory", folder, "--configfile", TEST)
    assert result.returncode == 0
    assert rules_run(result) == set()
    assert "Nothing to be done" in result.stderr


def test_snakemakes_own_report_is_written(folder):
    result = snakemake(REPO, "--directory", folder, "--configfile", TEST, "--report", folder / "snakemake.html")
    assert result.returncode == 0, result.stderr[-4000:]
    assert (folder / "snakemake.html").stat().st_size > 0


def test_deleting_a_figure_redraws_only_that(folder):
    figure = folder / "results/test/figures/figure3_fad_mixtures.svg"
    before = figure.read_bytes()
    figure.unlink()
    result = snakemake(folder, "--configfile", TEST)
    assert result.returncode == 0, result.stderr[-4000:]
    assert rules_run(result) == {"figure3"}
    assert figure.read_bytes() == before


def test_killed_jobs_are_done_again_with_the_same_result(folder):
    results = folder / "results/test"
    target = results / "tables/table1_grid.csv"
    before = target.read_bytes()
    (results / "grid/test/extractor.csv").unlink()
    target.unlink()
    arguments = ["results/test/tables/table1_grid.csv", "--configfile", TEST]

    # The job alone is killed in the middle of its work: Snakemake reports it.
    run = start(folder, arguments)
    job = wait_for_job(run, "grid.py", results / "logs/grid/test/extractor.log")
    job.kill()
    assert run.wait(120) != 0
    assert not (results / "grid/test/extractor.csv").exists()

    # Everything is killed, as by a power cut: the folder is left locked.
    run = start(folder, arguments)
    wait_for_job(run, "grid.py", results / "logs/grid/test/extractor.log")
    os.killpg(run.pid, signal.SIGKILL)
    run.wait(120)
    assert not (results / "grid/test/extractor.csv").exists()
    assert snakemake(folder, "--configfile", TEST, "--unlock").returncode == 0

    result = snakemake(folder, *arguments)
    assert result.returncode == 0, result.stderr[-4000:]
    assert target.read_bytes() == before


def start(folder, arguments):
    return subprocess.Popen(
        [str(part) for part in command(*arguments)], cwd=folder, stderr=subprocess.DEVNULL, start_new_session=True
    )


def wait_for_job(run, script, log):
    """The process of a job that is past its imports (it has opened its log)."""
    started = time.time()
    while time.time() - started < 240:
        for process in psutil.Process(run.pid).children(recursive=True):
            try:
                arguments = process.cmdline()
                running = "python" in arguments[0] and any(part.endswith(script) for part in arguments[1:])
            except (psutil.Error, IndexError):
                continue
            if running and log.exists() and log.stat().st_mtime >= process.create_time():
                return process
        assert run.poll() is None, "the run ended before its job was seen"
        time.sleep(0.02)
    raise AssertionError(f"{script} did not start")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"separation": {"chunk": 3}}, "config: unknown key 'chunk' in separation; did you mean 'chunks'?"),
        ({"grid": {"chunks": "many"}}, 'config: grid.chunks must be of type integer or null, not "many"'),
        ({"model": {"folder": "nowhere"}}, "config: model.folder: no nowhere/model.safetensors"),
    ],
)
def test_mistakes_in_the_configuration_end_in_one_line(tmp_path, changes, message):
    result = snakemake(tmp_path, "-n", "--configfile", write_config(tmp_path, **changes))
    assert result.returncode != 0
    assert result.stderr.splitlines()[-1].startswith(message)
    assert "Traceback" not in result.stderr


def test_a_key_that_is_there_twice_is_not_passed_over(tmp_path):
    twice = tmp_path / "twice.yaml"
    twice.write_text("run: twice\nseparation: {chunks: 3}\nseparation: {min_active: 2}\n")
    result = snakemake(tmp_path, "-n", "--configfile", twice)
    assert result.returncode != 0
    assert "the key 'separation' is there twice" in result.stderr.splitlines()[-1]


def test_results_that_cannot_be_written_end_in_one_line(tmp_path):
    (tmp_path / "results").write_text("in the way")
    result = snakemake(tmp_path, "-n")
    assert result.returncode != 0
    assert "results is not a folder" in result.stderr.splitlines()[-1]


def test_mistake_in_a_job_ends_in_one_line(folder, tmp_path):
    """The weights of one model beside the configuration of another."""
    write_model(tmp_path / "model")
    settings = tmp_path / "model" / "config.json"
    settings.write_text(settings.read_text().replace('"channels": 8', '"channels": 16'))
    config = write_config(tmp_path, run="broken", model={"folder": str(tmp_path / "model")})
    result = snakemake(folder, "results/broken/grid/test/extractor.csv", "--configfile", config)
    assert result.returncode != 0
    errors = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    assert "has shape" in errors[0]
    assert "Traceback" not in result.stderr


def test_planning_is_fast_and_imports_no_torch(tmp_path):
    """Snakemake's own process must not load what its jobs load."""
    for name in ("torch", "transformers", "lightning", "matplotlib"):
        (tmp_path / "blocked" / name).mkdir(parents=True)
        (tmp_path / "blocked" / name / "__init__.py").write_text(f"raise ImportError('{name} was imported')")
    write_model(tmp_path / "model")
    config = write_config(tmp_path)
    before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
    result = snakemake(tmp_path, "-n", "--configfile", config, PYTHONPATH=str(tmp_path / "blocked"))
    assert result.returncode == 0, result.stderr[-4000:]
    # Of the processor, not of the clock: 2 s.
    assert resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - before < 20


def test_mini_full_is_planned(tmp_path):
    write_model(tmp_path / "model")
    full = REPO / "config" / "mini_full.yaml"
    result = snakemake(tmp_path, "-n", "--configfile", full, "--config", "model={folder: model}", "grid={chunks: 3}")
    assert result.returncode == 0, result.stderr[-4000:]
    assert "results/mini_full/report.html" in result.stderr + result.stdout
