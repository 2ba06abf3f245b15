"""How to train: the settings, which need no network to be read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from gmsdi.errors import UserError


@dataclass(frozen=True)
class TrainingConfig:
    """How to train. The noise level is log-normal, as in Karras et al. 2022.

    Attributes:
        steps: optimiser steps.
        batch: windows of the global batch, over all devices.
        optimizer: "adamw", or "muon" for matrices and AdamW for the rest, see `gmsdi.training.optimizers.Muon`.
        lr: peak learning rate, of both optimisers.
        betas: AdamW's moment decays.
        momentum: of Muon.
        muon_every: steps from one orthogonalisation of a matrix to the next; 1 is Muon as published.
        weight_decay: weight decay of both optimisers.
        warmup: steps of linear warm-up.
        decay: the last fraction of the steps, over which the rate falls linearly to zero.
        ema: decay of the averaged weights, which are the ones that are saved.
        ema_power: σ_rel of further averages by power functions of time, see `gmsdi.training.averages`, such as [0.05,
            0.1]. Their snapshots give averages of any length; the one with the least validation loss is saved, if it is
            less than that of `ema`.
        ema_snapshots: how many snapshots are kept over the training, in float16, in the folder `averages` in the work
            folder.
        clip: largest gradient norm; None does not limit it.
        p_mean, p_std: mean and standard deviation of ln σ.
        p_extra: more weight on a range of σ: a `share` of the windows has a σ whose logarithm is uniform from `low` to
            `high`. Validation is without.
        uncertainty: learn how uncertain the loss is at each σ, and weigh by that, see `Uncertainty`. Only for models of
            noisy signals, as p_mean is.
        p_drop: probability that a prompt is replaced by z*.
        p_any: for a model of one stem, the probability that a window is drawn from all those in which something sounds,
            the stem or not, and not only from those in which the stem does; so the model learns of silence too.
        gain_db: half-width of the random gain.
        polarity: flip the sign of half of the windows.
        validate_every: steps between validations, each of `validation_batches` fixed batches.
        level_windows: validation windows on which a validation also measures MSE/σ² at the noise levels of
            `gmsdi.metrics.denoising.LEVELS`, and, once, that of a Wiener filter which knows the true power; 0 is none.
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
    optimizer: Literal["adamw", "muon"] = "adamw"
    lr: float = 1e-3
    betas: tuple[float, float] = (0.9, 0.99)
    momentum: float = 0.95
    muon_every: int = 1
    weight_decay: float = 0.01
    warmup: int = 300
    decay: float = 0.4
    ema: float = 0.999
    ema_power: Sequence[float] | None = None
    ema_snapshots: int = 12
    clip: float | None = 1.0
    p_mean: float = -3.0
    p_std: float = 1.4
    p_extra: Mapping[str, float] | None = None
    uncertainty: bool = False
    p_drop: float = 0.1
    p_any: float = 0.1
    gain_db: float = 3.0
    polarity: bool = True
    validate_every: int = 500
    validation_batches: int = 8
    level_windows: int = 0
    keep: Literal["last", "best"] = "last"
    checkpoint_every: int = 250
    precision: str = "auto"
    save_as: Literal["float32", "float16"] = "float32"
    initial: str | None = None
    devices: int | str = 1

    def __post_init__(self) -> None:
        if self.optimizer not in ("adamw", "muon"):
            raise UserError(f"training.optimizer is {self.optimizer!r}; choose adamw or muon")
        if (extra := self.p_extra) is not None:
            if set(extra) != {"share", "low", "high"}:
                raise UserError(f"training.p_extra has {', '.join(extra) or 'no keys'}; give share, low and high")
            if not (0 <= extra["share"] <= 1 and 0 < extra["low"] < extra["high"]):
                raise UserError("training.p_extra: share must be from 0 to 1, low above 0 and below high")
        if self.ema_power:
            from gmsdi.training.averages import exponent  # which needs torch
        for sigma_rel in self.ema_power or ():
            exponent(sigma_rel)
        for name in ("ema_snapshots", "muon_every"):
            if getattr(self, name) < 1:
                raise UserError(f"training.{name} is {getattr(self, name)}; it must be at least 1")

    def rate(self, step: int) -> float:
        """The learning rate of a step relative to its peak: warm-up, plateau, linear decay."""
        left = (self.steps - step) / max(1.0, self.decay * self.steps)
        return max(0.0, min(1.0, (step + 1) / max(1, self.warmup), left))
