"""The stage that checks whether the stems of generated mixtures sound like their labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import permutations
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from gmsdi.study.channels import heard
from gmsdi.study.chunks import ALL, draw, given_in, item_seed, joined, labels_in
from gmsdi.study.counting import CALL
from gmsdi.study.references import HELD_OUT
from gmsdi.study.shards import Shards

if TYPE_CHECKING:
    from gmsdi.data.windows import WindowSet


COMMON = ("cosine", "absolute", "harmony", "onsets")
"""What is measured for each pair of stems in a clip."""


def made_stems(
    clips: pd.DataFrame, audio: Shards | np.ndarray, rows: Sequence[str], *, count: int, sample_rate: int
) -> tuple[dict[str, list[int]], pd.DataFrame]:
    """Choose the clips that each stem of a task is judged by, and measure what stems of a clip have in common.

    Args:
        clips: table of the clips of a task that generates several stems, from `join_shards`.
        audio: [N, R + 1, T], the R stems and, last, the mixture.
        rows: names of the R stems: labels, or joined labels of groups.
        count: number of clips per stem. If several bars generate a stem, its clips are taken from them in turn. The
            number is the same as in total generation because the distance depends on it.
        sample_rate: in Hz.

    Returns:
        For each of the `rows`, the numbers of its clips. For each ordered pair of them, the columns stem and other, and
        means over all clips in which `stem` is generated and neither is silent: cosine of the waveforms,
        ⟨x, x'⟩/(‖x‖·‖x'‖), absolute (its absolute value), harmony and onsets (`metrics.coherence.in_common`).
    """
    from gmsdi.metrics.coherence import in_common

    given = [set(given_in(bar)) for bar in clips["bar"]]
    chosen: dict[str, list[int]] = {}
    for row in rows:
        bars = [group.index for bar, group in clips.groupby("bar", sort=False) if row not in given_in(bar)]
        # The k-th clip comes from another bar than its neighbours.
        chosen[row] = [int(bars[k % len(bars)][k]) for k in range(min(count, *map(len, bars)))]
    found: dict[tuple[str, str], list[tuple[float, ...]]] = {}
    for start in range(0, len(clips), CALL):
        numbers = list(range(start, min(start + CALL, len(clips))))
        read = audio[numbers][:, :-1]
        for number, stems, harmony, onsets in zip(numbers, read, *in_common(read, sample_rate), strict=True):
            products = stems.astype(np.float64) @ stems.T.astype(np.float64)
            norms = np.sqrt(np.diag(products))
            for (i, stem), (j, other) in permutations(enumerate(rows), 2):
                if stem not in given[number] and norms[i] > 0 and norms[j] > 0:
                    cosine = products[i, j] / (norms[i] * norms[j])
                    found.setdefault((stem, other), []).append((cosine, abs(cosine), harmony[i, j], onsets[i, j]))
    pairs = [(*pair, *np.mean(values, axis=0)) for pair, values in found.items()]
    return chosen, pd.DataFrame(pairs, columns=["stem", "other", *COMMON])


def real_cosines(windows: WindowSet, *, clips: int, seed: int) -> pd.DataFrame:
    """The pairs of `made_stems` for real stems, from at most `clips` chunks of the test split with all stems active."""
    full = windows.table.index[windows.table["active"] == joined(windows.labels)]
    chunks = sorted(draw(windows.table, full, clips, seed, "cosines"))
    table = pd.DataFrame({"bar": [ALL] * len(chunks)})

    class Real:
        def __getitem__(self, rows: Sequence[int]) -> np.ndarray:
            stems = heard(windows.stems([chunks[row] for row in rows]))
            return np.concatenate([stems, stems.sum(axis=1, keepdims=True)], axis=1)

    real: Any = Real()
    return made_stems(table, real, windows.labels, count=clips, sample_rate=windows.sample_rate)[1]


def stems_of_mixtures(
    generated: Mapping[str, Mapping[str, np.ndarray]],
    cosines: Mapping[str, pd.DataFrame],
    references: Mapping[str, np.ndarray],
    *,
    series: Mapping[str, str],
    seed: int,
    tracks: Mapping[str, Sequence[str]],
    confidence: float = 0.95,
) -> pd.DataFrame:
    """Check whether the stems of total and partial generation sound like their labels.

    The distance between sums and real mixtures cannot tell: stems that are fractions of one mixture sum to it.

    Args:
        generated: for each task and stem, frames [N, F, D]; single stems too, for scale.
        cosines: for each task, the pairs of `made_stems`; those of `real_cosines` as HELD_OUT.
        references: frames of `reference_audio`, by name.
        series: name of each task in the table.
        seed: the run's seed.
        tracks: for each reference, the tracks of its clips.
        confidence: coverage of the intervals.

    Returns:
        A row per series, stem and reference, with the columns series, stem, reference, own (is it the stem's own
        reference?), nearest (is it the nearest among its own and those of single labels?) and fad. Own references also
        have fad_low and fad_high (`metrics.frechet.fad_ci`); others have what `made_stems` found in common with the
        reference's stem. Then clips, frames and reference_clips. Held-out chunks are compared as in `distances`.
    """
    from gmsdi.metrics.frechet import fad, fad_ci

    stems = [name.removeprefix("stem/") for name in references if name.startswith("stem/")]
    held_out = {stem: references[f"held-out/{stem}"] for stem in stems}
    rows = []
    for task, made in [*generated.items(), (HELD_OUT, held_out)]:
        name = HELD_OUT if task == HELD_OUT else series[task]
        pairs = cosines[task].set_index(["stem", "other"]) if task in cosines else None
        for stem, frames in made.items():
            found: list[dict[str, Any]] = []
            own_tracks = np.asarray(tracks[f"held-out/{stem}"] if task == HELD_OUT else [""] * len(frames), dtype=str)
            clusters = [track or f"clip {number}" for number, track in enumerate(own_tracks)]
            for other in stems:
                if len(labels_in(other)) > 1 and not (len(labels_in(stem)) > 1 and other in made):
                    continue  # references of several labels are for groups
                compared, compared_tracks = references[f"stem/{other}"], np.asarray(tracks[f"stem/{other}"], dtype=str)
                if task == HELD_OUT:
                    apart = ~np.isin(compared_tracks, own_tracks)
                    compared, compared_tracks = compared[apart], compared_tracks[apart]
                row: dict[str, Any] = {"series": name, "stem": stem, "reference": other, "own": other == stem}
                row["fad"] = fad(compared.reshape(-1, compared.shape[-1]), frames.reshape(-1, frames.shape[-1]))
                if other == stem:
                    row["fad_low"], row["fad_high"] = fad_ci(
                        compared, frames, compared_tracks.tolist(), clusters, confidence=confidence,
                        seed=item_seed(seed, "stems", name, stem),
                    )  # fmt: skip
                elif pairs is not None and (stem, other) in pairs.index:
                    row |= pairs.loc[(stem, other), list(COMMON)].to_dict()
                row |= {"clips": len(frames), "frames": frames.shape[0] * frames.shape[1]}
                found.append({**row, "reference_clips": len(compared)})
            least = min(row["fad"] for row in found)
            rows += [{**row, "nearest": row["fad"] == least} for row in found]
    order = ["series", "stem", "reference", "own", "nearest", "fad", "fad_low", "fad_high", *COMMON]
    return pd.DataFrame(rows).reindex(columns=[*order, "clips", "frames", "reference_clips"])
