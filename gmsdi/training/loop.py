"""Training of a model on mixtures and their labels, or on their stems, with Lightning.

Everything random in a step (the choice of crops, their augmentation, dropped prompts, noise levels and noise) is a
function of (seed, step, item) alone. A run that is killed and started again therefore continues exactly from its last
checkpoint, and the global batches are the same for any number of devices.
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
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback, ModelCheckpoint, TQDMProgressBar
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from lightning.pytorch.plugins import TorchCheckpointIO
from lightning.pytorch.plugins.environments import LightningEnvironment, TorchElasticEnvironment
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.data import DataLoader, IterableDataset

import gmsdi.systems.demucs_gibbs  # noqa: F401  # registers its kind of model
from gmsdi import __version__
from gmsdi.data.windows import WindowSet
from gmsdi.errors import UserError
from gmsdi.io.allocator import tune_allocator
from gmsdi.io.device import resolve_precision
from gmsdi.io.files import atomic, remove_partials
from gmsdi.level import level_of_windows
from gmsdi.metrics.denoising import LEVELS, oracle_wiener
from gmsdi.models.autoencoder import load_codec
from gmsdi.models.checkpoint import MIXTURE, STEMS, build_model, load_model, save_model, target_of
from gmsdi.models.clap import CLAPS
from gmsdi.models.clap.windows import WindowEmbeddings
from gmsdi.models.edm import latent
from gmsdi.models.edm.denoiser import EDMDenoiser
from gmsdi.models.edm.settings import UNetConfig
from gmsdi.models.edm.text import FrozenClapText, prompt_of
from gmsdi.models.trainable import TrainableModel, kind_of
from gmsdi.training.averages import power_average, reconstruct, save_snapshot
from gmsdi.training.config import TrainingConfig
from gmsdi.training.optimizers import Muon, divided

DRAWS = 16
"""Number of uniform random numbers per item of a batch, for the model's own choices."""
LABELLED = ("tiny", "t5")
"""Kinds of text encoders that are conditioned on the labels of mixtures."""
MEASURED = 64
"""Training windows on which the scale of latents is measured."""
LENGTHS = (0.03, 0.05, 0.075, 0.1, 0.15, 0.2)
"""σ_rel of the averages to choose from at the end of a training with `ema_power`."""


class Batches(IterableDataset[dict[str, Any]]):
    """An endless sequence of this device's shares of the batches, starting at step `start()`.

    `start` is a function because Lightning makes a new iterator in every epoch (an epoch lasts from one validation to
    the next). Each batch has

    - `clean` and `noise` `[n, C, T]`: the signals of the target (see `models.checkpoint.target_of`), with one gain and
      sign for all stems of a window; stems that do not sound are left as in the data set, mostly zeros;
    - `sigma` `[n]`;
    - `texts`: n prompts, the labels that sound in the window, or the label of a single-stem target; empty for mixtures
      without labels; None is z*;
    - `draws` `[n, DRAWS]`: uniform numbers in [0, 1) for the model's own choices.

    With `embeddings`, labels are not used. Windows are drawn uniformly from those that have been embedded (before gain
    and sign are applied), and instead of `texts` a batch has

    - `embeddings` `[n, D]`: E(y) of each window;
    - `dropped` `[n]`: whether z* replaces it.

    Raises:
        UserError: if the windows lack stems or labels that the target needs, there are embeddings but the target is not
            the mixture, or the batch cannot be divided among the devices.
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
                "rebuild the windows with stems=True"
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
        if c.p_extra is not None and rng.random() < c.p_extra["share"]:
            sigma = math.exp(rng.uniform(math.log(c.p_extra["low"]), math.log(c.p_extra["high"])))
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


class Uncertainty(nn.Module):
    """u(σ), the logarithm of the expected loss at a noise level (Karras et al. 2024, EDM2).

    Trained on exp(−u)·L + u, it becomes ln E[L | σ], so that every noise level counts the same. It is a sum of cosines
    of c_noise = ln(σ)/4, from −2 to 2 (σ from e⁻⁸ to e⁸), and is initially zero.
    """

    def __init__(self, cosines: int = 32) -> None:
        super().__init__()
        self.factors = nn.Parameter(torch.zeros(cosines))

    def forward(self, sigma: Tensor) -> Tensor:
        """Evaluate u at noise levels: `[n]` -> `[n]`."""
        orders = torch.arange(len(self.factors), device=sigma.device)
        place = (sigma.log() / 4 + 2) / 4
        # Divided by their norm; otherwise the gradients of these few numbers would dominate the gradient clipping.
        return torch.cos(math.pi * place[:, None] * orders) @ self.factors * (2 / len(self.factors)) ** 0.5


class Training(LightningModule):
    """A model, its averaged copies and its optimiser, as a Lightning module."""

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
        self.powers: nn.ModuleList | None = None
        if config.ema_power:
            self.powers = nn.ModuleList(
                AveragedModel(model, multi_avg_fn=power_average(sigma_rel), use_buffers=False)
                for sigma_rel in config.ema_power
            ).requires_grad_(False)
        self.noisy = isinstance(model, EDMDenoiser)
        self.uncertainty = Uncertainty() if config.uncertainty and self.noisy else None
        self._compared = False
        self.train_windows, self.validation_windows = train, validation

    def setup(self, stage: str) -> None:
        precision = resolve_precision(self.config.precision, self.device)
        self.model.autocast = self.averaged.autocast = precision

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
        batches = self.validation_data(rank=self.trainer.global_rank, world=self.trainer.world_size)
        return DataLoader(batches, batch_size=None)

    def validation_data(self, rank: int = 0, world: int = 1) -> Batches:
        """Batches with always the same windows, noise and noise levels, so that only the model changes the loss."""
        return Batches(
            self.validation_windows,
            replace(self.config, p_extra=None),
            self.seed + 1,
            target=self.target,
            embeddings=self.validation_embeddings,
            rank=rank,
            world=world,
        )

    def training_step(self, batch: dict[str, Any], index: int) -> Tensor:
        losses = self.model.training_loss(batch)
        loss = losses.mean()
        # The loss of the global batch, so that every process sees a NaN and all stop together.
        self.log("train_loss", loss.detach(), prog_bar=True, sync_dist=True)
        if self.uncertainty is not None:
            expected = self.uncertainty(batch["sigma"])
            return (losses * (-expected).exp() + expected).mean()
        return loss

    def validation_step(self, batch: dict[str, Any], index: int) -> None:
        loss = self.averaged.training_loss(batch).mean()
        self.log("val_loss", loss, prog_bar=True, batch_size=len(batch["sigma"]), sync_dist=True)

    def on_validation_epoch_end(self) -> None:
        if self.config.level_windows and self.noisy and self.trainer.is_global_zero:
            for name, value in self._by_level().items():
                self.log(name, value, rank_zero_only=True)

    def _by_level(self) -> dict[str, float]:
        """MSE/σ² of the averaged model and, at first, of the Wiener filter, on fixed windows without augmentation."""
        plain = replace(self.config, batch=self.config.level_windows, p_drop=0.0, gain_db=0.0, polarity=False)
        batch = Batches(
            self.validation_windows,
            replace(plain, p_extra=None),
            self.seed + 2,
            target=self.target,
            embeddings=self.validation_embeddings,
        ).batch(0)
        batch = {key: value.to(self.device) if isinstance(value, Tensor) else value for key, value in batch.items()}
        model = cast(EDMDenoiser, self.averaged)
        found = {}
        with torch.no_grad():
            for sigma in LEVELS:
                batch["sigma"] = torch.full_like(batch["sigma"], sigma)
                loss = self.averaged.training_loss(batch).mean()
                # The loss is weighted by (σ² + σ_data²)/(σ·σ_data)².
                found[f"mse_{sigma:g}"] = float(loss) / (1 + (sigma / model.sigma_data) ** 2)
                if not self._compared and not isinstance(model, latent.LatentDenoiser):
                    found[f"wiener_{sigma:g}"] = float(oracle_wiener(batch["clean"], sigma, batch["noise"]).mean())
        self._compared = True
        return found

    def configure_optimizers(self) -> Any:
        c = self.config
        extra = [] if self.uncertainty is None else list(self.uncertainty.parameters())
        optimizer: torch.optim.Optimizer
        if c.optimizer == "muon":
            matrices, transposed, others = divided(self.model, self.model.ends)
            optimizer = Muon(
                matrices,
                transposed,
                others,
                extra,
                lr=c.lr,
                betas=c.betas,
                weight_decay=c.weight_decay,
                momentum=c.momentum,
                every=c.muon_every,
                dtype=self.model.autocast or torch.float32,
            )
        else:
            optimizer = torch.optim.AdamW(
                self.model.parameters(), c.lr, betas=c.betas, weight_decay=c.weight_decay, fused=True
            )
            if extra:
                optimizer.add_param_group({"params": extra, "weight_decay": 0.0})
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, c.rate)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


class _Averaging(Callback):
    """Updates the averaged weights. It is a callback because checkpoints are written before the module's own hooks run.

    Lightning's own `EMAWeightAveraging` keeps a single average of the whole module, including the uncertainty, swaps it
    in for validation, and would change the content of checkpoints; `ema_power` needs several averages.

    Args:
        folder: the folder of the snapshots of averages by power functions.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        assert isinstance(pl_module, Training)
        pl_module.ema.update_parameters(pl_module.model)
        if pl_module.powers is None:
            return
        for power in pl_module.powers:
            cast(AveragedModel, power).update_parameters(pl_module.model)
        config, step = pl_module.config, trainer.global_step
        due = step % math.ceil(config.steps / config.ema_snapshots) == 0 or step == config.steps
        if due and trainer.is_global_zero:
            trained = {name for name, parameter in pl_module.model.named_parameters() if parameter.requires_grad}
            averages = {
                sigma_rel: {n: p for n, p in cast(AveragedModel, power).module.named_parameters() if n in trained}
                for sigma_rel, power in zip(config.ema_power or (), pl_module.powers, strict=True)
            }
            save_snapshot(self.folder, step, averages)


class _FiniteLoss(Callback):
    """Stops a run whose loss is not finite. Checks once per logging interval, to avoid device syncs, and at the end."""

    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
        if trainer.global_step % trainer.log_every_n_steps == 0:  # type: ignore[attr-defined]
            self.on_train_end(trainer)

    def on_train_end(self, trainer: Trainer, *_: Any) -> None:
        loss = trainer.callback_metrics.get("train_loss")
        if loss is not None and not bool(torch.isfinite(loss)):
            raise UserError(f"the loss is {loss.item()} at step {trainer.global_step}; lower training.lr")


class _Checkpoints(TorchCheckpointIO):
    """Writes checkpoints beside their final place, so that a killed run leaves the last complete one.

    Lightning writes them in the system's temporary folder; moving them to another file system is then not atomic.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:
        with atomic(path) as temporary:
            torch.save(checkpoint, temporary)


def _processes(devices: int | str) -> dict[str, Any]:
    """Settings of the trainer for the processes of a training.

    Either torchrun has started the processes, or Lightning starts this program again for every device but the first. A
    cluster's scheduler is ignored, because Snakemake starts a single process in its job.
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
    """Let the kernel kill this process when its parent dies, since a parent that is killed cannot end its children.

    Otherwise this process would wait for the others, holding its GPU memory, until a timeout. Works on Linux only.
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
    codec: str | Path | None = None,
) -> bool:
    """Train a model and write its folder.

    With several devices every process calls this with the same arguments: this program is started again for each
    further device, unless torchrun has started all of them.

    Args:
        model_config: see `models.checkpoint.build_model`.
        config: the training settings.
        train_windows: folder of training windows: mixtures and labels, and stems if the model's `target` is not the
            mixture.
        validation_windows: the same for validation.
        out: the model folder, written at the end: averaged weights, configuration, provenance.
        seed: seed of the initial weights and of everything random.
        work: folder of checkpoints, logs and the snapshots of `ema_power`; training resumes from a checkpoint found
            there.
        description: first line of the provenance.
        progress: show a progress bar.
        train_embeddings: for a model whose text encoder is a CLAP, the folder of E(y) of the training windows, see
            `gmsdi.models.clap.windows`; the model is then trained on these instead of labels.
        validation_embeddings: the same for validation.
        codec: for a model of latents, the folder of the codec whose latents they are; None leaves the codec as it is
            made, without training.

    Returns:
        True in the first process, which has written the folder; the others have nothing more to do.

    Raises:
        UserError: if the data do not fit the model, the batch cannot be divided among the devices, or the loss
            diverges.
    """
    tune_allocator()
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    # Expected: the folder holds the checkpoint to resume from, batches come from memory without workers, and srun does
    # not start the processes.
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
                f"the {name} windows have {windows.window} samples at {windows.sample_rate} Hz, but the "
                f"model needs {model_config['window']} at {model_config['sample_rate']} Hz; rebuild the windows"
            )
        if not windows.labels and model_config.get("text", {}).get("kind") in LABELLED:
            raise UserError(
                f"the {name} windows are mixtures without labels, but a model of text.kind "
                f"{model_config['text']['kind']!r} is conditioned on labels; choose clap or none"
            )
        if target == STEMS and windows.labels != list(model_config["labels"]):
            raise UserError(
                f"the {name} windows have the stems {', '.join(windows.labels)}, but the model has "
                f"{', '.join(model_config['labels'])}; rebuild the windows"
            )
        channels = len(windows.labels) if target == STEMS else 1
        if (
            kind_of(model_config) != latent.KIND
            and model_config.get("unet", {}).get("in_channels", channels) != channels
        ):
            raise UserError(
                f"unet.in_channels is {model_config['unet']['in_channels']}, but a model of target {target!r} is "
                f"trained on {channels}; change one of them"
            )
        if (model_config.get("text", {}).get("kind") in CLAPS) != (embeddings is not None):
            raise UserError(
                "a model is trained on embeddings of its windows if and only if its text encoder is a CLAP "
                "(text.kind: clap or laion_clap); change one of them"
            )
        # Raises errors before the first step rather than at the first validation.
        Batches(windows, config, seed, target=target, embeddings=embeddings)
    torch.manual_seed(seed)
    if model_config.get("kind") != "clap":
        model_config = {**model_config, "level": level_of_windows(train_set)}
    # Of a CLAP that is not installed here, the prompts are enough.
    model = build_model(model_config, prompts=next((one.prompts for one in embedded if one and one.prompts), None))
    if config.initial is not None:
        _copy_weights(config.initial, model)
    if isinstance(model, latent.LatentDenoiser):
        if codec is not None:
            model.take_codec(load_codec(codec))
        crops, _ = train_set.random_crops(np.random.default_rng(seed), MEASURED)
        model.measure(torch.from_numpy(crops))
    text = getattr(model, "text", None)
    for embeddings in embedded:
        if embeddings is not None and isinstance(text, FrozenClapText) and embeddings.features != text.features:
            raise UserError(
                f"{embeddings.folder}: embeddings have {embeddings.features} dimensions, but text.features is "
                f"{text.features}; embed the windows with the same CLAP"
            )
    module = Training(model, config, train_set, validation_set, seed, (embedded[0], embedded[1]))
    work = Path(work)
    last = work / "last.ckpt"
    remove_partials(last)
    averages = work / "averages"
    if config.ema_power:
        for left in averages.glob(".*.partial.safetensors"):
            remove_partials(averages / f"{left.name.split('.')[1]}.safetensors")
        with atomic(averages / "config.json") as path:
            path.write_text(json.dumps(model_config, indent=2) + "\n")
    callbacks: list[Callback] = [
        ModelCheckpoint(
            dirpath=work,
            filename=last.stem,
            enable_version_counter=False,
            every_n_train_steps=config.checkpoint_every,
        ),
        _Averaging(averages),
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
        # Resume only from the work folder, even in a SLURM job.
        default_root_dir=work,
        **_processes(config.devices),
    )
    world = trainer.num_devices * trainer.num_nodes
    # Checked before other processes are started.
    Batches(train_set, config, seed, target=target, embeddings=embedded[0], world=world)
    resumed = last if last.exists() else None
    trainer.fit(module, ckpt_path=resumed, weights_only=True)
    if trainer.is_global_zero:
        logged = {name: float(value) for name, value in trainer.callback_metrics.items()}
        levels = {name: value for name, value in logged.items() if name.startswith(("mse_", "wiener_"))}
        chosen = _choose(module, averages) if config.ema_power else {}
        val_loss = logged.get("val_loss")
        if best.best_model_path:
            state = torch.load(best.best_model_path, map_location="cpu", weights_only=True)
            module.load_state_dict(state["state_dict"])
            val_loss = None if best.best_model_score is None else float(best.best_model_score)
        _require_finite(module.averaged, trainer.global_step, work)
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
            "val_loss": val_loss,
            "share_of_solos": train_set.solo_share(),
            **({"levels": levels} if levels else {}),
            **({"averages": chosen} if chosen else {}),
            "training": asdict(config),
            "data": json.loads((train_set.folder / "info.json").read_text()),
            **({} if embedded[0] is None else {"embeddings": embedded[0].info}),
        }
        extra = {"provenance.json": json.dumps(provenance, indent=2) + "\n"}
        save_model(out, module.averaged, extra, dtype=getattr(torch, config.save_as))
    return bool(trainer.is_global_zero)


def _require_finite(model: TrainableModel, step: int, work: Path) -> None:
    """Refuse a model with a weight that is not finite, as in a run that was resumed after its loss became NaN.

    Raises:
        UserError: if there is such a weight.
    """
    for name, weight in model.state_dict().items():
        if weight.is_floating_point() and not bool(torch.isfinite(weight).all()):
            raise UserError(f"{name} is not finite after step {step}; remove {work} and train again with a lower lr")


@torch.no_grad()
def _choose(module: Training, folder: Path) -> dict[str, Any]:
    """Replace the plain average by the one with the lowest validation loss, and return the losses of all."""
    data = module.validation_data()
    batches = [data.batch(step) for step in range(module.config.validation_batches)]
    model = module.averaged.eval()
    device = next(model.parameters()).device
    batches = [{k: v.to(device) if isinstance(v, Tensor) else v for k, v in batch.items()} for batch in batches]

    def loss() -> float:
        return float(torch.stack([model.training_loss(batch).mean() for batch in batches]).mean())

    plain = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    losses = {"ema": loss()}
    best, found = plain, losses["ema"]
    for sigma_rel in LENGTHS:
        weights, _ = reconstruct(folder, sigma_rel)
        model.load_state_dict(weights, strict=False)
        losses[str(sigma_rel)] = here = loss()
        if here < found:
            best, found = weights, here
    model.load_state_dict(plain)
    model.load_state_dict(best, strict=False)
    return {"val_loss": losses, "chosen": min(losses, key=losses.__getitem__)}


def _copy_weights(folder: str, model: TrainableModel) -> None:
    """Start from the weights of another model with the same network, whatever data it was trained on."""
    given = load_model(folder)
    about_data = {"sample_rate", "window", "labels", "target", "level", "latent_std"}
    for part in ("kind", *(key for key in model.config if key not in about_data | {"kind"})):
        if _differ(given.config, model.config, part):
            raise UserError(
                f"training.initial: the model in {folder} has a different {part} from model.config; "
                "make them the same, or leave training.initial out"
            )
    model.load_state_dict(given.state_dict())


def _differ(one: Mapping[str, Any], other: Mapping[str, Any], part: str) -> bool:
    """Whether two models' configurations differ in a part. A setting that only one of them spells out is a default."""
    parts = [config.get(part, "diffusion" if part == "kind" else None) for config in (one, other)]
    if part == "unet" and None not in parts:
        parts = [asdict(UNetConfig(**settings)) for settings in parts]
    first, second = json.loads(json.dumps(parts))  # lists for tuples
    if isinstance(first, dict) and isinstance(second, dict):
        return any(first[key] != second[key] for key in first.keys() & second.keys())
    return bool(first != second)


def _hardware() -> str:
    if torch.cuda.is_available():
        return f"{torch.cuda.device_count()} x {torch.cuda.get_device_name()}"
    return f"{torch.cpu.get_capabilities().get('cpu_name', platform.processor())}, {torch.get_num_threads()} threads"
