"""What all models of this package have in common."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from gmsdi.errors import UserError

DRAWS = 16
"""Uniform random numbers of each item of a training batch, for the model's own choices."""


class TrainableModel(nn.Module):
    """A network that `gmsdi.training.loop` can train and `gmsdi.models.checkpoint` can store.

    Attributes:
        config: the content of the model's `config.json`.
        autocast: the dtype that the network runs in, e.g. `torch.bfloat16`; None: no autocast.
        ends: prefixes of the parameter names of the first and last layers, see `gmsdi.training.optimizers.divided`.
    """

    config: dict[str, Any]
    autocast: torch.dtype | None
    ends: tuple[str, ...] = ()

    def run_in(self, dtype: torch.dtype | None) -> None:
        """Prepare `net`, the part that runs in `autocast`, for inference in a type; None is float32.

        Weights are rounded, see `round_weights`; not for training, which needs them in float32.
        """
        self.autocast = dtype
        round_weights(self.get_submodule("net"), dtype)

    def training_loss(self, batch: Mapping[str, Any]) -> Tensor:
        """The loss of each item of a training batch, `[n]`.

        Args:
            batch: see `gmsdi.training.batches.Batches`.
        """
        raise NotImplementedError

    def write_beside(self, folder: Path) -> None:
        """Write further files into a model folder, beside the weights; by default none."""


def round_weights(net: nn.Module, dtype: torch.dtype | None) -> None:
    """Round the weights of convolutions and linear layers once, instead of by autocast in every call.

    Results under autocast stay the same to the last bit, and it still decides the types of everything else.

    Args:
        net: the network.
        dtype: the type; None leaves the weights as they are.
    """
    if dtype is not None:
        for layer in net.modules():
            if isinstance(layer, nn.Linear | _ConvNd):
                layer.to(dtype)


Build: TypeAlias = Callable[[dict[str, Any], Path | None], TrainableModel]
"""Builds a model with fresh weights from its configuration and the file of its prompts' embeddings, if any."""

_KINDS: dict[str, Build] = {}


def register_kind(kind: str, build: Build) -> None:
    """Register a `kind` of models, as named in their `config.json`. A family registers itself where it is defined.

    Code that builds or loads models of a kind has to import its family; `gmsdi.models.checkpoint` imports all of them.
    """
    _KINDS[kind] = build


def kind_of(config: Mapping[str, Any]) -> str:
    """The kind of model that a configuration describes; "diffusion" by default."""
    return str(config.get("kind", "diffusion"))


def builder(config: Mapping[str, Any]) -> Build:
    """The function that builds models of a configuration's kind.

    Raises:
        UserError: if the kind is not registered.
    """
    kind = kind_of(config)
    if kind not in _KINDS:
        raise UserError(f"model kind is {kind!r}; known here are {', '.join(sorted(_KINDS))}")
    return _KINDS[kind]
