"""Scale-invariant signal-to-distortion ratio, and the score of Table 2: its improvement over the mixture.

The protocol is MSDM's (Mariani et al., "Multi-Source Diffusion Models for Simultaneous Music Generation and
Separation", 2024), the one that the paper's numbers follow. It scores silent stems as well, where a zero estimate
gains as much as the mixture's energy over ε, easily +100 dB; hence every summary also has the mean over active stems
alone.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, overload

import numpy as np
import pandas as pd

from gmsdi.errors import UserError

EPSILON = 1e-8
SILENCE = 1.5e-5  # a signal of N samples is silent when ‖x‖₂ / N is below this


@overload
def si_sdr(estimate: np.ndarray, target: np.ndarray, *, eps: float = EPSILON) -> np.ndarray: ...
@overload
def si_sdr(estimate: Any, target: Any, *, eps: float = EPSILON) -> Any: ...
def si_sdr(estimate: Any, target: Any, *, eps: float = EPSILON) -> Any:
    """SI-SDR = 10 log₁₀((‖a·t‖² + ε) / (‖a·t − e‖² + ε)), a = (⟨e, t⟩ + ε) / (‖t‖² + ε); no mean is removed.

    Le Roux et al., "SDR – half-baked or well done?", 2019, with ε as in MSDM. Computed in float64.

    Args:
        estimate: `[..., T]`, NumPy or torch.
        target: `[..., T]`, of a shape that broadcasts with `estimate`.
        eps: ε, in units of energy.

    Returns:
        `[...]` in dB, of the kind of `target` (on its device, if torch).
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
    seconds: float = 4.0,
    hop: float = 2.0,
    silence: float = SILENCE,
) -> pd.DataFrame:
    """Score one track (or a batch of equally long ones) by MSDM's protocol.

    The track is cut into sub-windows of `seconds` every `hop` seconds, of which the last may be short. A sub-window
    with fewer than two active targets is skipped; in the others all stems are scored, silent ones included:
    SI-SDRi = SI-SDR(estimate, target) − SI-SDR(mixture, target).

    Every sample is read once: the scores follow from inner products, and those of a sub-window are sums of those of the
    blocks between the sub-windows' ends. Time grows linearly with the track, and no signal is copied as a whole.

    Args:
        estimates: Separated stems `[..., K, T]`, a track's separated windows end to end; NumPy or torch.
        targets: True stems `[..., K, T]`; a missing stem is zeros.
        mixture: `[..., T]`; None for the sum of the targets, which is the protocol's mixture.
        sample_rate: In Hz.
        labels: The K stems' names.
        seconds: Length of a sub-window.
        hop: Seconds from one sub-window to the next.
        silence: A target is active when ‖x‖₂ / N is at least this.

    Returns:
        One row per scored sub-window and stem: `sub` (number of the sub-window in its track, counting skipped ones, so
        that it starts at `sub · hop` seconds), `stem`, `active` (is the target?), `si_sdri` in dB, and `level`, the
        energy of the estimate relative to the mixture's in dB, which for a silent target is what has leaked into it.
        With leading dimensions, a column `item` (flattened index over them) comes first.

    Raises:
        UserError: if the shapes do not fit together, or a value is not finite.
    """
    estimates, targets = _numpy(estimates), _numpy(targets)
    mixture = None if mixture is None else _numpy(mixture)
    expected = targets.shape[:-2] + targets.shape[-1:]
    mixed = expected if mixture is None else mixture.shape
    if targets.ndim < 2 or estimates.shape != targets.shape or mixed != expected:
        shapes = f"estimates {estimates.shape}, targets {targets.shape}, mixture {mixed}"
        raise UserError(f"SI-SDRi: shapes do not fit ({shapes}); expected [..., K, T] twice and [..., T]")
    stems, total = targets.shape[-2:]
    if len(labels) != stems:
        raise UserError(f"SI-SDRi: {len(labels)} labels ({', '.join(labels)}) for {stems} stems")
    length, step = int(seconds * sample_rate), int(seconds * sample_rate) - int((seconds - hop) * sample_rate)
    if length < 1 or not 1 <= step <= length:
        raise UserError(f"SI-SDRi: sub-windows of {seconds} s every {hop} s; expected 0 < hop <= seconds")

    batched = targets.ndim > 2
    estimates, targets = estimates.reshape(-1, stems, total), targets.reshape(-1, stems, total)
    mixture = None if mixture is None else mixture.reshape(-1, total)
    starts = step * np.arange(max(0, math.ceil((total - (length - step)) / step)))
    ends = np.minimum(starts + length, total)
    gain, level = (np.empty((len(targets), len(starts), stems)) for _ in range(2))
    active = np.empty(gain.shape, dtype=bool)
    for item, (estimate, target) in enumerate(zip(estimates, targets, strict=True)):
        own = None if mixture is None else mixture[item]
        with np.errstate(invalid="ignore", over="ignore"):  # values that are not finite are named, not warned of
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


def _inner_products(
    estimate: np.ndarray, target: np.ndarray, mixture: np.ndarray | None, starts: np.ndarray, ends: np.ndarray
) -> tuple[np.ndarray, ...]:
    """‖e‖², ‖t‖², ⟨e, t⟩, ⟨m, t⟩ and ‖m‖² of every sub-window and stem, float64 `[W, K]`; the last `[W, 1]`.

    Blocks lie between neighbouring starts and ends of sub-windows. Their products are added for each sub-window; a
    difference of running sums would cost digits where a quiet passage follows a loud one.
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
    """`si_sdr` from inner products, and where rounding spoils it, as the error is a small rest of large terms there."""
    a = (et + EPSILON) / (tt + EPSILON)
    signal = a * a * tt
    error = signal - 2 * a * et + ee
    lost = error < 1e-7 * (signal + ee)
    return 10 * np.log10((signal + EPSILON) / (np.maximum(error, 0.0) + EPSILON)), lost


def _require_finite(signals: Mapping[str, np.ndarray]) -> None:
    for name, signal in signals.items():
        if not np.isfinite(signal).all():
            raise UserError(f"SI-SDRi: the {name} hold values that are not finite; check where they were made")


def bootstrap_ci(
    values: Any,
    groups: Any = None,
    *,
    resamples: int = 2000,
    confidence: float = 0.95,
    seed: int = 0,
) -> tuple[float, float]:
    """Percentile bootstrap interval of a mean.

    Args:
        values: `[n]`.
        groups: `[n]`, the cluster (track) of each value; whole clusters are drawn, because values of one cluster are
            not independent. None: every value is its own cluster.
        resamples: Number of bootstrap samples.
        confidence: Coverage of the interval.
        seed: Same seed, same interval; the order of the values does not matter when `groups` are given.

    Returns:
        Lower and upper end; NaN, NaN where there are fewer than two clusters.
    """
    values = np.asarray(values, dtype=np.float64)
    codes = np.arange(values.size) if groups is None else pd.factorize(np.asarray(groups), sort=True)[0]
    sums, counts = _per_cluster(codes, np.zeros(values.size, dtype=int), values, 1)
    draws = _bootstrap_means(sums, counts, resamples, seed)[:, 0]
    low, high = _interval(draws, confidence)
    return low, high


def summarize(table: pd.DataFrame, *, resamples: int = 2000, confidence: float = 0.95, seed: int = 0) -> pd.DataFrame:
    """Condense the rows of `si_sdri_windows` to the score of each stem and of All, the mean of the stems.

    The intervals are percentile bootstrap intervals over clusters: tracks where the table has a column `track`; else
    items (column `item`), else sub-windows. A cluster is drawn with all its stems, so that the interval of All knows
    how the stems vary together.

    Args:
        table: Columns `sub`, `stem`, `active`, `si_sdri` and, if there are several tracks, `track`.
        resamples: Number of bootstrap samples.
        confidence: Coverage of the intervals.
        seed: Same seed, same intervals.

    Returns:
        One row per stem in order of appearance, then "All"; columns `stem`, `protocol`, `protocol_low`, `protocol_high`
        (MSDM's score: all rows), `active`, `active_low`, `active_high` (rows whose target is active), all in dB, and
        `subwindows`, `active_subwindows` (for All: their sums). NaN where nothing was scored: a stem that is never
        active does not count in the active score of All. An interval is NaN with fewer than two clusters.

    Raises:
        UserError: if the table is empty.
    """
    if table.empty:
        raise UserError("SI-SDRi: no sub-window has two active stems, nothing to score; use longer or denser chunks")
    cluster = next((name for name in ("track", "item") if name in table), "sub")
    clusters = pd.factorize(table[cluster], sort=True)[0]
    stem_codes, stems = pd.factorize(table["stem"])
    values, active = table["si_sdri"].to_numpy(np.float64), table["active"].to_numpy(bool)
    result = pd.DataFrame({"stem": [*stems, "All"]})
    sizes = {}
    for score, rows in (("protocol", np.ones_like(active)), ("active", active)):
        sums, counts = _per_cluster(clusters, stem_codes, np.where(rows, values, 0.0), len(stems), rows)
        sizes[score] = counts.sum(0)
        means = np.divide(sums.sum(0), sizes[score], out=np.full(len(stems), np.nan), where=sizes[score] > 0)
        draws = _bootstrap_means(sums, counts, resamples, seed)
        known = sizes[score] > 0
        overall = means[known].mean() if known.any() else np.nan
        # A draw that misses a stem altogether says nothing about All; such draws are left out (as NaN).
        draws = np.column_stack([draws, draws[:, known].mean(1) if known.any() else np.full(resamples, np.nan)])
        result[score] = [*means, overall]
        result[[f"{score}_low", f"{score}_high"]] = np.array([_interval(column, confidence) for column in draws.T])
    for name, score in (("subwindows", "protocol"), ("active_subwindows", "active")):
        result[name] = [*sizes[score].astype(int), int(sizes[score].sum())]
    return result


def ensemble(
    tables: Mapping[str, pd.DataFrame],
    selection: Mapping[str, pd.DataFrame] | None = None,
    *,
    score: str = "protocol",
) -> tuple[pd.DataFrame, dict[str, str]]:
    """The paper's "Ensamble": for each stem the method that is better on average.

    Args:
        tables: Method name to its rows of `si_sdri_windows`, all for the same chunks.
        selection: Tables on which the methods are compared, with the same keys: those of the validation set, for an
            honest score. None: `tables` themselves, as in the paper, which chooses on the test set; say so beside the
            number.
        score: "protocol" compares the means over all rows, "active" those over rows whose target is active.

    Returns:
        The rows of the chosen methods with a column `method` (for `summarize`), and the choice, stem to method. Equal
        methods: the first. The bootstrap interval of the result takes the choice as given.

    Raises:
        UserError: if `selection` lacks a method or a stem that is to be scored.
    """
    selection = tables if selection is None else selection
    if score not in ("protocol", "active"):
        raise UserError(f"ensemble: unknown score '{score}'; choose protocol or active")
    if not tables or set(selection) != set(tables):
        raise UserError(f"ensemble: methods {', '.join(tables)} are scored, but {', '.join(selection)} compared")
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


def _bootstrap_means(sums: np.ndarray, counts: np.ndarray, resamples: int, seed: int) -> np.ndarray:
    """Means of `resamples` samples of clusters drawn with replacement, `[resamples, stems]`; NaN where one is empty."""
    n = len(sums)
    if n < 2:
        return np.full((resamples, sums.shape[1]), np.nan)
    # How often each cluster is drawn, [resamples, clusters].
    drawn = np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), size=resamples)
    total, size = drawn @ sums, drawn @ counts
    return np.divide(total, size, out=np.full_like(total, np.nan), where=size > 0)


def _interval(draws: np.ndarray, confidence: float) -> tuple[float, float]:
    draws = draws[~np.isnan(draws)]
    if not draws.size:
        return math.nan, math.nan
    low, high = np.quantile(draws, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)


def _numpy(signal: Any) -> np.ndarray:
    return signal.detach().cpu().numpy() if hasattr(signal, "detach") else np.asarray(signal)


def _float64(estimate: Any, target: Any) -> tuple[Any, Any, Any]:
    """Both signals as float64 of one library, and its log10."""
    if hasattr(target, "detach"):
        import torch

        estimate = torch.as_tensor(estimate, device=target.device).to(torch.float64)
        return estimate, target.to(torch.float64), torch.log10
    return _numpy(estimate).astype(np.float64), np.asarray(target, dtype=np.float64), np.log10
