"""Embeddings of audio in which Fréchet distances are measured, behind one interface.

A Fréchet distance means nothing without the name of its embedding: print `Embedding.name` and the number of frames
beside it. `get_embedding(name)` returns the embedding of that name.
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

    name: str  # says which network, which training set and which layer
    sample_rate: int  # Hz that the network works at; other rates are resampled to it

    def frames(self, audio: Any, sample_rate: int) -> np.ndarray:
        """Embed clips.

        Args:
            audio: Waveforms in [-1, 1], `[n, T]`, `[n, C, T]` (averaged to mono) or a single `[T]`; NumPy or torch.
            sample_rate: Rate of `audio` in Hz.

        Returns:
            float32 `[n · frames per clip, D]`, clip after clip.

        Raises:
            UserError: if a clip is too short for one frame or not finite.
        """
        ...

    def clips_at_once(self, samples: int, sample_rate: int) -> int:
        """How many clips of so many samples share calls of the network.

        Clips that are embedded in groups of this number (the last may be smaller), one `frames` after another, have the
        same frames to the last bit as all of them in one.

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
        options: Of its class: hop and batch for all; window for musicnn; checkpoint, sha256 and device for VGGish and
            CLAP. None leaves the embedding's default.

    Raises:
        UserError: if no embedding has that name, if it does not take an option, or if what it needs is not installed
            or cannot be downloaded.
    """
    if name not in EMBEDDINGS:
        raise UserError(f"embedding '{name}': unknown; choose one of {', '.join(EMBEDDINGS)}")
    given = {key: value for key, value in options.items() if value is not None}
    known = inspect.signature(EMBEDDINGS[name]).parameters
    for key in given:
        if key not in known:
            raise UserError(f"embedding '{name}': takes no {key}; leave it out, it takes {', '.join(known)}")
    return EMBEDDINGS[name](**given)
