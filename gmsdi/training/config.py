"""The training settings; they can be read without torch or a network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

from annotated_types import Len

from gmsdi.errors import UserError
from gmsdi.settings import About, As, Bounded, Count, Decay, Flag, Natural, NonNegative, Number, Positive, Share, check

LONGEST = 12**-0.5
"""σ_rel of the plain mean of all weights, the longest average by a power function of exponent 0 or more."""
Length = Annotated[float, Bounded(gt=0, le=LONGEST)]


@dataclass(frozen=True)
class ExtraWeight:
    """A range of σ that is drawn more often in training."""

    share: Annotated[Share, About("share of the windows")]
    low: Annotated[Positive, About("smallest sigma")]
    high: Annotated[Positive, About("largest sigma")]

    def __post_init__(self) -> None:
        if not self.low < self.high:
            raise UserError(f"low is {self.low}, which is not below high, {self.high}")


@dataclass(frozen=True)
class TrainingConfig:
    """How to train. The noise level is log-normal, as in Karras et al. 2022.

    `muon`: see `gmsdi.training.optimizers.Muon`; `ema_power`: see `gmsdi.training.averages`; `uncertainty`: see
    `gmsdi.training.module.Uncertainty`; `level_windows`: see `gmsdi.metrics.denoising`. `devices` may also be "auto":
    all GPUs, or the CPU. It is ignored if torchrun has started the processes.
    """

    steps: Annotated[Count, About("optimiser steps")]
    batch: Annotated[Count, About("windows per step, over all devices")] = 16
    optimizer: Annotated[
        Literal["adamw", "muon"],
        About("muon: Muon for matrices, AdamW for the rest; the learning rate has the same meaning for both"),
    ] = "adamw"
    lr: Annotated[NonNegative, About("peak learning rate")] = 1e-3
    betas: Annotated[tuple[float, float], As(Annotated[list[Number], Len(2, 2)]), About("moment decays of AdamW")] = (
        0.9,
        0.99,
    )
    momentum: Annotated[Decay, About("momentum of Muon")] = 0.95
    muon_every: Annotated[
        Count,
        About(
            "steps from one orthogonalisation of a matrix to the next, with the last result reused in between; 1 is "
            "Muon as published"
        ),
    ] = 1
    weight_decay: Annotated[NonNegative, About("weight decay of the optimiser")] = 0.01
    warmup: Annotated[Natural, About("steps of linear warm-up")] = 300
    decay: Annotated[Share, About("last fraction of the steps, over which the learning rate falls to zero")] = 0.4
    ema: Annotated[Decay, About("decay of the averaged weights, which are the saved ones")] = 0.999
    ema_power: Annotated[
        Annotated[Sequence[Length], Len(1)] | None,
        About(
            "lengths (sigma_rel) of further averages by power functions of time, such as [0.05, 0.1]; at the end, the "
            "average with the lowest validation loss is chosen from their snapshots; null: none"
        ),
    ] = None
    ema_snapshots: Annotated[
        Count, About("snapshots of these averages over the training, 2 bytes per weight and average each")
    ] = 12
    clip: Annotated[Positive | None, About("largest gradient norm; null: no limit")] = 1.0
    p_mean: Annotated[Number, About("mean of ln sigma")] = -3.0
    p_std: Annotated[Positive, About("standard deviation of ln sigma")] = 1.4
    p_extra: Annotated[
        Mapping[str, float] | None,
        As(ExtraWeight | None),
        About("a share of the windows whose ln sigma is drawn uniformly from a range instead; null: none"),
    ] = None
    uncertainty: Annotated[
        Flag, About("divide the loss at each noise level by its expected value, a learned function of sigma")
    ] = False
    p_drop: Annotated[Share, About("probability that a prompt is replaced by z*")] = 0.1
    p_any: Annotated[
        Share, About("for models of one stem: probability of drawing a window whether or not the stem sounds in it")
    ] = 0.1
    gain_db: Annotated[NonNegative, About("half-width of the random gain, in dB")] = 3.0
    polarity: Annotated[Flag, About("flip the sign of a random half of the windows")] = True
    validate_every: Annotated[Count, About("steps from one validation to the next")] = 500
    validation_batches: Annotated[Count, About("batches per validation, always the same")] = 8
    level_windows: Annotated[
        Natural, About("validation windows on which MSE/sigma^2 is measured at fixed noise levels; 0: none")
    ] = 0
    keep: Annotated[
        Literal["last", "best"],
        About(
            "which weights are saved: those of the last step, or of the validation with the lowest loss (not with "
            "ema_power, which chooses by itself)"
        ),
    ] = "last"
    checkpoint_every: Annotated[Count, About("steps from one checkpoint to the next")] = 250
    precision: Annotated[
        Literal["auto", "bf16", "float32"],
        About("dtype in which the network is trained; auto uses bf16 where the hardware is faster with it"),
    ] = "auto"
    save_as: Annotated[Literal["float32", "float16"], About("dtype of the saved weights")] = "float32"
    initial: Annotated[
        str | None, About("folder of a model with the same network to start from; null: fresh weights")
    ] = None
    workers: Annotated[
        Natural,
        About("processes of each device that prepare its batches; 0: the training's own, which is enough on a CPU"),
    ] = 0
    compile: Annotated[
        Flag,
        About("run the network through torch.compile: minutes before the first step, then shorter steps on a GPU"),
    ] = False
    devices: Annotated[
        int | str,
        As(Count),
        About("GPUs of one machine that share each batch; without a GPU, processes"),
    ] = 1

    def __post_init__(self) -> None:
        check(self, "training")
        if self.optimizer not in ("adamw", "muon"):
            raise UserError(f"training.optimizer is {self.optimizer!r}; choose adamw or muon")
        if isinstance(extra := self.p_extra, Mapping):
            if set(extra) != {"share", "low", "high"}:
                raise UserError(f"training.p_extra has {', '.join(extra) or 'no keys'}; give share, low and high")
            if not (0 <= extra["share"] <= 1 and 0 < extra["low"] < extra["high"]):
                raise UserError("training.p_extra: share must be from 0 to 1, and low above 0 and below high")
        for sigma_rel in self.ema_power or ():
            if not 0 < sigma_rel <= LONGEST:
                raise UserError(
                    f"training.ema_power has {sigma_rel}; a length must be above 0 and at most {LONGEST:.3f}"
                )
        if self.ema_power and self.keep == "best":
            raise UserError("training.keep: best and training.ema_power each choose the weights; set only one of them")

    def rate(self, step: int) -> float:
        """The learning rate of a step relative to its peak: warm-up, plateau, linear decay."""
        left = (self.steps - step) / max(1.0, self.decay * self.steps)
        return max(0.0, min(1.0, (step + 1) / max(1, self.warmup), left))
