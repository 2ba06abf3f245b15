"""Eq. 10–14 against float64 matrices written from the paper's scores, for correlated Gaussian sources."""

import math

import numpy as np
import pytest
import torch

from gmsdi import inference
from gmsdi.errors import UserError
from gmsdi.inference import check_stability, gamma_from_config
from gmsdi.sampling.guidance import Prompt, join
from gmsdi.sampling.noise import SeededNoise
from gmsdi.sampling.samplers import adpm2, euler
from gmsdi.sampling.schedules import karras
from tests.helpers.gaussians import GaussianDenoiser, guide

B, C, T, W, SIGMA = 2, 2, 3, 0.7, 0.4
TEXTS = ["Bass", "Drums", "Guitar", "Piano"]
NEGATIVE = {"Drums": "Bass"}
GAMMAS = [(0.3, 0.9), (math.inf, 0.9), (0.3, math.inf), (lambda s: 2 * s, 1.0)]


def prompts(K):
    return [Prompt(text, NEGATIVE.get(text)) for text in TEXTS[:K]]


def joint(texts):
    return ", ".join(texts)


def setup():
    denoiser = GaussianDenoiser(length=T)
    return denoiser, guide(denoiser, W)


def random(*shape):
    rng = np.random.default_rng(len(shape) + shape[1])
    return torch.from_numpy(rng.normal(size=shape))


def score(text, negative=None, sigma=SIGMA):
    """S*(·, z) as a matrix: −(C_z + σ²I)⁻¹, guided."""

    def plain(of):
        return -np.linalg.inv(GaussianDenoiser(length=T).covariance(of) + sigma**2 * np.eye(T))

    return plain(text) + W * (plain(text) - plain(negative))


def apply(blocks, x):
    """Block matrix `blocks[k][l]` (T x T each) times the rows of `x [B, S, C, T]`."""
    return torch.from_numpy(np.einsum("kltu,blcu->bkct", np.array(blocks), x.numpy()))


def inverse_square(gamma):
    value = gamma(SIGMA) if callable(gamma) else gamma
    return 0.0 if math.isinf(value) else value**-2


@pytest.mark.parametrize(("gamma_x", "gamma_y"), GAMMAS)
@pytest.mark.parametrize(
    ("K", "groups"), [(1, None), (2, None), (3, None), (4, None), (4, [[0, 2], [1], [3]]), (3, [[2], [0, 1]])]
)
def test_total_is_equations_10_and_11(K, groups, gamma_x, gamma_y):
    denoiser, model = setup()
    parts = groups or [[k] for k in range(K)]
    M = len(parts)
    px, py = inverse_square(gamma_x), inverse_square(gamma_y)
    eye = np.eye(T)
    matrix = np.zeros((M + 1, M + 1, T, T))
    for m, part in enumerate(parts):
        texts = [TEXTS[k] for k in part]
        matrix[m, m] = score(joint(texts), NEGATIVE.get(texts[0]) if len(texts) == 1 else None)
        matrix[m, :M] -= px * eye
        matrix[m, M] += px * eye
    matrix[M, M] = score(joint(TEXTS[:K])) - py * eye
    matrix[M, :M] += py * eye

    derivative = inference.total(model, prompts(K), groups=groups, gamma_x=gamma_x, gamma_y=gamma_y)
    x = random(B, M + 1, C, T)
    assert derivative.rows == M + 1
    torch.testing.assert_close(derivative(x, SIGMA), -SIGMA * apply(matrix, x))
    assert denoiser.rows == [2 * B * (M + 1)]
    assert torch.equal(derivative.stems(x), x[:, :M])
    assert torch.equal(derivative.mixture_row(x), x[:, M])

    consistent = inference.total(model, prompts(K), groups=groups, gamma_x=gamma_x, gamma_y=gamma_y, consistent=True)
    torch.testing.assert_close(consistent(x, SIGMA), derivative(x, SIGMA))
    moved = consistent.stems(x) - x[:, :M]
    torch.testing.assert_close(consistent.stems(x).sum(dim=1), consistent.mixture_row(x))
    torch.testing.assert_close(moved, moved[:, :1].expand_as(moved))  # the nearest such stems


@pytest.mark.parametrize(("gamma_x", "gamma_y"), GAMMAS)
@pytest.mark.parametrize(
    ("given_texts", "texts"), [(TEXTS[:1], TEXTS[1:]), (TEXTS[:2], TEXTS[2:]), (TEXTS[1:], TEXTS[:1])]
)
def test_partial_is_equation_12(given_texts, texts, gamma_x, gamma_y):
    denoiser, model = setup()
    alpha, beta, J = 0.8, 1.3, len(texts)
    given, epsilon = random(B, len(given_texts), C, T), random(B, len(given_texts), C, T) / 2
    px, py = inverse_square(gamma_x), inverse_square(gamma_y)
    eye = np.eye(T)
    matrix = np.zeros((J + 1, J + 1, T, T))
    for j, text in enumerate(texts):
        matrix[j, j] = score(text, NEGATIVE.get(text))
        matrix[j, :J] -= px * beta * eye
        matrix[j, J] += px * eye
    matrix[J, J] = score(joint([*given_texts, *texts])) - py * eye
    matrix[J, :J] += py * beta * eye
    heard = alpha * (given + SIGMA * epsilon).sum(dim=1)
    offset = torch.stack([-px * heard] * J + [py * heard], dim=1)

    before = given.clone()
    derivative = inference.partial(
        model,
        given,
        [Prompt(text, NEGATIVE.get(text)) for text in given_texts],
        [Prompt(text, NEGATIVE.get(text)) for text in texts],
        alpha=alpha,
        beta=beta,
        gamma_x=gamma_x,
        gamma_y=gamma_y,
        noise=epsilon,
    )
    x = random(B, J + 1, C, T)
    torch.testing.assert_close(derivative(x, SIGMA), -SIGMA * (apply(matrix, x) + offset))
    assert denoiser.rows == [2 * B * (J + 1)]
    assert torch.equal(given, before)


@pytest.mark.parametrize(("K", "constrained"), [(2, 0), (2, 1), (3, 0), (3, 1), (3, 2), (4, 1)])
def test_separator_is_equation_13(K, constrained):
    denoiser, model = setup()
    y = random(B, C, T)
    free = [k for k in range(K) if k != constrained]
    last = score(TEXTS[constrained], NEGATIVE.get(TEXTS[constrained]))
    matrix = np.zeros((K - 1, K - 1, T, T))
    for row, k in enumerate(free):
        matrix[row, :] += last  # −S(y − Σx, z_K) = −S_K·y + S_K·Σx
        matrix[row, row] += score(TEXTS[k], NEGATIVE.get(TEXTS[k]))
    offset = torch.from_numpy(-np.einsum("tu,bcu->bct", last, y.numpy())).unsqueeze(1)

    derivative = inference.separator(model, y, prompts(K), constrained)
    x = random(B, K - 1, C, T)
    torch.testing.assert_close(derivative(x, SIGMA), -SIGMA * (apply(matrix, x) + offset))
    assert (derivative.rows, denoiser.rows) == (K - 1, [2 * B * K])
    by_label = inference.separator(model, y, prompts(K), TEXTS[constrained])
    assert torch.equal(by_label(x, SIGMA), derivative(x, SIGMA))
    stems = derivative.stems(x)
    torch.testing.assert_close(stems.sum(dim=1), y)
    assert torch.equal(stems[:, free], x)


@pytest.mark.parametrize("K", [2, 3, 4])
def test_extractor_is_equation_14(K):
    denoiser, model = setup()
    y = random(B, C, T)
    matrix, offset = np.zeros((K, K, T, T)), []
    for k in range(K):
        complement = score(joint(TEXTS[:k] + TEXTS[k + 1 : K]))
        matrix[k, k] = score(TEXTS[k], NEGATIVE.get(TEXTS[k])) + complement
        offset.append(torch.from_numpy(-np.einsum("tu,bcu->bct", complement, y.numpy())))

    derivative = inference.extractor(model, y, prompts(K))
    x = random(B, K, C, T)
    torch.testing.assert_close(derivative(x, SIGMA), -SIGMA * (apply(matrix, x) + torch.stack(offset, dim=1)))
    assert (derivative.rows, denoiser.rows) == (K, [4 * B * K])
    assert torch.equal(derivative.stems(x), x)


@pytest.mark.parametrize("K", [2, 3, 4])
def test_consistent_extractor_projects_its_estimates_onto_the_mixture(K):
    _, model = setup()
    y, x = random(B, C, T), random(B, K, C, T)
    own = prompts(K)
    estimates = []
    for k in range(K):  # the definition, source by source: the mean of the two estimates of Eq. 14
        complement = join(own[:k] + own[k + 1 :])
        rest = model(y - x[:, k], SIGMA, [complement] * B)
        estimates.append((model(x[:, k], SIGMA, [own[k]] * B) + y - rest) / 2)
    estimate = torch.stack(estimates, dim=1)
    # The least change that makes the sources sum to the mixture solves a linear system with one constraint.
    constraint = torch.ones(1, K, dtype=torch.float64)
    change = torch.linalg.pinv(constraint) @ (y - estimate.sum(dim=1)).flatten(1).unsqueeze(1)
    expected = 2 * (x - estimate - change.unflatten(-1, (C, T))) / SIGMA
    derivative = inference.extractor(model, y, own, consistent=True)
    torch.testing.assert_close(derivative(x, SIGMA), expected)
    end = euler(derivative, x, karras(12, 0.01, 2.0))
    torch.testing.assert_close(end.sum(dim=1), y)
    few = euler(derivative, x, karras(2, 0.01, 2.0))  # far from consistent yet
    torch.testing.assert_close(derivative.stems(few).sum(dim=1), y)
    once = euler(derivative, x, [SIGMA, 0.0], last_gain=derivative.gain)
    torch.testing.assert_close(once, estimate + change.unflatten(-1, (C, T)))

    def all_to_the_first(estimates, mixture):
        missing = mixture - estimates.sum(dim=1)
        return torch.cat([(estimates[:, 0] + missing).unsqueeze(1), estimates[:, 1:]], dim=1)

    derivative = inference.extractor(model, y, own, consistent=all_to_the_first)
    torch.testing.assert_close(derivative(x, SIGMA), 2 * (x - all_to_the_first(estimate, y)) / SIGMA)


@pytest.mark.parametrize("K", [2, 4])
def test_projected_separator_moves_its_estimates_least(K):
    _, model = setup()
    y, x = random(B, C, T), random(B, K, C, T)
    own = prompts(K)
    estimate = torch.stack([model(x[:, k], SIGMA, [own[k]] * B) for k in range(K)], dim=1)
    constraint = torch.ones(1, K, dtype=torch.float64)
    change = torch.linalg.pinv(constraint) @ (y - estimate.sum(dim=1)).flatten(1).unsqueeze(1)
    expected = 1.5 * (x - estimate - change.unflatten(-1, (C, T))) / SIGMA
    derivative = inference.projected(model, y, own, gain=1.5)
    torch.testing.assert_close(derivative(x, SIGMA), expected)
    torch.testing.assert_close(derivative.stems(x).sum(dim=1), y)


@pytest.mark.parametrize("texts", [["Piano"], ["Guitar", "Piano"]], ids=len)
def test_conditioned_leaves_out_the_copies_of_the_given_sources(texts):
    """Against the normal equations, with every shift of every source as a column."""
    length, lags, ridge = 12, 2, 1e-3
    model = guide(GaussianDenoiser(length=length), W)
    given, x = random(B, 2, C, length), random(B, len(texts) + (len(texts) > 1), C, length)
    given[1, 0] = 0  # nothing is a copy of silence
    z = x[:, -1:]
    with_copies, without = (
        inference.conditioned(model, given, ["Bass", "Drums"], texts, gamma_x=1.0, lags=value) for value in (None, lags)
    )
    estimate = z - SIGMA * with_copies(x, SIGMA)[:, -1:]
    expected = []
    for sources, signal in zip(given.numpy(), estimate.numpy(), strict=True):
        sounding = [source / np.sqrt((source**2).sum()) for source in sources if source.any()]
        columns = [np.roll(source, k, axis=-1).ravel() for source in sounding for k in range(-lags, lags + 1)]
        A = np.stack(columns, axis=1)
        copies = A @ np.linalg.solve(A.T @ A + ridge * np.eye(A.shape[1]), A.T @ signal.ravel())
        expected.append(signal - copies.reshape(signal.shape))
    found = without(x, SIGMA)
    torch.testing.assert_close(found[:, -1:], (z - torch.from_numpy(np.stack(expected))) / SIGMA)
    torch.testing.assert_close(found[:, :-1], with_copies(x, SIGMA)[:, :-1])


def test_a_filtered_copy_is_found_and_another_signal_is_not():
    rng = np.random.default_rng(5)
    *given, other = torch.from_numpy(rng.normal(size=(3, 1, 4000)))
    find = inference.Copies(torch.stack(given), lags=3)
    copy = 0.5 * given[0].roll(2, -1) - 2 * given[1].roll(-3, -1)
    assert (find(copy) - copy).square().sum() < 1e-5 * copy.square().sum()
    assert find(other).square().sum() < 0.01 * other.square().sum()


def test_single_is_the_plain_score():
    _, model = setup()
    x = random(B, 1, C, T)
    derivative = inference.single(model, ["Bass", Prompt("Drums", "Bass")])
    for b, matrix in enumerate((score("Bass"), score("Drums", "Bass"))):
        torch.testing.assert_close(derivative(x, SIGMA)[b : b + 1], -SIGMA * apply([[matrix]], x[b : b + 1]))


@pytest.mark.parametrize("task", ["total", "partial", "separator", "extractor"])
def test_items_may_have_prompts_of_their_own(task):
    """A batch of lists gives, item by item, what each list gives alone."""
    _, model = setup()
    lists = [["Bass", "Drums"], ["Guitar", "Piano"]]
    y, given = random(B, C, T), random(B, 1, C, T)

    def build(texts, item):
        gamma = {"gamma_x": 0.5, "gamma_y": 0.5}
        if task == "total":
            return inference.total(model, texts, **gamma)
        if task == "partial":
            return inference.partial(model, given[item], ["Strings"], texts, noise=given[item], **gamma)
        if task == "separator":
            return inference.separator(model, y[item], texts, 1)
        return inference.extractor(model, y[item], texts)

    together = build(lists, slice(None))
    x = random(B, together.rows, C, T)
    result = together(x, SIGMA)
    for b in range(B):
        torch.testing.assert_close(build(lists[b], slice(b, b + 1))(x[b : b + 1], SIGMA), result[b : b + 1])


def test_noise_of_the_given_sources():
    _, model = setup()
    given = random(B, 1, C, T)
    options = {"gamma_x": 0.5, "gamma_y": 0.5}
    fixed = inference.partial(model, given, ["Bass"], ["Drums"], **options)
    assert torch.equal(fixed.given_at(0.5), fixed.given_at(0.5))
    redrawn = inference.partial(model, given, ["Bass"], ["Drums"], noise=SeededNoise([1, 2]), **options)
    one, two = redrawn.given_at(0.5), redrawn.given_at(0.5)
    assert not torch.equal(one, two)
    stream = SeededNoise([1, 2])
    torch.testing.assert_close(one, given + 0.5 * stream(given))
    torch.testing.assert_close(two, given + 0.5 * stream(given))


@pytest.mark.parametrize("sampler", [euler, adpm2])
@pytest.mark.parametrize("gamma_y", [math.inf, "same"])
def test_generated_stems_sum_to_the_mixture_row(sampler, gamma_y):
    """With a small γ = c·σ the rows agree at the end; without coupling they do not."""
    _, model = setup()
    K, sigmas = 3, karras(100, 1e-3, 2.0, 7)

    def mismatch(gamma_x, gamma_y):
        derivative = inference.total(model, prompts(K), gamma_x=gamma_x, gamma_y=gamma_y)
        check_stability(derivative, sigmas)
        noise = SeededNoise(range(8))
        x = sigmas[0] * noise(torch.empty(8, derivative.rows, 1, T, dtype=torch.float64))
        x = sampler(derivative, x, sigmas, noise=noise)
        error = derivative.stems(x).sum(dim=1) - derivative.mixture_row(x)
        return (error.square().mean() / derivative.mixture_row(x).square().mean()).sqrt().item()

    c = math.sqrt(K + 1 if gamma_y == "same" else K)
    coupled = mismatch(lambda s: c * s, (lambda s: c * s) if gamma_y == "same" else math.inf)
    assert coupled < 0.02
    assert mismatch(math.inf, math.inf) > 0.5


def test_stability_bound():
    _, model = setup()
    K, sigmas = 3, karras(20, 1e-3, 1.0, 7)

    def build(c, gamma_y=None):
        gamma = lambda s: c * s  # noqa: E731
        return inference.total(model, prompts(K), gamma_x=gamma, gamma_y=gamma if gamma_y is None else gamma_y)

    for step in (None, lambda d, x, s: euler(d, x, s), lambda d, x, s: adpm2(d, x, s, noise=lambda e: 0 * e)):
        check_stability(build(1.01 * math.sqrt((K + 1) / 2)), sigmas, step=step)
        with pytest.raises(UserError, match=r"step 20 of 20 .*gamma"):
            check_stability(build(0.99 * math.sqrt((K + 1) / 2)), sigmas, step=step)
        check_stability(build(1.01 * math.sqrt(K / 2), math.inf), sigmas, step=step)
    constant = inference.total(model, prompts(K), gamma_x=0.05, gamma_y=math.inf)
    with pytest.raises(UserError, match="step 1 of 20"):
        check_stability(constant, sigmas)
    check_stability(inference.total(model, prompts(K), gamma_x=math.inf, gamma_y=math.inf), sigmas)
    check_stability(inference.extractor(model, random(B, C, T), prompts(K)), sigmas)
    negative = inference.partial(
        model, random(B, 1, C, T), ["Bass"], ["Drums"], beta=-1.0, gamma_x=1.0, gamma_y=math.inf
    )
    with pytest.raises(UserError, match="beta"):
        check_stability(negative, sigmas)


def test_a_limited_likelihood_acts_between_its_noise_levels_and_is_checked_there():
    """Above the level Eq. 10 as it is, below it plain sampling; a γ that only the last steps refuse is then stable."""
    _, model = setup()
    K, x = 3, random(B, 4, C, T)
    limited = inference.total(
        model, prompts(K), gamma_x=gamma_from_config({"sigma": 1.1, "above": 0.5}), gamma_y=gamma_from_config(3)
    )
    for sigma, gamma_x in ((0.6, lambda s: 1.1 * s), (0.5, lambda s: 1.1 * s), (0.49, math.inf)):
        expected = inference.total(model, prompts(K), gamma_x=gamma_x, gamma_y=3.0)
        torch.testing.assert_close(limited(x, sigma), expected(x, sigma))
        assert limited.coupling(sigma) == pytest.approx(expected.coupling(sigma))
    sigmas = karras(20, 1e-3, 1.0, 7)
    check_stability(limited, sigmas)  # K/c² = 2.5: the step to 0 would multiply the error by −1.5
    for gamma in ({"sigma": 1.1}, {"sigma": 0.4, "above": 0.5}):
        with pytest.raises(UserError, match="step 20" if len(gamma) == 1 else "step 1 of 20"):
            check_stability(
                inference.total(model, prompts(K), gamma_x=gamma_from_config(gamma), gamma_y=math.inf), sigmas
            )


def test_instability_is_real():
    """Just beyond the bound the error of the mixture grows where the bound says so."""
    sigmas = [0.5, 0.4]
    for amount, grows in ((1.9, False), (2.1, True)):
        squared = 4 * 0.1 * 0.5 / amount  # (K + 1)·Δσ·σ/γ² = amount
        derivative = inference.total(
            lambda x, sigma, prompts: x, prompts(3), gamma_x=math.sqrt(squared), gamma_y=math.sqrt(squared)
        )
        x = random(1, 4, 1, T)
        after = euler(derivative, x, sigmas)
        excess = [v[:, -1] - v[:, :-1].sum(dim=1) for v in (x, after)]
        assert (excess[1].norm() > excess[0].norm()).item() == grows


@pytest.mark.parametrize(
    ("value", "at_two"),
    [
        *((0.5, 0.5), (3, 3.0), ("inf", math.inf), (math.inf, math.inf), ({"sigma": 2}, 4.0)),
        *(({"sigma": 2, "above": 2.0}, 4.0), ({"sigma": 2, "above": 2.1}, math.inf)),
        *(({"sigma": 2, "below": 2.0}, math.inf), ({"sigma": 2, "above": 1, "below": 3}, 4.0)),
    ],
)
def test_gamma_from_config(value, at_two):
    gamma = gamma_from_config(value)
    assert (gamma(2.0) if callable(gamma) else gamma) == at_two


@pytest.mark.parametrize(
    "value",
    [
        *(0, -1, True, "1", "infinite", {}, {"sigma": 0}, {"c": 1}, None, math.nan),
        *({"above": 1}, {"sigma": 1, "over": 1}, {"sigma": 1, "above": -1}, {"sigma": 1, "above": 2, "below": 1}),
    ],
)
def test_gamma_from_config_refuses(value):
    with pytest.raises(UserError, match="gamma"):
        gamma_from_config(value)


def test_user_errors():
    _, model = setup()
    y, gamma = random(B, C, T), {"gamma_x": 1.0, "gamma_y": 1.0}
    for bad in (
        lambda: inference.total(model, [], **gamma),
        lambda: inference.total(model, prompts(3), groups=[[0], [1]], **gamma),
        lambda: inference.total(model, prompts(2), groups=[[0, 1], []], **gamma),
        lambda: inference.total(model, prompts(2), gamma_x=0.0, gamma_y=1.0),
        lambda: inference.partial(model, y.unsqueeze(1), ["Bass", "Drums"], ["Piano"], **gamma),
        lambda: inference.conditioned(model, y.unsqueeze(1), ["Bass"], ["Piano"], share=1.5, gamma_x=1.0),
        lambda: inference.conditioned(model, y.unsqueeze(1), ["Bass"], ["Piano"], lags=-1, gamma_x=1.0),
        lambda: inference.separator(model, y, ["Bass"], 0),
        lambda: inference.separator(model, y, ["Bass", "Drums"], "Piano"),
        lambda: inference.separator(model, y, ["Bass", "Drums"], 2),
        lambda: inference.extractor(model, y, ["Bass"]),
        lambda: inference.extractor(model, y, [["Bass", "Drums"], ["Bass"]]),
    ):
        with pytest.raises(UserError) as caught:
            bad()
        assert "\n" not in str(caught.value)
