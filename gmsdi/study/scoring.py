"""The stage that scores separations: joins consecutive chunks, and computes SI-SDR improvements or BSS Eval."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from gmsdi.study.channels import apart, interleaved, kept
from gmsdi.study.chunks import Progress
from gmsdi.study.shards import Shards

if TYPE_CHECKING:
    from gmsdi.data.windows import WindowSet


def score_separation(windows: WindowSet, ids: Sequence[int], estimates: np.ndarray | Shards) -> pd.DataFrame:
    """SI-SDR improvements of the estimates [N, K, T] for the chunks `ids`, one row per sub-window and stem.

    With more than one channel, the estimates are [N, K, C, T], see `gmsdi.study.channels`.

    Consecutive chunks of a track are joined before they are divided into sub-windows, as in MSDM's protocol. Only one
    such stretch of `Shards` is in memory at a time.

    Returns:
        DataFrame with `track` and `offset` (in samples) of the first joined chunk, then the columns of
        `si_sdri_windows`, and `log_mel`, the Log-Mel L1 of the sub-window, a mean over channels.

    Raises:
        UserError: if there is nothing to score: no sub-window has two active stems.
    """
    from gmsdi.metrics.log_mel import log_mel_l1
    from gmsdi.metrics.si_sdr import require_scores, si_sdri_windows, subwindows

    channels, rate = windows.channels, windows.sample_rate

    def score(estimate: np.ndarray, target: np.ndarray) -> pd.DataFrame:
        table = si_sdri_windows(estimate, target, None, rate * channels, labels=windows.labels)
        starts, ends = subwindows(target.shape[-1], rate * channels)
        places = zip(table["sub"], [windows.labels.index(stem) for stem in table["stem"]], strict=True)
        cuts = [(k, slice(starts[sub], ends[sub])) for sub, k in places]
        pairs = ((apart(estimate[cut], channels), apart(target[cut], channels)) for cut in cuts)
        table["log_mel"] = [log_mel_l1(*pair, rate).mean() for pair in pairs]
        return table

    scores = _score_joined(score, windows, ids, estimates)
    require_scores(scores)
    return scores


def score_bss_eval(
    windows: WindowSet, ids: Sequence[int], estimates: np.ndarray | Shards, *, progress: Progress | None = None
) -> pd.DataFrame:
    """SDR, SIR and SAR of the estimates [N, K, T] for the chunks `ids`, one row per one-second frame and stem.

    Consecutive chunks of a track are joined, as in `score_separation`; filters are fitted to each such stretch.

    Returns:
        DataFrame with `track` and `offset` (in samples) of the first joined chunk, then the columns of
        `bss_eval_windows`.
    """
    from gmsdi.metrics.bss_eval import bss_eval_windows

    def score(estimate: np.ndarray, target: np.ndarray) -> pd.DataFrame:
        return bss_eval_windows(estimate, target, windows.sample_rate, labels=windows.labels, channels=windows.channels)

    return _score_joined(score, windows, ids, estimates, progress)


def _score_joined(
    score: Callable[[np.ndarray, np.ndarray], pd.DataFrame],
    windows: WindowSet,
    ids: Sequence[int],
    estimates: np.ndarray | Shards,
    progress: Progress | None = None,
) -> pd.DataFrame:
    """Results of `score(estimate [K, T'], target [K, T'])` for every stretch of consecutive chunks, with its position.

    Channels are interleaved, so that T' counts the samples of all of them.
    """
    rows: list[pd.DataFrame] = []
    done = 0
    position = {chunk: place for place, chunk in enumerate(ids)}
    for group in consecutive(windows.table, ids, windows.window):
        # One after the other, so that only one of them is in memory twice at a time.
        estimate = _joined(estimates[[position[chunk] for chunk in group]], windows.channels)
        target = _joined(kept(windows.stems(group)), windows.channels)
        scores = score(estimate, target)
        first = windows.table.loc[group[0]]
        scores.insert(0, "offset", first["offset"])
        scores.insert(0, "track", first["track"])
        rows.append(scores)
        done += len(group)
        if progress is not None:
            progress(done)
    return pd.concat(rows, ignore_index=True)


def _joined(chunks: np.ndarray, channels: int) -> np.ndarray:
    """Chunks end to end, [K, T']."""
    return np.concatenate(list(interleaved(chunks, channels)), axis=-1)


def consecutive(table: pd.DataFrame, ids: Sequence[int], window: int) -> list[list[int]]:
    """Group chunks into stretches in which they follow one another within a track."""
    runs: list[list[int]] = []
    for chunk in sorted(ids):
        track, offset = table.at[chunk, "track"], table.at[chunk, "offset"]
        last = runs[-1][-1] if runs else None
        if last is not None and table.at[last, "track"] == track and table.at[last, "offset"] + window == offset:
            runs[-1].append(chunk)
        else:
            runs.append([chunk])
    return runs
