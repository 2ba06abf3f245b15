"""Training of a model on mixtures and their labels, or on their stems, through Lightning.

Everything random in a step (which crops, their augmentation, the dropped prompts, noise levels and noise) is a
function of (seed, step, item) alone. A run that is killed and started again therefore goes on exactly where its last
checkpoint was, and any number of devices sees the same global batches.
"""

from __future__ import annotations

import ctypes
import json
import logging
import math
import os
import platform
import signal
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback, ModelCheckpoint, TQDMProgressBar
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from lightning.pytorch.plugins import TorchCheckpointIO
from lightning.pytorch.plugins.environments import LightningEnvironment, TorchElasticEnvironment
from torch import Tensor
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.data import DataLoader, IterableDataset

from gmsdi import __version__
from gmsdi.allocator import tune_allocator
from gmsdi.data.windows import WindowSet
from gmsdi.errors import UserError
from gmsdi.files import atomic, remove_partials
from gmsdi.models.base import TrainableModel
from gmsdi.models.checkpoint import (
    MIXTURE,
    STEMS,
    build_model,
    load_model,
    resolve_precision,
    save_model,
    target_of,
)
from gmsdi.models.clap_windows import WindowEmbeddings
from gmsdi.models.text import FrozenClapText, prompt_of

DRAWS = 16
"""Uniform numbers that a batch holds for each item, for choices of the model's own."""
LABELLED = ("tiny", "t5")
"""Kinds of text encoders that are trained on the labels of mixtures."""


@dataclass(frozen=True)
class TrainingConfig:
    """How to train. The noise level is log-normal, as in Karras et al. 2022.

    Attributes:
        steps: optimiser steps.
        batch: windows of the global batch, over all devices.
        lr: peak learning rate of AdamW.
        betas: AdamW's moment decays.
        weight_decay: AdamW's weight decay.
        warmup: steps of linear warm-up.
        decay: the last fraction of the steps, over which the rate falls linearly to zero.
        ema: decay of the averaged weights, which are the ones that are saved.
        clip: largest gradient norm; None does not limit it.
        p_mean, p_std: mean and standard deviation of ln σ.
        p_drop: probability that a prompt is replaced by z*.
        p_any: for a model of one stem, the probability that a window is drawn from all those in which something sounds,
            the stem or not, and not only from those in which the stem does; so the model learns of silence too.
        gain_db: half-width of the random gain.
        polarity: flip the sign of half of the windows.
        validate_every: steps between validations, each of `validation_batches` fixed batches.
        keep: "last": the weights after the last step are saved; "best": those of the validation with the least loss.
        checkpoint_every: steps between checkpoints.
        precision: "auto", "bf16" or "float32"; the type in which the network runs.
        save_as: "float32" or "float16", the type of the saved weights.
        initial: folder of a model of the same network whose weights to start from; None starts from fresh ones.
        devices: number of devices of this machine, each with a process and its share of the batch; "auto" takes all
            GPUs, or the CPU. Where torchrun has started the processes, these count.
    """

    steps: int
    batch: int = 16
    lr: float = 1e-3
    betas: tuple[float, float] = (0.9, 0.99)
    weight_decay: float = 0.01
    warmup: int = 300
    decay: float = 0.4
    ema: float = 0.999
    clip: float | None = 1.0
    p_mean: float = -3.0
    p_std: float = 1.4
    p_drop: float = 0.1
    p_any: float = 0.1
    gain_db: float = 3.0
    polarity: bool = True
    validate_every: int = 500
    validation_batches: int = 8
    keep: Literal["last", "best"] = "last"
    checkpoint_every: int = 250
    precision: str = "auto"
    save_as: Literal["float32", "float16"] = "float32"
    initial: str | None = None
    devices: int | str = 1

    def rate(self, step: int) -> float:
        """The learning rate of a step relative to its peak: warm-up, plateau, linear decay."""
        left = (self.steps - step) / max(1.0, self.decay * self.steps)
        return max(0.0, min(1.0, (step + 1) / max(1, self.warmup), left))


class Batches(IterableDataset[dict[str, Any]]):
    """Endless batches of this device's share, from step `start()` on.

    Lightning takes a new iterator in every epoch (an epoch lasts from one validation to the next), hence the function.
    Each batch has

    - `clean` and `noise` `[n, C, T]`: what `target` says (see `models.checkpoint.target_of`), with one gain and sign
      for all stems of a window; stems that do not sound are what the dataset holds, mostly zeros;
    - `sigma` `[n]`;
    - `texts`: n prompts, the labels that sound in the window, or the one label of a target that is a single stem; empty
      for mixtures without labels; None is z*;
    - `draws` `[n, DRAWS]`: uniform numbers in [0, 1) for choices of the model's own.

    With `embeddings` there are no texts, and no label is looked at. The windows are those that have been embedded,
    before gain and sign, each as likely as any other, and in place of `texts` a batch has

    - `embeddings` `[n, D]`: E(y) of each window;
    - `dropped` `[n]`: where z* takes its place.

    Raises:
        UserError: if the windows lack stems or labels that the target needs, there are embeddings but the target is not
            the mixture, or the devices cannot share the batch.
    """

    def __init__(
        self,
        windows: WindowSet,
        config: TrainingConfig,
        seed: int,
        *,
        target: str = MIXTURE,
        embeddings: WindowEmbeddings | None = None,
        rank: int = 0,
        world: int = 1,
        start: Callable[[], int] = lambda: 0,
    ) -> None:
        if target != MIXTURE and embeddings is not None:
            raise UserError(f"a model of target {target!r} cannot be trained on embeddings of mixtures; use its labels")
        if target != MIXTURE and not windows.has_stems:
            raise UserError(
                f"{windows.folder}: was built without stems, but a model of target {target!r} is trained on them; "
                "build the windows again with stems=True"
            )
        if target not in (MIXTURE, STEMS, *windows.labels):
            raise UserError(f"{windows.folder}: has no label {target!r}, only {', '.join(windows.labels)}")
        if config.batch % world:
            raise UserError(f"training.batch is {config.batch}, not a multiple of the {world} devices; change it")
        self.windows, self.config, self.seed, self.target = windows, config, seed, target
        self.embeddings = embeddings
        self.rank, self.world, self.start = rank, world, start

    def __iter__(self) -> Iterator[dict[str, Any]]:
        step = self.start()
        while True:
            yield self.batch(step)
            step += 1

    def batch(self, step: int) -> dict[str, Any]:
        """This device's share of the global batch of a step."""
        items = [self._item(step, i) for i in range(self.rank, self.config.batch, self.world)]
        clean, noise, sigma, given, dropped, draws = zip(*items, strict=True)
        batch = {
            "clean": torch.from_numpy(np.stack(clean)),
            "noise": torch.from_numpy(np.stack(noise)),
            "sigma": torch.tensor(sigma, dtype=torch.float32),
            "draws": torch.from_numpy(np.stack(draws)),
        }
        if self.embeddings is None:
            texts = [None if absent else text for text, absent in zip(given, dropped, strict=True)]
            return {**batch, "texts": texts}
        return {**batch, "embeddings": torch.from_numpy(np.stack(given)), "dropped": torch.tensor(dropped)}

    def _item(self, step: int, item: int) -> tuple[np.ndarray, np.ndarray, float, str | np.ndarray, bool, np.ndarray]:
        rng, c = np.random.default_rng([self.seed, step, item]), self.config
        signals, given = self._crop(rng)
        gain = 10 ** (rng.uniform(-c.gain_db, c.gain_db) / 20)
        sign = rng.choice([-1.0, 1.0]) if c.polarity else 1.0
        sigma = math.exp(c.p_mean + c.p_std * rng.standard_normal())
        dropped = rng.random() < c.p_drop
        noise = rng.standard_normal(signals.shape, dtype=np.float32)
        draws = rng.random(DRAWS, dtype=np.float32)
        return signals * np.float32(gain * sign), noise, sigma, given, dropped, draws

    def _crop(self, rng: np.random.Generator) -> tuple[np.ndarray, str | np.ndarray]:
        """The target's signals in a random window, `[C, T]`, and their prompt or embedding."""
        if self.embeddings is not None:
            row = int(rng.integers(len(self.embeddings)))
            return self.windows.mixture_at([self.embeddings.starts[row]])[0], self.embeddings[row]
        if self.target == MIXTURE:
            mixtures, labels = self.windows.random_crops(rng, 1)
            return mixtures[0], prompt_of(labels[0])
        if self.target == STEMS:
            stems, labels = self.windows.random_stem_crops(rng, 1)
            return stems[0, :, 0], prompt_of(labels[0])
        sounding = None if rng.random() < self.config.p_any else self.target
        stems, _ = self.windows.random_stem_crops(rng, 1, sounding)
        return stems[0, self.windows.labels.index(self.target)], self.target


class Training(LightningModule):
    """A model, its averaged copy and the optimiser."""

    def __init__(
        self,
        model: TrainableModel,
        config: TrainingConfig,
        train: WindowSet,
        validation: WindowSet,
        seed: int,
        embeddings: tuple[WindowEmbeddings | None, WindowEmbeddings | None] = (None, None),
    ) -> None:
        super().__init__()
        self.model, self.config, self.seed = model, config, seed
        self.train_embeddings, self.validation_embeddings = embeddings
        self.target = target_of(model.config)
        self.ema = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(config.ema), use_buffers=False)
        self.ema.requires_grad_(False)
        self.train_windows, self.validation_windows = train, validation

    def setup(self, stage: str) -> None:
        self.model.autocast = self.averaged.autocast = resolve_precision(self.config.precision, self.device)

    @property
    def averaged(self) -> TrainableModel:
        """The model with the averaged weights."""
        return cast(TrainableModel, self.ema.module)

    def train_dataloader(self) -> DataLoader[Any]:
        batches = Batches(
            self.train_windows,
            self.config,
            self.seed,
            target=self.target,
            embeddings=self.train_embeddings,
            rank=self.trainer.global_rank,
            world=self.trainer.world_size,
            start=lambda: self.trainer.global_step,
        )
        return DataLoader(batches, batch_size=None)

    def val_dataloader(self) -> DataLoader[Any]:
        # Validation always draws the same windows, noise and noise levels, so that its curve shows the model alone.
        batches = Batches(
            self.validation_windows,
            self.config,
            self.seed + 1,
            target=self.target,
            embeddings=self.validation_embeddings,
            rank=self.trainer.global_rank,
            world=self.trainer.world_size,
        )
        return DataLoader(batches, batch_size=None)

    def training_step(self, batch: dict[str, Any], index: int) -> Tensor:
        loss = self.model.training_loss(batch).mean()
        # The loss of the global batch, so that all processes see one that is no number, and end together.
        self.log("train_loss", loss.detach(), prog_bar=True, sync_dist=True)
        return loss

    def validation_step(self, batch: dict[str, Any], index: int) -> None:
        loss = self.averaged.training_loss(batch).mean()
        self.log("val_loss", loss, prog_bar=True, batch_size=len(batch["sigma"]), sync_dist=True)

    def configure_optimizers(self) -> Any:
        c = self.config
        optimizer = torch.optim.AdamW(
            self.model.parameters(), c.lr, betas=c.betas, weight_decay=c.weight_decay, fused=True
        )
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, c.rate)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


class _Averaging(Callback):
    """Updates the averaged weights. A callback, because checkpoints are written before the module's own hooks run."""

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        assert isinstance(pl_module, Training)
        pl_module.ema.update_parameters(pl_module.model)


class _FiniteLoss(Callback):
    """Ends a run whose loss is no longer a number, once per logging interval to spare the device a wait per step."""

    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
        if trainer.global_step % trainer.log_every_n_steps == 0:  # type: ignore[attr-defined]
            loss = trainer.callback_metrics.get("train_loss")
            if loss is not None and not bool(torch.isfinite(loss)):
                raise UserError(f"the loss is {loss.item()} at step {trainer.global_step}; lower training.lr")


class _Checkpoints(TorchCheckpointIO):
    """Writes checkpoints beside their place, so that a kill leaves the last complete one.

    Lightning writes them in the system's temporary folder, from where another file system only gets a copy.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:
        with atomic(path) as temporary:
            torch.save(checkpoint, temporary)


def _processes(devices: int | str) -> dict[str, Any]:
    """Settings of the trainer for the processes of a training.

    They are those of torchrun, or Lightning starts this program again for all devices but the first. The scheduler of a
    cluster is left out of it: in its job, Snakemake has started one process.
    """
    checkpoints = _Checkpoints()
    if TorchElasticEnvironment.detect():
        here, everywhere = int(os.environ["LOCAL_WORLD_SIZE"]), int(os.environ["WORLD_SIZE"])
        return {
            "devices": here,
            "num_nodes": everywhere // here,
            "plugins": [TorchElasticEnvironment(), checkpoints],
            "strategy": "ddp" if everywhere > 1 else "auto",
        }
    if int(os.environ.get("LOCAL_RANK", 0)):
        _end_with_parent()
    return {"devices": devices, "plugins": [LightningEnvironment(), checkpoints]}


def _end_with_parent() -> None:
    """Let the kernel kill this process with the one that started it, which cannot do so if it is killed itself.

    Otherwise it would wait for the others, with its memory of a GPU, until a timeout. Does nothing but on Linux.
    """
    if platform.system() == "Linux":
        pr_set_pdeathsig = 1
        ctypes.CDLL(None).prctl(pr_set_pdeathsig, int(signal.SIGKILL))


def train(
    model_config: dict[str, Any],
    config: TrainingConfig,
    train_windows: str | Path,
    validation_windows: str | Path,
    out: str | Path,
    *,
    seed: int,
    work: str | Path,
    description: str = "",
    progress: bool = True,
    train_embeddings: str | Path | None = None,
    validation_embeddings: str | Path | None = None,
) -> bool:
    """Train a model and write its folder.

    With several devices every process calls this, with the same arguments: this program is started again for each
    further device, or torchrun has started all.

    Args:
        model_config: see `models.checkpoint.build_model`.
        config: the training settings.
        train_windows: folder of training windows: mixtures and labels; and stems, where the model's `target` is not
            the mixture.
        validation_windows: the same for validation.
        out: the model folder, written at the end: averaged weights, configuration, provenance.
        seed: seed of the initial weights and of every draw.
        work: folder of checkpoints and logs; a checkpoint found there is resumed.
        description: first line of the provenance.
        progress: show a progress bar.
        train_embeddings: for a model whose text encoder is a CLAP, the folder of E(y) of the training windows, see
            `gmsdi.models.clap_windows`; it is then trained on these and not on labels.
        validation_embeddings: the same for validation.

    Returns:
        Whether this process is the first, which has written the folder. The others have nothing more to do.

    Raises:
        UserError: if the data do not fit the model, the devices cannot share the batch, or the loss diverges.
    """
    tune_allocator()
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    # Expected here: the folder holds the checkpoint to resume, batches come from memory without workers, and no process
    # is started by srun.
    for expected in (
        "exists and is not empty",
        "does not have many workers",
        "dataloader is not resumable",
        "`srun` command is available",
    ):
        warnings.filterwarnings("ignore", message=f".*{expected}")
    started = time.time()
    target = target_of(model_config)
    train_set, validation_set = WindowSet(train_windows), WindowSet(validation_windows)
    embedded = tuple(
        None if folder is None else WindowEmbeddings(folder, windows)
        for folder, windows in ((train_embeddings, train_set), (validation_embeddings, validation_set))
    )
    for name, windows, embeddings in zip(
        ("training", "validation"), (train_set, validation_set), embedded, strict=True
    ):
        if windows.sample_rate != model_config["sample_rate"] or windows.window != model_config["window"]:
            raise UserError(
                f"the {name} windows are {windows.window} samples at {windows.sample_rate} Hz, the model's are "
                f"{model_config['window']} at {model_config['sample_rate']} Hz; rebuild the windows"
            )
        if not windows.labels and model_config.get("text", {}).get("kind") in LABELLED:
            raise UserError(
                f"the {name} windows are mixtures without labels, which a model of text.kind "
                f"{model_config['text']['kind']!r} is conditioned on; choose clap or none"
            )
        if target == STEMS and windows.labels != list(model_config["labels"]):
            raise UserError(
                f"the {name} windows have the stems {', '.join(windows.labels)}, the model's are "
                f"{', '.join(model_config['labels'])}; rebuild the windows"
            )
        channels = len(windows.labels) if target == STEMS else 1
        if model_config.get("unet", {}).get("in_channels", channels) != channels:
            raise UserError(
                f"unet.in_channels is {model_config['unet']['in_channels']}, but a model of target {target!r} is "
                f"trained on {channels}; change one of them"
            )
        if (model_config.get("text", {}).get("kind") == "clap") != (embeddings is not None):
            raise UserError(
                "a model is trained on embeddings of its windows if, and only if, its text encoder is a CLAP "
                "(text.kind: clap); change one of them"
            )
        # Complains before the first step, not at the first validation.
        Batches(windows, config, seed, target=target, embeddings=embeddings)
    torch.manual_seed(seed)
    model = build_model(model_config)
    if config.initial is not None:
        _copy_weights(config.initial, model)
    text = getattr(model, "text", None)
    for embeddings in embedded:
        if embeddings is not None and isinstance(text, FrozenClapText) and embeddings.features != text.features:
            raise UserError(
                f"{embeddings.folder}: embeddings have {embeddings.features} dimensions, text.features is "
                f"{text.features}; embed the windows with the same CLAP"
            )
    module = Training(model, config, train_set, validation_set, seed, (embedded[0], embedded[1]))
    work = Path(work)
    last = work / "last.ckpt"
    remove_partials(last)
    callbacks: list[Callback] = [
        ModelCheckpoint(
            dirpath=work,
            filename=last.stem,
            enable_version_counter=False,
            every_n_train_steps=config.checkpoint_every,
        ),
        _Averaging(),
        _FiniteLoss(),
    ]
    best = ModelCheckpoint(dirpath=work, filename="best", monitor="val_loss", enable_version_counter=False)
    if config.keep == "best":
        callbacks.append(best)
    if progress:
        callbacks.append(TQDMProgressBar(refresh_rate=10))
    trainer = Trainer(
        accelerator="auto",
        max_steps=config.steps,
        max_epochs=-1,
        limit_train_batches=min(config.validate_every, config.steps),
        limit_val_batches=config.validation_batches,
        num_sanity_val_steps=0,
        gradient_clip_val=config.clip,
        log_every_n_steps=min(20, config.validate_every, config.steps),
        logger=[CSVLogger(work, name="csv", version=""), TensorBoardLogger(work, name="tensorboard", version="")],
        callbacks=callbacks,
        enable_progress_bar=progress,
        enable_model_summary=False,
        use_distributed_sampler=False,
        # In a SLURM job, too, nothing is resumed but what lies in the work folder.
        default_root_dir=work,
        **_processes(config.devices),
    )
    world = trainer.num_devices * trainer.num_nodes
    Batches(train_set, config, seed, target=target, embeddings=embedded[0], world=world)  # before others are started
    resumed = last if last.exists() else None
    trainer.fit(module, ckpt_path=resumed, weights_only=True)
    if trainer.is_global_zero:
        val_loss = trainer.callback_metrics.get("val_loss")
        if best.best_model_path:
            state = torch.load(best.best_model_path, map_location="cpu", weights_only=True)
            module.load_state_dict(state["state_dict"])
            val_loss = best.best_model_score
        provenance = {
            "description": description,
            "gmsdi": __version__,
            "torch": torch.__version__,
            "hardware": _hardware(),
            "devices": world,
            "seed": seed,
            "steps": trainer.global_step,
            "windows_seen": trainer.global_step * config.batch,
            "seconds_of_last_run": round(time.time() - started),
            "resumed": resumed is not None,
            "val_loss": None if val_loss is None else float(val_loss),
            "training": asdict(config),
            "data": json.loads((train_set.folder / "info.json").read_text()),
            **({} if embedded[0] is None else {"embeddings": embedded[0].info}),
        }
        extra = {"provenance.json": json.dumps(provenance, indent=2) + "\n"}
        save_model(out, module.averaged, extra, dtype=getattr(torch, config.save_as))
    return bool(trainer.is_global_zero)


def _copy_weights(folder: str, model: TrainableModel) -> None:
    """Start from another model's weights: of the same network, whatever it was trained on."""
    given = load_model(folder)
    about_data = {"sample_rate", "window", "labels", "target"}
    for part in ("kind", *(key for key in model.config if key not in about_data | {"kind"})):
        default = "diffusion" if part == "kind" else None
        if given.config.get(part, default) != model.config.get(part, default):
            raise UserError(
                f"training.initial: {folder} holds a model of another {part} than model.config asks for; "
                "make them the same, or leave training.initial out"
            )
    model.load_state_dict(given.state_dict())


def _hardware() -> str:
    if torch.cuda.is_available():
        return f"{torch.cuda.device_count()} x {torch.cuda.get_device_name()}"
    return f"{torch.cpu.get_capabilities().get('cpu_name', platform.processor())}, {torch.get_num_threads()} threads"
