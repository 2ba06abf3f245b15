"""Denoisers D(x, σ, z), built from networks; nothing else of a model is used by samplers and inference."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from gmsdi.level import known_level
from gmsdi.models.edm.conditioning import Conditioning
from gmsdi.models.edm.text import FrozenClapText, FrozenText, unique_bank
from gmsdi.models.folders import PROMPTS
from gmsdi.models.protocol import Waveform
from gmsdi.models.trainable import TrainableModel


class EDMDenoiser(nn.Module):
    """Karras et al. 2022 preconditioning around a raw network F (their Eq. 7 and Table 1).

    D(x, σ, z) = c_skip·x + c_out·F(c_in·x, c_noise, z), with everything but F in float32.

    Args:
        net: `F(x [N, C, T], c_noise [N], cond) -> [N, C, T]`.
        sigma_data: standard deviation of the training signals.
        autocast: the dtype that the network runs in, e.g. `torch.bfloat16`; None: no autocast.
    """

    autocast: torch.dtype | None

    def __init__(self, net: nn.Module, sigma_data: float, autocast: torch.dtype | None = None) -> None:
        super().__init__()
        self.net = net
        self.sigma_data = sigma_data
        self.autocast = autocast

    def forward(self, x: Tensor, sigma: Tensor, cond: Any = None) -> Tensor:
        s = sigma.reshape(-1, 1, 1)
        total = (s**2 + self.sigma_data**2).sqrt()
        c_skip = self.sigma_data**2 / total**2
        c_out = s * self.sigma_data / total
        with torch.autocast(x.device.type, dtype=self.autocast, enabled=self.autocast is not None):
            raw = self.net(x / total, sigma.log() / 4, cond)
        return c_skip * x + c_out * raw.to(x.dtype)

    def loss(self, clean: Tensor, noise: Tensor, sigma: Tensor, cond: Any = None) -> Tensor:
        """Weighted denoising loss of each row, `[N]` (Karras et al. 2022, Eq. 2, with λ(σ) of Table 1)."""
        weight = (sigma**2 + self.sigma_data**2) / (sigma * self.sigma_data) ** 2
        denoised = self(clean + sigma.reshape(-1, 1, 1) * noise, sigma, cond)
        return weight * (denoised - clean).square().mean(dim=(1, 2))


class TextDenoiser(EDMDenoiser, TrainableModel):
    """An EDM denoiser with its own text encoder: a `gmsdi.models.protocol.Model` of waveforms.

    Attributes:
        text: the encoder; `text(texts) -> Conditioning`.
        config: the content of the model's `config.json`.
    """

    ends = ("net.patch.", "net.unpatch.", "net.to_time.")
    sigma_range = (0.0, math.inf)

    def __init__(self, net: nn.Module, text: nn.Module, sigma_data: float, config: dict[str, Any]) -> None:
        super().__init__(net, sigma_data)
        self.text = text
        self.config = config

    @property
    def sample_rate(self) -> int:
        """Sample rate in Hz."""
        return int(self.config["sample_rate"])

    @property
    def window(self) -> int:
        """Length of the training windows, in samples."""
        return int(self.config["window"])

    @property
    def channels(self) -> int:
        """Number of audio channels."""
        return int(self.config.get("unet", {}).get("in_channels", 1))

    @property
    def labels(self) -> list[str]:
        """Labels of the stems that the model was trained with, in order."""
        return list(self.config.get("labels") or [])

    @property
    def space(self) -> Waveform:
        """Space of the model's states."""
        return Waveform(self.channels)

    @property
    def level(self) -> float | None:
        """Level of the training mixtures, see `gmsdi.level`."""
        return known_level(self.config)

    @property
    def presets(self) -> Any:
        """Of its own, see `gmsdi.presets`."""
        return self.config.get("presets")

    @property
    def device(self) -> torch.device:
        """Device that the weights are on."""
        return next(self.parameters()).device

    def embed(self, texts: Sequence[str | None]) -> Conditioning:
        """Embed the prompts; None is the learned unconditional embedding z*."""
        return self.text(texts)

    def denoise(self, x: Tensor, sigma: Tensor, embeddings: Any) -> Tensor:
        """D(x, σ, z), `[N, C, T]`."""
        return self(x, sigma, embeddings)

    def write_beside(self, folder: Path) -> None:
        """Write the embeddings of the prompts, if the text encoder is frozen."""
        if isinstance(self.text, FrozenText):
            self.text.write_prompts(folder / PROMPTS, self.config["labels"])
            (folder / PROMPTS).chmod(0o644)

    def training_loss(self, batch: Mapping[str, Any]) -> Tensor:
        """The denoising loss of each row, `[n]`, conditioned on its text or on the embedding of its own audio."""
        if "embeddings" in batch:
            assert isinstance(self.text, FrozenClapText)
            cond = self.text.of_audio(batch["embeddings"], batch["dropped"])
        else:
            cond = unique_bank(self.text, batch["texts"])
        return self.loss(batch["clean"], batch["noise"], batch["sigma"], cond)
