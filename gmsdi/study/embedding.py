"""The stage that embeds clips for the Frechet audio distances."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import chain, islice
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from gmsdi.metrics.embeddings import Embedding


def mixdown(audio: np.ndarray) -> np.ndarray:
    """What a clip sounds like, [N, T]: the stem itself, or the sum of the stems without the mixture row."""
    return audio[:, 0] if audio.shape[1] == 1 else audio[:, :-1].sum(axis=1)


def embed(embedding: Embedding, clips: Iterable[np.ndarray], sample_rate: int) -> np.ndarray:
    """Embedding frames of clips, clip by clip: float32 [N, F, D].

    Only the clips that the embedding's network takes at once are in memory together, and the frames are the same to the
    last bit as those of all clips together.

    Args:
        embedding: see `metrics.embeddings.get_embedding`.
        clips: N >= 1 clips [T], all of one length.
        sample_rate: of the clips, in Hz.
    """
    left = iter(clips)
    first = next(left)
    left, size = chain([first], left), embedding.clips_at_once(len(first), sample_rate)
    found = []
    while block := list(islice(left, size)):
        frames = np.asarray(embedding.frames(np.stack(block), sample_rate), np.float32)
        found.append(frames.reshape(len(block), -1, frames.shape[-1]))
    return np.concatenate(found)
