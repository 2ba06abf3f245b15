"""The models of kind "latent": an EDM denoiser of the latents of a codec, which is stored in the same folder."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from gmsdi.errors import UserError
from gmsdi.models.autoencoder import Codec
from gmsdi.models.autoencoder import build as build_codec
from gmsdi.models.codecs import Latent
from gmsdi.models.edm.denoiser import TextDenoiser
from gmsdi.models.edm.family import build_parts
from gmsdi.models.trainable import register_kind

KIND = "latent"


class LatentDenoiser(TextDenoiser):
    """An EDM denoiser of latents: a `gmsdi.models.protocol.Model` whose space is a codec's.

    Its states are the codec's latents, scaled to the standard deviation σ_data over the training windows, so that noise
    levels mean the same as for waveforms.

    Args:
        net: see `EDMDenoiser`.
        text: see `TextDenoiser`.
        codec: the codec, which is not trained. It runs in float32, since its errors add to those of every stem.
        config: see `TextDenoiser`; with `codec`, `latent_std` (standard deviation of the codec's latents, 1 until it is
            measured), and `additive`, see `space`.
    """

    def __init__(self, net: nn.Module, text: nn.Module, codec: Codec, config: dict[str, Any]) -> None:
        super().__init__(net, text, config["sigma_data"], config)
        self.codec = codec.requires_grad_(False)

    @property
    def channels(self) -> int:
        """Number of audio channels."""
        return 1

    @property
    def space(self) -> Latent:  # type: ignore[override]
        """Space of its states; additive as configured, or by default if the codec is linear or was trained to be."""
        additive = self.config.get("additive")
        if additive is None:
            additive = self.codec.linear or self.codec.settings.additive > 0
        scale = self.sigma_data / self.config.get("latent_std", 1.0)
        return Latent(
            lambda audio: scale * self.codec.encode(audio),
            lambda x: self.codec.decode(x / scale),
            self.codec.shape,
            additive,
        )

    def training_loss(self, batch: Mapping[str, Any]) -> Tensor:
        """See `TextDenoiser`; the noise of the latents is the beginning of the batch's noise."""
        with torch.no_grad():
            clean = self.space.encode(batch["clean"])
        noise = batch["noise"].flatten(1)[:, : clean[0].numel()].reshape(clean.shape)
        return super().training_loss({**batch, "clean": clean, "noise": noise})

    def take_codec(self, codec: Codec) -> None:
        """Take the weights of a trained codec.

        Raises:
            UserError: if its settings or its sample rate differ.
        """
        for key in ("codec", "sample_rate"):
            if codec.config[key] != self.config[key]:
                raise UserError(
                    f"the codec has {key} {codec.config[key]}, the model {self.config[key]}; make them the same"
                )
        self.codec.load_state_dict(codec.state_dict())

    def measure(self, windows: Tensor) -> None:
        """Measure `latent_std` on training windows `[N, 1, T]`."""
        with torch.no_grad():
            self.config["latent_std"] = float(f"{float(self.codec.encode(windows).std()):.4g}")


def build(config: dict[str, Any], prompts: Path | None = None) -> LatentDenoiser:
    """A latent diffusion model with fresh weights.

    Args:
        config: see `gmsdi.models.checkpoint.build_model`, with `codec`, see `CodecConfig`; the network's `in_channels`
            are its latents.
        prompts: a file of embeddings of known prompts, see `gmsdi.models.edm.text.build_text`.

    Raises:
        UserError: if the settings contradict each other, or a pretrained text encoder is not available.
    """
    codec = build_codec(config)
    latents, frames = codec.shape(config["window"])
    config = {**codec.config, "unet": {**config["unet"], "in_channels": latents}}
    net, text = build_parts(config, prompts, frames, "frames of the codec")
    return LatentDenoiser(net, text, codec, config)


register_kind(KIND, build)
