"""The stage that computes the Fréchet audio distances of Figures 2 and 3."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from gmsdi.metrics.frechet import Compared, fad, fad_ci, fad_difference_ci, fad_inf
from gmsdi.study.chunks import item_seed
from gmsdi.study.references import HELD_OUT, NOISE, SHUFFLED


def distances(
    labels: Sequence[str],
    generated: Mapping[str, Mapping[str, np.ndarray]],
    references: Mapping[str, np.ndarray],
    *,
    seed: int,
    tracks: Mapping[str, Sequence[str]],
    singles: Mapping[str, str],
    mixtures: Mapping[str, str],
    minus: Mapping[str, str] | None = None,
    confidence: float = 0.95,
    distance: Callable[[np.ndarray, np.ndarray], float] = fad,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Compute the Fréchet audio distances of Figures 2 and 3.

    Args:
        labels: the K labels.
        generated: for each task and bar, frames [N, F, D].
        references: frames of `reference_audio`, by name.
        seed: the run's seed.
        tracks: for each reference, and for each task whose clips use test chunks, the track of each clip; "" and
            missing tasks mean no track.
        singles: series names of the tasks of single stems, in the order of Figure 2.
        mixtures: series names of the other tasks, in the order of Figure 3.
        minus: for tasks of single stems that differ from another in one thing, that other task, with the same noise.
        confidence: coverage of the intervals.
        distance: computes the distance between the frames of a reference and of a bar; intervals and FAD∞ always use
            ours.

    Returns:
        Two tables with the columns bar, series, kind ("model", "line", or "other stem"), fad, fad_low, fad_high (see
        `metrics.frechet.fad_ci`), fad_inf, clips, tracks (0 if there are none), frames, reference_clips,
        reference_tracks, reference_frames, and shared_tracks (the number on both sides). As the distance depends on the
        number of clips, lines are computed from as many clips as bars, if there are enough. The held-out line never
        shares a track with its reference. The first table also has difference, difference_low and difference_high, the
        distance minus that of the task in `minus` (see `metrics.frechet.fad_difference_ci`; NaN without one).
    """
    minus = minus or {}

    def row(
        bar: str, series: str, kind: str, frames: np.ndarray, reference: str, of: Sequence[str] | None = None
    ) -> dict[str, Any]:
        compared, compared_tracks = references[reference], np.asarray(tracks[reference], dtype=str)
        own = np.asarray([""] * len(frames) if of is None else of, dtype=str)
        if series == HELD_OUT:
            apart = ~np.isin(compared_tracks, own)
            compared, compared_tracks = compared[apart], compared_tracks[apart]
        # A clip without a track is its own cluster.
        clusters = [track or f"clip {number}" for number, track in enumerate(own)]
        a, b = frames.reshape(-1, frames.shape[-1]), compared.reshape(-1, compared.shape[-1])
        seeded = {"seed": item_seed(seed, bar, series)}
        low, high = fad_ci(compared, frames, compared_tracks.tolist(), clusters, confidence=confidence, **seeded)
        return {
            "bar": bar,
            "series": series,
            "kind": kind,
            "fad": distance(b, a),
            "fad_low": low,
            "fad_high": high,
            "fad_inf": fad_inf(b, a, frames_per_clip=frames.shape[1], **seeded),
            "clips": len(frames),
            "tracks": len(set(own) - {""}),
            "frames": len(a),
            "reference_clips": len(compared),
            "reference_tracks": len(set(compared_tracks)),
            "reference_frames": len(b),
            "shared_tracks": len(set(own) & set(compared_tracks)),
        }

    def line(bar: str, series: str, kind: str, name: str, reference: str) -> dict[str, Any]:
        return row(bar, series, kind, references[name], reference, tracks[name])

    def difference(bar: str, task: str, reference: str, score: float) -> dict[str, float]:
        if task not in minus:
            return {"difference": math.nan, "difference_low": math.nan, "difference_high": math.nan}
        real, frames, others = references[reference], generated[task][bar], generated[minus[task]][bar]
        clusters = [f"clip {number}" for number in range(len(frames))]
        low, high = fad_difference_ci(
            Compared(real, frames, tracks[reference], clusters),
            Compared(real, others, tracks[reference], clusters),
            confidence=confidence,
            seed=item_seed(seed, bar, task),
        )
        other = distance(real.reshape(-1, real.shape[-1]), others.reshape(-1, others.shape[-1]))
        return {"difference": score - other, "difference_low": low, "difference_high": high}

    stems = []
    for label in labels:
        reference = f"stem/{label}"
        for task, series in singles.items():
            found = row(label, series, "model", generated[task][label], reference)
            stems.append(found | difference(label, task, reference, found["fad"]))
        stems.append(line(label, HELD_OUT, "line", f"held-out/{label}", reference))
        stems.append(line(label, NOISE, "line", f"noise/{label}", reference))
        for other in labels:
            if other != label:
                stems.append(line(label, other, "other stem", f"held-out/{other}", reference))
    sums = [
        row(bar, series, "model", frames, "mixture", tracks.get(task))
        for task, series in mixtures.items()
        for bar, frames in generated[task].items()
    ]
    sums.append(line("", HELD_OUT, "line", "held-out/mixture", "mixture"))
    sums.append(line("", SHUFFLED, "line", "shuffled", "mixture"))
    sums.append(line("", NOISE, "line", "noise/mixture", "mixture"))
    return pd.DataFrame(stems), pd.DataFrame(sums)
