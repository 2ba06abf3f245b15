"""The work of the workflow's jobs: signals that networks denoise, training steps, and bytes in memory and on disk.

A rule states the work of its jobs as the parameter `work`, which `gmsdi.study.cost` collects from all jobs of a run.
The amount is counted only then, since it depends on the tracks, which are not read while the workflow's graph is built.
A change in how work is counted reruns no job, since Snakemake compares only parameters of plain types.

Counts depend on how work is divided into jobs, because calls of a network are padded to `CALL` signals
(`gmsdi.sampling.session.Batch`), and because guidance denoises a signal twice. If the guidance strength w is open until
Table 1 is computed, the more expensive case, guidance, is assumed.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, ClassVar

from gmsdi.data.versions import JAMENDO_SHARDS, VERSIONS
from gmsdi.errors import UserError
from gmsdi.study.counting import CALL, Taken, share
from gmsdi.study.methods import Row
from gmsdi.study.setups import GMSDI
from gmsdi.study.study import CLAP, CODEC, DEMO, Study, network_of
from gmsdi.study.tasks import Task

JAMENDO_COUNT = 55_701
"""Number of tracks in MTG-Jamendo's raw_30s (Bogdanov et al. 2019)."""
JAMENDO_BYTES = 156e9 / JAMENDO_COUNT
"""Mean size of a file in audio-low."""
BSS_EVAL = 20
"""Peak memory of museval, in multiples of a track's stems in float32: it holds float64 arrays and their spectra, padded
to a power of two. Measured: 13, apart from its equations, with padding by a half."""

DATA, TRAIN, TRAIN_DEMO, TRAIN_BASELINES = "Data", "Training", "Demo training", "Training, baselines"
TABLE1, TABLE2, FIGURE2, FIGURE3, FIGURE4 = "Table 1", "Table 2", "Figure 2", "Figure 3", "Figure 4"
DISTANCES, TUNING, PAGE = "Figures 2 and 3, distances", "Tuning", "Report"
PARTS = (DATA, TRAIN, TRAIN_DEMO, TRAIN_BASELINES, TABLE1, TABLE2, FIGURE2, FIGURE3, DISTANCES, FIGURE4, TUNING, PAGE)


@dataclass(frozen=True)
class Sizes:
    """How large the data are.

    Attributes:
        window: length of a window in samples.
        chunks: number of whole windows in each dataset part, by its name; unknown ones are missing.
        frames: number of samples in each dataset part, at the model's rate; unknown ones are missing.
        longest: number of windows in the longest track of each dataset part; unknown ones are missing.
        channels: number of channels of a window.
    """

    window: int
    chunks: Mapping[str, int] = field(default_factory=dict)
    frames: Mapping[str, int] = field(default_factory=dict)
    longest: Mapping[str, int] = field(default_factory=dict)
    channels: int = 1

    def audio(self, signals: int) -> int:
        """Size in bytes of so many windows in float32."""
        return signals * self.window * self.channels * 4

    def items(self, given: int | None, part: str) -> int:
        """The number of chunks that a key asks for; None means the whole dataset part.

        Raises:
            UserError: if the number is not known.
        """
        if given is None and part not in self.chunks:
            raise UserError(
                f"the chunks of {part} cannot be counted before the data exist; give the number in the test split by "
                "--chunks N, or set the numbers for tables and figures in the configuration"
            )
        return self.chunks[part] if given is None else given


@dataclass(frozen=True)
class Amount:
    """The amount of work in a job.

    Attributes:
        evaluations: number of signals that a network denoises, padding of calls included.
        encoded: number of signals that an autoencoder encodes, where sources are summed as signals.
        decoded: number of signals that it decodes.
        steps: number of training steps.
        batch: number of windows in a training step.
        memory: size in bytes of the audio arrays in memory, without the network.
        disk: number of bytes written.
        weights: number of bytes written per parameter of the network.
    """

    evaluations: int = 0
    encoded: int = 0
    decoded: int = 0
    steps: int = 0
    batch: int = 0
    memory: int = 0
    disk: int = 0
    weights: int = 0


# --- Kinds of work ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Work:
    """The work of a job, by default one that runs no network.

    Attributes:
        part: one of `PARTS`.
        network: the network that it runs, by its name in `Study.networks`, or None.
        devices: number of devices that it uses at once; a training can share its batches among several.
        memory: as in `Amount`, if it does not depend on the data.
        disk: the same.
    """

    part: str
    network: str | None = field(default=None, kw_only=True)
    devices: int = field(default=1, kw_only=True)
    memory: int = field(default=0, kw_only=True)
    disk: int = field(default=0, kw_only=True)

    def __post_init__(self) -> None:
        if self.part not in PARTS:
            raise ValueError(f"{self.part!r} is not a part; choose one of {', '.join(PARTS)}")

    def count(self, sizes: Sizes) -> Amount:
        """Count the work."""
        return Amount(memory=self.memory, disk=self.disk)


@dataclass(frozen=True, kw_only=True)
class Separating(Work):
    """The work of separating chunks.

    Attributes:
        rows: rows that separate, one after the other.
        labels: K.
        batch: number of chunks sampled together.
        chunks: number of chunks; None means the whole dataset part.
        dataset: the dataset part.
        shard: number of the shard (from 1), and number of shards.
        kept: whether the stems are written.
        coded: whether the model's states are latents that do not add up (`gmsdi.study.counting`).
    """

    rows: Sequence[Row]
    labels: int
    batch: int
    chunks: int | None
    dataset: str
    shard: tuple[int, int] = (1, 1)
    kept: bool = False
    coded: bool = False

    def count(self, sizes: Sizes) -> Amount:
        """Count the work. Estimates are in memory twice while batches are joined."""
        items = len(share(range(sizes.items(self.chunks, self.dataset)), *self.shard))
        stems = sizes.audio(items * self.labels)
        taken = [row.taken(items, self.batch, coded=self.coded) for row in self.rows]
        return Amount(
            **asdict(sum(taken, Taken())),
            memory=2 * stems,
            disk=stems if self.kept else 0,
        )


@dataclass(frozen=True, kw_only=True)
class Generating(Work):
    """The work of generating the clips of tasks.

    Attributes:
        tasks: tasks that generate, one after the other.
        batch: number of clips sampled together.
        shard: number of the shard (from 1), and number of shards.
        kept: whether the clips are written.
        coded: see `Separating`.
    """

    tasks: Sequence[Task]
    batch: int
    shard: tuple[int, int] = (1, 1)
    kept: bool = True
    coded: bool = False

    def count(self, sizes: Sizes) -> Amount:
        """Count the work."""
        clips = [share(task.bars() * task.clips, *self.shard) for task in self.tasks]
        audio = max(sizes.audio(len(bars) * task.signals) for task, bars in zip(self.tasks, clips, strict=True))
        taken = [task.taken(bars, self.batch, coded=self.coded) for task, bars in zip(self.tasks, clips, strict=True)]
        return Amount(**asdict(sum(taken, Taken())), memory=audio, disk=audio if self.kept else 0)


@dataclass(frozen=True, kw_only=True)
class Training(Work):
    """The work of a training.

    Attributes:
        settings: arguments of `TrainingConfig`.
    """

    settings: Mapping[str, Any]

    def count(self, sizes: Sizes) -> Amount:
        """Count the work. Disk holds the saved weights and a checkpoint: weights, average, AdamW's two moments."""
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
    """The work of writing a dataset part as int16 audio, an upper bound for composed tracks, which are compressed.

    Attributes:
        dataset: the dataset part.
        rows: number of signals written per track.
    """

    dataset: str
    rows: int

    def count(self, sizes: Sizes) -> Amount:
        """Count the work."""
        return Amount(disk=2 * self.rows * sizes.channels * sizes.frames.get(self.dataset, 0))


@dataclass(frozen=True, kw_only=True)
class EmbeddingWindows(Work):
    """The work of embedding windows with a CLAP.

    Attributes:
        dataset: the dataset part.
        hop: distance between the starts of windows, in windows.
        features: size of an embedding.
    """

    dataset: str
    hop: float
    features: int

    def count(self, sizes: Sizes) -> Amount:
        """Count the work."""
        windows = sizes.frames.get(self.dataset, 0) / (self.hop * sizes.window)
        return Amount(disk=round(windows * (4 * self.features + 8)))


@dataclass(frozen=True, kw_only=True)
class Embedding(Work):
    """The work of embedding clips; in memory are the clips of one call, as read, joined, and resampled.

    Attributes:
        name: name of the embedding.
        signals: number of other signals in memory.
    """

    name: str
    signals: int

    def count(self, sizes: Sizes) -> Amount:
        """Count the work."""
        from gmsdi.metrics.embeddings import EMBEDDINGS

        together = inspect.signature(EMBEDDINGS[self.name]).parameters["batch"].default
        return Amount(memory=sizes.audio(self.signals + 3 * together))


@dataclass(frozen=True, kw_only=True)
class Reading(Work):
    """The work of reading clips, a few at a time.

    Attributes:
        signals: number of signals in memory.
    """

    signals: int

    def count(self, sizes: Sizes) -> Amount:
        """Count the work."""
        return Amount(memory=sizes.audio(self.signals))


@dataclass(frozen=True, kw_only=True)
class Scoring(Work):
    """The work of scoring separations, one track at a time.

    Attributes:
        labels: K.
        chunks: number of chunks; None means the whole dataset part.
        dataset: the dataset part.
        arrays: memory in multiples of a track's stems.
    """

    labels: int
    chunks: int | None
    dataset: str
    arrays: int

    def count(self, sizes: Sizes) -> Amount:
        """Count the work; `memory` is the part that does not depend on the track."""
        items = sizes.items(self.chunks, self.dataset)
        run = sizes.audio(min(items, sizes.longest.get(self.dataset, items)) * self.labels)
        return Amount(memory=self.arrays * run + self.memory)


class Works:
    """The work of the workflow's rules.

    Args:
        study: the configuration's rows, tasks and data.

    Attributes:
        to_come: whether jobs may be counted before their tracks exist; the tracks are then not looked for.
    """

    to_come: ClassVar[bool] = False

    def __init__(self, study: Study) -> None:
        self.study, self.config, self.labels = study, study.config, study.labels

    # Data

    def cut(self, part: str, *, stems: bool) -> Work:
        """Cutting the mixtures of a dataset part, with or without stems."""
        return Cutting(DATA, dataset=part, rows=1 + len(self.labels) * stems)

    def archive(self) -> Work:
        """Downloading the archive of Slakh2100."""
        return Work(DATA, disk=self._entry().size or 0)

    def unpacked(self) -> Work:
        """Unpacking the archive of Slakh2100."""
        entry, version = self._entry(), VERSIONS[self.config["data"]["source"]]
        share = sum(version.tracks[split] for split in self.study.splits()) / sum(version.tracks.values())
        return Work(DATA, disk=round((entry.unpacked or entry.size or 0) * share))

    def _entry(self) -> Any:
        from gmsdi.data.download import find_entry

        data = self.config["data"]
        return find_entry(VERSIONS[data["source"]].archive, registry=data["download"]["registry"])

    def jamendo(self) -> Work:
        """Downloading the tracks of a shard of MTG-Jamendo."""
        return Work(DATA, disk=round(JAMENDO_BYTES * jamendo_tracks(self.config["training_data"]["tracks"])))

    # Models

    def training(self, model: str) -> Work:
        """Training a model, or the demo's short training."""
        part = {GMSDI: TRAIN, DEMO: TRAIN_DEMO}.get(model, TRAIN_BASELINES)
        if model in (CLAP, CODEC):  # not networks of a system; their work is not counted
            return Work(TRAIN)
        network = GMSDI if model == DEMO else self.study.models[model].kind
        devices = self.study.devices(model)
        return Training(part, network=network, devices=devices, settings=self.study.training(model))

    def embedded_windows(self, part: str) -> Work:
        """Embedding the windows of a dataset part."""
        features = self.config["model"]["config"]["text"]["features"]
        return EmbeddingWindows(TRAIN, dataset=part, hop=self.config["clap"]["hop"], features=features)

    # Separation

    def grid(self, method: str, split: str) -> Work:
        """Computing a row's part of the grid on a split."""
        part = TABLE1 if split == "test" and method in self.study.grid_rows else TABLE2
        cells, chunks = self.study.grid_cells(method, split), self.study.grid_chunks(split)
        return self._separating(part, cells, chunks=chunks, dataset=self.study.part(split))

    def separation(self, method: str, shard: int, shards: int) -> Work:
        """Separating one shard of a row of Table 2."""
        chunks = self.config["separation"]["chunks"]
        return self._separating(TABLE2, [self.study.rows[method]], chunks=chunks, shard=(shard, shards), kept=True)

    def averaging(self, shard: int, shards: int) -> Work:
        """Averaging the stems of rows of Table 2 for one shard; no network is evaluated."""
        chunks, dataset = self.config["separation"]["chunks"], self.study.part("test")
        own = {"labels": len(self.labels), "batch": self.config["jobs"]["batch"], "shard": (shard, shards)}
        return Separating(TABLE2, rows=[], chunks=chunks, dataset=dataset, kept=True, **own)

    def costs(self, method: str) -> Work:
        """Separating with each number of steps of Figure 4."""
        own = self.config["costs"]
        rows = [self.study.rows[method].with_steps(steps) for steps in own["steps"]]
        return self._separating(FIGURE4, rows, chunks=own["chunks"])

    def _separating(self, part: str, rows: Sequence[Row], **options: Any) -> Work:
        return Separating(
            part,
            network=network_of(rows[0]),
            rows=rows,
            labels=len(self.labels),
            batch=self.config["jobs"]["batch"],
            coded=self.study.coded and network_of(rows[0]) == GMSDI,
            **{"dataset": self.study.part("test"), **options},
        )

    def search(self, name: str) -> Work:
        """Running a search on validation data."""
        own = self.study.searches[name]
        if rows := own.rows:
            return self._separating(TUNING, rows, chunks=own.items, dataset=self.study.part("validation"))
        batch, network = self.config["jobs"]["batch"], network_of(own.tasks[0])
        coded = self.study.coded and network == GMSDI
        return Generating(TUNING, network=network, tasks=own.tasks, batch=batch, kept=False, coded=coded)

    def scores(self) -> Work:
        """Scoring a method's separations by SI-SDR."""
        return self._scoring(arrays=4)

    def bss_eval(self) -> Work:
        """Scoring them by BSS Eval; museval's equations couple the filters of all stems."""
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
        """Generating one shard of a task's clips."""
        own, batch = self.study.tasks[task], self.config["jobs"]["batch"]
        network = network_of(own)
        return Generating(
            self._figure(own),
            network=network,
            tasks=[own],
            batch=batch,
            coded=self.study.coded and network == GMSDI,
            shard=(shard, shards),
        )

    def embedding(self, task: str | None) -> Work:
        """Embedding a task's clips and comparing their stems a few at a time; None means the references' clips."""
        part, signals = DISTANCES, len(self.labels)
        if task is not None:
            own = self.study.tasks[task]
            part, signals = self._figure(own), own.signals * (CALL if own.mixed else 1)
        return Embedding(part, name=self.config["fad"]["embedding"], signals=signals)

    def _figure(self, task: Task) -> str:
        return FIGURE3 if task.mixed else FIGURE2

    def coherence(self) -> Work:
        """Comparing accompaniments: stems of a few clips, of their own chunks and of other chunks."""
        return Reading(FIGURE3, signals=CALL * (3 * len(self.labels) + 1))

    def stems_of_mixtures(self) -> Work:
        """Comparing stems of mixtures: stems of a few chunks."""
        return Reading(FIGURE3, signals=CALL * (2 * len(self.labels) + 1))


def jamendo_tracks(limit: int | None) -> float:
    """Mean number of tracks used from a shard of MTG-Jamendo."""
    return min(JAMENDO_COUNT / JAMENDO_SHARDS, limit or math.inf)
