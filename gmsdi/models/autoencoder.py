"""The models of kind "codec": a small autoencoder on whose latents a diffusion model can be trained.

Encoder and decoder are each a linear part and a network that corrects it, both at the rate of frames:

    E(x) = A·x + f(x),   Dec(z) = B·z + g(z)

A and B are strided convolutions. They are initialised as a modified discrete cosine transform that keeps the lowest
bands, and f and g as zero, so that training starts from a codec that cuts off high frequencies. Neither f nor g has
biases or normalisation, and both are piecewise linear: scaling a signal scales its latents by the same factor.

The usual autoencoder for latent diffusion of audio is Stable Audio's Oobleck (Evans et al. 2024), whose outer layers
work at the sample rate. At 8 kHz on a CPU, one with a twelfth of the parameters costs three times as much as this one.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gmsdi.errors import UserError
from gmsdi.models.folders import described, fill, read_config
from gmsdi.models.settings import CodecConfig
from gmsdi.models.trainable import TrainableModel, builder, kind_of, register_kind

KIND = "codec"
FRAMES = 128
"""Frames of each window that are used in training: by default a network sees 13 at a time."""
QUIET = 1e-8
"""Added to the power of a signal by which an error is divided."""


class Codec(TrainableModel):
    """An autoencoder of signals of one channel.

    Args:
        settings: settings of the networks.
        config: content of the model's `config.json`, which includes the settings.

    Attributes:
        settings: as given.
        hop: samples per frame.
    """

    def __init__(self, settings: CodecConfig, config: dict[str, Any]) -> None:
        super().__init__()
        self.settings, self.config, self.autocast = settings, config, None
        self.hop = hop = settings.hop
        framing: dict[str, Any] = {"kernel_size": 2 * hop, "stride": hop, "padding": hop // 2, "bias": False}
        bands = _cosines(hop)[: settings.latents].unsqueeze(1)
        self.analysis = nn.Conv1d(1, settings.latents, **framing)
        self.synthesis = nn.ConvTranspose1d(settings.latents, 1, **framing)
        with torch.no_grad():
            self.analysis.weight.copy_(bands)
            self.synthesis.weight.copy_(bands)
        self.encoder: nn.Module | None = None
        self.decoder: nn.Module | None = None
        if settings.blocks:
            width, kernel = settings.width, settings.kernel
            blocks = [[_Block(width, kernel) for _ in range(settings.blocks)] for _ in range(2)]
            last, expand = nn.Conv1d(width, settings.latents, 1, bias=False), nn.ConvTranspose1d(width, 1, **framing)
            nn.init.zeros_(last.weight)
            nn.init.zeros_(expand.weight)
            first = nn.Conv1d(settings.latents, width, kernel, padding=kernel // 2, bias=False)
            self.encoder = nn.Sequential(nn.Conv1d(1, width, **framing), *blocks[0], last)
            self.decoder = nn.Sequential(first, *blocks[1], expand)

    @property
    def ends(self) -> tuple[str, ...]:  # type: ignore[override]
        """See `TrainableModel`."""
        last = self.settings.blocks + 1
        return ("analysis.", "synthesis.", "encoder.0.", f"encoder.{last}.", "decoder.0.", f"decoder.{last}.")

    @property
    def linear(self) -> bool:
        """Whether the codec is linear by construction, so that the latents of a sum are the sum of the latents."""
        return self.encoder is None

    def shape(self, samples: int) -> tuple[int, int]:
        """The shape of the latents of a signal with this number of samples, a multiple of `hop`."""
        return self.settings.latents, samples // self.hop

    def encode(self, audio: Tensor) -> Tensor:
        """E: `[N, 1, T]` to `[N, latents, T / hop]`."""
        return self._corrected(self.analysis, self.encoder, audio)

    def decode(self, latents: Tensor) -> Tensor:
        """Dec: `[N, latents, T / hop]` to `[N, 1, T]`."""
        return self._corrected(self.synthesis, self.decoder, latents)

    def _corrected(self, linear: nn.Module, network: nn.Module | None, x: Tensor) -> Tensor:
        result: Tensor = linear(x)
        if network is None:
            return result
        with torch.autocast(x.device.type, dtype=self.autocast, enabled=self.autocast is not None):
            return result + network(x).to(result.dtype)

    def training_loss(self, batch: Mapping[str, Any]) -> Tensor:
        """The reconstruction error of each window, `[n]`, plus its additivity error weighted by `additive`.

        Every window x_i is mixed with the one before it, with gains a_i and b_i from −1 to 1, and

            ‖E(a·x_i + b·x_{i−1}) − a·E(x_i) − b·E(x_{i−1})‖²,   ‖Dec(a·z_i + b·z_{i−1}) − a·Dec(z_i) − b·Dec(z_{i−1})‖²

        are taken relative to the norms of these sums. All errors are relative, so that soft windows count as much as
        loud ones.
        """
        x = batch["clean"][..., : FRAMES * self.hop]
        z = self.encode(x)
        y = self.decode(z)
        loss = relative_error(y, x) + self.settings.spectral * spectral_error(y, x)
        if not self.settings.additive:
            return loss
        a, b = (2 * batch["draws"][:, :2] - 1).to(x.dtype).split(1, dim=1)

        def added(signals: Tensor) -> Tensor:
            return a.unsqueeze(-1) * signals + b.unsqueeze(-1) * signals.roll(1, dims=0)

        latents = added(z)
        errors = relative_error(self.encode(added(x)), latents) + relative_error(self.decode(latents), added(y))
        return loss + self.settings.additive * errors


class _Block(nn.Module):
    """A residual block on frames `[N, width, L]`."""

    def __init__(self, width: int, kernel: int) -> None:
        super().__init__()
        self.wide = nn.Conv1d(width, 2 * width, kernel, padding=kernel // 2, bias=False)
        self.back = nn.Conv1d(2 * width, width, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.back(F.leaky_relu(self.wide(x), 0.2))


def relative_error(found: Tensor, wanted: Tensor) -> Tensor:
    """‖found − wanted‖²/‖wanted‖² of each item, `[N, ...]` to `[N]`."""
    power = wanted.flatten(1).square().mean(dim=1) + QUIET
    return (found - wanted).flatten(1).square().mean(dim=1) / power


def spectral_error(found: Tensor, wanted: Tensor) -> Tensor:
    """Difference of spectrogram magnitudes relative to their sum, the mean over two window sizes: `[N, 1, T]` to `[N]`.

    Most of the energy of music is at low frequencies; this error preserves the high ones, which a squared one neglects.
    """
    errors = []
    for size in (128, 512):
        window = torch.hann_window(size, device=found.device, dtype=found.dtype)
        both = torch.cat([found, wanted]).squeeze(1)
        cells = torch.stft(both, size, size // 2, window=window, pad_mode="constant", return_complex=True)
        mine, other = (cells.abs().square() + QUIET).sqrt().chunk(2)
        errors.append((mine - other).abs().sum(dim=(1, 2)) / other.sum(dim=(1, 2)))
    return torch.stack(errors).mean(dim=0)


def build(config: dict[str, Any], prompts: Path | None = None) -> Codec:
    """A codec with fresh weights.

    Args:
        config: `codec` (see `CodecConfig`), and the keys of all models.
        prompts: not used.

    Raises:
        UserError: if the settings contradict each other or the window.
    """
    settings = settings_of(config["codec"], config["window"])
    return Codec(settings, {**config, "codec": asdict(settings)})


def load_codec(folder: str | Path) -> Codec:
    """Read a codec from its own folder, or from that of a latent model that uses it.

    Raises:
        UserError: if a file is missing or damaged, or there is no codec.
    """
    config = read_config(folder)
    if "codec" not in config:
        raise UserError(f"{folder}: holds no codec; a model of kind {KIND!r} or of latents is needed")
    if kind_of(config) == KIND:
        return fill(build(config), folder)
    return cast(Codec, fill(described(folder, lambda: builder(config)(config, None)), folder).codec)


def settings_of(given: Mapping[str, Any], window: int) -> CodecConfig:
    """The settings of a codec for windows of this number of samples.

    Raises:
        UserError: see `build`.
    """
    try:
        settings = CodecConfig(**given)
    except (TypeError, ValueError) as error:
        raise UserError(f"codec: {error}") from error
    if window % settings.hop:
        raise UserError(f"model window of {window} samples is not a multiple of codec.hop, {settings.hop}; change one")
    return settings


def _cosines(hop: int) -> Tensor:
    """The orthonormal basis of a modified discrete cosine transform with a sine window, `[hop, 2·hop]`, low to high."""
    n, k = torch.arange(2 * hop, dtype=torch.float64), torch.arange(hop, dtype=torch.float64).unsqueeze(1)
    window = torch.sin(math.pi * (n + 0.5) / (2 * hop))
    return (math.sqrt(2 / hop) * window * torch.cos(math.pi / hop * (n + 0.5 + hop / 2) * (k + 0.5))).float()


register_kind(KIND, build)
