"""What the adapters of diffusers pipelines share: embedded prompts, codecs in pieces, and the network's precision."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gmsdi.models.adapters.parameterisations import Network
from gmsdi.models.codecs import Latent
from gmsdi.models.described import read_json
from gmsdi.models.trainable import round_weights

PIECE = 512
"""Latents that an autoencoder processes at once, so that its memory does not grow with the length of a song."""
CONTEXT = 32
"""Latents of context on each side of a piece: more than the receptive fields of the real autoencoders (10 and 12)."""


def config_of(folder: Path, part: str, name: str) -> dict[str, Any]:
    """The configuration of a part of a pipeline.

    Raises:
        UserError: if it is missing or damaged; `name` is the pipeline's, for the message.
    """
    file = f"{part}_config.json" if part == "scheduler" else "config.json"
    return read_json(folder / part / file, name)


@dataclass(frozen=True)
class Opening:
    """How a pipeline is opened.

    Attributes:
        name: name of the folder or repository, for messages.
        device: device of the network and the autoencoder. Text encoders stay on the CPU, since each prompt is embedded
            only once.
        autocast: dtype of the network and of most of its weights; None means float32.
        seconds: length of the window; None means the default of the family.
    """

    name: str
    device: str
    autocast: torch.dtype | None = None
    seconds: float | None = None

    def placed(self, net: Any) -> Any:
        """A module of the network on its device, with its weights rounded to the requested precision, for good."""
        round_weights(net, self.autocast)  # before it moves, so that the device never holds them in float32
        return net.to(self.device)

    def network(self, net: Network) -> Network:
        """The network in the requested precision; its states, σ and D stay float32."""

        def run(x: Tensor, t: Tensor, embeddings: Any) -> Tensor:
            with torch.autocast(torch.device(self.device).type, self.autocast, enabled=self.autocast is not None):
                return net(x, t, embeddings).to(x.dtype)

        return run

    def conditions(self, *tensors: Tensor) -> Conditions:
        """The inputs of P prompts, on the network's device."""
        return Conditions(tuple(tensor.to(self.device) for tensor in tensors))


@dataclass(frozen=True)
class Conditions:
    """The inputs of a network that derive from the prompts, each with one row per prompt."""

    tensors: tuple[Tensor, ...]

    def select(self, index: Tensor) -> tuple[Tensor, ...]:
        """The inputs of a batch whose row i has prompt `index[i]`."""
        return tuple(tensor[index] for tensor in self.tensors)


def latents(encode: Callable[[Tensor], Tensor], decode: Callable[[Tensor], Tensor], channels: int, hop: int) -> Latent:
    """The space of an autoencoder's latents; signals of any length are padded to whole latents.

    Args:
        encode: `[1, C, T] -> [1, channels, T / hop]`, without noise.
        decode: `[1, channels, L] -> [1, C, L · hop]`.
        channels: channels of a latent.
        hop: samples per latent.
    """

    def encoded(audio: Tensor) -> Tensor:
        whole = torch.nn.functional.pad(audio, (0, -audio.shape[-1] % hop))
        return in_pieces(encode, whole, hop, 1)

    return Latent(encoded, lambda x: in_pieces(decode, x, 1, hop), lambda samples: (channels, -(-samples // hop)))


def in_pieces(
    function: Callable[[Tensor], Tensor], x: Tensor, steps_in: int, steps_out: int, *, piece: int = PIECE
) -> Tensor:
    """Apply a function of `[1, ..., T]` row by row and in pieces; its receptive field is at most `CONTEXT` latents.

    Args:
        function: for instance an autoencoder's decoder.
        x: `[N, ..., latents · steps_in]`.
        steps_in: steps of `x` per latent.
        steps_out: steps of the result per latent.
        piece: latents per piece.

    Returns:
        The same as the function of the whole, `[N, ..., latents · steps_out]`.
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
