"""Models of kind "diffusion": an EDM denoiser around a U-Net, with its own text encoder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import nn

from gmsdi.errors import UserError
from gmsdi.models.edm.denoiser import TextDenoiser
from gmsdi.models.edm.text import build_text
from gmsdi.models.edm.unet import UNet1d, UNetConfig
from gmsdi.models.trainable import register_kind

KIND = "diffusion"


def build(config: dict[str, Any], prompts: Path | None = None) -> TextDenoiser:
    """Build a diffusion model with fresh weights.

    Args:
        config: see `gmsdi.models.checkpoint.build_model`.
        prompts: a file of embeddings of known prompts, see `gmsdi.models.edm.text.build_text`.

    Raises:
        UserError: if the settings contradict each other, or a pretrained text encoder is not available.
    """
    return TextDenoiser(*build_parts(config, prompts, config["window"], "samples"), config["sigma_data"], config)


def build_parts(config: dict[str, Any], prompts: Path | None, length: int, unit: str) -> tuple[UNet1d, nn.Module]:
    """The network and the text encoder of a configuration, for states of `length` steps; see `build`."""
    text = build_text(config["text"], prompts=prompts)
    try:
        unet_config = UNetConfig(**{**config["unet"], "text_features": text.features})
    except (TypeError, ValueError) as error:
        raise UserError(f"model.unet: {error}") from error
    if length % unet_config.stride:
        raise UserError(
            f"model window of {length} {unit} is not a multiple of the network's stride {unet_config.stride}; change "
            "data.window, or the U-Net's patch_factor and factors"
        )
    return UNet1d(unet_config), text


register_kind(KIND, build)
