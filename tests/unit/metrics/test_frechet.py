"""Fréchet distances against closed forms and against SciPy's general matrix square root."""

import numpy as np
import pytest
import scipy.linalg
import torch

from gmsdi.errors import UserError
from gmsdi.metrics.frechet import Compared, fad, fad_ci, fad_difference_ci, fad_inf, fit_fad_inf, frechet_distance


def by_sqrtm(mu1, cov1, mu2, cov2):
    """The textbook formula with a general matrix square root."""
    return ((mu1 - mu2) ** 2).sum() + np.trace(cov1 + cov2 - 2 * np.real(scipy.linalg.sqrtm(cov1 @ cov2)))


def random_covariance(rng, size, rank=None):
    factor = rng.standard_normal((rank or 2 * size, size))
    return factor.T @ factor / len(factor)


@pytest.mark.parametrize("size", [1, 3, 20])
def test_full_rank_equals_sqrtm(size):
    rng = np.random.default_rng(size)
    mu1, mu2 = rng.standard_normal((2, size))
    cov1, cov2 = random_covariance(rng, size), random_covariance(rng, size)
    expected = by_sqrtm(mu1, cov1, mu2, cov2)
    assert frechet_distance(mu1, cov1, mu2, cov2) == pytest.approx(expected, rel=1e-9)
    assert frechet_distance(mu2, cov2, mu1, cov1) == pytest.approx(expected, rel=1e-9)
    assert frechet_distance(*map(torch.tensor, (mu1, cov1, mu2, cov2))) == pytest.approx(expected, rel=1e-9)


def test_commuting_covariances_have_a_closed_form_even_when_singular():
    rng = np.random.default_rng(0)
    q, _ = np.linalg.qr(rng.standard_normal((30, 30)))
    first, second = rng.uniform(0, 4, (2, 30))
    first[10:] = 0  # ranks 10 and 20, overlapping in 5 dimensions
    second[:5] = second[25:] = 0
    mu = rng.standard_normal(30)
    expected = (mu**2).sum() + ((np.sqrt(first) - np.sqrt(second)) ** 2).sum()
    distance = frechet_distance(mu, (q * first) @ q.T, np.zeros(30), (q * second) @ q.T)
    assert distance == pytest.approx(expected, rel=1e-9)
    assert frechet_distance(mu, (q * first) @ q.T, mu, (q * first) @ q.T) == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize(("reference_size", "size"), [(500, 300), (500, 20), (15, 10), (2, 2)])
def test_fad_of_few_and_many_frames(reference_size, size):
    """Frames against explicit covariances; where those are singular, also against slightly regularised ones."""
    rng = np.random.default_rng(size)
    mix = rng.standard_normal((40, 40)) / 6
    reference, frames = rng.standard_normal((reference_size, 40)) @ mix, 0.5 + rng.standard_normal((size, 40))
    moments = [(x.mean(0), np.cov(x, rowvar=False)) for x in (reference, frames)]
    score = fad(reference, frames)
    assert np.isfinite(score)
    assert score > 0
    assert score == pytest.approx(frechet_distance(*moments[0], *moments[1]), rel=1e-6)
    tiny = 1e-12 * np.eye(40)  # shifts every square root by at most 1e-6
    assert score == pytest.approx(
        by_sqrtm(moments[0][0], moments[0][1] + tiny, moments[1][0], moments[1][1] + tiny), rel=1e-3
    )
    assert fad(frames, reference) == pytest.approx(score, rel=1e-9)
    assert fad(torch.tensor(reference), torch.tensor(frames)) == pytest.approx(score)


def test_fad_of_equal_and_shifted_frames():
    frames = np.random.default_rng(1).standard_normal((50, 80))
    assert fad(frames, frames) == pytest.approx(0, abs=1e-9)
    assert fad(frames, frames + 3) == pytest.approx(80 * 9, rel=1e-9)
    assert fad(frames, 2 * frames) == pytest.approx((frames.mean(0) ** 2).sum() + frames.var(0, ddof=1).sum(), rel=1e-9)


@pytest.mark.parametrize("function", [fad, fad_inf])
def test_failures_are_errors_not_scores(function):
    good = np.random.default_rng(2).standard_normal((30, 4))
    bad = good.copy()
    bad[3, 2] = np.nan
    for first, second, message in [
        (good, good[:1], "1 evaluated frames"),
        (good[:0], good, "0 reference frames"),
        (good, bad, "evaluated frames hold values that are not finite"),
        (good, good[:, :3], "one embedding"),
        (good, good[0], "expected"),
    ]:
        with pytest.raises(UserError, match=message):
            function(first, second)


def test_what_is_no_covariance_is_refused():
    mu, one = np.zeros(2), np.eye(2)
    for cov, message in [
        (np.array([[1.0, 2.0], [2.0, 1.0]]), "negative eigenvalue"),
        (np.array([[1.0, 0.5], [0.0, 1.0]]), "not symmetric"),
        (np.array([[1.0, np.inf], [np.inf, 1.0]]), "not finite"),
        (np.eye(3), "shape"),
    ]:
        with pytest.raises(UserError, match=message):
            frechet_distance(mu, cov, mu, one)


def test_extrapolation_removes_the_bias_of_few_frames():
    rng = np.random.default_rng(3)
    first = 1 / np.arange(1, 33)
    second = 1.5 * first
    truth = ((np.sqrt(first) - np.sqrt(second)) ** 2).sum()
    reference = rng.standard_normal((20000, 32)) * np.sqrt(first)
    plain, extrapolated = [], []
    for seed in range(4):
        frames = rng.standard_normal((300, 32)) * np.sqrt(second)
        fit = fit_fad_inf(reference, frames, seed=seed)
        plain.append(fad(reference, frames))
        assert fit.scores[-1] == pytest.approx(plain[-1])  # the largest subset is the whole set
        assert fit.sizes[-1] == 300
        assert fit.slope > 0
        assert fit.r2 > 0.9
        extrapolated.append(fit.value)
    assert np.mean(plain) > 1.3 * truth
    assert np.mean(extrapolated) == pytest.approx(truth, rel=0.12)


def test_extrapolation_is_deterministic_and_draws_whole_clips():
    rng = np.random.default_rng(4)
    reference, clips = rng.standard_normal((500, 6)), 0.3 + rng.standard_normal((40, 6))
    assert fad_inf(reference, clips, seed=5) == fad_inf(reference, clips, seed=5)
    assert fad_inf(reference, clips, seed=5) != fad_inf(reference, clips, seed=6)
    # Frames that repeat within a clip carry no information: subsets of clips see that, subsets of frames do not.
    copies = np.repeat(clips, 3, axis=0)
    fit = fit_fad_inf(reference, copies, frames_per_clip=3, seed=5)
    assert set(fit.sizes % 3) == {0}
    single = fit_fad_inf(reference, clips, seed=5)
    assert fit.slope / 3 == pytest.approx(single.slope, rel=0.35)
    with pytest.raises(UserError, match="whole number of clips"):
        fad_inf(reference, copies[:-1], frames_per_clip=3)
    with pytest.raises(UserError, match="three subset sizes"):
        fad_inf(reference, clips[:3])


def test_intervals_of_distances_cover_what_they_say():
    """Chunks of tracks, which vary by track, against clips that stand by themselves, and against their own tracks'."""
    rng, dimensions = np.random.default_rng(0), 6

    def chunks(tracks, shift=0.0, level=None):
        level = rng.standard_normal((tracks, 1, 1, dimensions)) if level is None else level
        within = rng.standard_normal((tracks, 3, 1, dimensions)) + 0.5 * rng.standard_normal((tracks, 3, 2, dimensions))
        return (shift + level + within).reshape(-1, 2, dimensions), np.repeat(np.arange(tracks), 3).astype(str), level

    def clips(number):
        frames = rng.standard_normal((number, 1, dimensions)) + 0.5 * rng.standard_normal((number, 2, dimensions))
        return 0.6 + 1.3 * frames, [f"clip {clip}" for clip in range(number)]

    def apart():
        reference, tracks, _ = chunks(20)
        frames, names = clips(30)
        return reference, frames, tracks, names

    def together():
        reference, tracks, level = chunks(20)
        return reference, chunks(20, 0.7, level)[0], tracks, tracks

    widths = []
    for draw in (apart, together):
        flat = [[x.reshape(-1, dimensions) for x in draw()[:2]] for _ in range(800)]
        expected = np.mean([fad(*pair) for pair in flat])
        intervals = np.array([fad_ci(*draw(), seed=trial) for trial in range(300)])
        assert 0.92 <= np.mean((intervals[:, 0] <= expected) & (expected <= intervals[:, 1])) <= 0.985
        widths.append(np.diff(intervals).mean() / expected)
    assert widths[1] < 0.8 * widths[0]  # what tracks have in common does not count as a difference


@pytest.mark.parametrize("tracks", [10, 20, 60])
def test_paired_intervals_of_differences_cover_and_see_what_separate_ones_cannot(tracks):
    """Two sets of clips from the same noise, one of them moved a little, against chunks of the same tracks."""
    rng, dimensions = np.random.default_rng(tracks), 4
    names, clips = np.repeat(np.arange(tracks), 2).astype(str), [f"clip {clip}" for clip in range(2 * tracks)]

    def draw():
        level = rng.standard_normal((tracks, 1, 1, dimensions))
        chunks = (level + rng.standard_normal((tracks, 2, 2, dimensions))).reshape(-1, 2, dimensions)
        noise = rng.standard_normal((2 * tracks, 1, dimensions)) + 0.5 * rng.standard_normal(
            (2 * tracks, 2, dimensions)
        )
        return chunks, 1 + 1.2 * noise, 1.15 + 1.3 * noise + 0.1 * rng.standard_normal(noise.shape)

    def score(chunks, first, second):
        reference, *others = (frames.reshape(-1, dimensions) for frames in (chunks, first, second))
        return fad(reference, others[1]) - fad(reference, others[0])

    expected = np.mean([score(*draw()) for _ in range(1500)])
    paired, apart = [], []
    for trial in range(200):
        chunks, first, second = draw()
        one, other = (Compared(chunks, frames, names, clips) for frames in (second, first))
        paired.append(fad_difference_ci(one, other, seed=trial))
        (low, high), (low_other, high_other) = fad_ci(*one, seed=trial), fad_ci(*other, seed=trial)
        apart.append(low > high_other or high < low_other)
    low, high = np.array(paired).T
    assert 0.91 <= np.mean((low <= expected) & (expected <= high)) <= 0.985
    assert np.mean(low > 0) > np.mean(apart) + 0.15


def test_intervals_of_distances_need_clusters():
    frames = np.random.default_rng(0).standard_normal((6, 2, 3))
    assert np.isnan(fad_ci(frames, frames, list("aabbcc"), ["x"] * 6)).all()
    same = Compared(frames, frames + 1, list("abcdef"), list("uvwxyz"))
    assert fad_difference_ci(same, same) == (0, 0)
    with pytest.raises(UserError, match="for 5 clips"):
        fad_ci(frames, frames, list("aabbcc"), list("xyxyx"))
    one = fad_ci(frames, frames + 1, list("abcdef"), list("uvwxyz"), seed=3)
    assert one == fad_ci(frames, frames + 1, list("abcdef"), list("uvwxyz"), seed=3)
    score = fad(frames.reshape(-1, 3), frames.reshape(-1, 3) + 1)
    assert one[0] < score < one[1]
