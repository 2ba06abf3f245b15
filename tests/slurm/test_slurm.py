"""The workflow on a SLURM cluster with the profile and two pretended GPUs: a training is requeued, a separation
cancelled, and the results are equal to those of a local run."""

import json
import shutil
import subprocess
import sys
import time

import pytest
import yaml

from tests.integration.test_workflow import REDUCED, REPO, TEXT, UNET

SOLVED = {"solver": {"steps": 2, "s_churn": 1}}
CHANGES = {
    "run": "cluster",
    "model": {"train": True, "config": {"unet": UNET, "text": TEXT}},
    "training": {
        "steps": 100,
        "batch": 2,
        "warmup": 2,
        "validate_every": 50,
        "validation_batches": 1,
        "checkpoint_every": 5,
    },
    "demo_training": {"enabled": False},
    "separation": {
        "chunks": 2,
        "solver": SOLVED["solver"],
        "rows": {
            "extractor": {"w": 1, **SOLVED},
            "separator": {"w": 1, "constrained": "Drums", **SOLVED},
            **dict.fromkeys(["demucs_gibbs", "weak_msdm", "msdm", "msdm_gaussian", "extractor_consistent"]),
        },
    },
    "grid": {"w": [1], "chunks": 1},
    "costs": {"steps": []},
}
GPU = {"train", "separate"}
TARGET = "table2"
EQUAL = [
    "model/model.safetensors",
    "model/config.json",
    "separation/extractor/1-of-1.npy",
    "separation/separator/1-of-1.npy",
    "scores/separation_extractor.csv",
    "scores/separation_separator.csv",
    *(f"tables/table2_separation.{kind}" for kind in ("csv", "md", "tex")),
]


def snakemake(*arguments):
    program = [sys.executable, "-m", "snakemake", "-s", REPO / "workflow" / "Snakefile"]
    return [str(part) for part in (*program, "--configfile", "config.yaml", *arguments, TARGET)]


def rule_of(job):
    return job["Comment"].removeprefix("rule_").split("_wildcards_")[0]


@pytest.fixture(scope="module")
def local(tmp_path_factory):
    """The working directory of the same run without a cluster."""
    folder = tmp_path_factory.mktemp("local")
    config = {**yaml.safe_load(REDUCED.read_text()), **CHANGES}
    config["data"]["mini"]["tracks"] = {"train": 2, "validation": 1, "test": 1}
    config["jobs"] = {"generation": 1, "threads": 1}
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    result = subprocess.run(snakemake("--cores", "2"), cwd=folder, capture_output=True, text=True, timeout=1200)
    assert result.returncode == 0, result.stderr[-4000:]
    return folder


class Run:
    """Snakemake at work on the cluster."""

    def __init__(self, cluster, folder):
        self.cluster, self.folder, self.log = cluster, folder, folder / "snakemake.log"
        command = snakemake("--workflow-profile", "slurm", "--slurm-init-seconds-before-status-checks", "1")
        with self.log.open("w") as log:
            self.process = subprocess.Popen(command, cwd=folder, env=cluster.environ, stdout=log, stderr=log)

    def said(self):
        jobs = sorted((self.folder / ".snakemake" / "slurm_logs").rglob("*.log"))
        return "\n".join(path.read_text()[-3000:] for path in [*jobs, self.log])

    def wait_for(self, rule, ready=lambda: True):
        """The first job of a rule, once it runs and `ready()`."""
        started = time.monotonic()
        while time.monotonic() - started < 600:
            assert self.process.poll() is None, f"the run ended before its job was seen\n{self.said()}"
            if ready():
                running = [job for job in self.cluster.jobs() if job["JobState"] == "RUNNING" and rule_of(job) == rule]
                if running:
                    return running[0]
            time.sleep(0.05)
        raise AssertionError(f"{rule} did not run\n{self.said()}")


@pytest.fixture(scope="module")
def folder(cluster, local, tmp_path_factory):
    """The working directory of a run through SLURM, with the local run's data, in which two jobs were interrupted."""
    folder = tmp_path_factory.mktemp("cluster")
    shutil.copy(local / "config.yaml", folder)
    shutil.copytree(local / "results" / "data", folder / "results" / "data")
    results = folder / "results" / "cluster"
    run = Run(cluster, folder)
    try:
        # As SLURM does by itself when a node fails.
        training = run.wait_for("train", lambda: list(results.glob("training/work-*/last.ckpt")))
        cluster.run("scontrol", "requeue", training["JobId"])
        separation = run.wait_for("separate")
        cluster.run("scancel", separation["JobId"])
        assert run.process.wait(900) == 0, run.said()
    finally:
        run.process.kill()
        run.process.wait()
    return folder


@pytest.fixture(scope="module")
def jobs(cluster, folder):
    """What SLURM knows of the jobs of the run, by rule."""
    found = {}
    for job in cluster.jobs():
        found.setdefault(rule_of(job), []).append(job)
    return found


def test_jobs_had_the_profiles_partitions_gpus_memory_and_time(cluster, jobs):
    assert jobs.keys() == {"train", "select", "separate", "score_separation", "table2"}
    for rule, of_rule in jobs.items():
        for job in of_rule:
            assert job["Partition"] == ("gpu" if rule in GPU else "cpu")
            assert job.get("TresPerJob") == ("gres:gpu:1" if rule in GPU else None)
    (training,) = jobs["train"]
    assert (training["MinMemoryNode"], training["TimeLimit"]) == ("24000M", "1-00:00:00")
    assert (jobs["select"][0]["MinMemoryNode"], jobs["select"][0]["TimeLimit"]) == ("4000M", "01:00:00")
    # SLURM's own log of what ended: every job, and the training twice.
    completed = [line.split()[0] for line in (cluster.folder / "completed.txt").read_text().splitlines()]
    assert set(completed) == {f"JobId={job['JobId']}" for of_rule in jobs.values() for job in of_rule}


def test_a_requeued_training_resumed(local, folder, jobs):
    (training,) = jobs["train"]
    assert (training["Restarts"], training["JobState"]) == ("1", "COMPLETED")
    made = [json.loads((run / "results/cluster/model/provenance.json").read_text()) for run in (local, folder)]
    assert [provenance["resumed"] for provenance in made] == [False, True]


def test_a_cancelled_job_was_submitted_again_with_more(jobs):
    cancelled = [job for job in jobs["separate"] if job["JobState"] == "CANCELLED"]
    assert len(cancelled) == 1
    (again,) = [
        job for job in jobs["separate"] if job["Comment"] == cancelled[0]["Comment"] and job["JobState"] == "COMPLETED"
    ]
    assert [job["MinMemoryNode"] for job in (cancelled[0], again)] == ["16000M", "32000M"]
    assert [job["TimeLimit"] for job in (cancelled[0], again)] == ["12:00:00", "1-00:00:00"]
    assert len(jobs["separate"]) == 3


@pytest.mark.parametrize("name", EQUAL)
def test_results_are_those_of_the_local_run(local, folder, name):
    assert (folder / "results/cluster" / name).read_bytes() == (local / "results/cluster" / name).read_bytes()
