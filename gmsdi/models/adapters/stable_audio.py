"""Stable Audio Open 1.0 (Evans et al. 2024) as a model: diffusers' `StableAudioPipeline`.

A diffusion transformer on the latents of the autoencoder Oobleck, 64 × 1024 for 47.55 s of 44.1 kHz stereo, which
predicts v at t = (2/π)·atan σ. Cross-attention sees the tokens of T5, padded with zeros, and two tokens for the seconds
at which the audio begins and ends; these two are also the network's global state. Without a negative prompt, guidance
leads away from cross-attention to zeros, with the same global state.

The network was trained at one length, which is the default of windows; they begin at 0 seconds and end at their length.
The encoder's mean is used instead of a sample, so that the same song always has the same state.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gmsdi.errors import UserError
from gmsdi.models.adapters.parameterisations import Adapted, from_v
from gmsdi.models.adapters.parts import Conditions, Opening, config_of, latents


def check(folder: Path, name: str) -> None:
    """Refuse a pipeline by its configuration alone.

    Raises:
        UserError: if it has another parameterisation.
    """
    told = config_of(folder, "scheduler", name)
    if told.get("prediction_type") != "v_prediction" or told.get("sigma_data") != 1:
        raise UserError(
            f"{name}: its scheduler, {told.get('_class_name')}, is not that of Stable Audio Open 1.0 (v_prediction, "
            "sigma_data 1); distilled models and those of other parameterisations do not fit"
        )


def adapt(pipeline: Any, opening: Opening) -> Adapted:
    """The model of a `StableAudioPipeline`.

    Raises:
        UserError: if it cannot have windows of that length.
    """
    from diffusers.models.embeddings import get_1d_rotary_pos_embed

    device = torch.device(opening.device)
    transformer, vae = opening.placed(pipeline.transformer), pipeline.vae.to(device)
    rate, hop, longest = vae.config.sampling_rate, vae.hop_length, transformer.config.sample_size
    length = longest if opening.seconds is None else round(opening.seconds * rate / hop)
    if not 1 <= length <= longest:
        raise UserError(f"{opening.name}: seconds is {opening.seconds}; it can be up to {longest * hop / rate:.2f}")

    @lru_cache(maxsize=4)
    def rotary(steps: int) -> tuple[Tensor, Tensor]:
        half = transformer.config.attention_head_dim // 2
        cos, sin = get_1d_rotary_pos_embed(half, steps + 1, use_real=True, repeat_interleave_real=False)
        return cos.to(device), sin.to(device)

    def embed(texts: Sequence[str | None]) -> Conditions:
        prompts = pipeline.encode_prompt([text or "" for text in texts], "cpu", False)
        start, end = pipeline.encode_duration(0.0, length * hop / rate, "cpu", False, len(texts))
        attended = torch.cat([prompts, start, end], dim=1)
        attended[[text is None for text in texts]] = 0
        return opening.conditions(attended, torch.cat([start, end], dim=2))

    def v(x: Tensor, t: Tensor, conditions: tuple[Tensor, Tensor]) -> Tensor:
        attended, state = conditions
        return transformer(
            x,
            t,
            encoder_hidden_states=attended,
            global_hidden_states=state,
            rotary_embedding=rotary(x.shape[-1]),
            return_dict=False,
        )[0]

    return from_v(
        opening.network(v),
        embed=embed,
        sample_rate=rate,
        window=length * hop,
        channels=vae.config.audio_channels,
        sigma_data=1.0,
        space=latents(
            lambda audio: vae.encode(audio).latent_dist.mode(),
            lambda x: vae.decode(x).sample,
            transformer.config.in_channels,
            hop,
        ),
        device=device,
    )
