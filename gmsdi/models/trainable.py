"""What every model of this package has in common, whatever it is trained to do."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn


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
