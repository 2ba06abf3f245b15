"""docs/scaling.md has the numbers of the configuration and its networks as they are."""

import math
import re
from functools import cache
from pathlib import Path

import pytest

from benchmarks import scaling
from gmsdi.study import cost
from gmsdi.study.study import Study
from tests import REPO

PAGE = (REPO / "docs" / "scaling.md").read_text()


def shown(name):
    (lines,) = re.findall(rf"<!-- {name} -->\n(.*?)<!-- end -->", PAGE, re.DOTALL)
    return lines.splitlines()


def test_the_work_is_that_of_the_jobs():
    assert shown("work") == scaling.work()
    jobs = counted()
    total = sum(job.amount.evaluations for job in jobs)
    assert f"| {len(jobs)} | {total:,} |" in shown("work")[-1]


def test_every_table_has_numbers():
    for name in ("work", "networks", "hours", "devices", "measured"):
        assert len(shown(name)) > 2


@pytest.mark.slow
def test_operations_and_hours_are_those_of_the_networks():
    assert shown("networks") == scaling.networks()
    assert shown("hours") == scaling.hours()
    assert shown("devices") == scaling.devices()
    # By hand: every evaluation and every window of every step, at the assumed throughput.
    config = scaling.resolved()
    seconds = 0.0
    for job in counted():
        if job.work.network:
            one, amount = scaling.network(job.work.network), job.amount
            operations = amount.evaluations * one.forward + amount.steps * amount.batch * one.training
            seconds += operations / scaling.TERAFLOPS / 1e12
    assert shown("hours")[-1].split(" | ")[2] == scaling.number(seconds / 3600)
    # No number of GPUs is faster than a share of the hours, or than the longest training.
    longest = max(
        scaling.network("msdm").training * study_steps(model) / scaling.TERAFLOPS / 1e12 / 86400
        for model in Study(config).trained()
        if model != "gmsdi"
    )
    days = [float(line.split(" | ")[1]) for line in shown("devices")[2:]]
    for count, found in zip(scaling.GPUS, days, strict=True):
        assert found >= 0.99 * max(seconds / 86400 / count, longest)
    assert math.isclose(days[0], seconds / 86400, rel_tol=0.01)


@cache
def counted():
    jobs = cost.jobs([scaling.CONFIG])
    sizes, _ = cost.sizes_of(Study(scaling.resolved()), jobs, results=Path("nowhere"))
    return cost.counted(jobs, sizes)


def study_steps(model):
    """Windows that a training sees."""
    training = Study(scaling.resolved()).training(model)
    return training["steps"] * training.get("batch", 16)
