"""BSS Eval's signal-to-distortion, -interference and -artifacts ratios, by the `museval` package.

These complement SI-SDRi (`metrics.si_sdr`), for comparison with the literature on music separation. They follow the
Signal Separation Evaluation Campaign 2018 (SiSEC; Stöter, Liutkus and Ito, "The 2018 Signal Separation Evaluation
Campaign", 2018): BSS Eval version 4, in frames of one second, summarized by medians.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pandas as pd

from gmsdi.errors import UserError
from gmsdi.io.arrays import as_array

SCORES = ("sdr", "sir", "sar")


def bss_eval_windows(
    estimates: Any,
    targets: Any,
    sample_rate: int,
    *,
    labels: Sequence[str],
    seconds: float = 1.0,
    hop: float = 1.0,
    taps: int = 512,
    channels: int = 1,
) -> pd.DataFrame:
    """Score one track (or a batch of equally long ones) by BSS Eval version 4 in frames.

    An estimate is split into a filtered version of its target, filtered versions of the other targets (interference),
    and the rest (artifacts). The filters have `taps` taps and are fitted to the whole track (Vincent et al.,
    "Performance Measurement in Blind Audio Source Separation", 2006). SDR counts everything but the unfiltered target
    as distortion: for one channel it is ‖t‖² / ‖t − e‖² in dB, which, unlike SI-SDR, penalises a wrong gain.

    A frame shorter than `seconds` is dropped. Undefined scores are missing (NaN): those of a stem whose target or
    estimate is silent (all zeros) throughout and, as in museval, those of every stem in a frame where another target or
    estimate is silent. A target that is silent throughout does not count as a source; the others are scored without it.

    Args:
        estimates: Separated stems `[..., K, T]`; NumPy or torch.
        targets: True stems `[..., K, T]`; a missing stem is zeros.
        sample_rate: In Hz.
        labels: Names of the K stems.
        seconds: Length of a frame.
        hop: Seconds from one frame to the next.
        taps: Length of the filters.
        channels: Of each stem, whose samples follow in turn: T then counts those of all.

    Returns:
        One row per frame and stem: `sub` (number of the frame, which starts at `sub · hop` seconds), `stem`, and `sdr`,
        `sir`, `sar` in dB, which may be infinite or NaN. With leading dimensions, a column `item` (the flattened index
        over them) comes first.

    Raises:
        UserError: if museval is not installed, the shapes do not fit together, a value is not finite, or a track is
            shorter than a frame.
    """
    estimates, targets = as_array(estimates), as_array(targets)
    if targets.ndim < 2 or estimates.shape != targets.shape or len(labels) != targets.shape[-2]:
        raise UserError(
            f"BSS Eval: shapes do not fit (estimates {estimates.shape}, targets {targets.shape}, labels "
            f"{len(labels)}); expected [..., K, T] twice and K labels"
        )
    for name, signal in (("estimates", estimates), ("targets", targets)):
        if not np.isfinite(signal).all():
            raise UserError(f"BSS Eval: the {name} hold values that are not finite; check where they were made")
    length, step = int(seconds * sample_rate), int(hop * sample_rate)
    if length < 1 or step < 1 or taps < 1:
        raise UserError("BSS Eval: seconds, hop and taps must be positive")
    stems, total = targets.shape[-2], targets.shape[-1] // channels
    if total < length:
        raise UserError(
            f"BSS Eval: {total} samples are less than a frame of {length}; score longer chunks or shorten the frames"
        )
    batched, count = targets.ndim > 2, (total - length) // step + 1
    estimates, targets = (signals.reshape(-1, stems, total, channels) for signals in (estimates, targets))
    scores = np.full((len(targets), count, stems, len(SCORES)), np.nan)
    for item, (estimate, target) in enumerate(zip(estimates, targets, strict=True)):
        _score(scores[item], estimate, target, length, step, taps)
    items, subs, _ = (axis.ravel() for axis in np.indices(scores.shape[:3]))
    table = pd.DataFrame({"item": items, "sub": subs, "stem": list(labels) * (len(targets) * count)})
    table[list(SCORES)] = scores.reshape(-1, len(SCORES))
    return table if batched else table.drop(columns="item")


def summarize_bss_eval(table: pd.DataFrame) -> pd.DataFrame:
    """Condense the rows of `bss_eval_windows` as in SiSEC: the median over each track's frames, then over the tracks.

    Args:
        table: Columns `sub`, `stem`, `sdr`, `sir`, `sar` and, if there are several tracks, `track` or `item`.

    Returns:
        One row per stem in order of appearance, then "All", the mean of the stems that have a score; columns `stem`,
        `sdr`, `sir`, `sar` in dB, `frames` (the number of frames with a score; for All, their sum) and `tracks` (the
        number of tracks with a score; for All, with a score of any stem). NaN where nothing was scored.

    Raises:
        UserError: if the table is empty.
    """
    if table.empty:
        raise UserError("BSS Eval: no rows to summarize")
    cluster = next((name for name in ("track", "item") if name in table), None)
    scored = table.assign(track=table[cluster] if cluster else 0).dropna(subset=["sdr"])
    stems = list(dict.fromkeys(table["stem"]))
    medians = scored.groupby(["stem", "track"])[list(SCORES)].median().groupby("stem").median()
    result = medians.reindex(stems).rename_axis("stem").reset_index()
    by_stem = scored.groupby("stem")["track"]
    result["frames"] = by_stem.size().reindex(stems, fill_value=0).to_numpy()
    result["tracks"] = by_stem.nunique().reindex(stems, fill_value=0).to_numpy()
    overall = {"stem": "All", **result[list(SCORES)].mean(), "frames": len(scored), "tracks": scored["track"].nunique()}
    return pd.concat([result, pd.DataFrame([overall])], ignore_index=True)


def _score(scores: np.ndarray, estimates: np.ndarray, targets: np.ndarray, length: int, step: int, taps: int) -> None:
    """Fill `scores` `[frames, K, 3]` of one track; its signals are `[K, T, C]`."""
    metrics = museval_metrics()
    present = np.any(targets != 0, axis=(-2, -1))
    estimated = np.any(estimates != 0, axis=(-2, -1))
    if not (present & estimated).any():
        return
    # museval refuses an estimate of zeros. The target takes its place, and its scores are dropped afterwards. Leaving
    # the stem out instead would hide its interference in the estimates of others.
    stand_in = np.where(estimated[:, None, None], estimates, targets)
    try:
        sdr, _, sir, sar, _ = metrics.bss_eval(
            targets[present].astype(np.float64),
            stand_in[present].astype(np.float64),
            window=length,
            hop=step,
            filters_len=taps,
        )
    except (np.linalg.LinAlgError, AttributeError) as error:
        # For a singular system museval 0.4.1 uses a name that NumPy 2 has removed.
        if isinstance(error, AttributeError) and "linalg" not in str(error):
            raise
        return
    kept = np.flatnonzero(present)
    scores[:, kept] = np.stack([sdr, sir, sar], axis=-1).transpose(1, 0, 2)
    scores[:, ~estimated] = np.nan


@cache
def museval_metrics() -> ModuleType:
    """Import the metrics of museval without the rest of the package, which needs musdb and, through it, ffmpeg.

    Raises:
        UserError: if museval is not installed.
    """
    package = importlib.util.find_spec("museval")
    if package is None or not package.submodule_search_locations:
        raise UserError("museval is not installed; BSS Eval's scores need it: pip install --no-deps museval==0.4.1")
    path = Path(package.submodule_search_locations[0]) / "metrics.py"
    spec = importlib.util.spec_from_file_location("museval.metrics", path)
    if spec is None or spec.loader is None:
        raise UserError(f"{path}: cannot be imported; install museval==0.4.1 again")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
