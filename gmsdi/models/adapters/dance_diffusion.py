"""Dance Diffusion as a prior of one kind of sound: diffusers' `DanceDiffusionPipeline`.

An unconditional network on stereo waveforms, which predicts v at t = (2/π)·atan σ. It takes no prompts, and refuses
several, which would all be the same sound. One such model per stem (`gmsdi.models.adapters.priors`) separates with
Eq. 4.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gmsdi.errors import UserError
from gmsdi.models.adapters.parameterisations import Adapted, NoEmbeddings, from_v
from gmsdi.models.adapters.parts import Opening, config_of
from gmsdi.models.described import require_one_sound


def check(folder: Path, name: str) -> None:
    """Refuse a pipeline by its configuration alone.

    Raises:
        UserError: if it has another parameterisation.
    """
    kind = config_of(folder, "scheduler", name).get("_class_name")
    if kind != "IPNDMScheduler":
        raise UserError(f"{name}: its scheduler is {kind}, but that of Dance Diffusion is IPNDMScheduler")


def options(config: dict[str, Any]) -> dict[str, Any]:
    """The setting without which diffusers 0.42 builds a network of another width than the published checkpoints.

    Their configurations predate `time_embedding_dim`.
    """
    if config.get("time_embedding_dim") or config.get("use_timestep_embedding"):
        return {}
    return {"time_embedding_dim": config.get("extra_in_channels")}


def adapt(pipeline: Any, opening: Opening) -> Adapted:
    """The model of a `DanceDiffusionPipeline`.

    Raises:
        UserError: if it cannot have windows of that length.
    """
    device = torch.device(opening.device)
    unet = opening.placed(pipeline.unet)
    config, multiple = unet.config, 2 ** len(unet.up_blocks)
    samples = config.sample_size if opening.seconds is None else round(opening.seconds * config.sample_rate)
    if samples < 3 * multiple:
        least = 3 * multiple / config.sample_rate
        raise UserError(
            f"{opening.name}: windows of {samples / config.sample_rate:.4g} s are too short for the network; "
            f"seconds must be at least {least:.4g}"
        )

    def v(x: Tensor, t: Tensor, embeddings: None) -> Tensor:
        whole = torch.nn.functional.pad(x, (0, -x.shape[-1] % multiple))
        return unet(whole, t, return_dict=False)[0][..., : x.shape[-1]]

    def embed(texts: Sequence[str | None]) -> NoEmbeddings:
        require_one_sound(opening.name, texts)
        return NoEmbeddings()

    return from_v(
        opening.network(v),
        embed=embed,
        sample_rate=config.sample_rate,
        window=samples - samples % multiple,
        channels=config.in_channels,
        device=device,
    )
