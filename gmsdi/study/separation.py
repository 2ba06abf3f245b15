"""The stages that separate: chunks with their seeds, in batches, by a row of Table 2, and means of several rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from gmsdi.study.channels import kept
from gmsdi.study.chunks import Progress, in_batches, item_seed
from gmsdi.study.methods import MeanOfRows, Row

if TYPE_CHECKING:
    from gmsdi.data.windows import WindowSet
    from gmsdi.systems.base import System


def average(
    row: MeanOfRows, estimates: Mapping[str, np.ndarray], windows: WindowSet, ids: Sequence[int], *, batch: int
) -> np.ndarray:
    """Combine the stems that other rows estimated for the chunks `ids`; returns them as `separate` does.

    Args:
        row: the row.
        estimates: for each of the other rows, by name, what `separate` returned.
        windows: the test split.
        ids: chunks.
        batch: number of chunks in memory at a time.
    """
    import torch

    from gmsdi.level import track_levels

    def stems(name: str, part: slice) -> torch.Tensor:
        return torch.from_numpy(estimates[name][part]).reshape(
            -1, len(windows.labels), windows.channels, windows.window
        )

    means = [_of_no_chunk(windows)]
    # Only a filter asks for the levels, for which whole tracks are read.
    of_tracks = {} if row.wiener is None else track_levels(windows, windows.table.loc[list(ids), "track"])
    for start in range(0, len(ids), batch):
        part = slice(start, start + batch)
        given = {name: stems(name, part) for name in row.of}
        levels = [of_tracks[track] for track in windows.table.loc[list(ids[part]), "track"]] if of_tracks else None
        mean = row.combine(given, torch.from_numpy(windows.mixture(ids[part])), windows.sample_rate, levels)
        means.append(kept(mean.numpy()))
    return np.concatenate(means)


def _of_no_chunk(windows: WindowSet) -> np.ndarray:
    """The stems of an empty shard, `[0, K, T]` or `[0, K, C, T]`: there may be more shards than chunks."""
    return kept(np.zeros((0, len(windows.labels), windows.channels, windows.window), np.float32))


def separate(
    row: Row,
    system: System,
    windows: WindowSet,
    ids: Sequence[int],
    *,
    seed: int,
    batch: int,
    progress: Progress | None = None,
) -> np.ndarray:
    """Estimate the stems of the chunks `ids`; returns float32 [N, K, T], or [N, K, C, T] with more than one channel.

    Chunks are scaled by the level of their track (see `gmsdi.level`), so soft passages stay softer than others.

    Args:
        row: the row, with all settings chosen.
        system: the opened system, from `row.system.open`.
        windows: the test split.
        ids: chunks.
        seed: the run's seed. A chunk's noise is the same for every method and every w.
        batch: number of signals sampled together.
        progress: see `Progress`.
    """
    import torch

    from gmsdi.level import track_levels

    estimates = [_of_no_chunk(windows)]
    of_tracks = track_levels(windows, windows.table.loc[list(ids), "track"]) if system.level is not None else {}
    for part, callback in in_batches(ids, row.together(batch), progress):
        chunks = windows.table.loc[part]
        places = zip(chunks["track"], chunks["offset"].tolist(), strict=True)
        stems = row.separate(
            system,
            torch.from_numpy(windows.mixture(part)),
            seeds=[item_seed(seed, "separation", track, offset) for track, offset in places],
            levels=[of_tracks[track] for track in chunks["track"]] if of_tracks else None,
            callback=callback,
        )
        estimates.append(kept(stems.numpy()))
    return np.concatenate(estimates)
