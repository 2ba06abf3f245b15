"""What a configuration costs before it is run: network evaluations, device hours, memory, disk and jobs.

`jobs` asks Snakemake for all jobs of the workflow, of which the rules say what they work (`gmsdi.study.work`) and the
graph which wait for which. `measure` takes the seconds of an evaluation and of a training step of each network on the
machine at hand; `estimate` multiplies them, and lays the jobs out over devices. Only `measure` needs torch.
"""

from __future__ import annotations

import heapq
import io
import json
import math
import shutil
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr
from dataclasses import asdict, dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from gmsdi.data.decoding import Unreadable
from gmsdi.data.multitracks import find_tracks
from gmsdi.data.slakh import list_tracks
from gmsdi.data.versions import VERSIONS
from gmsdi.errors import UserError
from gmsdi.study.config import Config, load, validate
from gmsdi.study.config.files import HOME
from gmsdi.study.counting import CALL
from gmsdi.study.pretrained_cost import time_pretrained, with_weights
from gmsdi.study.rows import GMSDI
from gmsdi.study.study import Study
from gmsdi.study.work import (
    JAMENDO_COUNT,
    PAGE,
    PARTS,
    Amount,
    Cutting,
    EmbeddingWindows,
    Sizes,
    Work,
    Works,
    jamendo_tracks,
)

if TYPE_CHECKING:
    import torch

Overlay = str | Path | Mapping[str, Any]
"""A configuration file, or what one would hold."""

PACKAGE = Path(__file__).resolve().parents[1]
SNAKEFILE = HOME / "workflow" / "Snakefile"
LOOKED_AT, SONGS = 64, 16
"""Tracks of a part that are composed where its tracks are not there, and songs that are composed or read; they stand
for the rest."""
SLAKH_SECONDS = 145 * 3600 / 2100
"""Mean length of Slakh2100's tracks: 145 hours in all (Manilow et al. 2019)."""
JAMENDO_SECONDS = 3777 * 3600 / JAMENDO_COUNT
"""Their mean length."""
BACKWARD = 3
"""A training step is taken as so many evaluations of its batch where it is not measured: the backward pass costs about
twice the forward pass."""

BUSY = 0.8
"""Share of a core below which a timing on the CPU is not of the network alone."""


@dataclass(frozen=True)
class Job:
    """A job of the workflow.

    Attributes:
        rule: its rule.
        name: unique.
        work: what its rule says.
        after: names of the jobs that run a network and that it waits for, directly or not.
        amount: how much it is, where that is counted.
    """

    rule: str
    name: str
    work: Work
    after: tuple[str, ...] = ()
    amount: Amount = field(default_factory=Amount)


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
        encoding: of one signal by the autoencoder of latents; None where there is none.
        decoding: likewise.
        step: of one training step at its batch; None takes `BACKWARD` evaluations of every window.
        parameters: of the network and what it is conditioned by; None where unknown.
        memory: peak bytes while sampling; None where unknown.
        training_memory: peak bytes while training; None where unknown.
    """

    evaluation: Seconds
    step: Seconds | None = None
    encoding: Seconds | None = None
    decoding: Seconds | None = None
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
        codings: signals that an autoencoder encodes or decodes.
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
    codings: int = 0


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


def resolved(overlays: Sequence[Overlay]) -> Config:
    """The configuration of the workflow with these overlays, every default filled in.

    Raises:
        UserError: if a file is missing or wrong, or the workflow's own are not there.
    """
    if not SNAKEFILE.is_file():
        raise UserError(f"{SNAKEFILE}: not there; install gmsdi anew, from a wheel or from a whole checkout")
    with _files(overlays) as files:
        return validate(load(*files))


@contextmanager
def _files(overlays: Sequence[Overlay]) -> Iterator[list[Path]]:
    """The overlays as files."""
    with tempfile.TemporaryDirectory() as folder:
        files = []
        for number, overlay in enumerate(overlays):
            if isinstance(overlay, Mapping):
                files.append(Path(folder) / f"{number}.yaml")
                files[-1].write_text(yaml.safe_dump(dict(overlay)), encoding="utf-8")
            else:
                files.append(Path(overlay))
        yield files


# --- The jobs ---------------------------------------------------------------------------------------------------------


def jobs(overlays: Sequence[Overlay]) -> list[Job]:
    """All jobs of a configuration, done or not, as Snakemake plans them; each comes after those that it waits for.

    Raises:
        UserError: if Snakemake is missing, or cannot plan them, with its reason.
    """
    try:
        from snakemake.api import SnakemakeApi
        from snakemake.exceptions import WorkflowError
        from snakemake.settings.types import ConfigSettings, DAGSettings, OutputSettings, Quietness, ResourceSettings
    except ImportError as error:
        raise UserError("costs are counted by Snakemake, which is missing: pip install 'gmsdi[workflow]'") from error
    data = resolved(overlays)["data"]  # mistakes are named before Snakemake starts
    known = Path(".snakemake").exists()
    try:
        settings = OutputSettings(quiet={Quietness.ALL}, dryrun=True)
        # Tracks that are still to come are counted too, as those of a folder without any.
        to_come = data["kind"] == "stems" and not data["root"]
        Works.to_come = to_come
        with (
            tempfile.TemporaryDirectory() as empty,
            _files([*overlays, {"data": {"root": empty}}] if to_come else overlays) as files,
            redirect_stderr(io.StringIO()),
            SnakemakeApi(settings) as api,
        ):
            workflow = api.workflow(
                resource_settings=ResourceSettings(cores=1),
                config_settings=ConfigSettings(configfiles=files),
                snakefile=SNAKEFILE,
            )
            workflow.dag(DAGSettings()).execute_workflow(executor="dryrun")
            dag = workflow._workflow.dag
            return _ordered({job: list(dag.dependencies[job]) for job in dag.jobs})
    except SystemExit as end:  # the Snakefile's own checks
        raise UserError(str(end.code)) from end
    except WorkflowError as error:
        raise UserError(" ".join(str(error).split())) from error
    finally:
        Works.to_come = False
        if not known:
            shutil.rmtree(".snakemake", ignore_errors=True)


def _ordered(dependencies: Mapping[Any, Sequence[Any]]) -> list[Job]:
    """Snakemake's jobs in an order in which none comes before what it waits for."""
    names = {job: _name(job) for job in dependencies}
    behind: dict[Any, tuple[str, ...]] = {}  # jobs that run a network, to be waited for by what needs this one
    found: list[Job] = []

    def visit(job: Any) -> tuple[str, ...]:
        if job not in behind:
            others = sorted(dependencies[job], key=names.__getitem__)
            after = tuple(dict.fromkeys(name for other in others for name in visit(other)))
            work = job.params.get("work", Work(PAGE))
            found.append(Job(job.rule.name, names[job], work, after))
            behind[job] = (names[job],) if work.network else after
        return behind[job]

    for job in sorted(dependencies, key=names.__getitem__):
        visit(job)
    return found


def _name(job: Any) -> str:
    words = "/".join(value for key, value in job.wildcards_dict.items() if key != "shards")
    return f"{job.rule.name} {words}".strip()


def counted(found: Sequence[Job], sizes: Sizes) -> list[Job]:
    """The jobs with how much they work.

    Raises:
        UserError: if it depends on data whose size is not known.
    """
    return [replace(job, amount=job.work.count(sizes)) for job in found]


# --- The data ---------------------------------------------------------------------------------------------------------


def sizes_of(
    study: Study, found: Sequence[Job], *, chunks: int | None = None, results: str | Path = "results"
) -> tuple[Sizes, list[str]]:
    """How large the data of jobs are, and how that is known.

    Args:
        study: what the configuration asks for.
        found: the jobs.
        chunks: chunks of the test split; None counts or estimates them.
        results: the folder of results, whose dataset is counted if it is built.
    """
    window = study.config["data"]["window"]
    parts = [job.work.dataset for job in found if isinstance(job.work, Cutting | EmbeddingWindows)]
    order = ("train", "test", "validation")
    frames, whole, longest, notes = {}, {}, {}, []
    for part in sorted(set(parts), key=lambda part: (part in study.jamendo_parts(), order.index(part.split("-")[0]))):
        lengths, source = track_frames(study, part, Path(results))
        notes.append(source)
        if lengths is None:
            continue
        frames[part] = sum(lengths)
        whole[part] = sum(length // window for length in lengths)
        longest[part] = max((length // window for length in lengths), default=0)
    if chunks is not None:
        whole[study.part("test")] = chunks
        notes.append(f"chunks of the whole test split: {chunks}, as given")
    return Sizes(window, whole, frames, longest, study.config["data"]["channels"]), notes


def track_frames(study: Study, part: str, results: Path) -> tuple[list[int] | None, str]:
    """Lengths of a dataset part's tracks in samples, and how they are known.

    They are read from the windows where these are built. Otherwise mini's tracks are composed (not rendered), the first
    `LOOKED_AT` of a part standing for the rest; MIDI songs are read, or composed likewise; and the headers of the files
    of Slakh or of multi-tracks are read. MTG-Jamendo's are all taken as long as their mean. None is unknown.
    """
    data, shards = study.config["data"], study.jamendo_parts().get(part)
    dataset = study.dataset_id() if shards is None else study.jamendo_id()
    built = [results / "data" / dataset / part / name for name in ("windows", "windows_with_stems")]
    for folder in built:
        if (folder / "tracks.csv").is_file() and (folder / "info.json").is_file():
            rows = (folder / "tracks.csv").read_text(encoding="utf-8").splitlines()[1:]
            return [int(row.rsplit(",", 1)[1]) for row in rows], f"{part}: the windows in {folder}"
    if shards is not None:
        number, length = len(shards) * jamendo_tracks(study.config["training_data"]["tracks"]), JAMENDO_SECONDS
        source = f"{part}: assumed, {number:.0f} tracks of {length:.0f} s as in MTG-Jamendo"
        return [round(length * data["sample_rate"])] * round(number), source
    split, count = part.split("-")
    if data["kind"] == "mini":
        from gmsdi.data.mini import MiniConfig, compose_track

        mini = MiniConfig(**{key: value for key, value in data["mini"].items() if key != "tracks"})
        looked = []
        for index in range(min(int(count), LOOKED_AT)):
            piece = compose_track(mini, seed=data["seed"], split=split, index=index)
            looked.append(round((piece.seconds(piece.ticks) + 0.5) * data["sample_rate"]))
        return [looked[index % len(looked)] for index in range(int(count))], f"{part}: composed for the count"
    if data["kind"] == "stems" and data["root"]:
        return _multitrack_frames(data, split), f"{part}: the tracks in {data['root']}"
    if data["kind"] == "midi":
        return _song_frames(study, split, results)
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


def _song_frames(study: Study, split: str, results: Path) -> tuple[list[int] | None, str]:
    """Lengths of the tracks that MIDI songs make, at the tempo that they are written in.

    Of the tables of songs, where these are there. Otherwise the first songs are read or composed, and a split gets its
    share of those in files.
    """
    from gmsdi.data.midi import Limits, Unplayable, find_songs, read_song
    from gmsdi.data.songs import make_song
    from gmsdi.data.songs.score import TICKS_PER_BEAT

    data = study.config["data"]
    midi, folder = data["midi"], results / "data" / study.dataset_id() / "songs"
    tables = [name for name in ("files.csv", f"composed-{split}.csv") if (folder / name).is_file()]
    seconds: list[float] = []
    if tables:
        import pandas as pd

        for name in tables:
            table = pd.read_csv(folder / name, keep_default_na=False)
            seconds += table.loc[(table["skipped"] == "") & (table["split"] == split), "seconds"].tolist()
        source = f"the songs in {', '.join(str(folder / name) for name in tables)}"
    else:
        for source in midi["songs"]:
            looked = []
            if source["kind"] == "files":
                songs = find_songs(source["root"])
                number = round(len(songs) * midi["split_shares"][split])
                for song in songs[:: math.ceil(len(songs) / SONGS)]:
                    try:
                        looked.append(read_song(song.read(Limits())).seconds)
                    except Unplayable:
                        number -= math.ceil(len(songs) / SONGS * midi["split_shares"][split])
            else:
                number = source["tracks"].get(split, 0)
                try:
                    for index in range(min(number, SONGS)):
                        made = make_song(source["kind"], split, index, seed=data["seed"])
                        end = max(note.end for part in made.parts for note in part.notes)
                        looked.append(end / TICKS_PER_BEAT * 60 / made.tempos[0][1])
                except UserError:  # MMA is not there
                    return None, f"{split}: unknown, songs of kind {source['kind']} cannot be made here"
            seconds += [looked[index % len(looked)] for index in range(max(0, number))] if looked else []
        source = "songs that were looked at for the count"
    lengths = [round(one * data["sample_rate"]) for one in seconds * midi["versions"].get(split, 1)]
    return lengths[: data["tracks"][split]], f"{split}: {source}"


# --- Estimating -------------------------------------------------------------------------------------------------------


def seconds(job: Job, costs: Mapping[str, Cost]) -> float:
    """Seconds of a job on one device; 0 for those that run no network."""
    if job.work.network is None:
        return 0.0
    cost, amount = costs[job.work.network], job.amount
    once = cost.evaluation.median
    step = BACKWARD * amount.batch * once if cost.step is None else cost.step.median
    codings = ((amount.encoded, cost.encoding), (amount.decoded, cost.decoding))
    coding = sum(count * each.median for count, each in codings if each is not None)
    return amount.evaluations * once + amount.steps * step + coding


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
    costs, known = with_weights(dict(costs), study)
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
        notes.append("w is open until Table 1 is there: counted as guidance, which denoises every signal twice")
    if study.coded and any(job.amount.decoded for job in every) and costs[GMSDI].decoding is None:
        notes.append("not measured, and so not in the hours: encoding and decoding of latents")
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
            if network == GMSDI and study.pretrained:
                if progress is not None:
                    progress(f"{network}: sampling, {CALL} signals at a time, and its autoencoder")
                costs[network] = Cost(**time_pretrained(study, device, repetitions, _Clock))
                continue
            if progress is not None:
                progress(f"{network}: sampling, {CALL} signals at a time")
            evaluation, parameters, memory = _time_sampling(study, network, device, repetitions)
            step, training_memory = None, None
            if network in trained:
                model = trained[network]
                training = study.training(model)
                if progress is not None:
                    progress(f"{network}: training, {training.get('batch', 16)} windows a step")
                built = "gmsdi" if model == "demo" else model
                step, training_memory, parameters = _time_training(study, built, training, device, repetitions)
            costs[network] = Cost(
                evaluation, step, parameters=parameters, memory=memory, training_memory=training_memory
            )
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
        folder = Path(config["baselines"]["folder"] or PACKAGE / "weights" / "baselines") / model
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
    """Seconds of a training step, its peak memory in bytes, and the network's parameters.

    The steps are those of `gmsdi.training.loop.Training`, on windows of noise.
    """
    import torch

    from gmsdi.models.checkpoint import STEMS, target_of

    try:
        from gmsdi.training.config import TrainingConfig
        from gmsdi.training.loop import Training
    except ImportError as error:
        raise UserError(f"a training is measured, which needs {error.name}: pip install 'gmsdi[train]'") from error
    config = TrainingConfig(**training)
    built = _fresh(study, model).to(device)
    n, channels = config.batch, len(study.labels) if target_of(built.config) == STEMS else 1
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
    nothing: Any = None
    module = Training(built, config, nothing, nothing, 0).to(device)
    module.log = lambda *_, **__: None  # type: ignore[method-assign]  # which a trainer would keep
    module.setup("fit")
    optimizer = module.configure_optimizers()["optimizer"]
    clock = _Clock(device)
    for step in range(repetitions + 1):
        optimizer.zero_grad()
        module.training_step(batch, step).backward()
        if config.clip is not None:
            torch.nn.utils.clip_grad_norm_(module.parameters(), config.clip)
        optimizer.step()
        for average in [module.ema, *(module.powers or [])]:
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
        """Time one of the units that make a step. Warns if other programs used much of the processor meanwhile."""
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


def text(costs: Costs) -> str:
    """The costs as plain tables."""
    devices = "1 device" if costs.devices == 1 else f"{costs.devices} devices"
    lines = [f"Costs of run {costs.run} on {devices} ({costs.device})", ""]
    coded = any(cost.decoding for cost in costs.costs.values())
    head = ["network", "parameters", "ms per evaluation", "s per training step", "memory", "in training"]
    head += ["ms per encoding", "ms per decoding"] if coded else []
    rows = [
        [
            network,
            "" if cost.parameters is None else f"{cost.parameters / 1e6:.1f} M",
            _spread(cost.evaluation, 1e3),
            "" if cost.step is None else _spread(cost.step),
            "" if cost.memory is None else _bytes(cost.memory),
            "" if cost.training_memory is None else _bytes(cost.training_memory),
            *(("" if one is None else _spread(one, 1e3) for one in (cost.encoding, cost.decoding)) if coded else ()),
        ]
        for network, cost in costs.costs.items()
    ]
    lines += [*_table(head, rows), ""]
    head = ["", "jobs", "evaluations", "training steps", "hours", "longest job", "done after"]
    rows = []
    for part in costs.parts:
        hours = [part.hours, part.longest, part.finished] if part.hours else []
        counts = [f"{value}" if value else "" for value in (part.jobs, part.evaluations, part.steps)]
        sizes = [_bytes(value) if value else "" for value in (part.memory, part.network_memory, part.disk)]
        rows.append([part.name, *counts, *(map(_hours, hours) if hours else [""] * 3), *sizes])
    evaluations, steps = (sum(getattr(part, key) for part in costs.parts) for key in ("evaluations", "steps"))
    total = ["all", f"{costs.jobs}", f"{evaluations}", f"{steps}", _hours(costs.hours), "", _hours(costs.wall)]
    rows.append([*total, "", "", _bytes(costs.disk)])
    lines += [*_table([*head, "audio in memory", "network", "disk"], rows), ""]
    busy = costs.hours / (costs.devices * costs.wall) if costs.wall else 1.0
    lines.append(
        f"Hours are of devices; {devices} would be busy {busy:.0%} of {_hours(costs.wall)} h. No number of devices "
        f"takes less than {_hours(costs.longest_chain)} h."
    )
    return "\n".join([*lines, *(f"- {note}" for note in costs.notes)])


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
