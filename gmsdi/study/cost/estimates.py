"""What jobs cost: their evaluations and steps times the seconds of each, laid out over devices."""

from __future__ import annotations

import heapq
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from gmsdi.errors import UserError
from gmsdi.study.cost.dag import Job, Overlay, jobs, resolved
from gmsdi.study.cost.sizes import counted, sizes_of
from gmsdi.study.study import Study
from gmsdi.study.work import PARTS, EmbeddingWindows

BACKWARD = 3
"""A training step is taken as so many evaluations of its batch where it is not measured: the backward pass costs about
twice the forward pass."""


@dataclass(frozen=True)
class Seconds:
    """Repeated timings, in seconds: their median and their extremes."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Seconds:
        """Summary of one or more timings."""
        return cls(statistics.median(values), min(values), max(values))


@dataclass(frozen=True)
class Cost:
    """What a network costs on a device.

    Attributes:
        evaluation: of one signal.
        step: of one training step at its batch; None takes `BACKWARD` evaluations of every window.
        parameters: of the network and what it is conditioned by; None where unknown.
        memory: peak bytes while sampling; None where unknown.
        training_memory: peak bytes while training; None where unknown.
    """

    evaluation: Seconds
    step: Seconds | None = None
    parameters: int | None = None
    memory: int | None = None
    training_memory: int | None = None


@dataclass(frozen=True)
class Part:
    """A table, a figure or a training.

    Attributes:
        name: one of `PARTS`.
        jobs: number of jobs.
        evaluations: signals that networks denoise, those of validations included.
        steps: training steps.
        hours: of devices, all jobs together.
        longest: hours of its longest job.
        memory: bytes of arrays of audio, of the job that holds most.
        network_memory: bytes of the network at work, of the job that needs most; 0 where it is not measured.
        disk: bytes of its outputs.
        finished: hours until all of its jobs are done on the given number of devices.
    """

    name: str
    jobs: int
    evaluations: int
    steps: int
    hours: float
    longest: float
    memory: int
    network_memory: int
    disk: int
    finished: float


@dataclass(frozen=True)
class Costs:
    """What a configuration costs.

    Attributes:
        run: name of the run.
        device: what was measured, in words.
        devices: number of devices.
        costs: of every network.
        parts: in the order of `PARTS`, those with jobs.
        jobs: number of all jobs.
        hours: of devices, all jobs together.
        wall: hours until everything is done on the devices.
        longest_chain: hours of the longest chain of jobs that wait for one another; no number of devices is faster.
        disk: bytes in all.
        notes: what was assumed.
    """

    run: str
    device: str
    devices: int
    costs: dict[str, Cost]
    parts: list[Part]
    jobs: int
    hours: float
    wall: float
    longest_chain: float
    disk: int
    notes: list[str] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """The form in which JSON stores it."""
        return asdict(self)


def seconds(job: Job, costs: Mapping[str, Cost]) -> float:
    """Seconds of a job on one device; 0 for those that run no network."""
    if job.work.network is None:
        return 0.0
    cost, amount = costs[job.work.network], job.amount
    once = cost.evaluation.median
    step = BACKWARD * amount.batch * once if cost.step is None else cost.step.median
    return amount.evaluations * once + amount.steps * step


def layout(jobs: Sequence[Job], lengths: Mapping[str, float], devices: int) -> dict[str, float]:
    """When each job is done if a device that is free takes the job with the longest chain of others behind it.

    Args:
        jobs: in an order in which none comes before what it waits for.
        lengths: of each job by name, on the devices that it takes.
        devices: their number; a job that takes more takes all.
    """
    takes = {job.name: min(job.work.devices, devices) for job in jobs}
    waiting = {job.name: set(job.after) & lengths.keys() for job in jobs}
    chain = {job.name: lengths[job.name] for job in jobs}
    for job in reversed(jobs):
        for name in waiting[job.name]:
            chain[name] = max(chain[name], lengths[name] + chain[job.name])
    behind: dict[str, list[str]] = {name: [] for name in waiting}
    for name, others in waiting.items():
        for other in others:
            behind[other].append(name)
    ready = [(-chain[name], name) for name, others in waiting.items() if not others]
    heapq.heapify(ready)
    running: list[tuple[float, str]] = []
    done: dict[str, float] = {}
    now, free = 0.0, devices
    while ready or running:
        too_large = []
        while ready and free:
            entry = heapq.heappop(ready)
            name = entry[1]
            if takes[name] > free:
                too_large.append(entry)
                continue
            free -= takes[name]
            heapq.heappush(running, (now + lengths[name], name))
        for entry in too_large:
            heapq.heappush(ready, entry)
        now, name = heapq.heappop(running)
        free += takes[name]
        done[name] = now
        for other in behind[name]:
            waiting[other].discard(name)
            if not waiting[other]:
                heapq.heappush(ready, (-chain[other], other))
    return done


def estimate(
    overlays: Sequence[Overlay],
    costs: Mapping[str, Cost],
    *,
    devices: int = 1,
    device: str = "given",
    chunks: int | None = None,
    results: str | Path = "results",
    planned: Sequence[Job] | None = None,
) -> Costs:
    """What a configuration costs.

    Args:
        overlays: of config/config.yaml.
        costs: of every network that runs, see `Study.systems`.
        devices: number of devices, each of which runs one job at a time. A training on several of them is taken as so
            many times as fast.
        device: what was measured, in words.
        chunks: see `sizes_of`.
        results: see `sizes_of`.
        planned: the jobs, see `jobs`; None asks Snakemake for them.

    Raises:
        UserError: see `jobs` and `counted`.
    """
    if devices < 1:
        raise UserError(f"devices is {devices}; it must be at least 1")
    config = resolved(overlays)
    study, planned = Study(config), jobs(overlays) if planned is None else planned
    sizes, notes = sizes_of(study, planned, chunks=chunks, results=results)
    every = counted(planned, sizes)
    lengths = {job.name: seconds(job, costs) / 3600 for job in every}
    of_networks = [job for job in every if job.work.network is not None]

    def clock(available: int) -> dict[str, float]:
        return {job.name: lengths[job.name] / min(job.work.devices, available) for job in of_networks}

    enough = sum(job.work.devices for job in of_networks)
    done, unbounded = layout(of_networks, clock(devices), devices), layout(of_networks, clock(enough), enough)
    parts = []
    for name in PARTS:
        own = [job for job in every if job.work.part == name]
        if own:
            parts.append(
                Part(
                    name=name,
                    jobs=len(own),
                    evaluations=sum(job.amount.evaluations for job in own),
                    steps=sum(job.amount.steps for job in own),
                    hours=sum(lengths[job.name] for job in own),
                    longest=max(lengths[job.name] / min(job.work.devices, devices) for job in own),
                    memory=max(job.amount.memory for job in own),
                    network_memory=max(_network_memory(job, costs) for job in own),
                    disk=sum(_disk(job, costs) for job in own),
                    finished=max((done[job.name] for job in own if job.name in done), default=0.0),
                )
            )
    if any("w" in row.OPEN and "w" not in row.fixed for row in study.rows.values()):
        notes.append("w is open until Table 1 is there: counted as guidance, which denoises every signal twice")
    if any(cost.step is None for cost in costs.values()) and any(job.amount.steps for job in every):
        notes.append(f"training steps where not measured: {BACKWARD} evaluations of every window")
    if any(cost.memory is None for cost in costs.values()):
        notes.append(
            "not measured, and so not counted: the memory of networks, and the disk of weights and checkpoints"
        )
    if any(isinstance(job.work, EmbeddingWindows) for job in every):
        notes.append("not in the hours: CLAP, its training and its embeddings of windows")
    if any(job.work.devices > 1 for job in every):
        notes.append("a training on n devices is taken as n times as fast, as if they had nothing to tell one another")
    notes.append("hours are those of networks; composing, cutting, embedding, scoring and drawing come on top, on CPUs")
    return Costs(
        run=config["run"],
        device=device,
        devices=devices,
        costs=dict(costs),
        parts=parts,
        jobs=len(every),
        hours=sum(lengths.values()),
        wall=max(done.values(), default=0.0),
        longest_chain=max(unbounded.values(), default=0.0),
        disk=sum(part.disk for part in parts),
        notes=notes,
    )


def _network_memory(job: Job, costs: Mapping[str, Cost]) -> int:
    if job.work.network is None:
        return 0
    cost = costs[job.work.network]
    return (cost.training_memory if job.amount.steps else cost.memory) or 0


def _disk(job: Job, costs: Mapping[str, Cost]) -> int:
    parameters = 0 if job.work.network is None else costs[job.work.network].parameters or 0
    return job.amount.disk + job.amount.weights * parameters


def given_costs(networks: Sequence[str], evaluation: Sequence[str], step: Sequence[str] = ()) -> dict[str, Cost]:
    """Costs that the user names.

    Args:
        networks: see `Study.systems`.
        evaluation: seconds of an evaluation: a number for all networks, and "NETWORK=number" for one.
        step: the same of a training step; what is not named is taken from the evaluation.

    Raises:
        UserError: for anything else, or if a network has no number.
    """
    of_evaluation = _numbers("--seconds-per-evaluation", evaluation, networks)
    of_step = _numbers("--seconds-per-step", step, networks)
    for network in networks:
        if network not in of_evaluation:
            raise UserError(f"--seconds-per-evaluation: none for {network}; add {network}=SECONDS")
    return {
        network: Cost(
            Seconds.of([of_evaluation[network]]), Seconds.of([of_step[network]]) if network in of_step else None
        )
        for network in networks
    }


def _numbers(option: str, texts: Sequence[str], networks: Sequence[str]) -> dict[str, float]:
    everywhere: dict[str, float] = {}
    single: dict[str, float] = {}
    for text in texts:
        name, equals, number = text.rpartition("=")
        try:
            value = float(number)
        except ValueError:
            value = math.nan
        if not 0 < value < math.inf or (equals and name not in networks):
            raise UserError(f"{option} {text!r}: write SECONDS or NETWORK=SECONDS, with {', '.join(networks)}")
        if equals:
            single[name] = value
        else:
            everywhere = dict.fromkeys(networks, value)
    return everywhere | single
