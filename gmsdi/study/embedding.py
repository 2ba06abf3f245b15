"""The stage that embeds clips for the Fréchet audio distances."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import chain, islice
from typing import TYPE_CHECKING

import numpy as np

from gmsdi.study.chunks import Progress
from gmsdi.study.shards import Shards
from gmsdi.study.stems import made_stems

if TYPE_CHECKING:
    import pandas as pd

    from gmsdi.metrics.embeddings import Embedding


def mixdown(audio: np.ndarray) -> np.ndarray:
    """The sound of each clip, [N, T]: the single stem, or the sum of the stems, without the mixture in the last row."""
    return audio[:, 0] if audio.shape[1] == 1 else audio[:, :-1].sum(axis=1)


def embed(embedding: Embedding, clips: Iterable[np.ndarray], sample_rate: int) -> np.ndarray:
    """Embedding frames of clips, clip by clip: float32 [N, F, D].

    Only as many clips as the embedding's network takes at once are in memory, and the frames equal, to the last bit,
    those of all clips together.

    Args:
        embedding: see `metrics.embeddings.get_embedding`.
        clips: N >= 1 clips [T] of equal length.
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


def embed_clips(
    embedding: Embedding,
    clips: pd.DataFrame,
    audio: Shards | np.ndarray,
    sample_rate: int,
    *,
    rows: Sequence[str] = (),
    count: int = 0,
    progress: Progress | None = None,
) -> dict[str, np.ndarray]:
    """Embeddings of the clips of a task, and of their stems.

    Args:
        embedding: see `metrics.embeddings.get_embedding`.
        clips: table of the clips, from `generation.clips_of`.
        audio: `[N, R, T]`.
        sample_rate: in Hz.
        rows: for a task that generates several stems, their names (`Task.rows`).
        count: number of clips of each stem, see `stems.made_stems`.
        progress: called with the share that is done, from 0 to 1.

    Returns:
        `bar/<bar>`: frames of `embed` for the clips of a bar, mixed down; if they use test chunks, also `tracks`, the
        tracks of each bar's clips. With `rows` also `stem/<row>`, frames of a stem, and `pairs/<column>`, the columns
        of `made_stems`.
    """
    found: dict[str, np.ndarray] = {}
    bars = list(clips.groupby("bar", sort=False))
    for done, (bar, group) in enumerate(bars):
        found[f"bar/{bar}"] = embed(embedding, (mixdown(audio[[row]])[0] for row in group.index), sample_rate)
        if "track" in group:  # the same for every bar
            found["tracks"] = group["track"].to_numpy(dtype=str)
        if progress is not None:
            progress((done + 1) / (len(bars) + len(rows)))
    if not rows:
        return found
    chosen, pairs = made_stems(clips, audio, rows, count=count, sample_rate=sample_rate)
    for name in pairs:
        found[f"pairs/{name}"] = pairs[name].to_numpy(dtype=str if name in ("stem", "other") else None)
    for place, (row, numbers) in enumerate(chosen.items()):
        found[f"stem/{row}"] = embed(embedding, (audio[[number]][0, place] for number in numbers), sample_rate)
        if progress is not None:
            progress((len(bars) + place + 1) / (len(bars) + len(rows)))
    return found


def named(arrays: Mapping[str, np.ndarray], prefix: str) -> dict[str, np.ndarray]:
    """The arrays whose names start with a prefix, by their names without it."""
    return {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}
