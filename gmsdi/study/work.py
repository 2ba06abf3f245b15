"""What the jobs of the workflow work: signals that networks denoise, training steps, and bytes that are held and kept.

A rule states its job's work as the parameter `work`, and `gmsdi.study.cost` asks every job of a run for it. The amount
is counted only then, since it depends on the tracks; building the workflow's graph reads none. A change of how work is
counted makes no job run again: Snakemake compares parameters that are numbers, text and the like alone.

Calls of a network are filled up to `CALL` signals (`gmsdi.sampling.session.Batch`), and guidance denoises a signal
twice, so that the counts depend on how the work is cut. What a configuration leaves open until Table 1 is there, the
strength w of the guidance, is taken as the dearer case, that there is guidance.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, ClassVar

from gmsdi.data.versions import JAMENDO_SHARDS, VERSIONS
from gmsdi.errors import UserError
from gmsdi.study import latents
from gmsdi.study.counting import CALL, share
from gmsdi.study.latents import Taken
from gmsdi.study.methods import Row
from gmsdi.study.rows import GMSDI
from gmsdi.study.study import Study
from gmsdi.study.tasks import Task

JAMENDO_COUNT = 55_701
"""Tracks of MTG-Jamendo's raw_30s (Bogdanov et al. 2019)."""
JAMENDO_BYTES = 156e9 / JAMENDO_COUNT
"""Mean size of their files in audio-low."""
BSS_EVAL = 20
"""Arrays as large as a track's stems in float32 that museval holds at a time: in float64, and their spectra padded to a
power of two. Measured: 13 beside the equations, where the padding is a half."""

DATA, TRAIN, DEMO, TRAIN_BASELINES = "Data", "Training", "Demo training", "Training, baselines"
TABLE1, TABLE2, FIGURE2, FIGURE3, FIGURE4 = "Table 1", "Table 2", "Figure 2", "Figure 3", "Figure 4"
DISTANCES, TUNING, PAGE = "Figures 2 and 3, distances", "Tuning", "Report"
PARTS = (DATA, TRAIN, DEMO, TRAIN_BASELINES, TABLE1, TABLE2, FIGURE2, FIGURE3, DISTANCES, FIGURE4, TUNING, PAGE)


@dataclass(frozen=True)
class Sizes:
    """How large the data are.

    Attributes:
        window: samples of a chunk.
        chunks: whole chunks of each dataset part, by the part's name; a part that cannot be counted is left out.
        frames: samples of each dataset part at the model's rate; left out likewise.
        longest: chunks of the longest track of each dataset part; left out likewise.
        channels: of a chunk.
    """

    window: int
    chunks: Mapping[str, int] = field(default_factory=dict)
    frames: Mapping[str, int] = field(default_factory=dict)
    longest: Mapping[str, int] = field(default_factory=dict)
    channels: int = 1

    def audio(self, signals: int) -> int:
        """Bytes of chunks in float32."""
        return signals * self.window * self.channels * 4

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
        encoded: signals that an autoencoder encodes, where sums of sources are taken of signals.
        decoded: signals that it decodes.
        steps: training steps.
        batch: windows of a training step.
        memory: bytes of the arrays of audio that the job holds, without the network.
        disk: bytes that it writes.
        weights: bytes that it writes for each parameter of its network.
    """

    evaluations: int = 0
    encoded: int = 0
    decoded: int = 0
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
        network: the system whose network it runs, see `gmsdi.study.setups`.
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
        rows: one after the other.
        labels: K.
        batch: chunks that are sampled together.
        chunks: their number; None is the whole part.
        dataset: the dataset part.
        shard: which of how many shares.
        kept: whether the stems are written.
        coded: whether the model is of latents that do not add up (`gmsdi.study.latents`).
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
        """How much it is. Estimates are held twice while batches are joined."""
        items = len(share(range(sizes.items(self.chunks, self.dataset)), *self.shard))
        stems = sizes.audio(items * self.labels)
        taken = [
            latents.of_row(row, items, self.batch) if self.coded else Taken(row.evaluations(items, self.batch))
            for row in self.rows
        ]
        return Amount(
            **asdict(sum(taken, Taken())),
            memory=2 * stems,
            disk=stems if self.kept else 0,
        )


@dataclass(frozen=True, kw_only=True)
class Generating(Work):
    """Clips of a task.

    Attributes:
        tasks: what is generated, one after the other.
        batch: clips that are sampled together.
        shard: which of how many shares.
        kept: whether the clips are written.
        coded: see `Separating`.
    """

    tasks: Sequence[Task]
    batch: int
    shard: tuple[int, int] = (1, 1)
    kept: bool = True
    coded: bool = False

    def count(self, sizes: Sizes) -> Amount:
        """How much it is."""
        clips = [share(task.bars() * task.clips, *self.shard) for task in self.tasks]
        audio = max(sizes.audio(len(bars) * task.signals) for task, bars in zip(self.tasks, clips, strict=True))
        taken = [
            latents.of_task(task, bars, self.batch) if self.coded else Taken(task.evaluations(bars, self.batch))
            for task, bars in zip(self.tasks, clips, strict=True)
        ]
        return Amount(**asdict(sum(taken, Taken())), memory=audio, disk=audio if self.kept else 0)


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
        return Amount(disk=2 * self.rows * sizes.channels * sizes.frames.get(self.dataset, 0))


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
        part = {"gmsdi": TRAIN, "demo": DEMO}.get(model, TRAIN_BASELINES)
        if model in ("clap", "codec"):  # which are no networks of a system, and are not counted
            return Work(TRAIN)
        network = "gmsdi" if model == "demo" else self.study.models[model].kind
        devices = self.study.devices(model)
        return Training(part, network=network, devices=devices, settings=self.study.training(model))

    def embedded_windows(self, part: str) -> Work:
        """Embeddings of the windows of a dataset part."""
        features = self.config["model"]["config"]["text"]["features"]
        return EmbeddingWindows(TRAIN, dataset=part, hop=self.config["clap"]["hop"], features=features)

    # Separation

    def grid(self, method: str, split: str) -> Work:
        """A row's part of the grid on a split."""
        part = TABLE1 if split == "test" and method in self.study.grid_rows else TABLE2
        cells, chunks = self.study.grid_cells(method, split), self.study.grid_chunks(split)
        return self._separating(part, cells, chunks=chunks, dataset=self.study.part(split))

    def separation(self, method: str, shard: int, shards: int) -> Work:
        """A share of the separations of a row of Table 2."""
        chunks = self.config["separation"]["chunks"]
        return self._separating(TABLE2, [self.study.rows[method]], chunks=chunks, shard=(shard, shards), kept=True)

    def costs(self, method: str) -> Work:
        """A row at every number of steps of Figure 4."""
        own = self.config["costs"]
        rows = [self.study.rows[method].with_steps(steps) for steps in own["steps"]]
        return self._separating(FIGURE4, rows, chunks=own["chunks"])

    def _separating(self, part: str, rows: Sequence[Row], **options: Any) -> Work:
        return Separating(
            part,
            network=rows[0].system.kind,
            rows=rows,
            labels=len(self.labels),
            batch=self.config["jobs"]["batch"],
            coded=self.study.coded and rows[0].system.kind == GMSDI and rows[0].model is None,
            **{"dataset": self.study.part("test"), **options},
        )

    def search(self, name: str) -> Work:
        """A search on validation data."""
        own = self.study.searches[name]
        if rows := own.rows:
            return self._separating(TUNING, rows, chunks=own.items, dataset=self.study.part("validation"))
        batch = self.config["jobs"]["batch"]
        kind = own.tasks[0].system.kind
        coded = self.study.coded and kind == GMSDI
        return Generating(TUNING, network=kind, tasks=own.tasks, batch=batch, kept=False, coded=coded)

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
        own, batch = self.study.tasks[task], self.config["jobs"]["batch"]
        coded, kind = self.study.coded and own.system.kind == GMSDI, own.system.kind
        part = self._figure(own)
        return Generating(part, network=kind, tasks=[own], batch=batch, shard=(shard, shards), coded=coded)

    def embedding(self, task: str | None) -> Work:
        """Embeddings of the clips of a task and of their stems, compared a few at a time, or of the references."""
        part, signals = DISTANCES, len(self.labels)
        if task is not None:
            own = self.study.tasks[task]
            part, signals = self._figure(own), own.signals * (CALL if own.mixed else 1)
        return Embedding(part, name=self.config["fad"]["embedding"], signals=signals)

    def _figure(self, task: Task) -> str:
        return FIGURE3 if task.mixed else FIGURE2

    def coherence(self) -> Work:
        """The stems of a few clips, as made, of their own chunks and of others."""
        return Reading(FIGURE3, signals=CALL * (3 * len(self.labels) + 1))

    def stems_of_mixtures(self) -> Work:
        """The stems of a few chunks."""
        return Reading(FIGURE3, signals=CALL * (2 * len(self.labels) + 1))


def jamendo_tracks(limit: int | None) -> float:
    """Tracks that are taken of a shard of MTG-Jamendo, in the mean."""
    return min(JAMENDO_COUNT / JAMENDO_SHARDS, limit or math.inf)
