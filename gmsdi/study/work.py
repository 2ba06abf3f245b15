"""What the jobs of the workflow work: signals that networks denoise, training steps, and bytes that are held and kept.

A rule states its job's work as the parameter `work`, and `gmsdi.study.cost` asks every job of a run for it. The amount
is counted only then, since it depends on the tracks; building the workflow's graph reads none. A change of how work is
counted makes no job run again: Snakemake compares parameters that are numbers, text and the like alone.

Calls of a network are filled up to `CALL` signals (`Pipeline.fixed_batch`), and guidance denoises a signal twice, so
that the counts depend on how the work is cut. What a configuration leaves open until Table 1 is there, the strength w
of the guidance, is taken as the dearer case, that there is guidance.
"""

from __future__ import annotations

import inspect
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations, pairwise
from typing import Any, ClassVar

from gmsdi.data.versions import JAMENDO_SHARDS, VERSIONS
from gmsdi.errors import UserError
from gmsdi.sampling.schedules import karras
from gmsdi.study.experiments import CALL
from gmsdi.study.study import Study, system_of, with_steps

JAMENDO_COUNT = 55_701
"""Tracks of MTG-Jamendo's raw_30s (Bogdanov et al. 2019)."""
JAMENDO_BYTES = 156e9 / JAMENDO_COUNT
"""Mean size of their files in audio-low."""
BSS_EVAL = 20
"""Arrays as large as a track's stems in float32 that museval holds at a time: in float64, and their spectra padded to a
power of two. Measured: 13 beside the equations, where the padding is a half."""

DATA, TRAIN, DEMO, TRAIN_BASELINES = "Data", "Training", "Demo training", "Training, baselines"
TABLE1, TABLE2, FIGURE2, FIGURE3, FIGURE4 = "Table 1", "Table 2", "Figure 2", "Figure 3", "Figure 4"
DISTANCES, PAGE = "Figures 2 and 3, distances", "Report"
PARTS = (DATA, TRAIN, DEMO, TRAIN_BASELINES, TABLE1, TABLE2, FIGURE2, FIGURE3, DISTANCES, FIGURE4, PAGE)


@dataclass(frozen=True)
class Sizes:
    """How large the data are.

    Attributes:
        window: samples of a chunk.
        chunks: whole chunks of each dataset part, by the part's name; a part that cannot be counted is left out.
        frames: samples of each dataset part at the model's rate; left out likewise.
        longest: chunks of the longest track of each dataset part; left out likewise.
    """

    window: int
    chunks: Mapping[str, int] = field(default_factory=dict)
    frames: Mapping[str, int] = field(default_factory=dict)
    longest: Mapping[str, int] = field(default_factory=dict)

    def audio(self, signals: int) -> int:
        """Bytes of chunks in float32."""
        return signals * self.window * 4

    def items(self, given: int | None, part: str) -> int:
        """The number of chunks that a key asks for; None is the whole part.

        Raises:
            UserError: if that is not known.
        """
        if given is None and part not in self.chunks:
            raise UserError(
                f"the chunks of {part} cannot be counted before the data are there; give the number of the test "
                "split's, --chunks N, or the number that tables and figures take in the configuration"
            )
        return self.chunks[part] if given is None else given


@dataclass(frozen=True)
class Amount:
    """How much a job works.

    Attributes:
        evaluations: signals that a network denoises, the rows that fill up a call included.
        steps: training steps.
        batch: windows of a training step.
        memory: bytes of the arrays of audio that the job holds, without the network.
        disk: bytes that it writes.
        weights: bytes that it writes for each parameter of its network.
    """

    evaluations: int = 0
    steps: int = 0
    batch: int = 0
    memory: int = 0
    disk: int = 0
    weights: int = 0


# --- What a rule states -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Work:
    """A job that runs no network.

    Attributes:
        part: one of `PARTS`.
        network: the system whose network it runs, see `study.system_of`.
        devices: that it takes at a time, for a training that shares its batches among several.
        memory: see `Amount`, where it does not depend on the data.
        disk: likewise.
    """

    part: str
    network: str | None = field(default=None, kw_only=True)
    devices: int = field(default=1, kw_only=True)
    memory: int = field(default=0, kw_only=True)
    disk: int = field(default=0, kw_only=True)

    def __post_init__(self) -> None:
        if self.part not in PARTS:
            raise ValueError(f"{self.part!r} is no part, they are {', '.join(PARTS)}")

    def count(self, sizes: Sizes) -> Amount:
        """How much it is."""
        return Amount(memory=self.memory, disk=self.disk)


@dataclass(frozen=True, kw_only=True)
class Separating(Work):
    """Separations of chunks.

    Attributes:
        settings: of a method, one after the other.
        guidance: settings of `pipeline.Guidance` apart from w.
        labels: K.
        batch: chunks that are sampled together.
        chunks: their number; None is the whole part.
        dataset: the dataset part.
        shard: which of how many shares.
        kept: whether the stems are written.
    """

    settings: Sequence[Mapping[str, Any]]
    guidance: Mapping[str, Any]
    labels: int
    batch: int
    chunks: int | None
    dataset: str
    shard: tuple[int, int] = (1, 1)
    kept: bool = False

    def count(self, sizes: Sizes) -> Amount:
        """How much it is. Estimates are held twice while batches are joined."""
        number, shards = self.shard
        items = len(shares(sizes.items(self.chunks, self.dataset), shards)[number - 1])
        options = {"labels": self.labels, "items": items, "batch": self.batch}
        stems = sizes.audio(items * self.labels)
        return Amount(
            evaluations=sum(separation_evaluations(one, self.guidance, **options) for one in self.settings),
            memory=2 * stems,
            disk=stems if self.kept else 0,
        )


@dataclass(frozen=True, kw_only=True)
class Generating(Work):
    """Clips of a task.

    Attributes:
        settings: of the task.
        labels: the K labels.
        clips: of each bar.
        batch: clips that are sampled together.
        shard: which of how many shares.
    """

    settings: Mapping[str, Any]
    labels: Sequence[str]
    clips: int
    batch: int
    shard: tuple[int, int]

    def count(self, sizes: Sizes) -> Amount:
        """How much it is."""
        number, shards = self.shard
        every = bars(self.settings["task"], self.labels) * self.clips
        share = shares(len(every), shards)[number - 1]
        audio = sizes.audio(len(share) * rows_of(self.settings, self.labels))
        return Amount(
            evaluations=generation_evaluations(
                self.settings, every[share.start : share.stop], labels=self.labels, batch=self.batch
            ),
            memory=audio,
            disk=audio,
        )


@dataclass(frozen=True, kw_only=True)
class Training(Work):
    """A training.

    Attributes:
        settings: of `TrainingConfig`.
    """

    settings: Mapping[str, Any]

    def count(self, sizes: Sizes) -> Amount:
        """How much it is; of weights those that are saved, and a checkpoint: weights, average, AdamW's two moments."""
        from gmsdi.training.config import TrainingConfig

        try:
            own = TrainingConfig(**self.settings)
        except TypeError as error:
            raise UserError(f"config: training: {error}; set it") from error
        validations = own.steps // min(own.validate_every, own.steps)
        return Amount(
            evaluations=validations * own.validation_batches * own.batch,
            steps=own.steps,
            batch=own.batch,
            weights=(2 if own.save_as == "float16" else 4) + 4 * 4,
        )


@dataclass(frozen=True, kw_only=True)
class Cutting(Work):
    """Audio of a dataset part, written as int16; what is composed, compressed, is taken as at most that.

    Attributes:
        dataset: the dataset part.
        rows: signals of a track that are written.
    """

    dataset: str
    rows: int

    def count(self, sizes: Sizes) -> Amount:
        """How much it is."""
        return Amount(disk=2 * self.rows * sizes.frames.get(self.dataset, 0))


@dataclass(frozen=True, kw_only=True)
class EmbeddingWindows(Work):
    """Embeddings of windows by a CLAP.

    Attributes:
        dataset: the dataset part.
        hop: from one window to the next, in windows.
        features: of an embedding.
    """

    dataset: str
    hop: float
    features: int

    def count(self, sizes: Sizes) -> Amount:
        """How much it is."""
        windows = sizes.frames.get(self.dataset, 0) / (self.hop * sizes.window)
        return Amount(disk=round(windows * (4 * self.features + 8)))


@dataclass(frozen=True, kw_only=True)
class Embedding(Work):
    """Embeddings of clips: those of a call of the network as they are read, side by side, and at its rate.

    Attributes:
        name: of the embedding.
        signals: that are read beside them.
    """

    name: str
    signals: int

    def count(self, sizes: Sizes) -> Amount:
        """How much it is."""
        from gmsdi.metrics.embeddings import EMBEDDINGS

        together = inspect.signature(EMBEDDINGS[self.name]).parameters["batch"].default
        return Amount(memory=sizes.audio(self.signals + 3 * together))


@dataclass(frozen=True, kw_only=True)
class Reading(Work):
    """Clips that are read a few at a time.

    Attributes:
        signals: that are held.
    """

    signals: int

    def count(self, sizes: Sizes) -> Amount:
        """How much it is."""
        return Amount(memory=sizes.audio(self.signals))


@dataclass(frozen=True, kw_only=True)
class Scoring(Work):
    """Scores of separations, a track at a time: its estimates and targets, and what the score makes of them.

    Attributes:
        labels: K.
        chunks: their number; None is the whole part.
        dataset: the dataset part.
        arrays: as large as a track's stems, that are held.
    """

    labels: int
    chunks: int | None
    dataset: str
    arrays: int

    def count(self, sizes: Sizes) -> Amount:
        """How much it is, with `memory` for what does not depend on the track."""
        items = sizes.items(self.chunks, self.dataset)
        run = sizes.audio(min(items, sizes.longest.get(self.dataset, items)) * self.labels)
        return Amount(memory=self.arrays * run + self.memory)


class Works:
    """The work of the workflow's rules.

    Args:
        study: what the configuration asks for.

    Attributes:
        to_come: whether jobs are counted whose tracks are not there yet, so that nobody looks for them.
    """

    to_come: ClassVar[bool] = False

    def __init__(self, study: Study) -> None:
        self.study, self.config, self.labels = study, study.config, study.labels

    # Data

    def cut(self, part: str, *, stems: bool) -> Work:
        """Mixtures of a dataset part, and maybe their stems."""
        return Cutting(DATA, dataset=part, rows=1 + len(self.labels) * stems)

    def archive(self) -> Work:
        """The archive of Slakh2100."""
        return Work(DATA, disk=self._entry().size or 0)

    def unpacked(self) -> Work:
        """What is unpacked of it."""
        entry, version = self._entry(), VERSIONS[self.config["data"]["source"]]
        share = sum(version.tracks[split] for split in self.study.splits()) / sum(version.tracks.values())
        return Work(DATA, disk=round((entry.unpacked or entry.size or 0) * share))

    def _entry(self) -> Any:
        from gmsdi.data.download import find_entry

        data = self.config["data"]
        return find_entry(VERSIONS[data["source"]].archive, registry=data["download"]["registry"])

    def jamendo(self) -> Work:
        """The tracks of a shard of MTG-Jamendo."""
        return Work(DATA, disk=round(JAMENDO_BYTES * jamendo_tracks(self.config["training_data"]["tracks"])))

    # Models

    def training(self, model: str) -> Work:
        """A training of a model, or of "demo"."""
        part = {"gmsdi": TRAIN, "clap": TRAIN, "demo": DEMO}.get(model, TRAIN_BASELINES)
        if model == "clap":
            return Work(part)
        network = "gmsdi" if model == "demo" else system_of(model)
        devices = self.study.devices(model)
        return Training(part, network=network, devices=devices, settings=self.study.training(model))

    def embedded_windows(self, part: str) -> Work:
        """Embeddings of the windows of a dataset part."""
        features = self.config["model"]["config"]["text"]["features"]
        return EmbeddingWindows(TRAIN, dataset=part, hop=self.config["clap"]["hop"], features=features)

    # Separation

    def grid(self, method: str, split: str) -> Work:
        """A method's part of the grid on a split."""
        part = TABLE1 if split == "test" and method in self.study.grid_methods else TABLE2
        cells, chunks = self.study.grid_cells(method, split), self.study.grid_chunks(split)
        return self._separating(part, method, cells, chunks=chunks, dataset=self.study.part(split))

    def separation(self, method: str, shard: int, shards: int) -> Work:
        """A share of the separations of a method of Table 2."""
        settings, chunks = [self.study.method_settings(method)], self.config["separation"]["chunks"]
        return self._separating(TABLE2, method, settings, chunks=chunks, shard=(shard, shards), kept=True)

    def costs(self, method: str) -> Work:
        """A method at every number of steps of Figure 4."""
        own, settings = self.config["costs"], self.study.method_settings(method)
        rows = [with_steps(settings, steps) for steps in own["steps"]]
        return self._separating(FIGURE4, method, rows, chunks=own["chunks"])

    def _separating(self, part: str, method: str, settings: Sequence[Mapping[str, Any]], **options: Any) -> Work:
        return Separating(
            part,
            network=system_of(method),
            settings=settings,
            guidance=self.config["separation"]["guidance"],
            labels=len(self.labels),
            batch=self.config["jobs"]["batch"],
            **{"dataset": self.study.part("test"), **options},
        )

    def scores(self) -> Work:
        """SI-SDR of a method's separations."""
        return self._scoring(arrays=4)

    def bss_eval(self) -> Work:
        """BSS Eval's ratios of them; museval's equations couple the filters of all stems."""
        from gmsdi.metrics.bss_eval import bss_eval_windows

        taps = inspect.signature(bss_eval_windows).parameters["taps"].default
        return self._scoring(arrays=BSS_EVAL, memory=5 * 8 * (len(self.labels) * taps) ** 2)

    def _scoring(self, *, arrays: int, memory: int = 0) -> Work:
        return Scoring(
            TABLE2,
            memory=memory,
            labels=len(self.labels),
            chunks=self.config["separation"]["chunks"],
            dataset=self.study.part("test"),
            arrays=arrays,
        )

    # Generation

    def generation(self, task: str, shard: int, shards: int) -> Work:
        """A share of the clips of a task."""
        return Generating(
            self._figure(task),
            network=system_of(task),
            settings=self.study.task_settings(task),
            labels=self.labels,
            clips=self.study.clips(task),
            batch=self.config["jobs"]["batch"],
            shard=(shard, shards),
        )

    def embedding(self, task: str | None, *, stems: bool = False) -> Work:
        """Embeddings of the mixtures or stems of a task, or of the references."""
        part, signals = DISTANCES, len(self.labels)
        if task is not None:
            part, signals = self._figure(task), rows_of(self.study.task_settings(task), self.labels)
        return Embedding(part, name=self.config["fad"]["embedding"], signals=signals * (CALL if stems else 1))

    def _figure(self, task: str) -> str:
        return FIGURE2 if self.study.task_settings(task)["task"] == "single" else FIGURE3

    def coherence(self) -> Work:
        """The stems of a few clips, as made, of their own chunks and of others."""
        return Reading(FIGURE3, signals=CALL * (3 * len(self.labels) + 1))

    def stems_of_mixtures(self) -> Work:
        """The stems of a few chunks."""
        return Reading(FIGURE3, signals=CALL * (2 * len(self.labels) + 1))


def jamendo_tracks(limit: int | None) -> float:
    """Tracks that are taken of a shard of MTG-Jamendo, in the mean."""
    return min(JAMENDO_COUNT / JAMENDO_SHARDS, limit or math.inf)


def rows_of(settings: Mapping[str, Any], labels: Sequence[str]) -> int:
    """Signals of a clip of a task: one, or the stems (or groups) and the mixture."""
    return 1 if settings["task"] == "single" else len(settings.get("groups") or labels) + 1


# --- Counting ---------------------------------------------------------------------------------------------------------


def evaluation_sigmas(solver: Mapping[str, Any]) -> list[float]:
    """The noise levels at which a run evaluates its derivative, in order.

    Args:
        solver: settings of `pipeline.Solver`.
    """
    name, steps = solver["name"], solver["steps"]
    sigmas = karras(steps, *(float(solver[key]) for key in ("sigma_min", "sigma_max", "rho")))
    churn = 1 + min(solver.get("s_churn", 0.0) / steps, math.sqrt(2) - 1) if name in ("euler", "heun") else 1.0
    found: list[float] = []
    for sigma, after in pairwise(sigmas):
        found += [sigma * churn] * (solver.get("resamples", 1) if name == "euler" else 1)
        if after == 0:
            continue
        if name == "heun":
            found.append(after)
        elif name == "adpm2":
            down = after**2 / sigma  # σ_down of an ancestral step with η = 1
            rho = solver.get("midpoint_rho", 1.0)
            geometric = solver.get("midpoint") == "geometric"
            power = ((sigma ** (1 / rho) + down ** (1 / rho)) / 2) ** rho
            found.append(math.sqrt(sigma * down) if geometric else power)
    return found


def passes(solver: Mapping[str, Any], guidance: Mapping[str, Any], w: float | None) -> int:
    """How often a run of a guided model denoises each of its rows (`sampling.guidance.guided`).

    Args:
        solver: settings of `pipeline.Solver`.
        guidance: `convention` and `interval` of `pipeline.Guidance`.
        w: its strength; None, which is not known yet, counts as guidance.
    """
    strength = 1.0 if w is None else w if guidance.get("convention", "paper") == "paper" else w - 1
    low, high = guidance.get("interval") or (0.0, math.inf)
    double = strength not in (0, -1)
    return sum(2 if double and low <= sigma <= high else 1 for sigma in evaluation_sigmas(solver))


def filled(rows: int, size: int) -> int:
    """Signals of the calls, each of `size`, that denoise so many rows."""
    return math.ceil(rows / size) * size


def separation_evaluations(
    settings: Mapping[str, Any], guidance: Mapping[str, Any], *, labels: int, items: int, batch: int
) -> int:
    """Evaluations of `experiments.separate`.

    Args:
        settings: of the method.
        guidance: settings of `pipeline.Guidance` apart from w.
        labels: K.
        items: chunks.
        batch: chunks that are sampled together.
    """
    name, samples = settings["name"], settings.get("samples", 1)
    if name == "demucs_gibbs":
        times, rows, calls = settings["steps"] + 1, 1, 1
    elif name == "msdm":
        times, rows, calls = len(evaluation_sigmas(settings["solver"])), 1, 1
    elif name == "weak_msdm":  # each label has its own network, and so its own calls
        times, rows, calls = len(evaluation_sigmas(settings["solver"])), 1, labels
    else:
        # The Extractor denoises each stem and the mixture of the others; the Separator every stem.
        times, calls = passes(settings["solver"], guidance, settings["w"]), 1
        rows = 2 * labels if name == "extractor" else labels
    sizes = batch_sizes(items, max(1, batch // samples))
    return times * calls * sum(filled(n * samples * rows, CALL) for n in sizes)


def bars(task: str, labels: Sequence[str]) -> list[str]:
    """The bars of a task, in the order of `experiments.plan`."""
    if task == "single":
        return list(labels)
    if task == "total":
        return ["All"]
    return [", ".join(given) for size in range(1, len(labels)) for given in combinations(labels, size)]


def generation_evaluations(
    settings: Mapping[str, Any], clips: Sequence[str], *, labels: Sequence[str], batch: int
) -> int:
    """Evaluations of `experiments.generate`.

    Args:
        settings: of the task.
        clips: the bar of each clip.
        labels: the K labels.
        batch: clips that are sampled together.
    """
    task, system = settings["task"], settings["system"]
    if system == "gmsdi":
        times = passes(settings["solver"], settings["guidance"], settings["guidance"]["w"])
    else:
        times = len(evaluation_sigmas(settings["solver"]))
    signals = extra = 0
    groups = [[bar] * count for bar, count in Counter(clips).items()] if task == "partial" else [list(clips)]
    for group in groups:
        start = 0
        for size in batch_sizes(len(group), batch):
            part = group[start : start + size]
            start += size
            if system == "weak_msdm":
                signals += sum(filled(count, CALL) for count in Counter(part).values())
            elif system == "msdm" and task == "partial":
                # The candidates are drawn as many at a time as fit a call.
                together = max(1, CALL // size)
                signals += sum(filled(drawn * size, CALL) for drawn in batch_sizes(settings["best_of"], together))
            elif system == "msdm" or task == "single":
                signals += filled(size, CALL)
            elif settings.get("way") == "sequential":  # a stem, and then each by itself and in the mixture
                signals += filled(size, CALL) + (len(labels) - 1) * filled(2 * size, CALL)
            elif settings.get("way") == "extracted":
                signals += filled(size, CALL)
                own = settings["extraction"]
                extra += separation_evaluations(
                    own, own["guidance"], labels=len(labels), items=size, batch=size * own["samples"]
                )
            else:  # the stems (or groups) that are generated, and the mixture's row
                given = len(part[0].split(", ")) if task == "partial" else 0
                rows = len(settings.get("groups") or labels) - given + 1
                if "share" in settings["likelihood"]:  # and the accompaniment's, if it is more than one stem
                    rows += rows > 2
                signals += filled(size * rows, CALL)
    return times * signals + extra


def batch_sizes(items: int, size: int) -> list[int]:
    """Items cut into batches."""
    return [min(size, items - start) for start in range(0, items, size)]


def shares(items: int, count: int) -> list[range]:
    """The items of each of `count` jobs, as `experiments.share` cuts them."""
    bounds = [items * k // count for k in range(count + 1)]
    return [range(*pair) for pair in pairwise(bounds)]
