"""What happens around a step: averaging, checks, losses, checkpoints; and the processes of a training."""

from __future__ import annotations

import ctypes
import math
import os
import platform
import signal
from pathlib import Path
from typing import Any, cast

import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback, Checkpoint
from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.plugins import TorchCheckpointIO
from lightning.pytorch.plugins.environments import LightningEnvironment, TorchElasticEnvironment

from gmsdi.errors import UserError
from gmsdi.io.files import atomic
from gmsdi.training.averages import RunningAverage, save_snapshot
from gmsdi.training.module import Training


class Averaging(Callback):
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
        config, step = pl_module.config, trainer.global_step
        for average in pl_module.running_averages():
            average.update(pl_module.model, step)
        if pl_module.powers is None:
            return
        due = step % math.ceil(config.steps / config.ema_snapshots) == 0 or step == config.steps
        if due and trainer.is_global_zero:
            trained = {name for name, parameter in pl_module.model.named_parameters() if parameter.requires_grad}
            averages = {
                sigma_rel: {n: p for n, p in cast(RunningAverage, power).module.named_parameters() if n in trained}
                for sigma_rel, power in zip(config.ema_power or (), pl_module.powers, strict=True)
            }
            save_snapshot(self.folder, step, averages)


class FiniteLoss(Callback):
    """Stops a run whose loss is not finite. Checks once per logging interval, to avoid device syncs, and at the end."""

    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
        if trainer.global_step % trainer.log_every_n_steps == 0:  # type: ignore[attr-defined]
            self.on_train_end(trainer)

    def on_train_end(self, trainer: Trainer, *_: Any) -> None:
        loss = trainer.callback_metrics.get("train_loss")
        if loss is not None and not bool(torch.isfinite(loss)):
            raise UserError(f"the loss is {loss.item()} at step {trainer.global_step}; lower training.lr")


class Losses(Callback):
    """Keeps the table of losses in the checkpoints, so that a resumed training has the whole of it.

    `CSVLogger` deletes the table of an earlier run, which may also go on beyond the checkpoint or end before it. The
    rows are those that Lightning logs.

    Args:
        table: the table of this run; the rows of the checkpoint are written there first.
    """

    def __init__(self, table: CSVLogger) -> None:
        self.table = table
        self.rows: list[dict[str, float]] = []

    @property
    def latest(self) -> dict[str, float]:
        """The last value in each column."""
        return {name: value for row in self.rows for name, value in row.items()}

    def state_dict(self) -> dict[str, Any]:
        return {"rows": self.rows}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.rows = state_dict["rows"]

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        for row in self.rows:
            self.table.log_metrics({**row}, step=int(row["step"]))
        if self.rows:
            self.table.save()

    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
        if trainer.global_step % trainer.log_every_n_steps == 0:  # type: ignore[attr-defined]
            self._add(trainer, {"train_loss"})

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        # Metrics that were not measured this time still have their last value.
        once = {name for name in self.latest if name.startswith("wiener_")}
        self._add(trainer, trainer.callback_metrics.keys() - once - {"train_loss"})

    def _add(self, trainer: Trainer, names: set[str]) -> None:
        values = {name: float(value) for name, value in trainer.callback_metrics.items() if name in names}
        self.rows.append({"epoch": trainer.current_epoch, "step": trainer.global_step - 1, **values})


class LastCheckpoint(Checkpoint):
    """Writes the checkpoint from which a training resumes.

    `ModelCheckpoint` would write that of a step with a validation before the validation, which a resumed training then
    leaves out.

    Args:
        path: the checkpoint's file.
        every: steps from one checkpoint to the next.
        validate_every: steps from one validation to the next.
    """

    def __init__(self, path: Path, every: int, validate_every: int) -> None:
        self.path, self.every, self.validate_every = path, every, validate_every

    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
        if trainer.global_step % self.validate_every:
            self._save(trainer)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._save(trainer)

    def _save(self, trainer: Trainer) -> None:
        if trainer.global_step % self.every == 0:
            trainer.save_checkpoint(self.path)


class _Checkpoints(TorchCheckpointIO):
    """Writes checkpoints beside their final place, so that a killed run leaves the last complete one.

    Lightning writes them in the system's temporary folder; moving them to another file system is then not atomic.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:
        with atomic(path) as temporary:
            torch.save(checkpoint, temporary)


def processes(devices: int | str) -> dict[str, Any]:
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
