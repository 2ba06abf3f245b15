"""The base model of ACE-Step 1.5 as a text-to-music model: diffusers' `AceStepPipeline`.

A rectified flow on the latents of an Oobleck autoencoder, 64 for every 1920 samples of 48 kHz stereo. The prompt, empty
lyrics and the timbre of silence are embedded as one sequence. All of its positions are attended to (there is no mask),
so that prompts of different lengths go through the network separately. No prompt is a learned vector. Where the
model's other tasks have audio, there is silence with a mask of ones.

Guidance is that of this package; the pipeline itself uses adaptive projected guidance with momentum.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import prod
from pathlib import Path
from typing import Any, TypeAlias

import torch
from torch import Tensor

from gmsdi.errors import UserError
from gmsdi.models.adapters.parameterisations import Adapted, from_flow
from gmsdi.models.adapters.parts import Opening, config_of, latents

SECONDS = 60.0
"""Default length of a window, the same as the pipeline's."""

Groups: TypeAlias = list[tuple[Tensor, Tensor]]
"""Rows of a batch with the sequences that they attend to; the sequences of a group have the same length."""


@dataclass(frozen=True)
class Sequences:
    """The embedded sequences `[L, F]` of P prompts, whose lengths may differ."""

    tensors: list[Tensor]

    def select(self, index: Tensor) -> Groups:
        """The sequences of a batch whose row i has prompt `index[i]`, grouped by length."""
        chosen = [self.tensors[i] for i in index.tolist()]
        groups = []
        for length in dict.fromkeys(len(sequence) for sequence in chosen):
            rows = [row for row, sequence in enumerate(chosen) if len(sequence) == length]
            groups.append((torch.tensor(rows, device=index.device), torch.stack([chosen[row] for row in rows])))
        return groups


def check(folder: Path, name: str) -> None:
    """Refuse a pipeline by its configuration alone.

    Raises:
        UserError: if it is distilled.
    """
    told = config_of(folder, "transformer", name)
    if told.get("is_turbo") or told.get("model_version") == "turbo":
        raise UserError(
            f"{name}: a distilled model (turbo), which predicts samples instead of their expectation and has no "
            "guidance; use the base model"
        )


def adapt(pipeline: Any, opening: Opening) -> Adapted:
    """The model of an `AceStepPipeline`."""
    device = torch.device(opening.device)
    transformer, vae = opening.placed(pipeline.transformer), pipeline.vae.to(device)
    encoder = pipeline.condition_encoder
    rate, hop = vae.config.sampling_rate, prod(vae.config.downsampling_ratios)
    length = max(1, round((opening.seconds or SECONDS) * rate / hop))

    def sequence(text: str) -> Tensor:
        parts = pipeline.encode_prompt(text, "", "cpu", audio_duration=length * hop / rate)
        timbre = encoder.silence_latent[:, : -(-30 * rate // hop)]
        return encoder(*parts, timbre, torch.zeros(1, dtype=torch.long))[0][0]

    def embed(texts: Sequence[str | None]) -> Sequences:
        # One vector is enough: attention to several equal ones gives the same result.
        found = [encoder.null_condition_emb[0] if text is None else sequence(text) for text in texts]
        return Sequences([tensor.to(device) for tensor in found])

    @lru_cache(maxsize=4)
    def context(steps: int) -> Tensor:
        silence = encoder.silence_latent
        silence = silence.repeat(1, -(-steps // silence.shape[1]), 1)[:, :steps]
        return torch.cat([silence, torch.ones_like(silence)], dim=-1).to(device)

    def v(x: Tensor, t: Tensor, groups: Groups) -> Tensor:
        out = torch.empty_like(x)
        for rows, attended in groups:
            found = transformer(
                x[rows].mT,
                t[rows],
                t[rows],
                encoder_hidden_states=attended,
                context_latents=context(x.shape[-1]).expand(len(rows), -1, -1),
                return_dict=False,
            )[0]
            out[rows] = found.mT.to(x.dtype)
        return out

    return from_flow(
        opening.network(v),
        embed=embed,
        sample_rate=rate,
        window=length * hop,
        channels=vae.config.audio_channels,
        sigma_data=1.0,
        space=latents(
            lambda audio: vae.encode(audio).latent_dist.mode(),
            lambda x: vae.decode(x).sample,
            transformer.config.audio_acoustic_hidden_dim,
            hop,
        ),
        device=device,
    )
