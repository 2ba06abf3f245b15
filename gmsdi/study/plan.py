"""What a configuration costs before it is run: network evaluations, device hours, memory, disk and jobs.

The workflow's work is that of its networks. `count` lists its jobs, each with the signals that a network denoises in it
(its evaluations, counted as `Pipeline.evaluations` counts them) or its training steps; `measure` takes the seconds of
one of each on the machine at hand; `estimate` multiplies them, and lays the jobs out over devices. Only `measure` needs
torch.

A job's calls of the network are filled up to `CALL` signals (`Pipeline.fixed_batch`), and guidance denoises a
signal twice, so that the counts depend on how the work is cut. What a configuration leaves open until Table 1 is there,
the strength w of the guidance, is taken as the dearer case, that there is guidance.
"""

from __future__ import annotations

import heapq
import inspect
import json
import math
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gmsdi.data.decoding import Unreadable
from gmsdi.data.download import find_entry
from gmsdi.data.multitracks import find_tracks
from gmsdi.data.slakh import list_tracks
from gmsdi.data.versions import JAMENDO_SHARDS, VERSIONS
from gmsdi.errors import UserError
from gmsdi.metrics.embeddings import EMBEDDINGS
from gmsdi.study.config import Config, load, validate
from gmsdi.study.counting import CALL
from gmsdi.study.study import GMSDI, Study

if TYPE_CHECKING:
    import torch

REPO = Path(__file__).resolve().parents[2]
SLAKH_SECONDS = 145 * 3600 / 2100
"""Mean length of Slakh2100's tracks: 145 hours in all (Manilow et al. 2019)."""
JAMENDO_COUNT = 55_701
"""Tracks of MTG-Jamendo's raw_30s (Bogdanov et al. 2019)."""
JAMENDO_SECONDS = 3777 * 3600 / JAMENDO_COUNT
"""Their mean length."""
JAMENDO_BYTES = 156e9 / JAMENDO_COUNT
"""Mean size of their files in audio-low."""
BACKWARD = 3
"""A training step is taken as so many evaluations of its batch where it is not measured: the backward pass costs about
twice the forward pass."""

FILTER_TAPS = 512
"""Of BSS Eval's filters, the default of `gmsdi.metrics.bss_eval`; museval's equations couple those of all stems."""
BSS_EVAL = 20
"""Arrays as large as a track's stems in float32 that museval holds at a time: in float64, and their spectra padded to a
power of two. Measured: 13 beside the equations, where the padding is a half."""
BUSY = 0.8
"""Share of a core below which a timing on the CPU is not of the network alone."""

DATA, TRAIN, DEMO, TRAIN_BASELINES = "Data", "Training", "Demo training", "Training, baselines"
TABLE1, TABLE2, FIGURE2, FIGURE3, FIGURE4 = "Table 1", "Table 2", "Figure 2", "Figure 3", "Figure 4"
FIGURES, PAGE = "Figures 2 and 3, distances", "Report"
PARTS = (DATA, TRAIN, DEMO, TRAIN_BASELINES, TABLE1, TABLE2, FIGURE2, FIGURE3, FIGURES, FIGURE4, PAGE)


@dataclass(frozen=True)
class Job:
    """A job of the workflow.

    Attributes:
        rule: its rule.
        name: unique.
        part: one of `PARTS`.
        network: the system whose network it runs, see `Study.systems`; None runs none.
        evaluations: signals that the network denoises, the rows that fill up a call included.
        steps: training steps.
        batch: windows of a training step.
        devices: that it takes at a time, for a training that shares its batches among several.
        memory: bytes of the arrays of audio that the job holds, without the network.
        disk: bytes of the audio that it writes.
        after: names of the jobs that it waits for, of those that run a network.
    """

    rule: str
    name: str
    part: str
    network: str | None = None
    evaluations: int = 0
    steps: int = 0
    batch: int = 0
    devices: int = 1
    memory: int = 0
    disk: int = 0
    after: tuple[str, ...] = ()


@dataclass(frozen=True)
class Seconds:
    """Repeated timings, in seconds: their median and their extremes."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Seconds:
        """Of at least one timing."""
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
class Plan:
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
        """As JSON has it."""
        return asdict(self)


def resolved(paths: Sequence[str | Path]) -> Config:
    """The configuration of the workflow with these overlays, every default filled in.

    Raises:
        UserError: if a file is missing or wrong, or this is not a checkout of the repository.
    """
    return validate(load(*paths))


def shares(items: int, count: int) -> list[range]:
    """The items of each of `count` jobs, as `chunks.share` cuts them."""
    bounds = [items * k // count for k in range(count + 1)]
    return [range(*pair) for pair in pairwise(bounds)]


# --- The jobs ---------------------------------------------------------------------------------------------------------


def jobs_of(
    study: Study, chunks: Mapping[str, int], frames: Mapping[str, int | None], *, longest: int | None = None
) -> list[Job]:
    """All jobs of a fresh run, the final one that gathers them included.

    Args:
        study: what the configuration asks for.
        chunks: number of chunks of the splits "test" and "validation", where the configuration takes all of them.
        frames: samples of each dataset part at the model's rate, by the part's name; None is unknown.
        longest: chunks of the longest track of the test split; None is unknown, and a track is taken as all of it.
    """
    config, labels = study.config, study.labels
    K, window, batch = len(labels), config["data"]["window"], config["jobs"]["batch"]
    jobs = _data_jobs(study, frames)

    def number_of(given: int | None, split: str) -> int:
        """Chunks that a key asks for; None is the whole split."""
        if given is None and split not in chunks:
            raise UserError(
                f"config: data.kind {config['data']['kind']}: the {split} split cannot be counted from here; give the "
                "number of its chunks, --chunks N"
            )
        return chunks[split] if given is None else given

    def add(part: str, rule: str, name: str = "", **rest: Any) -> str:
        job = Job(rule, f"{rule} {name}".strip(), part, **rest)
        jobs.append(job)
        return job.name

    def audio(items: int, rows: int) -> int:
        """Bytes in float32. Estimates are held twice while batches are joined."""
        return items * rows * window * 4

    made: dict[str, list[str]] = {}

    def train(part: str, rule: str, name: str, model: str) -> str:
        training = training_settings(study, model)
        validations = training["steps"] // min(training["validate_every"], training["steps"])
        seen = validations * training["validation_batches"] * training["batch"]
        steps = {"steps": training["steps"], "batch": training["batch"], "evaluations": seen}
        network = GMSDI if model == "demo" else study.models[model].kind
        return add(part, rule, name, network=network, devices=study.devices(model), **steps)

    for name in embedded_parts(study):
        windows = (frames.get(name) or 0) / (config["clap"]["hop"] * window)
        features = config["model"]["config"]["text"]["features"]
        add(TRAIN, "embed_windows", name, disk=round(windows * (4 * features + 8)))
    if embedded_parts(study) and config["clap"]["train"]:
        add(TRAIN, "train_clap")
    for model in study.trained():
        part, rule = (TRAIN, "train") if model == "gmsdi" else (TRAIN_BASELINES, "train_baseline")
        job = train(part, rule, "" if model == "gmsdi" else model, model)
        made.setdefault(study.models[model].kind, []).append(job)
    if config["demo_training"]["enabled"]:
        train(DEMO, "train_short", "", "demo")

    def after(system: str, *names: str) -> tuple[str, ...]:
        return (*made.get(system, []), *names)

    deciding = []
    for split in ("test", "validation"):
        for method in grids(study, split):
            items = number_of(study.grid_chunks(split), split)
            system = study.row(method).system.kind
            name = add(
                TABLE1 if split == "test" and method in study.grid_rows else TABLE2,
                "grid",
                f"{split}/{method}",
                network=system,
                evaluations=sum(cell.evaluations(items, batch) for cell in study.grid_cells(method, split)),
                memory=2 * audio(items, K),
                after=after(system),
            )
            if method in study.deciding(split):
                deciding.append(name)
    add(TABLE1, "table1")
    add(TABLE2, "select")

    items = number_of(config["separation"]["chunks"], "test")
    run = audio(items if longest is None else min(items, longest), K)
    for method, row in study.rows.items():
        system = row.system.kind
        for number, share in enumerate(shares(items, config["jobs"]["separation"]), 1):
            twin = [f"separate {row.twin}/{number}"] if row.twin else []
            add(
                TABLE2,
                "separate",
                f"{method}/{number}",
                network=system,
                evaluations=row.evaluations(len(share), batch),
                memory=2 * audio(len(share), K),
                disk=audio(len(share), K),
                after=after(system, *deciding, *twin),
            )
        # Shards stay on the disk. Of a track there are estimates and targets, and what the score makes of them.
        add(TABLE2, "score_separation", method, memory=4 * run)
        if config["separation"]["bss_eval"]:
            add(TABLE2, "bss_eval", method, memory=BSS_EVAL * run + 5 * 8 * (K * FILTER_TAPS) ** 2)
    add(TABLE2, "table2")
    if config["separation"]["bss_eval"]:
        add(TABLE2, "table2_bss_eval")

    # The clips of a call of the embedding's network: as they are read, side by side, and at the network's rate.
    together = inspect.signature(EMBEDDINGS[config["fad"]["embedding"]]).parameters["batch"].default
    embedded = 3 * audio(together, 1)
    for name, task in study.tasks.items():
        part, rows, system = FIGURE3 if task.mixed else FIGURE2, task.signals, task.system.kind
        clips = task.bars() * task.clips
        for number, share in enumerate(shares(len(clips), config["jobs"]["generation"]), 1):
            add(
                part,
                "generate",
                f"{name}/{number}",
                network=system,
                evaluations=task.evaluations(clips[share.start : share.stop], batch),
                memory=audio(len(share), rows),
                disk=audio(len(share), rows),
                after=after(system),
            )
        add(part, "embed_generated", name, memory=audio(1, rows) + embedded)
        if task.mixed:
            add(part, "embed_stems", name, memory=audio(CALL, rows) + embedded)
    add(FIGURE2, "figure2")
    if config["generation"]["negatives"]:
        add(FIGURE2, "negative_prompts")
    add(FIGURE3, "figure3")
    # The stems of a few clips, as made, of their own chunks and of others.
    add(FIGURE3, "coherence", memory=audio(CALL, 3 * K + 1))
    add(FIGURE3, "stems_of_mixtures", memory=audio(CALL, 2 * K + 1))
    add(FIGURES, "embed_references", memory=audio(1, K) + embedded)
    add(FIGURES, "fad")

    if config["costs"]["steps"]:
        items = number_of(config["costs"]["chunks"], "test")
        for method, row in study.rows.items():
            if not row.costed:
                continue
            system = row.system.kind
            add(
                FIGURE4,
                "cost",
                method,
                network=system,
                evaluations=sum(row.with_steps(n).evaluations(items, batch) for n in config["costs"]["steps"]),
                memory=2 * audio(items, K),
                after=after(system, *deciding),
            )
        add(FIGURE4, "costs")
        add(FIGURE4, "figure4")
    for rule in ("gallery", "page", "resolved_config", "all"):
        add(PAGE, rule)
    return jobs


def training_settings(study: Study, model: str) -> dict[str, Any]:
    """`Study.training` with the defaults of what the work depends on.

    Raises:
        UserError: if the number of steps is not configured.
    """
    settings = study.training(model)
    if "steps" not in settings:
        raise UserError(f"config: training.steps is missing, and {model} is trained; set it")
    return settings


def grids(study: Study, split: str) -> list[str]:
    """The methods whose grid on a split is computed: those that a table shows, and those that settle something."""
    shown = list(study.grid_rows) if split == "test" or study.validation else []
    return list(dict.fromkeys([*shown, *study.deciding(split)]))


def embedded_parts(study: Study) -> list[str]:
    """The dataset parts whose windows a CLAP embeds."""
    demo, names = study.config["demo_training"], []
    if study.clap and study.config["model"]["train"]:
        names += [study.learned("train"), study.learned("validation")]
    if study.clap and demo["enabled"]:
        names += [study.part("train", demo["tracks"]), study.part("validation", demo["validation_tracks"])]
    return list(dict.fromkeys(names))


def data_parts(study: Study) -> dict[str, list[str]]:
    """For each rule that cuts windows, the dataset parts that it cuts."""
    config = study.config
    baselines = bool(study.baseline_models) and config["baselines"]["train"]
    demo = config["demo_training"]
    train, stems = [], [study.part("test")]
    if study.learns_from_data:
        train.append(study.part("train"))
    if study.learns_from_data or baselines or study.validation:
        stems.append(study.part("validation"))
    if demo["enabled"]:
        train.append(study.part("train", demo["tracks"]))
        stems.append(study.part("validation", demo["validation_tracks"]))
    return {
        "chunk": list(dict.fromkeys(train)),
        "chunk_with_stems": list(dict.fromkeys(stems)),
        "chunk_for_baselines": [study.part("train")] if baselines else [],
        "chunk_jamendo": list(study.jamendo_parts()),
    }


def _data_jobs(study: Study, frames: Mapping[str, int | None]) -> list[Job]:
    """Composing and cutting. Audio lies on the disk as int16; what is composed, compressed, as at most that."""
    jobs, rows = [], 1 + len(study.labels)
    parts = data_parts(study)
    data = study.config["data"]
    if data["kind"] == "mini":
        for part in dict.fromkeys(name for names in parts.values() for name in names):
            jobs.append(Job("compose", f"compose {part}", DATA, disk=2 * rows * (frames[part] or 0)))
    elif data["kind"] == "slakh" and not data["root"]:
        version, needed = VERSIONS[data["source"]], study.splits()
        entry = find_entry(version.archive, registry=data["download"]["registry"])
        share = sum(version.tracks[split] for split in needed) / sum(version.tracks.values())
        if data["download"]["archive"] != "stream":
            jobs.append(Job("download", "download", DATA, disk=entry.size or 0))
        jobs.append(Job("unpack", "unpack", DATA, disk=round((entry.unpacked or entry.size or 0) * share)))
    training = study.config["training_data"]
    if study.jamendo and not training["root"]:
        jobs.append(Job("list_jamendo", "list_jamendo", DATA))
        size = round(JAMENDO_BYTES * _jamendo_tracks(training["tracks"]))
        for shard in sorted(shard for shards in study.jamendo_parts().values() for shard in shards):
            jobs.append(Job("download_jamendo", f"download_jamendo {shard:02d}", DATA, disk=size))
    for rule, names in parts.items():
        for part in names:
            stored = 1 if rule in ("chunk", "chunk_jamendo") else rows
            jobs.append(Job(rule, f"{rule} {part}", DATA, disk=2 * stored * (frames[part] or 0)))
    return jobs


def _jamendo_tracks(limit: int | None) -> float:
    """Tracks that are taken of a shard of MTG-Jamendo, in the mean."""
    return min(JAMENDO_COUNT / JAMENDO_SHARDS, limit or math.inf)


def track_frames(study: Study, part: str, results: Path) -> tuple[list[int] | None, str]:
    """Lengths of a dataset part's tracks in samples, and how they are known.

    They are read from the windows where these are built; otherwise mini's tracks are composed (not rendered), the
    first 64 of a part standing for the rest, and the headers of the files of Slakh or of multi-tracks are read.
    MTG-Jamendo's are all taken as long as their mean. None is unknown.
    """
    data, shards = study.config["data"], study.jamendo_parts().get(part)
    dataset = study.dataset_id() if shards is None else study.jamendo_id()
    built = [results / "data" / dataset / part / name for name in ("windows", "windows_with_stems")]
    for folder in built:
        if (folder / "tracks.csv").is_file() and (folder / "info.json").is_file():
            rows = (folder / "tracks.csv").read_text(encoding="utf-8").splitlines()[1:]
            return [int(row.rsplit(",", 1)[1]) for row in rows], f"{part}: the windows in {folder}"
    if shards is not None:
        number, length = len(shards) * _jamendo_tracks(study.config["training_data"]["tracks"]), JAMENDO_SECONDS
        source = f"{part}: assumed, {number:.0f} tracks of {length:.0f} s as in MTG-Jamendo"
        return [round(length * data["sample_rate"])] * round(number), source
    split, count = part.split("-")
    if data["kind"] == "mini":
        from gmsdi.data.mini import MiniConfig, compose_track

        mini = MiniConfig(**{key: value for key, value in data["mini"].items() if key != "tracks"})
        looked = []
        for index in range(min(int(count), 64)):
            piece = compose_track(mini, seed=data["seed"], split=split, index=index)
            looked.append(round((piece.seconds(piece.ticks) + 0.5) * data["sample_rate"]))
        return [looked[index % len(looked)] for index in range(int(count))], f"{part}: composed for the count"
    if data["kind"] == "stems" and data["root"]:
        return _multitrack_frames(data, split), f"{part}: the tracks in {data['root']}"
    if data["kind"] != "slakh":
        return None, f"{part}: unknown"
    version, first = VERSIONS[data["source"]], data["tracks"][split]
    root = Path(data["root"] or Path(data["download"]["folder"]) / version.folder)
    try:
        tracks = list_tracks(root, split, version=data["source"], first=first)
    except UserError:
        number, length = min(version.tracks[split], first or math.inf), round(SLAKH_SECONDS * data["sample_rate"])
        return [length] * int(number), f"{part}: assumed, {number} tracks of {SLAKH_SECONDS:.0f} s as in Slakh2100"
    import soundfile

    infos = [soundfile.info(file) for track in tracks for file in sorted(track.glob("mix.*"))[:1]]
    return [round(x.frames * data["sample_rate"] / x.samplerate) for x in infos], f"{part}: the tracks in {root}"


def _multitrack_frames(data: Mapping[str, Any], split: str) -> list[int]:
    """Lengths of the tracks of a split that can be read and are as long as a window."""
    lengths = []
    for track in find_tracks(data, [split])[split]:
        try:
            length = track.length(data["sample_rate"])
        except Unreadable:
            continue
        lengths += [length] if length >= data["window"] else []
    return lengths


def count(config: Config, *, chunks: int | None = None, results: str | Path = "results") -> tuple[list[Job], list[str]]:
    """All jobs of a fresh run of a configuration, and what was assumed for them.

    Args:
        config: with every default filled in.
        chunks: chunks of the test split where the configuration takes all; None counts or estimates them.
        results: the folder of results, whose dataset is counted if it is built.

    Raises:
        UserError: if the number of chunks is needed and cannot be known.
    """
    study, window = Study(config), config["data"]["window"]
    frames: dict[str, int | None] = {}
    whole: dict[str, int] = {}
    longest: int | None = None
    notes = []
    for part in dict.fromkeys(name for names in data_parts(study).values() for name in names):
        lengths, source = track_frames(study, part, Path(results))
        frames[part] = None if lengths is None else sum(lengths)
        notes.append(source)
        if lengths is not None and part not in study.jamendo_parts():
            whole.setdefault(part.split("-")[0], sum(length // window for length in lengths))
            if part == study.part("test"):
                longest = max((length // window for length in lengths), default=0)
    if chunks is not None:
        whole["test"] = chunks
        notes.append(f"chunks of the whole test split: {chunks}, as given")
    return jobs_of(study, whole, frames, longest=longest), notes


# --- Estimating -------------------------------------------------------------------------------------------------------


def seconds(job: Job, costs: Mapping[str, Cost]) -> float:
    """Seconds of a job on one device; 0 for those that run no network."""
    if job.network is None:
        return 0.0
    cost = costs[job.network]
    once = cost.evaluation.median
    step = BACKWARD * job.batch * once if cost.step is None else cost.step.median
    return job.evaluations * once + job.steps * step


def layout(jobs: Sequence[Job], lengths: Mapping[str, float], devices: int) -> dict[str, float]:
    """When each job is done if a device that is free takes the job with the longest chain of others behind it.

    Args:
        jobs: in an order in which none comes before what it waits for.
        lengths: of each job by name, on the devices that it takes.
        devices: their number; a job that takes more takes all.
    """
    takes = {job.name: min(job.devices, devices) for job in jobs}
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
    config: Config,
    costs: Mapping[str, Cost],
    *,
    devices: int = 1,
    device: str = "given",
    chunks: int | None = None,
    results: str | Path = "results",
) -> Plan:
    """The plan of a configuration.

    Args:
        config: with every default filled in.
        costs: of every network that runs, see `Study.systems`.
        devices: number of devices, each of which runs one job at a time. A training on several of them is taken as so
            many times as fast.
        device: what was measured, in words.
        chunks: see `count`.
        results: see `count`.

    Raises:
        UserError: see `count`.
    """
    if devices < 1:
        raise UserError(f"devices is {devices}; it must be at least 1")
    jobs, notes = count(config, chunks=chunks, results=results)
    lengths = {job.name: seconds(job, costs) / 3600 for job in jobs}
    of_networks = [job for job in jobs if job.network is not None]

    def clock(available: int) -> dict[str, float]:
        return {job.name: lengths[job.name] / min(job.devices, available) for job in of_networks}

    enough = sum(job.devices for job in of_networks)
    done, unbounded = layout(of_networks, clock(devices), devices), layout(of_networks, clock(enough), enough)
    parts = []
    for name in PARTS:
        own = [job for job in jobs if job.part == name]
        if own:
            parts.append(
                Part(
                    name=name,
                    jobs=len(own),
                    evaluations=sum(job.evaluations for job in own),
                    steps=sum(job.steps for job in own),
                    hours=sum(lengths[job.name] for job in own),
                    longest=max(lengths[job.name] / min(job.devices, devices) for job in own),
                    memory=max(job.memory for job in own),
                    network_memory=max(_network_memory(job, costs) for job in own),
                    disk=sum(_disk(job, config, costs) for job in own),
                    finished=max((done[job.name] for job in own if job.name in done), default=0.0),
                )
            )
    study = Study(config)
    if any("w" in row.OPEN and "w" not in row.fixed for row in study.rows.values()):
        notes.append("w is open until Table 1 is there: counted as guidance, which denoises every signal twice")
    if any(cost.step is None for cost in costs.values()) and any(job.steps for job in jobs):
        notes.append(f"training steps where not measured: {BACKWARD} evaluations of every window")
    if any(cost.memory is None for cost in costs.values()):
        notes.append(
            "not measured, and so not counted: the memory of networks, and the disk of weights and checkpoints"
        )
    if embedded_parts(study):
        notes.append("not in the hours: CLAP, its training and its embeddings of windows")
    if any(job.devices > 1 for job in jobs):
        notes.append("a training on n devices is taken as n times as fast, as if they had nothing to tell one another")
    notes.append("hours are those of networks; composing, cutting, embedding, scoring and drawing come on top, on CPUs")
    return Plan(
        run=config["run"],
        device=device,
        devices=devices,
        costs=dict(costs),
        parts=parts,
        jobs=len(jobs),
        hours=sum(lengths.values()),
        wall=max(done.values(), default=0.0),
        longest_chain=max(unbounded.values(), default=0.0),
        disk=sum(part.disk for part in parts),
        notes=notes,
    )


def _network_memory(job: Job, costs: Mapping[str, Cost]) -> int:
    if job.network is None:
        return 0
    cost = costs[job.network]
    return (cost.training_memory if job.steps else cost.memory) or 0


def _disk(job: Job, config: Config, costs: Mapping[str, Cost]) -> int:
    """Audio, and of a training the weights and its last checkpoint: weights, their average and AdamW's two moments."""
    if job.network is None or not job.steps:
        return job.disk
    saved = 2 if config["training"].get("save_as") == "float16" else 4
    return job.disk + (costs[job.network].parameters or 0) * (saved + 4 * 4)


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


# --- Measuring --------------------------------------------------------------------------------------------------------


def measure(
    config: Config, *, device: str = "auto", repetitions: int = 5, progress: Callable[[str], None] | None = None
) -> tuple[dict[str, Cost], str]:
    """Time the networks of a configuration here, as the workflow's jobs call them.

    A network is loaded where its folder is there, and otherwise built with random weights, which cost the same. Steps
    of a sampler are timed with `CALL` signals, guided where the model is; training steps with the configured
    batch. A first step of each warms up and is not counted.

    Args:
        config: with every default filled in.
        device: see `pipeline.load`.
        repetitions: timed steps of each kind.
        progress: called with what is measured next.

    Returns:
        The costs of every network, and the device in words. The memory is that of the device's allocator on CUDA, and
        elsewhere the greatest of this process so far.

    Raises:
        UserError: if a model cannot be built or loaded, or the device does not exist.
    """
    import torch

    from gmsdi.io.device import resolve_device, resolve_precision

    if repetitions < 1:
        raise UserError(f"repetitions is {repetitions}; it must be at least 1")
    device, threads = resolve_device(device), config["jobs"]["threads"]
    study, costs = Study(config), {}
    trained = {study.models[model].kind: model for model in study.trained()}
    if config["demo_training"]["enabled"]:
        trained.setdefault("gmsdi", "demo")
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        for network in study.systems:
            if progress is not None:
                progress(f"{network}: sampling, {CALL} signals at a time")
            evaluation, parameters, memory = _time_sampling(study, network, device, repetitions)
            step, training_memory = None, None
            if network in trained:
                model = trained[network]
                training = training_settings(study, model)
                if progress is not None:
                    progress(f"{network}: training, {training['batch']} windows a step")
                built = "gmsdi" if model == "demo" else model
                step, training_memory, parameters = _time_training(study, built, training, device, repetitions)
            costs[network] = Cost(evaluation, step, parameters, memory, training_memory)
    finally:
        torch.set_num_threads(before)
    kind = torch.cuda.get_device_name() if device.startswith("cuda") else f"{device}, threads: {threads}"
    autocast = resolve_precision(config["jobs"]["precision"], device)
    return costs, f"{kind}, {'float32' if autocast is None else str(autocast).removeprefix('torch.')}"


def _model(study: Study, network: str, device: str) -> Any:
    """A network ready to sample: of its folder, or with random weights."""
    import gmsdi.systems.demucs_gibbs  # noqa: F401  # registers its kind of model
    from gmsdi.io.device import resolve_precision
    from gmsdi.models.checkpoint import CONFIG, bundled_model, load_model

    config = study.config
    model = next(iter(study.systems[network].models))
    folder = None
    if network == "gmsdi" and not config["model"]["train"]:
        folder = Path(config["model"]["folder"] or bundled_model())
    elif network != "gmsdi" and not config["baselines"]["train"]:
        folder = Path(config["baselines"]["folder"] or REPO / "gmsdi" / "weights" / "baselines") / model
    if folder is not None and (network == "gmsdi" or (folder / CONFIG).is_file()):
        built = load_model(folder, device=device)
    else:
        built = _fresh(study, model).requires_grad_(False).eval().to(device)
    built.autocast = resolve_precision(config["jobs"]["precision"], device)
    return built


def _fresh(study: Study, model: str) -> Any:
    """A model with random weights. A CLAP is not asked: its embeddings are zeros here."""
    import torch
    from safetensors.torch import save_file

    import gmsdi.systems.demucs_gibbs  # noqa: F401  # registers its kind of model
    from gmsdi.models.checkpoint import PROMPTS, build_model

    config = study.model_config(model)
    if config.get("text", {}).get("kind") != "clap":
        return build_model(config)
    with tempfile.TemporaryDirectory() as folder:
        prompts, number = Path(folder) / PROMPTS, len(study.labels)
        known = {
            "tokens": torch.zeros(number, 1, config["text"]["features"]),
            "mask": torch.ones(number, 1, dtype=torch.bool),
        }
        save_file(known, prompts, metadata={"prompts": json.dumps(study.labels)})
        return build_model(config, prompts=prompts)


def _time_sampling(study: Study, network: str, device: str, repetitions: int) -> tuple[Seconds, int, int]:
    """Seconds of an evaluation, the network's parameters, and its peak memory in bytes."""
    import torch

    from gmsdi.pipeline import Pipeline
    from gmsdi.sampling.solver import Guidance, Solver
    from gmsdi.systems.msdm import JointMSDM
    from gmsdi.systems.weak_msdm import WeakMSDM

    model, labels = _model(study, network, device), study.labels
    clock, rows = _Clock(device), CALL
    options: dict[str, Any] = {"device": device, "max_batch": rows, "fixed_batch": True}
    seeds, steps = list(range(rows)), repetitions + 1
    sampling: dict[str, Any] = {
        "solver": Solver("euler", steps=steps),
        "seeds": seeds,
        "callback": lambda *_: clock.tick(),
    }
    run: Any
    if network == "gmsdi":
        run = Pipeline(model, model.config, **options)
        run.sample_windows([labels[0]] * rows, guidance=Guidance(w=1.0), **sampling)
    elif network == "msdm":
        run = JointMSDM(model, model.config, **options)
        run.generate(**sampling)
    elif network == "weak_msdm":
        run = WeakMSDM({labels[0]: model}, model.config, **options)
        run.sample([labels[0]] * rows, **sampling)
    else:
        run, model.max_batch, model.fixed_batch = model, rows, True
        mixtures = torch.randn(rows, 1, study.config["data"]["window"], device=device)
        run.separate(mixtures, steps=steps - 1, seeds=seeds, callback=sampling["callback"])
    parameters = sum(parameter.numel() for parameter in model.parameters())
    return clock.seconds(run.evaluations / steps), parameters, clock.memory()


def _time_training(
    study: Study, model: str, training: Mapping[str, Any], device: str, repetitions: int
) -> tuple[Seconds, int, int]:
    """Seconds of a training step, its peak memory in bytes, and the network's parameters."""
    import torch
    from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

    from gmsdi.io.device import resolve_precision
    from gmsdi.models.checkpoint import STEMS, target_of

    built = _fresh(study, model).to(device)
    built.autocast = resolve_precision(training.get("precision", "auto"), device)
    average = AveragedModel(built, multi_avg_fn=get_ema_multi_avg_fn(0.999)).requires_grad_(False)
    optimizer = torch.optim.AdamW([x for x in built.parameters() if x.requires_grad], 1e-6, fused=True)
    n, channels = training["batch"], len(study.labels) if target_of(built.config) == STEMS else 1
    clean = torch.randn(n, channels, study.config["data"]["window"], device=device)
    batch: dict[str, Any] = {
        "clean": 0.1 * clean,
        "noise": torch.randn_like(clean),
        "sigma": torch.full((n,), 0.1, device=device),
        "draws": torch.rand(n, 16, device=device),
    }
    if built.config.get("text", {}).get("kind") == "clap":
        batch["embeddings"] = torch.randn(n, built.config["text"]["features"], device=device)
        batch["dropped"] = torch.zeros(n, dtype=torch.bool, device=device)
    else:
        batch["texts"] = [study.labels[i % len(study.labels)] for i in range(n)]
    clock = _Clock(device)
    for _ in range(repetitions + 1):
        optimizer.zero_grad()
        built.training_loss(batch).mean().backward()
        torch.nn.utils.clip_grad_norm_(built.parameters(), 1.0)
        optimizer.step()
        average.update_parameters(built)
        clock.tick()
    return clock.seconds(1), clock.memory(), sum(parameter.numel() for parameter in built.parameters())


class _Clock:
    """Times repeated steps on a device, and their peak memory; the first step is a warm-up."""

    def __init__(self, device: str) -> None:
        import torch

        self.cuda: torch.device | None = torch.device(device) if device.startswith("cuda") else None
        if self.cuda is not None:
            torch.cuda.reset_peak_memory_stats(self.cuda)
        self.ticks: list[float] = []
        self.worked: list[float] = []

    def tick(self) -> None:
        """A step is done."""
        if self.cuda is not None:
            import torch

            torch.cuda.synchronize(self.cuda)
        self.ticks.append(time.perf_counter())
        self.worked.append(time.process_time())

    def seconds(self, units: float) -> Seconds:
        """Of one of the units that make a step; warns if other programs had much of the processor meanwhile."""
        busy = (self.worked[-1] - self.worked[0]) / (self.ticks[-1] - self.ticks[0])
        if self.cuda is None and busy < BUSY:
            warnings.warn(
                f"the processor gave this program {busy:.0%} of a core while it was timed; the hours are those of a "
                "machine as loaded as this one",
                stacklevel=2,
            )
        return Seconds.of([(after - before) / units for before, after in pairwise(self.ticks)])

    def memory(self) -> int:
        """Bytes at the peak."""
        if self.cuda is not None:
            import torch

            return int(torch.cuda.max_memory_allocated(self.cuda))
        import resource
        import sys

        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else 1024 * peak


# --- Showing ----------------------------------------------------------------------------------------------------------


def text(plan: Plan) -> str:
    """The plan as plain tables."""
    devices = "1 device" if plan.devices == 1 else f"{plan.devices} devices"
    lines = [f"Plan of run {plan.run} on {devices} ({plan.device})", ""]
    head = ["network", "parameters", "ms per evaluation", "s per training step", "memory", "in training"]
    rows = [
        [
            network,
            "" if cost.parameters is None else f"{cost.parameters / 1e6:.1f} M",
            _spread(cost.evaluation, 1e3),
            "" if cost.step is None else _spread(cost.step),
            "" if cost.memory is None else _bytes(cost.memory),
            "" if cost.training_memory is None else _bytes(cost.training_memory),
        ]
        for network, cost in plan.costs.items()
    ]
    lines += [*_table(head, rows), ""]
    head = ["", "jobs", "evaluations", "training steps", "hours", "longest job", "done after"]
    rows = []
    for part in plan.parts:
        hours = [part.hours, part.longest, part.finished] if part.hours else []
        counts = [f"{value}" if value else "" for value in (part.jobs, part.evaluations, part.steps)]
        sizes = [_bytes(value) if value else "" for value in (part.memory, part.network_memory, part.disk)]
        rows.append([part.name, *counts, *(map(_hours, hours) if hours else [""] * 3), *sizes])
    evaluations, steps = (sum(getattr(part, key) for part in plan.parts) for key in ("evaluations", "steps"))
    total = ["all", f"{plan.jobs}", f"{evaluations}", f"{steps}", _hours(plan.hours), "", _hours(plan.wall)]
    rows.append([*total, "", "", _bytes(plan.disk)])
    lines += [*_table([*head, "audio in memory", "network", "disk"], rows), ""]
    busy = plan.hours / (plan.devices * plan.wall) if plan.wall else 1.0
    lines.append(
        f"Hours are of devices; {devices} would be busy {busy:.0%} of {_hours(plan.wall)} h. No number of devices "
        f"takes less than {_hours(plan.longest_chain)} h."
    )
    return "\n".join([*lines, *(f"- {note}" for note in plan.notes)])


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Columns as wide as they need, the first to the left."""
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    return [
        "  ".join(cell.ljust(width) if place == 0 else cell.rjust(width) for place, (cell, width) in enumerate(line))
        for line in (list(zip(row, widths, strict=True)) for row in [head, *rows])
    ]


def _spread(value: Seconds, scale: float = 1.0) -> str:
    if value.low == value.high:
        return f"{scale * value.median:.3g}"
    return f"{scale * value.median:.3g} ({scale * value.low:.3g} to {scale * value.high:.3g})"


def _hours(value: float) -> str:
    return f"{value:.1f}" if value >= 10 else f"{value:.3g}"


def _bytes(value: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000:
            return f"{value:.3g} {unit}"
        value /= 1000
    return f"{value:.3g} TB"
