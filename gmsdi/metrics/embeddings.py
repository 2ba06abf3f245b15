"""One interface to the audio embeddings in which Fréchet distances are measured.

A Fréchet distance means nothing without its embedding: print `Embedding.name` and the number of frames beside it.
`get_embedding(name)` returns the embedding of that name.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import partial
from typing import Any, Protocol

import numpy as np

from gmsdi.errors import UserError
from gmsdi.metrics.clap import CLAP
from gmsdi.metrics.musicnn import MusicNN
from gmsdi.metrics.vggish import VGGish


class Embedding(Protocol):
    """Turns audio clips into the frames whose mean and covariance a Fréchet distance compares."""

    name: str  # network, training set and layer
    sample_rate: int  # in Hz; audio at other rates is resampled

    def frames(self, audio: Any, sample_rate: int) -> np.ndarray:
        """Embed clips.

        Args:
            audio: Waveforms in [-1, 1], `[n, T]`, `[n, C, T]` (averaged to mono) or one clip `[T]`; NumPy or torch.
            sample_rate: Rate of `audio` in Hz.

        Returns:
            float32 `[n · frames per clip, D]`, clip after clip.

        Raises:
            UserError: if a clip is too short for one frame or not finite.
        """
        ...

    def clips_at_once(self, samples: int, sample_rate: int) -> int:
        """Number of clips of this many samples that share calls of the network.

        If clips are embedded in groups of this number (the last may be smaller), with one call of `frames` each, the
        frames are the same to the last bit as those of a single call.

        Raises:
            UserError: if such a clip is too short for one frame.
        """
        ...


EMBEDDINGS: dict[str, Callable[..., Embedding]] = {
    "musicnn-MTT-penultimate200": partial(MusicNN, "MTT"),
    "musicnn-MSD-penultimate200": partial(MusicNN, "MSD"),
    VGGish.name: VGGish,
    CLAP.name: CLAP,
}


def get_embedding(name: str, **options: Any) -> Embedding:
    """Load an embedding by its name.

    Args:
        name: A key of `EMBEDDINGS`.
        options: Options of its class: hop and batch for all; window for musicnn; checkpoint, sha256 and device for
            VGGish and CLAP. None keeps the embedding's default.

    Raises:
        UserError: if there is no embedding of that name, it does not have an option, or something that it needs is not
            installed or cannot be downloaded.
    """
    if name not in EMBEDDINGS:
        raise UserError(f"embedding '{name}': unknown; choose one of {', '.join(EMBEDDINGS)}")
    given = {key: value for key, value in options.items() if value is not None}
    known = inspect.signature(EMBEDDINGS[name]).parameters
    for key in given:
        if key not in known:
            raise UserError(f"embedding '{name}': has no option {key}; its options are {', '.join(known)}")
    return EMBEDDINGS[name](**given)
