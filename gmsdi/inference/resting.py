"""Rests of a mixture, in which every stem is silent."""

from __future__ import annotations

import torch
from torch import Tensor

from gmsdi.inference.base import Derivative
from gmsdi.level import Rests


class Resting(Derivative):
    """A derivative that equals another one, except that in rests its state decays to zero by dx/dσ = gain·x/σ.

    Without it, stems would be sampled in rests as anywhere else, and only the model would keep them from containing
    music that cancels out in their sum.

    Args:
        derivative: the other derivative, that of a separation of waveforms.
        rests: the rests of its mixtures.
    """

    def __init__(self, derivative: Derivative, rests: Rests) -> None:
        self.derivative = derivative
        self.rows = derivative.rows
        self.gain = derivative.gain
        self.mask = rests.mask.unsqueeze(1)  # [B, 1, 1, T]
        self.slope = 1.0 if self.gain is None else self.gain

    def __call__(self, x: Tensor, sigma: float) -> Tensor:
        """dx/dσ, `[B, S, C, T]`."""
        return torch.where(self.mask, self.slope / sigma * x, self.derivative(x, sigma))

    def stems(self, x: Tensor) -> Tensor:
        """The stems of the other derivative."""
        return self.derivative.stems(x)

    def signals(self, x: Tensor) -> Tensor:
        """The signals of the other derivative."""
        return self.derivative.signals(x)

    def coupling(self, sigma: float) -> float:
        """The coupling of the other derivative."""
        return self.derivative.coupling(sigma)
