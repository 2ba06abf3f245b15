"""Training of a model on mixtures and their labels, or on their stems, with Lightning.

Everything random in a step (the choice of crops, their augmentation, dropped prompts, noise levels and noise) is a
function of (seed, step, item) alone. A run that is killed and started again therefore continues exactly from its last
checkpoint, and the global batches are the same for any number of devices.
"""

from __future__ import annotations

import json
import logging
import multiprocessing
import platform
import time
import warnings
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning import Trainer
from lightning.pytorch.callbacks import Callback, ModelCheckpoint, TQDMProgressBar
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from torch import Tensor

from gmsdi import __version__
from gmsdi.data.windows import WindowSet
from gmsdi.errors import UserError
from gmsdi.io.allocator import tune_allocator
from gmsdi.io.files import atomic, remove_partials
from gmsdi.level import level_of_windows
from gmsdi.models.autoencoder import load_codec
from gmsdi.models.checkpoint import STEMS, build_model, load_model, save_model, target_of
from gmsdi.models.clap import CLAPS
from gmsdi.models.clap.windows import WindowEmbeddings
from gmsdi.models.edm import latent
from gmsdi.models.edm.denoiser import TextDenoiser
from gmsdi.models.edm.text import FrozenClapText
from gmsdi.models.folders import require_place
from gmsdi.models.settings import UNetConfig
from gmsdi.models.trainable import TrainableModel, kind_of
from gmsdi.training.averages import reconstruct
from gmsdi.training.batches import Batches
from gmsdi.training.callbacks import Averaging, FiniteLoss, LastCheckpoint, Losses, processes
from gmsdi.training.config import TrainingConfig
from gmsdi.training.module import Training

CHECKPOINT = "last.ckpt"
"""File of the work folder from which a training resumes."""
LABELLED = ("tiny", "t5")
"""Kinds of text encoders that are conditioned on the labels of mixtures."""
MEASURED = 64
"""Training windows on which the scale of latents is measured."""
LENGTHS = (0.03, 0.05, 0.075, 0.1, 0.15, 0.2)
"""σ_rel of the averages to choose from at the end of a training with `ema_power`."""


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
        codec: for a model of latents, the folder of its trained codec; None keeps the codec's initial weights.

    Returns:
        True in the first process, which has written the folder; the others have nothing more to do.

    Raises:
        UserError: if the data do not fit the model, the batch cannot be divided among the devices, `out` holds anything
            but a model, or the loss diverges.
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
    if config.workers and "fork" not in multiprocessing.get_all_start_methods():
        raise UserError("training.workers: this system cannot fork processes; leave it at 0")
    require_place(out)
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
        _require_fitting(model_config, name, windows, embeddings)
        # Raises errors before the first step rather than at the first validation.
        Batches(windows, config, seed, target=target, embeddings=embeddings)
    torch.manual_seed(seed)
    if model_config.get("kind") != "clap":
        model_config = {**model_config, "level": level_of_windows(train_set)}
    # If the CLAP is not installed here, the stored embeddings of its prompts are enough.
    model = build_model(model_config, prompts=next((one.prompts for one in embedded if one and one.prompts), None))
    if config.initial is not None:
        _copy_weights(config.initial, model)
    if isinstance(model, latent.LatentDenoiser):
        if codec is not None:
            model.take_codec(load_codec(codec))
        crops, _ = train_set.random_crops(np.random.default_rng(seed), MEASURED)
        model.measure(torch.from_numpy(crops))
    text = model.text if isinstance(model, TextDenoiser) else None
    for embeddings in embedded:
        if embeddings is not None and isinstance(text, FrozenClapText) and embeddings.features != text.features:
            raise UserError(
                f"{embeddings.folder}: embeddings have {embeddings.features} dimensions, but text.features is "
                f"{text.features}; embed the windows with the same CLAP"
            )
    module = Training(model, config, train_set, validation_set, seed, (embedded[0], embedded[1]))
    work = Path(work)
    last = work / CHECKPOINT
    remove_partials(last)
    averages = work / "averages"
    if config.ema_power:
        for left in averages.glob(".*.partial.safetensors"):
            remove_partials(averages / f"{left.name.split('.')[1]}.safetensors")
        with atomic(averages / "config.json") as path:
            path.write_text(json.dumps(model_config, indent=2) + "\n")
    validate_every = min(config.validate_every, config.steps)
    table = CSVLogger(work, name="csv", version="")
    losses = Losses(table)
    callbacks: list[Callback] = [Averaging(averages), FiniteLoss(), losses]
    best = ModelCheckpoint(
        dirpath=work,
        filename="best",
        monitor="val_loss",
        enable_version_counter=False,
        save_on_train_epoch_end=False,
    )
    if config.keep == "best":
        callbacks.append(best)
    # After `best`, so that it contains which validation is the best one so far.
    callbacks.append(LastCheckpoint(last, config.checkpoint_every, validate_every))
    if progress:
        callbacks.append(TQDMProgressBar(refresh_rate=10))
    trainer = Trainer(
        accelerator="auto",
        max_steps=config.steps,
        max_epochs=-1,
        limit_train_batches=validate_every,
        limit_val_batches=config.validation_batches,
        num_sanity_val_steps=0,
        gradient_clip_val=config.clip,
        log_every_n_steps=min(20, validate_every),
        logger=[table, TensorBoardLogger(work, name="tensorboard", version="")],
        callbacks=callbacks,
        enable_progress_bar=progress,
        enable_model_summary=False,
        use_distributed_sampler=False,
        # Resume only from the work folder, even in a SLURM job.
        default_root_dir=work,
        **processes(config.devices),
    )
    world = trainer.num_devices * trainer.num_nodes
    # Checked before other processes are started.
    Batches(train_set, config, seed, target=target, embeddings=embedded[0], world=world)
    resumed = last if last.exists() else None
    trainer.fit(module, ckpt_path=resumed, weights_only=True)
    if trainer.is_global_zero:
        logged = losses.latest
        levels = {name: value for name, value in logged.items() if name.startswith(("mse_", "wiener_"))}
        chosen = _choose(module, averages) if config.ema_power else {}
        val_loss = chosen["val_loss"][chosen["chosen"]] if chosen else logged.get("val_loss")
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


def _require_fitting(
    model_config: Mapping[str, Any], name: str, windows: WindowSet, embeddings: WindowEmbeddings | None
) -> None:
    """Refuse windows and embeddings that a model of this configuration cannot be trained on.

    Raises:
        UserError: if they do not fit.
    """
    target = target_of(model_config)
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
    if kind_of(model_config) != latent.KIND and model_config.get("unet", {}).get("in_channels", channels) != channels:
        raise UserError(
            f"unet.in_channels is {model_config['unet']['in_channels']}, but a model of target {target!r} is "
            f"trained on {channels}; change one of them"
        )
    if (model_config.get("text", {}).get("kind") in CLAPS) != (embeddings is not None):
        raise UserError(
            "a model is trained on embeddings of its windows if and only if its text encoder is a CLAP "
            "(text.kind: clap or laion_clap); change one of them"
        )


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
    """Whether two models' configurations differ in a part. Settings that only one of them contains are not compared."""
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
