"""Networks of other parameterisations as denoisers D(x, σ, z) of signals x = x₀ + σ·ε, of any rank.

All take a network `net(x [N, ...], t [N], embeddings)` and the properties of a `gmsdi.models.protocol.Model`:

    model = from_v(net, embed=embed, sample_rate=44100, window=2**21, channels=2, space=Latent(...))

`embed(texts)` returns `Embeddings`; without it the network is unconditional.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias, TypedDict, Unpack

import torch
from torch import Tensor

from gmsdi.models.protocol import Space, Waveform

Network: TypeAlias = Callable[[Tensor, Tensor, Any], Tensor]
Embed: TypeAlias = Callable[[Sequence[str | None]], Any]


class NoEmbeddings:
    """The embeddings of an unconditional network."""

    def select(self, index: Tensor) -> None:
        """None, whatever the prompts."""


def unconditional(texts: Sequence[str | None]) -> NoEmbeddings:
    """`embed` of a network without text."""
    return NoEmbeddings()


class Properties(TypedDict, total=False):
    """The properties of a model that its network does not have itself, see `Adapted`."""

    embed: Embed
    sample_rate: int
    window: int
    channels: int
    labels: Sequence[str]
    sigma_range: tuple[float, float]
    sigma_data: float
    space: Space
    level: float | None
    presets: Mapping[str, Any] | None
    device: torch.device | str


@dataclass(frozen=True)
class Adapted:
    """A `Model` made from its parts; calling it computes D.

    Attributes:
        denoiser: `D(x [N, ...], sigma [N], embeddings)`.
        embed: texts to `Embeddings`.
        sample_rate: sample rate of the audio in Hz.
        window: length of the training windows, in samples.
        channels: number of audio channels.
        labels: stem labels that it was trained with; empty for a model of free text.
        sigma_range: noise levels that it can denoise.
        sigma_data: standard deviation of its clean states; default noise levels are relative to it.
        space: the space of its states; by default waveforms with `channels` channels.
        level: level of its training mixtures in dB relative to full scale (`gmsdi.level`), if known.
        presets: its own presets, see `gmsdi.presets`.
        device: the device of the network.
    """

    denoiser: Network
    embed: Embed = unconditional
    sample_rate: int = 44100
    window: int = 2**18
    channels: int = 1
    labels: Sequence[str] = ()
    sigma_range: tuple[float, float] = (0.0, math.inf)
    sigma_data: float = 0.1
    space: Space = field(default=None)  # type: ignore[assignment]  # filled in below
    level: float | None = None
    presets: Mapping[str, Any] | None = None
    device: torch.device | str = "cpu"

    def __post_init__(self) -> None:
        if self.space is None:
            object.__setattr__(self, "space", Waveform(self.channels))

    def denoise(self, x: Tensor, sigma: Tensor, embeddings: Any) -> Tensor:
        """D(x, σ, z), `[N, ...]`."""
        return self.denoiser(x, sigma, embeddings)

    __call__ = denoise


def from_eps(net: Network, to_time: Callable[[Tensor], Tensor], **properties: Unpack[Properties]) -> Adapted:
    """Adapt a variance-preserving network that predicts the noise ε.

        D = x − σ·ε(α·x, t),   α = 1/√(1 + σ²)

    Args:
        net: `ε(α·x [N, ...], t [N], embeddings)`.
        to_time: maps σ `[N]` to the network's own time coordinate.
        properties: see `Adapted`.
    """

    def denoise(x: Tensor, sigma: Tensor, embeddings: Any) -> Tensor:
        s = _like(sigma, x)
        return x - s * net(x / (1 + s**2).sqrt(), to_time(sigma), embeddings)

    return Adapted(denoise, **properties)


def from_v(
    net: Network,
    to_time: Callable[[Tensor], Tensor] = lambda sigma: sigma.atan() * (2 / math.pi),
    **properties: Unpack[Properties],
) -> Adapted:
    """Adapt a variance-preserving network that predicts v = α·ε − s·x₀ (Salimans and Ho 2022).

        D = α·(α·x) − s·v(α·x, t),   α = 1/√(1 + σ²),   s = σ·α

    Args:
        net: `v(α·x [N, ...], t [N], embeddings)`.
        to_time: maps σ `[N]` to the network's own time; the default is t in [0, 1] with α = cos(πt/2).
        properties: see `Adapted`.
    """

    def denoise(x: Tensor, sigma: Tensor, embeddings: Any) -> Tensor:
        s = _like(sigma, x)
        alpha = (1 + s**2).rsqrt()
        return alpha**2 * x - s * alpha * net(alpha * x, to_time(sigma), embeddings)

    return Adapted(denoise, **properties)


def from_flow(
    net: Network,
    to_time: Callable[[Tensor], Tensor] = lambda sigma: sigma / (1 + sigma),
    **properties: Unpack[Properties],
) -> Adapted:
    """Adapt a rectified flow (Liu et al. 2023) from data to noise, x_t = (1 − t)·x₀ + t·ε, that predicts v = ε − x₀.

        D = x_t − t·v(x_t, t),   x_t = x/(1 + σ),   t = σ/(1 + σ)

    For a network whose velocity points from noise to data, pass its negative.

    Args:
        net: `v(x_t [N, ...], t [N], embeddings)`.
        to_time: maps σ `[N]` to the network's own time; the default is t itself.
        properties: see `Adapted`.
    """

    def denoise(x: Tensor, sigma: Tensor, embeddings: Any) -> Tensor:
        s = _like(sigma, x)
        x_t = x / (1 + s)
        return x_t - s / (1 + s) * net(x_t, to_time(sigma), embeddings)

    return Adapted(denoise, **properties)


def _like(sigma: Tensor, x: Tensor) -> Tensor:
    """Reshape σ `[N]` to broadcast with x `[N, ...]`."""
    return sigma.reshape(-1, *[1] * (x.ndim - 1))
