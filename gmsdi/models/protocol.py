"""What the rest of the library asks of a model: the contract that a model of somebody else has to keep.

A `Model` denoises states of any rank, `[N, ...]`, whose last axis is time. Its `Space` says what these states are:
`Waveform` for a model of audio, `gmsdi.models.codecs.Latent` for one of an autoencoder's latents. An object that has
these attributes is a model; none has to derive from them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

from torch import Tensor


class Embeddings(Protocol):
    """Embedded prompts, P of them, or those of the N rows of a batch."""

    def select(self, index: Tensor) -> Any:
        """The embeddings of a batch whose row i has prompt `index[i]`."""


class Space(Protocol):
    """What a model's states are, and how states of several sources add up.

    Attributes:
        additive: whether the state of a sum of signals is the sum of their states. The equations then hold as the paper
            writes them. In a space that is not, sums are taken of signals: `mix` and `rest` also get `denoised`, clean
            states, which can be decoded.
    """

    @property
    def additive(self) -> bool:
        """See the class."""

    def shape(self, samples: int) -> tuple[int, ...]:
        """The shape of the state of a signal of so many samples, time last."""

    def encode(self, audio: Tensor) -> Tensor:
        """Signals `[N, C, T]` as states `[N, ...]`."""

    def decode(self, x: Tensor) -> Tensor:
        """States `[N, ...]` as signals `[N, C, T]`."""

    def mix(self, rows: Tensor, denoised: Tensor | None = None) -> Tensor:
        """Σ of the rows `[B, S, ...]`: `[B, 1, ...]`. `denoised` are clean versions of the rows, see `additive`."""

    def rest(self, mixture: Tensor, rows: Tensor, denoised: Tensor | None = None) -> Tensor:
        """The mixture without the rows `[B, S, ...]`: `[B, 1, ...]`.

        Args:
            mixture: its state `[B, ...]`; if the space is not additive, the signal `[B, C, T]`.
            rows: noisy.
            denoised: clean versions of the rows, see `additive`.
        """


@runtime_checkable
class Model(Protocol):
    """A text-conditioned denoiser.

    It may also have `level`, of the mixtures that it was trained on, in dB relative to full scale (`gmsdi.level`), and
    `device`, where its states have to be; without them signals stay as loud as they are, and states on the CPU.

    Attributes:
        sample_rate: of its audio, in Hz.
        channels: of its audio.
        window: the length that it was trained at, in samples.
        labels: stem labels that it was trained with, in their order; empty for a model of free text.
        sigma_range: lowest and highest noise level that it can denoise.
        space: of its states.
    """

    @property
    def sample_rate(self) -> int:
        """See the class."""

    @property
    def channels(self) -> int:
        """See the class."""

    @property
    def window(self) -> int:
        """See the class."""

    @property
    def labels(self) -> Sequence[str]:
        """See the class."""

    @property
    def sigma_range(self) -> tuple[float, float]:
        """See the class."""

    @property
    def space(self) -> Space:
        """See the class."""

    def embed(self, texts: Sequence[str | None]) -> Embeddings:
        """Embed P texts; None is z*, the embedding of no prompt."""

    def denoise(self, x: Tensor, sigma: Tensor, embeddings: Any) -> Tensor:
        """D(x, σ, z): the expectation of the clean states given noisy ones.

        Args:
            x: `[N, ...]`, with noise of standard deviation `sigma[n]` in row n. The score of the paper's Eq. 1 is
                (D(x, σ, z) − x)/σ².
            sigma: `[N]`.
            embeddings: selected for the N rows.

        Returns:
            `[N, ...]`.
        """


class Waveform:
    """The space of a model of audio: a state is the signal itself, and signals add up.

    Args:
        channels: of the audio.
    """

    additive = True

    def __init__(self, channels: int = 1) -> None:
        self.channels = channels

    def shape(self, samples: int) -> tuple[int, ...]:
        """`(C, T)`."""
        return self.channels, samples

    def encode(self, audio: Tensor) -> Tensor:
        """The signal itself."""
        return audio

    def decode(self, x: Tensor) -> Tensor:
        """The state itself."""
        return x

    def mix(self, rows: Tensor, denoised: Tensor | None = None) -> Tensor:
        """Σ_l x_l."""
        return rows.sum(dim=1, keepdim=True)

    def rest(self, mixture: Tensor, rows: Tensor, denoised: Tensor | None = None) -> Tensor:
        """Y − Σ_l x_l."""
        return mixture.unsqueeze(1) - rows.sum(dim=1, keepdim=True)
