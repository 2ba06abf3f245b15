"""The SLURM profile names the workflow's rules, gives GPUs where they are needed, and asks for more after a failure."""

import io
import json
import subprocess
import sys
import tomllib
from dataclasses import fields

import pytest
from packaging.requirements import Requirement
from snakemake.profiles import ProfileConfigFileParser

from tests import REPO

PROFILE = REPO / "workflow" / "profiles" / "slurm" / "config.yaml"
RESUMES = {"train", "train_baseline", "train_clap", "train_codec"}
"""Rules that go on where they were, and need no longer time in the next attempt."""

RULES = """
import json, sys
from pathlib import Path
from snakemake.api import SnakemakeApi
from snakemake.settings.types import ConfigSettings, DAGSettings, OutputSettings, Quietness, ResourceSettings

with SnakemakeApi(OutputSettings(quiet={Quietness.ALL}, dryrun=True)) as api:
    workflow = api.workflow(
        resource_settings=ResourceSettings(cores=1),
        config_settings=ConfigSettings(config={"jobs": {"threads": 2}}),
        snakefile=Path(sys.argv[1]),
    )
    workflow.dag(DAGSettings(targets={"resolved_config"})).execute_workflow(executor="dryrun")
    local = workflow._workflow._localrules
    rules = {
        rule.name: {
            "gpu": "gpu" in rule.resources,
            "long": bool(rule.benchmark) or rule.resources["_cores"].value > 1,
            "local": rule.name in local or not rule.is_script,
        }
        for rule in workflow._workflow.rules
    }
print(json.dumps(rules))
"""


def parsed(text=None):
    """The profile as Snakemake reads it: options, and resources by rule ("" are the default ones)."""
    stream = io.StringIO(PROFILE.read_text() if text is None else text)
    stream.name = str(PROFILE)
    options = ProfileConfigFileParser().parse(stream)
    resources = {}
    for entry in [*(f":{entry}" for entry in options["default-resources"]), *options["set-resources"]]:
        rule, assignment = entry.split(":", maxsplit=1)
        name, expression = assignment.split("=", maxsplit=1)
        resources.setdefault(rule, {})[name] = expression
    return options, resources


@pytest.fixture(scope="module")
def rules(tmp_path_factory):
    command = [sys.executable, "-c", RULES, str(REPO / "workflow" / "Snakefile")]
    folder = tmp_path_factory.mktemp("rules")
    result = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stderr[-4000:]
    return json.loads(result.stdout.splitlines()[-1])


def test_rules_of_the_profile_are_those_of_the_workflow(rules):
    _, resources = parsed()
    named = resources.keys() - {""}
    assert named <= rules.keys(), "rules that the workflow does not have"
    submitted = {name for name, rule in rules.items() if not rule["local"]}
    assert named <= submitted, "rules that are not submitted"
    long = {name for name in submitted if rules[name]["long"]}
    assert {"train", "separate", "compose", "bss_eval"} <= long
    assert long <= named, "long rules without resources in the profile"


def test_rules_with_a_gpu_have_a_partition_with_gpus(rules):
    _, resources = parsed()
    gpu = {name for name, rule in rules.items() if rule["gpu"]}
    assert {"train", "train_short", "separate"} <= gpu
    assert {name for name, asked in resources.items() if asked.get("slurm_partition") == "'gpu'"} == gpu
    assert {name for name, asked in resources.items() if "slurm_partition" in asked} == {"", *gpu}


def test_attempts_ask_for_more():
    options, resources = parsed()
    assert int(options["retries"]) >= 1
    for rule, asked in resources.items():
        assert asked.keys() <= {"slurm_partition", "mem_mb", "runtime"}
        memory, minutes = (
            [eval(asked[name], {"attempt": attempt}) for attempt in range(1, 5)] for name in ("mem_mb", "runtime")
        )
        assert all(type(value) is int for value in memory + minutes)
        assert memory == sorted(set(memory))
        assert minutes == ([minutes[0]] * 4 if rule in RESUMES else sorted(set(minutes)))


def test_account_and_partitions_are_set_in_one_place():
    text = PROFILE.read_text()
    for line in ("  account: null", "  partition: cpu", "  gpu_partition: gpu"):
        assert text.count(line) == 1
    text = text.replace("account: null", "account: my-project").replace("gpu_partition: gpu", "gpu_partition: max")
    _, resources = parsed(text)
    # In quotes: Snakemake takes what it can evaluate, such as the name of a function, for an expression.
    assert resources[""]["slurm_account"] == "'my-project'"
    assert resources["train"]["slurm_partition"] == "'max'"
    assert resources[""]["slurm_partition"] == "'cpu'"


def test_the_lock_has_the_plugin_that_the_profile_is_written_for():
    lines = (REPO / "requirements-cluster.lock").read_text().splitlines()
    locked = {x.name: x.specifier for x in map(Requirement, (line for line in lines if not line.startswith("#")))}
    (asked,) = tomllib.loads((REPO / "pyproject.toml").read_text())["project"]["optional-dependencies"]["cluster"]
    version = str(locked[Requirement(asked).name]).removeprefix("==")
    assert Requirement(asked).specifier.contains(version)
    assert "snakemake-executor-plugin-slurm 2.8," in PROFILE.read_text()


def test_settings_are_those_of_the_plugin():
    plugin = pytest.importorskip("snakemake_executor_plugin_slurm", reason="make cluster")
    known = {field.name for field in fields(plugin.ExecutorSettings)}
    options, _ = parsed()
    own = {name for name in options if name.startswith("slurm-")}
    assert own
    assert {name.removeprefix("slurm-").replace("-", "_") for name in own} <= known
