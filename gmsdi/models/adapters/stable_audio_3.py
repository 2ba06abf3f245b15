"""The base models of Stable Audio 3 as models: diffusers' `StableAudio3Pipeline`.

A rectified flow on the latents of the autoencoder SAME, 256 for every 4096 samples of 44.1 kHz stereo. The network
attends to the tokens of T5Gemma, padded with a learned vector, and to a token for the duration, which also modulates
it. No prompt is the empty prompt. Windows may have any length.

The models without "base" in their names are distilled to sample in eight steps without guidance: at a noise level they
predict a sample, not the expectation D that Eq. 10 to 14 need.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gmsdi.errors import UserError
from gmsdi.models.adapters.parameterisations import Adapted, from_flow
from gmsdi.models.adapters.parts import Conditions, Opening, config_of, latents

SECONDS = 47.0
"""Default length of a window."""


def check(folder: Path, name: str) -> None:
    """Refuse a pipeline by its configuration alone.

    Raises:
        UserError: if it is distilled.
    """
    if config_of(folder, "scheduler", name).get("stochastic_sampling"):
        raise UserError(
            f"{name}: a distilled model, which predicts samples instead of their expectation and has no guidance; "
            "use the one that it was distilled from, such as stabilityai/stable-audio-3-medium-base"
        )


def adapt(pipeline: Any, opening: Opening) -> Adapted:
    """The model of a `StableAudio3Pipeline`."""
    device = torch.device(opening.device)
    transformer, vae = opening.placed(pipeline.transformer), pipeline.vae.to(device)
    rate, hop = vae.config.sampling_rate, vae.downsampling_ratio
    length = max(1, round((opening.seconds or SECONDS) * rate / hop))

    def embed(texts: Sequence[str | None]) -> Conditions:
        prompts, mask = pipeline.encode_prompt([text or "" for text in texts], "cpu", 1)
        duration = pipeline.encode_duration(length * hop / rate, "cpu", 1, len(texts))
        attended, mask = pipeline.prepare_cross_attention(prompts, mask, duration)
        return opening.conditions(attended, mask, duration)

    def v(x: Tensor, t: Tensor, conditions: tuple[Tensor, Tensor, Tensor]) -> Tensor:
        attended, mask, duration = conditions
        return transformer(
            x,
            t,
            encoder_hidden_states=attended,
            encoder_attention_mask=mask,
            global_hidden_states=duration,
            return_dict=False,
        )[0]

    return from_flow(
        opening.network(v),
        embed=embed,
        sample_rate=rate,
        window=length * hop,
        channels=vae.config.audio_channels,
        sigma_data=1.0,
        space=latents(
            lambda audio: vae.encode(audio).latents, lambda x: vae.decode(x).sample, vae.config.latent_dim, hop
        ),
        device=device,
    )
