"""The stage that generates: the clips of a task with their seeds, in batches."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from gmsdi.errors import UserError
from gmsdi.study.channels import kept
from gmsdi.study.chunks import Progress, draw, given_in, in_batches, item_seed, joined, split_tracks
from gmsdi.study.tasks import Clips, Task

if TYPE_CHECKING:
    from gmsdi.data.windows import WindowSet
    from gmsdi.systems.base import System


def clips_of(task: Task, windows: WindowSet | None = None, *, seed: int = 0) -> pd.DataFrame:
    """All clips of a task, ordered by clip number, so that every shard has clips of every bar.

    Args:
        task: the task.
        windows: the test split, for a task with given stems, which come from chunks with all stems active. Every bar
            uses the same chunks; if there are fewer chunks than clips, they are used again with other noise.
        seed: the run's seed, which the draw of chunks depends on.

    Returns:
        DataFrame with the columns bar and clip and, for a task with given stems, chunk and track.
    """
    rows = [(bar, clip) for clip in range(task.clips) for bar in task.bars()]
    table = pd.DataFrame(rows, columns=["bar", "clip"])
    if task.given:
        assert windows is not None
        labels = task.labels
        full = windows.table["active"] == joined(labels)
        if not full.any():
            raise UserError(f"{windows.folder}: no chunk has all of {joined(labels)} active; use more tracks")
        _, tracks = split_tracks(windows.table, labels, seed)
        eligible = windows.table.index[full & windows.table["track"].isin(tracks)]
        chunks = sorted(draw(windows.table, eligible, task.clips, seed, "given"))
        table["chunk"] = [chunks[clip % len(chunks)] for clip in table["clip"]]
        table["track"] = windows.table.loc[table["chunk"], "track"].to_numpy()
    return table


def generate(
    task: Task,
    system: System,
    clips: pd.DataFrame,
    *,
    seed: int,
    batch: int,
    windows: WindowSet | None = None,
    progress: Progress | None = None,
) -> np.ndarray:
    """Generate clips of a task at the loudness of the model's training mixtures.

    An accompaniment is as loud, relative to its given stems, as the mixture of their track (see `gmsdi.level`).

    Args:
        task: the task.
        system: the opened system, from `task.system.open`.
        clips: rows of `clips_of`.
        seed: the run's seed. Clips that differ only in their negative prompts share their noise.
        batch: number of clips sampled together.
        windows: the test split, for a task with given stems.
        progress: see `Progress`.

    Returns:
        float32 [N, R, T], or [N, R, C, T] with more than one channel: a single stem, or the stems or groups of
        `Task.rows`, with given stems unchanged, and then the mixture; for models without one, it is the sum of the
        stems.
    """
    from gmsdi.level import track_levels

    audio = np.zeros((len(clips), task.signals, system.channels, system.window), np.float32)
    done = 0
    of_tracks: dict[str, float] = {}
    if task.given and system.level is not None:
        assert windows is not None
        of_tracks = track_levels(windows, windows.table.loc[clips["chunk"].tolist(), "track"])
    for bar, group in clips.groupby("bar", sort=False) if task.by_bar else [("", clips)]:
        places = clips.index.get_indexer(group.index)
        for part, callback in in_batches(places.tolist(), batch, progress, done):
            chosen = clips.iloc[part]
            numbered = zip(chosen["bar"], chosen["clip"].tolist(), strict=True)
            given = levels = None
            if task.given:
                assert windows is not None
                chunks, known = chosen["chunk"].tolist(), given_in(bar)
                given = windows.stems(chunks)[:, [i for i, label in enumerate(task.labels) if label in known]]
                levels = [of_tracks[track] for track in windows.table.loc[chunks, "track"]] if of_tracks else None
            seeds = [item_seed(seed, task.FAMILY, own, clip) for own, clip in numbered]
            audio[part] = task.generate(system, Clips(chosen["bar"].tolist(), seeds, given, levels, callback))
        done += len(group)
    return kept(audio)
