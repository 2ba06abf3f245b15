"""Fréchet distance between Gaussians, the Fréchet audio distance (FAD), and its extrapolation to infinite samples.

Nothing here needs a matrix square root: with Σ₁ = A₁ᵀA₁ and Σ₂ = A₂ᵀA₂ for any factors A,

    tr (Σ₁Σ₂)^½ = tr (Σ₁^½ Σ₂ Σ₁^½)^½ = ‖A₁A₂ᵀ‖_*,

the sum of the singular values of A₁A₂ᵀ (factors of one matrix differ only by a rotation, which does not change singular
values). It is real and never negative, even for singular covariances, which arise from fewer frames than dimensions.
Centred frames are themselves such a factor, so FAD needs no covariance matrix at all.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from gmsdi.errors import UserError
from gmsdi.io.arrays import as_array


def frechet_distance(mu1: Any, cov1: Any, mu2: Any, cov2: Any) -> float:
    """Squared Fréchet (2-Wasserstein) distance ‖μ₁ − μ₂‖² + tr Σ₁ + tr Σ₂ − 2 tr (Σ₁Σ₂)^½ between two Gaussians.

    Dowson and Landau, "The Fréchet distance between multivariate normal distributions", 1982.

    Args:
        mu1: Mean `[D]`.
        cov1: Covariance `[D, D]`, symmetric and positive semi-definite.
        mu2: Mean `[D]`.
        cov2: Covariance `[D, D]`.

    Returns:
        The distance, at least 0.

    Raises:
        UserError: if the shapes differ, a value is not finite, or a matrix is not a covariance.
    """
    first, second = _moments(mu1, cov1), _moments(mu2, cov2)
    if first[0].shape != second[0].shape:
        raise UserError(f"Fréchet distance: means of {first[0].size} and {second[0].size} dimensions")
    return _distance(*first, *second)


def fad(reference_frames: Any, frames: Any) -> float:
    """Fréchet audio distance: `frechet_distance` of the frames' means and (unbiased) covariances.

    Kilgour et al., "Fréchet Audio Distance", 2019. It is biased upwards for few frames: compare only equal numbers of
    frames, or use `fad_inf`.

    Args:
        reference_frames: `[N, D]` embeddings of the reference set.
        frames: `[M, D]` embeddings of the evaluated set.

    Raises:
        UserError: if there are fewer than two frames, the dimensions differ, or a value is not finite.
    """
    reference, evaluated = _frames(reference_frames, "reference"), _frames(frames, "evaluated")
    _same_dimension(reference, evaluated)
    return _distance(*_statistics(reference), *_statistics(evaluated))


@dataclass(frozen=True)
class FadInf:
    """A line fitted to FAD against 1/N.

    Attributes:
        value: FAD∞, the line at 1/N = 0. May be slightly negative, since it is an unbiased estimate.
        slope: Slope of the line: N times the excess of FAD over FAD∞.
        r2: Share of the scores' variance that the line explains; small if FAD's dependence on N is small compared with
            its scatter, as between very different sets.
        sizes: `[steps]`, numbers of frames N.
        scores: `[steps]`, FAD at each N.
    """

    value: float
    slope: float
    r2: float
    sizes: np.ndarray
    scores: np.ndarray


def fad_inf(reference_frames: Any, frames: Any, **options: Any) -> float:
    """FAD∞, the value of `fit_fad_inf` (see there for the arguments). May be slightly negative."""
    return fit_fad_inf(reference_frames, frames, **options).value


def fit_fad_inf(
    reference_frames: Any,
    frames: Any,
    *,
    steps: int = 15,
    min_frames: int | None = None,
    frames_per_clip: int = 1,
    repeats: int = 4,
    seed: int = 0,
) -> FadInf:
    """Extrapolate FAD to infinitely many evaluated frames.

    Gui et al., "Adapting Frechet Audio Distance for Generative Music Evaluation", 2024 (after Chong and Forsyth,
    "Effectively Unbiased FID and Inception Score", 2020): FAD is measured on random subsets of several sizes N, and a
    line in 1/N is fitted by least squares. Subsets are drawn without replacement; with replacement, FAD would tend to
    its biased value for the frames at hand. The reference is not subsampled, so the (smaller) bias due to its own size
    remains. The law in 1/N holds for N well above the embedding's effective dimension; with fewer frames the line is
    bent and its end is off, though by less than FAD itself.

    Args:
        reference_frames: `[N, D]`.
        frames: `[M, D]`, clip after clip; subsets are drawn from these.
        steps: Number of sizes, evenly spaced from `min_frames` to M.
        min_frames: Smallest subset; None: a quarter of the frames.
        frames_per_clip: Number of consecutive frames that belong to one clip (as `Embedding.frames` orders them). Whole
            clips are drawn, because frames of one clip are not independent.
        repeats: Subsets per size, averaged.
        seed: Seed of the subsets; the same seed gives the same result.

    Raises:
        UserError: as `fad`; also if there are too few clips for three sizes.
    """
    reference, evaluated = _frames(reference_frames, "reference"), _frames(frames, "evaluated")
    _same_dimension(reference, evaluated)
    clips, left = divmod(len(evaluated), frames_per_clip)
    if left:
        raise UserError(f"FAD∞: {len(evaluated)} frames are not a whole number of clips of {frames_per_clip}")
    smallest = max(2, -(-(len(evaluated) // 4 if min_frames is None else min_frames) // frames_per_clip))
    sizes = np.unique(np.linspace(min(smallest, clips), clips, steps).round().astype(int))
    if len(sizes) < 3:
        raise UserError(
            f"FAD∞: {clips} clips do not allow three subset sizes from {smallest} on; give more clips or steps"
        )
    statistics = _statistics(reference)
    by_clip = evaluated.reshape(clips, frames_per_clip, -1)
    rng = np.random.default_rng(seed)
    scores = np.empty(len(sizes))
    for index, size in enumerate(sizes):
        # All subsets of the full size are the same set.
        draws = [rng.permutation(clips)[:size] for _ in range(1 if size == clips else repeats)]
        subsets = (by_clip[drawn].reshape(-1, evaluated.shape[1]) for drawn in draws)
        scores[index] = np.mean([_distance(*statistics, *_statistics(subset)) for subset in subsets])
    sizes = sizes * frames_per_clip
    slope, value = np.polyfit(1 / sizes, scores, 1)
    residual = scores - (value + slope / sizes)
    spread = ((scores - scores.mean()) ** 2).sum()
    r2 = 1 - (residual**2).sum() / spread if spread > 0 else 1.0
    return FadInf(float(value), float(slope), float(r2), sizes, scores)


class Compared(NamedTuple):
    """What a distance is measured between: the arguments of `fad_ci`."""

    reference_frames: Any
    frames: Any
    reference_clusters: Sequence[str]
    clusters: Sequence[str]


def fad_ci(
    reference_frames: Any,
    frames: Any,
    reference_clusters: Sequence[str],
    clusters: Sequence[str],
    *,
    groups: int = 10,
    confidence: float = 0.95,
    seed: int = 0,
) -> tuple[float, float]:
    """Confidence interval of `fad` at this number of frames, by a jackknife over clusters of both sets.

    The clusters (tracks, and clips that do not come from a track) are put into groups, and the distance is measured
    without each group in turn. The interval uses Student's t with Welch and Satterthwaite's degrees of freedom. A
    bootstrap is not suitable: frames that are drawn twice make a set less diverse, which alone raises the distance. The
    interval covers what other tracks and clips would have given, not what more of them would; for that see `fad_inf`.
    It is wider than necessary where two sets hardly differ.

    Args:
        reference_frames: `[N, F, D]`, clip by clip.
        frames: `[M, F, D]`, of the evaluated clips.
        reference_clusters: N names. A name in both sets is one cluster, which is left out of both at once.
        clusters: M names.
        groups: Most groups of the evaluated clusters, and also of the other clusters.
        confidence: Coverage of the interval.
        seed: Seed of the groups.

    Returns:
        Lower end, at least 0, and upper end; NaN, NaN if a set has fewer than two clusters.

    Raises:
        UserError: as `fad`; also if clips and clusters do not match.
    """
    compared = Compared(reference_frames, frames, reference_clusters, clusters)
    score, half = _jackknife([compared], groups=groups, confidence=confidence, seed=seed)
    return float(np.maximum(0, score - half)), score + half  # NaN stays NaN


def fad_difference_ci(
    first: Compared, second: Compared, *, groups: int = 10, confidence: float = 0.95, seed: int = 0
) -> tuple[float, float]:
    """Paired confidence interval of a difference of distances, the first minus the second.

    As `fad_ci`, but a cluster is left out of all four sets at once. What both distances owe to the same tracks or to
    the same noise cancels, so the interval can exclude 0 where those of the two distances overlap.

    Args:
        first: a distance.
        second: the distance that is subtracted, with the same names for clips of the same noise or track.
        groups: see `fad_ci`.
        confidence: see `fad_ci`.
        seed: see `fad_ci`.

    Returns:
        Lower and upper end; NaN, NaN if a set has fewer than two clusters.

    Raises:
        UserError: see `fad_ci`.
    """
    score, half = _jackknife([first, second], groups=groups, confidence=confidence, seed=seed)
    return score - half, score + half


def _jackknife(compared: Sequence[Compared], *, groups: int, confidence: float, seed: int) -> tuple[float, float]:
    """The first distance minus those after it, and half of its interval's width; NaN if a set has too few clusters."""
    from scipy.stats import t

    sets = [
        (_clips(frames, names), np.asarray(names, dtype=str))
        for one in compared
        for frames, names in ((one.reference_frames, one.reference_clusters), (one.frames, one.clusters))
    ]
    if any(len(set(names)) < 2 for _, names in sets):
        return math.nan, math.nan

    def difference(left_out: np.ndarray) -> float:
        moments = [
            _statistics(clips[~np.isin(names, left_out)].reshape(-1, clips.shape[-1]))
            if len(left_out) and np.isin(names, left_out).any()
            else whole
            for (clips, names), whole in zip(sets, statistics, strict=True)
        ]
        first, *others = (_distance(*moments[n], *moments[n + 1]) for n in range(0, len(moments), 2))
        return first - sum(others)

    statistics = [_statistics(clips.reshape(-1, clips.shape[-1])) for clips, _ in sets]
    score = difference(np.array([], dtype=str))
    rng = np.random.default_rng(seed)
    variances, freedoms = [], []
    own = {name for _, names in sets[1::2] for name in names}
    for stratum in (sorted(own), sorted({name for _, names in sets[::2] for name in names} - own)):
        parts = [part for part in np.array_split(rng.permutation(stratum), groups) if len(part)]
        # A group that makes up a whole set cannot be left out.
        parts = [part for part in parts if all((~np.isin(names, part)).any() for _, names in sets)]
        if len(parts) > 1:
            scores = np.array([difference(part) for part in parts])
            variances.append((len(parts) - 1) * scores.var())
            freedoms.append(len(parts) - 1)
    variance = np.array(variances)
    if not variance.sum() > 0:
        return score, 0.0
    degrees = variance.sum() ** 2 / (variance**2 / np.array(freedoms)).sum()
    return score, float(t.ppf((1 + confidence) / 2, degrees) * np.sqrt(variance.sum()))


def _clips(frames: Any, clusters: Sequence[str]) -> np.ndarray:
    """Check that frames `[N, F, D]` match their clusters."""
    frames = _float64(frames)
    if frames.ndim != 3 or len(frames) != len(clusters):
        raise UserError(f"FAD: frames of shape {frames.shape} for {len(clusters)} clips; expected [clips, F, D]")
    _frames(frames.reshape(-1, frames.shape[-1]), "evaluated")
    return frames


def _distance(mu1: np.ndarray, factor1: np.ndarray, mu2: np.ndarray, factor2: np.ndarray) -> float:
    """The distance, from means `[D]` and factors A `[any, D]` of the covariances AᵀA."""
    nuclear = np.linalg.svd(factor1 @ factor2.T, compute_uv=False).sum()
    distance = ((mu1 - mu2) ** 2).sum() + (factor1**2).sum() + (factor2**2).sum() - 2 * nuclear
    return max(0.0, float(distance))  # below zero only by rounding


def _statistics(frames: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean `[D]` and a factor `[≤ D, D]` of the unbiased covariance of frames `[N, D]`."""
    mean = frames.mean(0)
    centred = (frames - mean) / np.sqrt(len(frames) - 1)
    # The triangular factor of a QR decomposition gives the same covariance in at most D rows.
    return mean, np.asarray(np.linalg.qr(centred, mode="r")) if len(centred) > centred.shape[1] else centred


def _moments(mu: Any, cov: Any) -> tuple[np.ndarray, np.ndarray]:
    """Validate a mean and a covariance; return the mean and a factor of the covariance."""
    mean, matrix = np.atleast_1d(_float64(mu)), np.atleast_2d(_float64(cov))
    if mean.ndim != 1 or matrix.shape != (mean.size, mean.size):
        raise UserError(
            f"Fréchet distance: a mean of shape {mean.shape} does not fit a covariance of shape {matrix.shape}"
        )
    if not (np.isfinite(mean).all() and np.isfinite(matrix).all()):
        raise UserError("Fréchet distance: a mean or covariance is not finite; check the frames it was computed from")
    scale = np.abs(matrix).max(initial=0.0)
    if np.abs(matrix - matrix.T).max(initial=0.0) > 1e-6 * scale:
        raise UserError("Fréchet distance: a covariance is not symmetric")
    values, vectors = np.linalg.eigh((matrix + matrix.T) / 2)
    if values[0] < -1e-6 * scale:
        raise UserError(f"Fréchet distance: a covariance has the negative eigenvalue {values[0]:.3g}")
    # Eigenvalues at rounding level are zeros of a singular covariance, but their square roots would not be negligible.
    values[values < len(values) * np.finfo(np.float64).eps * max(values[-1], 0.0)] = 0.0
    return mean, np.sqrt(values)[:, None] * vectors.T


def _frames(frames: Any, name: str) -> np.ndarray:
    frames = _float64(frames)
    if frames.ndim != 2:
        raise UserError(f"FAD: {name} frames have shape {frames.shape}; expected [frames, dimensions]")
    if len(frames) < 2:
        raise UserError(f"FAD: {len(frames)} {name} frames, but at least 2 are needed; embed more or longer clips")
    if not np.isfinite(frames).all():
        raise UserError(f"FAD: the {name} frames hold values that are not finite; check the audio they come from")
    return frames


def _same_dimension(reference: np.ndarray, frames: np.ndarray) -> None:
    if reference.shape[1] != frames.shape[1]:
        raise UserError(
            f"FAD: frames have {reference.shape[1]} and {frames.shape[1]} dimensions; use one embedding for both"
        )


def _float64(array: Any) -> np.ndarray:
    return np.asarray(as_array(array), dtype=np.float64)
