"""A model as Lightning trains it: its steps, its averaged copies and its optimiser."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any, cast

import torch
from lightning import LightningModule
from torch import Tensor, nn
from torch.utils.data import DataLoader

from gmsdi.data.windows import WindowSet
from gmsdi.io.device import resolve_precision
from gmsdi.metrics.denoising import LEVELS, oracle_wiener
from gmsdi.models.checkpoint import target_of
from gmsdi.models.clap.windows import WindowEmbeddings
from gmsdi.models.edm import latent
from gmsdi.models.edm.denoiser import EDMDenoiser
from gmsdi.models.trainable import TrainableModel
from gmsdi.training.averages import RunningAverage, exponential_rate, power_rate
from gmsdi.training.batches import Batches
from gmsdi.training.config import TrainingConfig
from gmsdi.training.optimizers import Muon, divided


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
        self.ema = RunningAverage(model, exponential_rate(config.ema))
        self.powers: nn.ModuleList | None = None
        if config.ema_power:
            self.powers = nn.ModuleList(RunningAverage(model, power_rate(sigma_rel)) for sigma_rel in config.ema_power)
        self.noisy = isinstance(model, EDMDenoiser)
        self.uncertainty = Uncertainty() if config.uncertainty and self.noisy else None
        self.train_windows, self.validation_windows = train, validation

    def setup(self, stage: str) -> None:
        precision = resolve_precision(self.config.precision, self.device)
        self.model.autocast = self.averaged.autocast = precision
        if self.config.compile:
            self.model.get_submodule("net").compile()

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
        return self._loader(batches)

    def val_dataloader(self) -> DataLoader[Any]:
        return self._loader(self.validation_data(rank=self.trainer.global_rank, world=self.trainer.world_size))

    def _loader(self, batches: Batches) -> DataLoader[Any]:
        workers = self.config.workers
        # Forked, because a batch needs the trainer's step; a worker computes on the CPU only, and with NumPy.
        context = "fork" if workers else None
        pinned = self.device.type == "cuda"
        return DataLoader(
            batches, batch_size=None, num_workers=workers, multiprocessing_context=context, pin_memory=pinned
        )

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

    def running_averages(self) -> list[RunningAverage]:
        """The exponential average and those by power functions."""
        return [self.ema, *cast(list[RunningAverage], self.powers or [])]

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
        first = self.trainer.global_step <= self.config.validate_every
        found = {}
        with torch.no_grad():
            for sigma in LEVELS:
                batch["sigma"] = torch.full_like(batch["sigma"], sigma)
                loss = self.averaged.training_loss(batch).mean()
                # The loss is weighted by (σ² + σ_data²)/(σ·σ_data)².
                found[f"mse_{sigma:g}"] = float(loss) / (1 + (sigma / model.sigma_data) ** 2)
                if first and not isinstance(model, latent.LatentDenoiser):
                    found[f"wiener_{sigma:g}"] = float(oracle_wiener(batch["clean"], sigma, batch["noise"]).mean())
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
