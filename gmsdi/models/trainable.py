"""What every model of this package has in common, whatever it is trained to do."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from gmsdi.errors import UserError


class TrainableModel(nn.Module):
    """A network that `gmsdi.training.loop` can train and `gmsdi.models.checkpoint` can store.

    Attributes:
        config: what the model's `config.json` holds.
        autocast: the type in which the network runs, e.g. `torch.bfloat16`; None leaves it as it is.
        ends: beginnings of the names of the parameters of its first and last layers, see
        `gmsdi.training.optimizers.divided`.
    """

    config: dict[str, Any]
    autocast: torch.dtype | None
    ends: tuple[str, ...] = ()

    def training_loss(self, batch: Mapping[str, Any]) -> Tensor:
        """The loss of each item of a training batch, `[n]`.

        Args:
            batch: see `gmsdi.training.loop.Batches`.
        """
        raise NotImplementedError

    def write_beside(self, folder: Path) -> None:
        """Write what belongs beside the weights into a model folder; by default nothing."""


Build: TypeAlias = Callable[[dict[str, Any], Path | None], TrainableModel]
"""A model with fresh weights from its configuration and, if there is one, the file of its prompts' embeddings."""

_KINDS: dict[str, Build] = {}


def register_kind(kind: str, build: Build) -> None:
    """Make a `kind` of a model's `config.json` known. A family does so where it is defined.

    Whoever builds or loads models of a kind imports its family: `gmsdi.models.checkpoint` those of `gmsdi.models`.
    """
    _KINDS[kind] = build


def kind_of(config: Mapping[str, Any]) -> str:
    """The kind of a configuration; "diffusion" unless it says so."""
    return str(config.get("kind", "diffusion"))


def builder(config: Mapping[str, Any]) -> Build:
    """What builds the models of a configuration's kind.

    Raises:
        UserError: if it is not known.
    """
    kind = kind_of(config)
    if kind not in _KINDS:
        raise UserError(f"model kind is {kind!r}; known here are {', '.join(sorted(_KINDS))}")
    return _KINDS[kind]
