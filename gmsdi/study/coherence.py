"""The stage that compares accompaniments with the given stems."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from gmsdi.study.channels import heard
from gmsdi.study.chunks import given_in
from gmsdi.study.counting import CALL
from gmsdi.study.shards import Shards

if TYPE_CHECKING:
    from gmsdi.data.windows import WindowSet

REAL, OTHER = "real stems of the chunk", "real stems of another chunk"


def coherences(
    labels: Sequence[str], made: Mapping[str, tuple[pd.DataFrame, Shards]], windows: WindowSet
) -> pd.DataFrame:
    """How well the accompaniments of Figure 3 fit the given stems (`metrics.coherence`).

    Args:
        labels: the K labels.
        made: for each series (a task with given stems) its clips and their audio [N, K + 1, T], from `join_shards`.
        windows: the test split.

    Returns:
        The columns series, bar (the given stems), given (their number), harmony, onsets, copied, clips; a row per
        series and bar. For scale, two series compare the given stems with the real other stems of their chunk, and with
        those of another chunk.
    """
    from gmsdi.metrics.coherence import coherence

    rows = []
    for number, (name, (clips, audio)) in enumerate(made.items()):
        for bar, group in clips.groupby("bar", sort=False):
            given = [i for i, label in enumerate(labels) if label in given_in(bar)]
            others = [i for i in range(len(labels)) if i not in given]
            # Neighbouring clips are mostly from one track, clips far apart are not; several can be of one chunk.
            chunks = group["chunk"].to_numpy()
            distinct = list(dict.fromkeys(chunks.tolist()))
            partner = dict(zip(distinct, np.roll(distinct, len(distinct) // 2).tolist(), strict=True))
            strange = np.array([partner[chunk] for chunk in chunks.tolist()])
            found: dict[str, list[tuple[np.ndarray, ...]]] = {}
            for start in range(0, len(group), CALL):  # a few clips in memory
                part = slice(start, start + CALL)
                stems = audio[group.index[part].tolist()]
                compared = {name: stems[:, others]}
                if number == 0:
                    compared[REAL] = heard(windows.stems(chunks[part].tolist()))[:, others]
                    if len(distinct) > 1:
                        compared[OTHER] = heard(windows.stems(strange[part].tolist()))[:, others]
                for series, accompaniment in compared.items():
                    pair = stems[:, given].sum(axis=1), accompaniment.sum(axis=1)
                    found.setdefault(series, []).append(coherence(*pair, windows.sample_rate))
            for series, parts in found.items():
                means = (np.concatenate(values).mean() for values in zip(*parts, strict=True))
                numbers = dict(zip(("harmony", "onsets", "copied"), means, strict=True))
                rows.append({"series": series, "bar": bar, "given": len(given), **numbers, "clips": len(group)})
    return pd.DataFrame(rows)
