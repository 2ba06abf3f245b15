"""From networks to denoisers D(x, σ, z), the only thing that samplers and inference see of a model."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from gmsdi.models.edm.conditioning import Conditioning
from gmsdi.models.edm.text import FrozenClapText, unique_bank
from gmsdi.models.trainable import TrainableModel


class Denoiser(Protocol):
    """`D(x, σ, z)`, the expectation of the clean signal given the noisy one.

    `x` is `[N, C, T]` with noise of standard deviation `sigma[n]` in row n, `cond` a batch of N embeddings; the result
    is `[N, C, T]`. The score of the paper's Eq. 1 is (D(x, σ, z) − x)/σ².
    """

    def __call__(self, x: Tensor, sigma: Tensor, cond: Any) -> Tensor: ...


class EDMDenoiser(nn.Module):
    """Karras et al. 2022 preconditioning around a raw network F (their Eq. 7 and Table 1).

    D(x, σ, z) = c_skip·x + c_out·F(c_in·x, c_noise, z), all but F in float32.

    Args:
        net: `F(x [N, C, T], c_noise [N], cond) -> [N, C, T]`.
        sigma_data: standard deviation of the training signals.
        autocast: the type in which the network runs, e.g. `torch.bfloat16`; None leaves it as it is.
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
        """Weighted denoising loss of each row, `[N]` (Karras et al. 2022, Eq. 2 and λ(σ) of Table 1)."""
        weight = (sigma**2 + self.sigma_data**2) / (sigma * self.sigma_data) ** 2
        denoised = self(clean + sigma.reshape(-1, 1, 1) * noise, sigma, cond)
        return weight * (denoised - clean).square().mean(dim=(1, 2))


class TextDenoiser(EDMDenoiser, TrainableModel):
    """An EDM denoiser that brings its own text encoder.

    Attributes:
        text: the encoder; `text(texts) -> Conditioning`.
        config: what the model's `config.json` holds.
    """

    ends = ("net.patch.", "net.unpatch.", "net.to_time.")

    def __init__(self, net: nn.Module, text: nn.Module, sigma_data: float, config: dict[str, Any]) -> None:
        super().__init__(net, sigma_data)
        self.text = text
        self.config = config

    def encode(self, texts: Sequence[str | None]) -> Conditioning:
        """Embed the prompts; None is the learned unconditional embedding z*."""
        return self.text(texts)

    def training_loss(self, batch: Mapping[str, Any]) -> Tensor:
        """The denoising loss of each row, `[n]`, given its text or the embedding of its own audio."""
        if "embeddings" in batch:
            assert isinstance(self.text, FrozenClapText)
            cond = self.text.of_audio(batch["embeddings"], batch["dropped"])
        else:
            cond = unique_bank(self.text, batch["texts"])
        return self.loss(batch["clean"], batch["noise"], batch["sigma"], cond)


def from_eps(net: Callable[[Tensor, Tensor, Any], Tensor], to_time: Callable[[Tensor], Tensor]) -> Denoiser:
    """Adapt a variance-preserving network that predicts the noise ε.

    With α = 1/√(1+σ²), the network sees α·x and D = x − σ·ε.

    Args:
        net: `ε(αx [N, C, T], t [N], cond)`.
        to_time: maps σ `[N]` to the network's own time coordinate.
    """

    def denoise(x: Tensor, sigma: Tensor, cond: Any) -> Tensor:
        s = sigma.reshape(-1, 1, 1)
        return x - s * net(x / (1 + s**2).sqrt(), to_time(sigma), cond)

    return denoise


def from_v(
    net: Callable[[Tensor, Tensor, Any], Tensor],
    to_time: Callable[[Tensor], Tensor] = lambda sigma: sigma.atan() * (2 / math.pi),
) -> Denoiser:
    """Adapt a variance-preserving network that predicts v = α·ε − s·x₀ (Salimans and Ho 2022).

    With α = 1/√(1+σ²) and s = σ·α, the network sees αx and D = α·(αx) − s·v.

    Args:
        net: `v(αx [N, C, T], t [N], cond)`.
        to_time: maps σ `[N]` to the network's own time; the default is t in [0, 1] with α = cos(πt/2).
    """

    def denoise(x: Tensor, sigma: Tensor, cond: Any) -> Tensor:
        s = sigma.reshape(-1, 1, 1)
        alpha = (1 + s**2).rsqrt()
        return alpha**2 * x - s * alpha * net(alpha * x, to_time(sigma), cond)

    return denoise
