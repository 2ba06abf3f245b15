"""What the rest of the library asks of a model: the contract that third-party models have to meet.

A `Model` denoises states of any rank, `[N, ...]`, whose last axis is time. Its `Space` says what these states are:
`Waveform` for a model of audio, `gmsdi.models.codecs.Latent` for a model of an autoencoder's latents. Any object with
these attributes is a model; it need not derive from these classes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

if TYPE_CHECKING:
    import torch
    from torch import Tensor


class Embeddings(Protocol):
    """P embedded prompts, or the embeddings of the N rows of a batch."""

    def select(self, index: Tensor) -> Any:
        """Select the embeddings of a batch whose row i has prompt `index[i]`."""


class Space(Protocol):
    """Defines a model's states, and how states of several sources add up.

    Attributes:
        additive: whether the state of a sum of signals is the sum of their states. If so, the equations hold as the
            paper writes them. If not, signals are summed instead of states: `mix` and `rest` also get `denoised`, clean
            states, which can be decoded.
    """

    @property
    def additive(self) -> bool:
        """Whether the state of a sum of signals is the sum of their states."""

    def shape(self, samples: int) -> tuple[int, ...]:
        """The shape of the state of a signal of this many samples, time last."""

    def encode(self, audio: Tensor) -> Tensor:
        """Encode signals `[N, C, T]` as states `[N, ...]`."""

    def decode(self, x: Tensor) -> Tensor:
        """Decode states `[N, ...]` to signals `[N, C, T]`."""

    def mix(self, rows: Tensor, denoised: Tensor | None = None) -> Tensor:
        """The sum of the rows `[B, S, ...]`: `[B, 1, ...]`; `denoised` is a clean version of them, see `additive`."""

    def rest(self, mixture: Tensor, rows: Tensor, denoised: Tensor | None = None) -> Tensor:
        """The mixture minus the rows `[B, S, ...]`: `[B, 1, ...]`.

        Args:
            mixture: its state `[B, ...]`; if the space is not additive, the signal `[B, C, T]`.
            rows: noisy states.
            denoised: a clean version of the rows, see `additive`.
        """


class Denoiser(Protocol):
    """A text-conditioned denoiser, without what else a model says of itself."""

    def embed(self, texts: Sequence[str | None]) -> Embeddings:
        """Embed P texts; None is z*, the embedding of no prompt."""

    def denoise(self, x: Tensor, sigma: Tensor, embeddings: Any) -> Tensor:
        """D(x, σ, z): the expectation of the clean states given noisy ones.

        The score of the paper's Eq. 1 is (D(x, σ, z) − x)/σ².

        Args:
            x: `[N, ...]`, with noise of standard deviation `sigma[n]` in row n.
            sigma: `[N]`.
            embeddings: those of the N rows, see `Embeddings.select`.

        Returns:
            `[N, ...]`.
        """


@runtime_checkable
class Model(Denoiser, Protocol):
    """A text-conditioned denoiser and what it works on.

    It may also have the attributes of `Traits`.

    Attributes:
        sample_rate: sample rate of its audio, in Hz.
        channels: number of audio channels.
        window: length of the windows that it was trained on, in samples.
        labels: stem labels that it was trained with, in order; empty for a model of free text.
        sigma_range: lowest and highest noise level that it can denoise.
        space: the space of its states.
    """

    @property
    def sample_rate(self) -> int:
        """Sample rate of the audio, in Hz."""

    @property
    def channels(self) -> int:
        """Number of audio channels."""

    @property
    def window(self) -> int:
        """Length of the training windows, in samples."""

    @property
    def labels(self) -> Sequence[str]:
        """Stem labels that the model was trained with, in order; empty for a model of free text."""

    @property
    def sigma_range(self) -> tuple[float, float]:
        """Lowest and highest noise level that the model can denoise."""

    @property
    def space(self) -> Space:
        """Space of the model's states."""


@dataclass(frozen=True)
class Traits:
    """What a model may also say of itself; the defaults hold for a model that does not.

    Attributes:
        level: the level of its training mixtures in dB relative to full scale (`gmsdi.level`); None leaves signals as
            they are.
        device: the device that its states must be on.
        sigma_data: standard deviation of its clean states; default noise levels are relative to it.
        presets: the settings that it separates best with (`gmsdi.presets`); None means those of the bundled model.
    """

    level: float | None = None
    device: torch.device | str = "cpu"
    sigma_data: float = 0.1
    presets: Mapping[str, Any] | None = None

    @classmethod
    def of(cls, model: Model | Outline) -> Traits:
        """The traits of a model."""
        return cls(**{each.name: getattr(model, each.name) for each in fields(cls) if hasattr(model, each.name)})


@dataclass(frozen=True)
class Outline:
    """What a model says of itself before it is opened: enough to refuse a task that it cannot do.

    It has the attributes of `Model` and `Traits` that need no weights; see there.

    Attributes:
        require_prompts: raises a `UserError` for texts that the model cannot take, as far as can be told.
    """

    sample_rate: int
    channels: int
    window: int
    labels: Sequence[str] = ()
    sigma_range: tuple[float, float] = (0.0, math.inf)
    level: float | None = None
    sigma_data: float = Traits.sigma_data
    presets: Mapping[str, Any] | None = None
    require_prompts: Callable[[Sequence[str]], object] = lambda texts: None


class Waveform:
    """The space of a model of audio: a state is the signal itself, and signals add up.

    Args:
        channels: number of audio channels.
    """

    additive = True

    def __init__(self, channels: int = 1) -> None:
        self.channels = channels

    def shape(self, samples: int) -> tuple[int, ...]:
        """The shape `(C, T)` of a signal of T samples."""
        return self.channels, samples

    def encode(self, audio: Tensor) -> Tensor:
        """Return the signal itself."""
        return audio

    def decode(self, x: Tensor) -> Tensor:
        """Return the state itself."""
        return x

    def mix(self, rows: Tensor, denoised: Tensor | None = None) -> Tensor:
        """The sum Σ_l x_l of the rows."""
        return rows.sum(dim=1, keepdim=True)

    def rest(self, mixture: Tensor, rows: Tensor, denoised: Tensor | None = None) -> Tensor:
        """The mixture minus the rows, y − Σ_l x_l."""
        return mixture.unsqueeze(1) - rows.sum(dim=1, keepdim=True)
