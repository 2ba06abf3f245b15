"""What the pipelines of diffusers share as models: embedded prompts, codecs in pieces, and the network's precision."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gmsdi.models.adapters.parameterisations import Network
from gmsdi.models.codecs import Latent

PIECE = 512
"""Latents that an autoencoder takes at once, so that its memory does not grow with the length of a song."""
CONTEXT = 32
"""Latents before and after a piece that are computed with it: more than the real autoencoders see (10 and 12)."""


def config_of(folder: Path, part: str) -> dict[str, Any]:
    """The configuration of a part of a pipeline; empty if there is none."""
    for name in ("config.json", f"{part}_config.json"):
        if (path := folder / part / name).is_file():
            found = json.loads(path.read_text())
            return found if isinstance(found, dict) else {}
    return {}


@dataclass(frozen=True)
class Opening:
    """How a pipeline is opened.

    Attributes:
        name: of the folder or repository, for messages.
        device: of the network and the autoencoder. What a prompt passes through stays on the CPU: it is used once.
        autocast: the network's type; None is float32.
        seconds: of the window; None is what the family says.
    """

    name: str
    device: str
    autocast: torch.dtype | None = None
    seconds: float | None = None

    def network(self, net: Network) -> Network:
        """The network in the precision that was asked for. Its states, σ and D stay float32."""

        def run(x: Tensor, t: Tensor, embeddings: Any) -> Tensor:
            with torch.autocast(torch.device(self.device).type, self.autocast, enabled=self.autocast is not None):
                return net(x, t, embeddings).to(x.dtype)

        return run

    def conditions(self, *tensors: Tensor) -> Conditions:
        """The inputs of P prompts, where the network is."""
        return Conditions(tuple(tensor.to(self.device) for tensor in tensors))


@dataclass(frozen=True)
class Conditions:
    """The inputs of a network that come from its prompt, each with one row per prompt."""

    tensors: tuple[Tensor, ...]

    def select(self, index: Tensor) -> tuple[Tensor, ...]:
        """Those of a batch whose row i has prompt `index[i]`."""
        return tuple(tensor[index] for tensor in self.tensors)


def latents(encode: Callable[[Tensor], Tensor], decode: Callable[[Tensor], Tensor], channels: int, hop: int) -> Latent:
    """The space of an autoencoder, which takes signals of any length and rounds them up to whole latents.

    Args:
        encode: `[1, C, T] -> [1, channels, T / hop]`, without noise.
        decode: `[1, channels, L] -> [1, C, L · hop]`.
        channels: of a latent.
        hop: samples of a latent.
    """

    def encoded(audio: Tensor) -> Tensor:
        whole = torch.nn.functional.pad(audio, (0, -audio.shape[-1] % hop))
        return in_pieces(encode, whole, hop, 1)

    return Latent(encoded, lambda x: in_pieces(decode, x, 1, hop), lambda samples: (channels, -(-samples // hop)))


def in_pieces(
    function: Callable[[Tensor], Tensor], x: Tensor, steps_in: int, steps_out: int, *, piece: int = PIECE
) -> Tensor:
    """A function of `[1, ..., T]` that looks no further than `CONTEXT` latents, row by row and piece by piece.

    Args:
        function: for instance an autoencoder's decoder.
        x: `[N, ..., latents · steps_in]`.
        steps_in: steps of `x` of a latent.
        steps_out: steps of the result of a latent.
        piece: latents of a piece.

    Returns:
        What the function makes of the whole, `[N, ..., latents · steps_out]`.
    """
    count = x.shape[-1] // steps_in
    rows = []
    for row in x.split(1):
        parts = []
        for start in range(0, count, piece):
            stop = min(start + piece, count)
            first, last = max(0, start - CONTEXT), min(count, stop + CONTEXT)
            part = function(row[..., first * steps_in : last * steps_in])
            parts.append(part[..., (start - first) * steps_out : (stop - first) * steps_out])
        rows.append(torch.cat(parts, dim=-1))
    return torch.cat(rows)
