"""What jobs cost: evaluations and training steps times the seconds of each, laid out over devices."""

from __future__ import annotations

import heapq
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from gmsdi.errors import UserError
from gmsdi.study.cost.dag import Job, Overlay, jobs, resolved
from gmsdi.study.cost.networks import Cost, Seconds
from gmsdi.study.cost.pretrained import with_weights
from gmsdi.study.cost.sizes import counted, sizes_of
from gmsdi.study.setups import GMSDI
from gmsdi.study.study import Study
from gmsdi.study.work import PARTS, EmbeddingWindows

BACKWARD = 3
"""Cost of a training step that was not measured, in evaluations of its batch: the backward pass takes about twice as
long as the forward pass."""


@dataclass(frozen=True)
class Part:
    """The cost of a table, a figure or a training.

    Attributes:
        name: one of `PARTS`.
        jobs: number of jobs.
        evaluations: signals that networks denoise, validations included.
        codings: signals that an autoencoder encodes or decodes.
        steps: training steps.
        hours: device hours of all jobs together.
        longest: hours of its longest job.
        memory: largest memory of a job's audio arrays, in bytes.
        network_memory: largest memory of a job's network, in bytes; 0 if not measured.
        disk: size of its outputs in bytes.
        finished: hours until all its jobs are done on the given number of devices.
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
    codings: int = 0


@dataclass(frozen=True)
class Costs:
    """What a configuration costs.

    Attributes:
        run: name of the run.
        device: description of the measured device.
        devices: number of devices.
        costs: the cost of every network.
        parts: the parts that have jobs, in the order of `PARTS`.
        jobs: number of all jobs.
        hours: device hours of all jobs together.
        wall: hours until everything is done on the devices.
        longest_chain: hours of the longest chain of jobs that wait for one another, a lower bound for any number of
            devices.
        disk: size of all outputs in bytes.
        notes: assumptions.
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
        """The costs as plain values, for JSON."""
        return asdict(self)


def seconds(job: Job, costs: Mapping[str, Cost]) -> float:
    """Seconds of a job on one device; 0 if it runs no network."""
    if job.work.network is None:
        return 0.0
    cost, amount = costs[job.work.network], job.amount
    once = cost.evaluation.median
    step = BACKWARD * amount.batch * once if cost.step is None else cost.step.median
    codings = ((amount.encoded, cost.encoding), (amount.decoded, cost.decoding))
    coding = sum(count * each.median for count, each in codings if each is not None)
    return amount.evaluations * once + amount.steps * step + coding


def layout(jobs: Sequence[Job], lengths: Mapping[str, float], devices: int) -> dict[str, float]:
    """When each job is done, if every free device takes the job with the longest chain of dependents.

    Args:
        jobs: each after the jobs that it waits for.
        lengths: duration of each job by name, on the devices that it uses.
        devices: number of devices; a job that asks for more uses all.
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
        overlays: files that override config/config.yaml.
        costs: the cost of every network that runs, by the names in `Study.networks`.
        devices: number of devices, each of which runs one job at a time. A training on n of them is assumed to be n
            times as fast.
        device: description of the measured device.
        chunks: see `sizes_of`.
        results: see `sizes_of`.
        planned: the jobs, from `jobs`; None asks Snakemake for them.

    Raises:
        UserError: see `jobs` and `counted`.
    """
    if devices < 1:
        raise UserError(f"devices is {devices}; it must be at least 1")
    config = resolved(overlays)
    study, planned = Study(config), jobs(overlays) if planned is None else planned
    sizes, notes = sizes_of(study, planned, chunks=chunks, results=results)
    costs, known = with_weights(costs, study)
    notes += known
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
                    codings=sum(job.amount.encoded + job.amount.decoded for job in own),
                )
            )
    if any("w" in row.OPEN and "w" not in row.fixed for row in study.rows.values()):
        notes.append("w is open until Table 1 is computed; guidance is assumed, which denoises every signal twice")
    if study.coded and any(job.amount.decoded for job in every) and costs[GMSDI].decoding is None:
        notes.append("not measured, and therefore not in the hours: encoding and decoding of latents")
    if any(cost.step is None for cost in costs.values()) and any(job.amount.steps for job in every):
        notes.append(
            f"training steps that were not measured are assumed to cost {BACKWARD} evaluations of every window"
        )
    if any(cost.memory is None for cost in costs.values()):
        notes.append(
            "not measured, and therefore not counted: memory of networks, disk space of weights and checkpoints"
        )
    if any(isinstance(job.work, EmbeddingWindows) for job in every):
        notes.append("hours do not include CLAP: its training and its embeddings of windows")
    if any(job.work.devices > 1 for job in every):
        notes.append("a training on n devices is assumed to be n times as fast, without communication between them")
    notes.append(
        "hours are those of networks; composing, cutting, embedding, scoring and drawing take CPU time in addition"
    )
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
    """Costs given by the user.

    Args:
        networks: names of the networks, see `Study.networks`.
        evaluation: seconds of an evaluation: a number for all networks, "NETWORK=number" for one.
        step: the same for a training step; missing ones are derived from the evaluation.

    Raises:
        UserError: for any other text, or if a network has no number.
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
