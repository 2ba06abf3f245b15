"""Scale-invariant signal-to-distortion ratio (SI-SDR), and its improvement over the mixture, the score of Table 2.

The protocol is MSDM's (Mariani et al., "Multi-Source Diffusion Models for Simultaneous Music Generation and
Separation", 2024), which the paper follows. It also scores silent stems, for which an estimate of zeros gains the ratio
of the mixture's energy to ε, easily +100 dB. Every summary therefore also has the mean over active stems alone.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, overload

import numpy as np
import pandas as pd

from gmsdi.errors import UserError
from gmsdi.io.arrays import as_array
from gmsdi.metrics import HOP, SUBWINDOW

EPSILON = 1e-8
SILENCE = 1.5e-5  # a signal of N samples is silent if ‖x‖₂ / N is below this


@overload
def si_sdr(estimate: np.ndarray, target: np.ndarray, *, eps: float = EPSILON) -> np.ndarray: ...
@overload
def si_sdr(estimate: Any, target: Any, *, eps: float = EPSILON) -> Any: ...
def si_sdr(estimate: Any, target: Any, *, eps: float = EPSILON) -> Any:
    """SI-SDR = 10 log₁₀((‖a·t‖² + ε) / (‖a·t − e‖² + ε)), a = (⟨e, t⟩ + ε) / (‖t‖² + ε); no mean is removed.

    Le Roux et al., "SDR – half-baked or well done?", 2019, with ε as in MSDM. Computed in float64.

    Args:
        estimate: `[..., T]`, NumPy or torch.
        target: `[..., T]`, with a shape that broadcasts with `estimate`.
        eps: ε, in units of energy.

    Returns:
        `[...]` in dB, NumPy or torch like `target` (and on its device).
    """
    estimate, target, log10 = _float64(estimate, target)
    a = ((estimate * target).sum(-1) + eps) / ((target * target).sum(-1) + eps)
    scaled = a[..., None] * target
    error = scaled - estimate
    return 10 * log10(((scaled * scaled).sum(-1) + eps) / ((error * error).sum(-1) + eps))


def si_sdri_windows(
    estimates: Any,
    targets: Any,
    mixture: Any,
    sample_rate: int,
    *,
    labels: Sequence[str],
    seconds: float = SUBWINDOW,
    hop: float = HOP,
    silence: float = SILENCE,
) -> pd.DataFrame:
    """Score one track (or a batch of equally long ones) by MSDM's protocol.

    The track is cut into sub-windows of `seconds` every `hop` seconds; the last one may be shorter, and a track that is
    no longer than their overlap has none. A sub-window with fewer than two active targets is skipped; in the others all
    stems are scored, including silent ones: SI-SDRi = SI-SDR(estimate, target) − SI-SDR(mixture, target).

    Every sample is read once: the scores follow from inner products, which are computed for the blocks between the ends
    of sub-windows and summed over each sub-window. Time is linear in the track's length, and no signal is copied as a
    whole.

    Args:
        estimates: Separated stems `[..., K, T]`, a track's separated windows end to end; NumPy or torch.
        targets: True stems `[..., K, T]`; a missing stem is zeros.
        mixture: `[..., T]`; None means the sum of the targets, which is the protocol's mixture.
        sample_rate: In Hz.
        labels: Names of the K stems.
        seconds: Length of a sub-window.
        hop: Seconds from one sub-window to the next.
        silence: A target is active if ‖x‖₂ / N is at least this.

    Returns:
        One row per scored sub-window and stem: `sub` (number of the sub-window in its track, counting skipped ones, so
        that it starts at `sub · hop` seconds), `stem`, `active` (whether the target is active), `si_sdri` in dB, and
        `level`, the energy of the estimate relative to the mixture's in dB; for a silent target, this is what leaked
        into it. With leading dimensions, a column `item` (the flattened index over them) comes first.

    Raises:
        UserError: if the shapes do not fit together, or a value is not finite.
    """
    estimates, targets = as_array(estimates), as_array(targets)
    mixture = None if mixture is None else as_array(mixture)
    expected = targets.shape[:-2] + targets.shape[-1:]
    mixed = expected if mixture is None else mixture.shape
    if targets.ndim < 2 or estimates.shape != targets.shape or mixed != expected:
        shapes = f"estimates {estimates.shape}, targets {targets.shape}, mixture {mixed}"
        raise UserError(f"SI-SDRi: shapes do not fit ({shapes}); expected [..., K, T] twice and [..., T]")
    stems, total = targets.shape[-2:]
    if len(labels) != stems:
        raise UserError(f"SI-SDRi: {len(labels)} labels ({', '.join(labels)}) for {stems} stems")
    length, step = _lengths(sample_rate, seconds, hop)
    if length < 1 or not 1 <= step <= length:
        raise UserError(f"SI-SDRi: sub-windows of {seconds} s every {hop} s; expected 0 < hop <= seconds")

    batched = targets.ndim > 2
    estimates, targets = estimates.reshape(-1, stems, total), targets.reshape(-1, stems, total)
    mixture = None if mixture is None else mixture.reshape(-1, total)
    starts, ends = _spans(total, length, step)
    gain, level = (np.empty((len(targets), len(starts), stems)) for _ in range(2))
    active = np.empty(gain.shape, dtype=bool)
    for item, (estimate, target) in enumerate(zip(estimates, targets, strict=True)):
        own = None if mixture is None else mixture[item]
        with np.errstate(invalid="ignore", over="ignore"):  # non-finite values are reported below
            ee, tt, et, mt, mm = _inner_products(estimate, target, own, starts, ends)
        if not all(np.isfinite(products).all() for products in (ee, tt, mm)):
            _require_finite({"estimates": estimate, "targets": target} | ({} if own is None else {"mixture": own}))
        active[item] = np.sqrt(tt) / (ends - starts)[:, None] >= silence
        level[item] = 10 * np.log10((ee + EPSILON) / (mm + EPSILON))
        ours, lost = _si_sdr_of_products(ee, tt, et)
        theirs, lost_mixture = _si_sdr_of_products(mm, tt, mt)
        for sub, k in np.argwhere(lost | lost_mixture):
            cut = slice(starts[sub], ends[sub])
            mix = target[:, cut].sum(0, dtype=np.float64) if own is None else own[cut]
            ours[sub, k], theirs[sub, k] = si_sdr(np.stack([estimate[k, cut], mix]), target[k, cut])
        gain[item] = ours - theirs

    scored = np.broadcast_to((active.sum(-1) > 1)[..., None], active.shape)
    items, subs, rows = np.nonzero(scored)
    table = pd.DataFrame(
        {
            "item": items,
            "sub": subs,
            "stem": pd.Series(np.array(labels, dtype=object)[rows], dtype="str"),
            "active": active[scored],
            "si_sdri": gain[scored],
            "level": level[scored],
        }
    )
    return table if batched else table.drop(columns="item")


def subwindows(
    total: int, sample_rate: int, *, seconds: float = SUBWINDOW, hop: float = HOP
) -> tuple[np.ndarray, np.ndarray]:
    """The first samples of the sub-windows of a signal, and those after their last, both `[W]`; see `si_sdri_windows`.

    Args:
        total: Samples of the signal.
        sample_rate: In Hz.
        seconds: Length of a sub-window.
        hop: Seconds from one sub-window to the next.
    """
    return _spans(total, *_lengths(sample_rate, seconds, hop))


def _lengths(sample_rate: int, seconds: float, hop: float) -> tuple[int, int]:
    """Samples of a sub-window, and from one to the next."""
    length = int(seconds * sample_rate)
    return length, length - int((seconds - hop) * sample_rate)


def _spans(total: int, length: int, step: int) -> tuple[np.ndarray, np.ndarray]:
    starts = step * np.arange(max(0, math.ceil((total - (length - step)) / step)))
    return starts, np.minimum(starts + length, total)


def _inner_products(
    estimate: np.ndarray, target: np.ndarray, mixture: np.ndarray | None, starts: np.ndarray, ends: np.ndarray
) -> tuple[np.ndarray, ...]:
    """‖e‖², ‖t‖², ⟨e, t⟩, ⟨m, t⟩ and ‖m‖² of every sub-window and stem, float64 `[W, K]`; the last `[W, 1]`.

    Products are computed for the blocks between neighbouring starts and ends of sub-windows, and added up for each
    sub-window. A difference of running sums would lose precision where a quiet passage follows a loud one.
    """
    K = len(target)
    edges = np.unique(np.concatenate([starts, ends]))
    blocks = np.empty((max(0, len(edges) - 1), 4 * K + 1))
    buffer = np.empty((2 * K + 1, int(np.diff(edges).max(initial=0))))
    for block, (start, end) in enumerate(pairwise(edges.tolist())):
        signals = buffer[:, : end - start]
        signals[:K], signals[K:-1] = estimate[:, start:end], target[:, start:end]
        e, t, m = signals[:K], signals[K:-1], signals[-1]
        if mixture is None:
            np.add.reduce(t, axis=0, out=m)
        else:
            m[:] = mixture[start:end]
        for place, (x, y) in enumerate(((e, e), (t, t), (e, t), (t, m))):
            np.vecdot(x, y, out=blocks[block, place * K : (place + 1) * K])
        blocks[block, -1] = np.vecdot(m, m)
    first, last = np.searchsorted(edges, starts), np.searchsorted(edges, ends)
    sums = np.array([blocks[i:j].sum(0) for i, j in zip(first, last, strict=True)]).reshape(-1, 4 * K + 1)
    return tuple(np.split(sums, [K, 2 * K, 3 * K, 4 * K], axis=1))


def _si_sdr_of_products(ee: np.ndarray, tt: np.ndarray, et: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """`si_sdr` from inner products, and where rounding spoils it, because the error is a small rest of large terms."""
    a = (et + EPSILON) / (tt + EPSILON)
    signal = a * a * tt
    error = signal - 2 * a * et + ee
    lost = error < 1e-7 * (signal + ee)
    return 10 * np.log10((signal + EPSILON) / (np.maximum(error, 0.0) + EPSILON)), lost


def _require_finite(signals: Mapping[str, np.ndarray]) -> None:
    for name, signal in signals.items():
        if not np.isfinite(signal).all():
            raise UserError(f"SI-SDRi: the {name} hold values that are not finite; check where they were made")


def require_scores(table: pd.DataFrame) -> None:
    """Refuse a table of `si_sdri_windows` without rows.

    Raises:
        UserError: if it has none.
    """
    if table.empty:
        raise UserError(
            "SI-SDRi: nothing to score, since no sub-window has two active stems; use longer or denser chunks"
        )


def mean_ci(values: Any, groups: Any = None, *, confidence: float = 0.95) -> tuple[float, float]:
    """Student's t interval of a mean, with the jackknife's standard error over clusters.

    For values without clusters this is the textbook interval, mean ± t s/√n. With ten or so tracks, a percentile
    bootstrap of nominally 95 % covers less than 90 %, since it uses neither Student's t nor the n − 1 of the variance.

    Args:
        values: `[n]`.
        groups: `[n]`, the cluster (track) of each value; whole clusters are left out in turn, because values of one
            cluster are not independent. None: every value is its own cluster.
        confidence: Coverage of the interval.

    Returns:
        Lower and upper end, independent of the order of values; NaN, NaN if there are fewer than two clusters.
    """
    values = np.asarray(values, dtype=np.float64)
    codes = np.arange(values.size) if groups is None else pd.factorize(np.asarray(groups), sort=True)[0]
    sums, counts = _per_cluster(codes, np.zeros(values.size, dtype=int), values, 1)
    means, halves = _t_intervals(sums, counts, confidence)
    return float(means[0] - halves[0]), float(means[0] + halves[0])


def summarize(table: pd.DataFrame, *, confidence: float = 0.95) -> pd.DataFrame:
    """Condense the rows of `si_sdri_windows` to a score for each stem and for All, the mean of the stems.

    The intervals are those of `mean_ci` over clusters: tracks if the table has a column `track`, else items (column
    `item`), else sub-windows. A cluster is left out with all its stems, so that the interval of All reflects how the
    stems vary together.

    Args:
        table: Columns `sub`, `stem`, `active`, `si_sdri` and, if there are several tracks, `track`; optionally `level`
            and `log_mel` (`gmsdi.metrics.log_mel`).
        confidence: Coverage of the intervals.

    Returns:
        One row per stem in order of appearance, then "All"; columns `stem`, `protocol`, `protocol_low`, `protocol_high`
        (MSDM's score: all rows), `active`, `active_low`, `active_high` (rows whose target is active), all in dB;
        `subwindows`, `active_subwindows`, and `tracks`, the number of clusters that they come from (for All: the sums,
        and the clusters of any stem). With `level`, also `silent_level`: the median level of the estimates relative to
        the mixture, in sub-windows in which the target is silent, in dB (for All: over those of all stems). With
        `log_mel`, also `active_log_mel`, its mean where the target is active (for All: the mean of the stems). NaN
        where nothing was scored: a stem that is never active does not count in the active score of All. An interval is
        NaN if there are fewer than two clusters; that of All also if this holds for one of its stems.

    Raises:
        UserError: if the table is empty.
    """
    require_scores(table)
    cluster = next((name for name in ("track", "item") if name in table), "sub")
    clusters = pd.factorize(table[cluster], sort=True)[0]
    stem_codes, stems = pd.factorize(table["stem"])
    values, active = table["si_sdri"].to_numpy(np.float64), table["active"].to_numpy(bool)
    result = pd.DataFrame({"stem": [*stems, "All"]})
    sizes = {}
    for score, rows in (("protocol", np.ones_like(active)), ("active", active)):
        sums, counts = _per_cluster(clusters, stem_codes, np.where(rows, values, 0.0), len(stems), rows)
        sizes[score] = counts.sum(0)
        means, halves = _t_intervals(sums, counts, confidence)
        result[score], result[f"{score}_low"], result[f"{score}_high"] = means, means - halves, means + halves
    for name, score in (("subwindows", "protocol"), ("active_subwindows", "active")):
        result[name] = [*sizes[score].astype(int), int(sizes[score].sum())]
    found = table.groupby("stem")[cluster].nunique()
    result["tracks"] = [*found[stems], table[cluster].nunique()]
    if "level" in table:
        silent = table.loc[~active]
        result["silent_level"] = [*silent.groupby("stem")["level"].median().reindex(stems), silent["level"].median()]
    if "log_mel" in table:
        means = table.loc[active].groupby("stem")["log_mel"].mean().reindex(stems)
        result["active_log_mel"] = [*means, means.mean()]
    return result


def differences(table: pd.DataFrame, other: pd.DataFrame, *, confidence: float = 0.95) -> pd.DataFrame:
    """How much better one method is than another on the same chunks, with paired intervals over tracks.

    Tracks differ in difficulty far more than two methods differ on one track. Two methods can therefore differ clearly
    even though their own intervals overlap widely.

    Args:
        table: Rows of `si_sdri_windows` of one method, with the columns that `summarize` takes.
        other: Rows of the other method.
        confidence: Coverage of the intervals.

    Returns:
        The table of `summarize`, for the differences `table` minus `other` of the scores of each sub-window.

    Raises:
        UserError: if the two have scored different sub-windows.
    """
    keys = [name for name in ("track", "offset", "item", "sub", "stem") if name in table]
    columns = [*keys, "active", "si_sdri"]
    both = table[columns].merge(other[columns], on=keys, suffixes=("", "_other"), validate="1:1")
    if not len(both) == len(table) == len(other) or (both["active"] != both["active_other"]).any():
        raise UserError(
            "SI-SDRi: the two methods have scored different sub-windows; separate the same chunks with both"
        )
    both["si_sdri"] -= both["si_sdri_other"]
    return summarize(both[columns], confidence=confidence)


def ensemble(
    tables: Mapping[str, pd.DataFrame],
    selection: Mapping[str, pd.DataFrame] | None = None,
    *,
    score: str = "protocol",
) -> tuple[pd.DataFrame, dict[str, str]]:
    """The paper's "Ensamble": for each stem the method that is better on average.

    Args:
        tables: Method name to its rows of `si_sdri_windows`, all for the same chunks.
        selection: Tables on which the methods are compared, with the same keys; for an honest score, those of the
            validation set. None: `tables` themselves, as in the paper, which chooses on the test set; report this
            beside the number.
        score: "protocol" compares the means over all rows, "active" those over rows whose target is active.

    Returns:
        The rows of the chosen methods with a column `method` (for `summarize`), and the choice, stem to method. Of
        equal methods the first is chosen. The interval of the result takes the choice as given.

    Raises:
        UserError: if `selection` lacks a method or stem that is to be scored.
    """
    selection = tables if selection is None else selection
    if score not in ("protocol", "active"):
        raise UserError(f"ensemble: unknown score '{score}'; choose protocol or active")
    if not tables or set(selection) != set(tables):
        raise UserError(f"ensemble: methods {', '.join(tables)} are scored, but {', '.join(selection)} are compared")
    means = pd.DataFrame(
        {
            method: (rows if score == "protocol" else rows[rows["active"]]).groupby("stem")["si_sdri"].mean()
            for method, rows in ((method, selection[method]) for method in tables)
        }
    )
    choice = {}
    for stem in next(iter(tables.values()))["stem"].unique():
        if stem not in means.index or means.loc[stem].isna().any():
            raise UserError(f"ensemble: {stem} has no {score} score for every method; compare on more chunks")
        choice[stem] = str(means.loc[stem].idxmax())
    chosen = [tables[method][tables[method]["stem"] == stem].assign(method=method) for stem, method in choice.items()]
    return pd.concat(chosen, ignore_index=True), choice


def _per_cluster(
    clusters: np.ndarray, stems: np.ndarray, values: np.ndarray, n_stems: int, rows: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Sum of the values and number of the `rows` in each cluster and stem, both `[clusters, stems]`."""
    shape = (int(clusters.max(initial=-1)) + 1, n_stems)
    cells = clusters * n_stems + stems
    sums = np.bincount(cells, values, minlength=shape[0] * n_stems).reshape(shape)
    counts = np.bincount(cells, None if rows is None else rows.astype(float), minlength=shape[0] * n_stems)
    return sums, counts.astype(np.float64).reshape(shape)


def _t_intervals(sums: np.ndarray, counts: np.ndarray, confidence: float) -> tuple[np.ndarray, np.ndarray]:
    """Means of the stems and of All, and half the widths of their intervals, both `[stems + 1]`.

    A stem's mean is a ratio of sums over clusters; its standard error is the jackknife's, which leaves out one cluster
    at a time. All is the mean of the stems that have a value. Its degrees of freedom follow from those of the stems by
    Welch and Satterthwaite, but are at most those of all clusters.
    """
    from scipy.stats import t

    total, size = sums.sum(0), counts.sum(0)
    known = size > 0
    means = np.divide(total, size, out=np.full(len(total), np.nan), where=known)
    clusters = (counts > 0).sum(0)  # of each stem
    with np.errstate(invalid="ignore", divide="ignore"):
        without = (total - sums) / (size - counts)  # NaN or infinite where a stem has only this cluster
        variances = _jackknife(without, clusters, counts > 0)
        sound = bool(known.any() and (clusters[known] > 1).all())
        both = counts[:, known].sum(1) > 0
        overall = (
            _jackknife(without[:, known].mean(1)[:, None], both.sum()[None], both[:, None])[0] if sound else np.nan
        )
        freedom = np.maximum(clusters - 1, 1)
        shared = variances[known].sum() ** 2 / (variances[known] ** 2 / freedom[known]).sum() if sound else np.nan
        if sound and not np.isfinite(shared):  # no variance at all
            shared = both.sum() - 1
    means = np.append(means, means[known].mean() if known.any() else np.nan)
    errors = np.sqrt(np.append(np.where(clusters > 1, variances, np.nan), overall))
    degrees = np.append(freedom, np.fmin(shared, both.sum() - 1))
    return means, errors * t.ppf((1 + confidence) / 2, degrees)


def _jackknife(without: np.ndarray, clusters: np.ndarray, involved: np.ndarray) -> np.ndarray:
    """Variances `[S]` of estimates, from their values without each of the `involved` clusters, `[C, S]`."""
    centre = np.where(involved, without, 0.0).sum(0) / clusters
    squares = np.where(involved, (without - centre) ** 2, 0.0).sum(0)
    return np.asarray((clusters - 1) / clusters * squares)


def _float64(estimate: Any, target: Any) -> tuple[Any, Any, Any]:
    """Both signals as float64 of the same library, and that library's log10."""
    if hasattr(target, "detach"):
        import torch

        estimate = torch.as_tensor(estimate, device=target.device).to(torch.float64)
        return estimate, target.to(torch.float64), torch.log10
    return as_array(estimate).astype(np.float64), np.asarray(target, dtype=np.float64), np.log10
