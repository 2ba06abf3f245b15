"""Autoencoders as the space of a latent model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Latent:
    """The space of an autoencoder's latents.

    If the autoencoder is linear, latents add up like signals, and the space is additive. If not, the clean part of a
    sum is taken of the signals, and the noise, which adds up in any space, of the latents: for sources x_l(σ) with
    denoised D_l

        Σ_l x_l  becomes  E(Σ_l Dec(D_l)) + Σ_l (x_l(σ) − D_l),
        y − Σ_l x_l  becomes  E(y − Σ_l Dec(D_l)) − Σ_l (x_l(σ) − D_l),

    which is the sum itself if the autoencoder is linear.

    Attributes:
        encoder: E, `[N, C, T] -> [N, ...]`, with time last.
        decoder: Dec, `[N, ...] -> [N, C, T]`.
        shape_of: number of samples to the shape of one state.
        additive: whether E and Dec are linear.
    """

    encoder: Callable[[Tensor], Tensor]
    decoder: Callable[[Tensor], Tensor]
    shape_of: Callable[[int], tuple[int, ...]]
    additive: bool = False

    def shape(self, samples: int) -> tuple[int, ...]:
        """The shape of the state of a signal with this number of samples."""
        return self.shape_of(samples)

    def encode(self, audio: Tensor) -> Tensor:
        """Encode signals, E."""
        return self.encoder(audio)

    def decode(self, x: Tensor) -> Tensor:
        """Decode states, Dec."""
        return self.decoder(x)

    def mix(self, rows: Tensor, denoised: Tensor | None = None) -> Tensor:
        """Σ_l x_l, see the class. One call of the decoder and one of the encoder, if the space is not additive."""
        if self.additive:
            return rows.sum(dim=1, keepdim=True)
        clean = rows if denoised is None else denoised
        mixed = self.encode(self._signals(clean).sum(dim=1)).unsqueeze(1)
        return mixed + (rows - clean).sum(dim=1, keepdim=True)

    def rest(self, mixture: Tensor, rows: Tensor, denoised: Tensor | None = None) -> Tensor:
        """The mixture minus Σ_l x_l, see the class. One call of the decoder and one of the encoder, as in `mix`."""
        if self.additive:
            return mixture.unsqueeze(1) - rows.sum(dim=1, keepdim=True)
        clean = rows if denoised is None else denoised
        left = self.encode(mixture - self._signals(clean).sum(dim=1)).unsqueeze(1)
        return left - (rows - clean).sum(dim=1, keepdim=True)

    def _signals(self, rows: Tensor) -> Tensor:
        return self.decode(rows.flatten(0, 1)).unflatten(0, rows.shape[:2])
