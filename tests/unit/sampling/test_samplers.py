"""Samplers, schedules and noise against closed forms for a Gaussian signal of standard deviation S."""

import math
from itertools import pairwise

import numpy as np
import pytest
import torch

from gmsdi.errors import UserError
from gmsdi.inference import partial
from gmsdi.sampling.guidance import guided
from gmsdi.sampling.noise import CoupledNoise, SeededNoise
from gmsdi.sampling.samplers import adpm2, dpmpp_2m, euler, heun
from gmsdi.sampling.schedules import karras

S = 0.6


def flow(x, sigma):
    """dx/dσ = (x − D)/σ with D = x·S²/(S² + σ²)."""
    return x * sigma / (S**2 + sigma**2)


def recorded(derivative=flow):
    sigmas = []

    def f(x, sigma):
        assert isinstance(sigma, float)
        sigmas.append(sigma)
        return derivative(x, sigma)

    return f, sigmas


DETERMINISTIC = [
    pytest.param(euler, {}, 1, id="euler"),
    pytest.param(heun, {}, 2, id="heun"),
    pytest.param(adpm2, {"eta": 0}, 2, id="midpoint-arithmetic"),
    pytest.param(adpm2, {"eta": 0, "rho": 3}, 2, id="midpoint-power-3"),
    pytest.param(adpm2, {"eta": 0, "midpoint": "geometric"}, 2, id="midpoint-geometric"),
    pytest.param(dpmpp_2m, {}, 2, id="dpmpp_2m"),
]


@pytest.mark.parametrize(("sampler", "options", "order"), DETERMINISTIC)
def test_converges_to_the_exact_solution_at_its_order(sampler, options, order):
    start = torch.tensor([1.3], dtype=torch.float64)
    steps, errors = [16, 32, 64, 128], []
    for n in steps:
        sigmas = karras(n, 0.05, 2.0, 7)[:-1]  # without the step to 0, which is of first order by construction
        exact = start * math.sqrt((S**2 + sigmas[-1] ** 2) / (S**2 + sigmas[0] ** 2))
        result = sampler(flow, start, sigmas, **options)
        assert result.dtype == torch.float64
        errors.append((result - exact).abs().item())
    slope = -np.polyfit(np.log(steps), np.log(errors), 1)[0]
    assert slope > order - 0.15  # the arithmetic midpoint happens to gain an order on this equation


@pytest.mark.parametrize(("sampler", "options", "order"), DETERMINISTIC)
def test_ends_at_the_denoised_signal(sampler, options, order):
    x = sampler(flow, torch.tensor([1.0]), [3.0, 0.0], **options)
    assert x.item() == pytest.approx(S**2 / (S**2 + 9), rel=1e-6)


@pytest.mark.parametrize("gain", [1.0, 2.0, 1.7])
def test_last_gain_ends_at_the_denoised_signal_of_a_steeper_derivative(gain):
    x = torch.tensor([1.0], dtype=torch.float64)
    before = euler(lambda x, sigma: gain * flow(x, sigma), x, [3.0, 1.0])
    end = euler(lambda x, sigma: gain * flow(x, sigma), x, [3.0, 1.0, 0.0], last_gain=gain)
    assert end.item() == pytest.approx(before.item() * S**2 / (S**2 + 1), rel=1e-12)


def variance(sampler, sigmas, **options):
    """Of the sampler's output, exactly: in component j of the state only the j-th draw is 1, and all is linear."""
    draws = 0

    def noise(x):
        nonlocal draws
        draws += 1
        unit = torch.zeros_like(x)
        unit[draws] = 1
        return unit

    x = torch.zeros(1 + 4 * len(sigmas), dtype=torch.float64)
    x[0] = math.hypot(S, sigmas[0])
    return sampler(flow, x, sigmas, noise=noise, **options).square().sum().item()


@pytest.mark.parametrize(
    ("sampler", "options"),
    [
        pytest.param(euler, {"s_churn": 20}, id="churn"),
        pytest.param(euler, {"resamples": 2}, id="resamples"),
        pytest.param(euler, {"s_churn": 5, "resamples": 2}, id="churn-resamples"),
        pytest.param(heun, {"s_churn": 40}, id="heun-churn"),
        pytest.param(adpm2, {}, id="adpm2-arithmetic"),
        pytest.param(adpm2, {"midpoint": "geometric"}, id="adpm2-geometric"),
    ],
)
def test_noise_keeps_the_marginal_variance_at_every_sigma(sampler, options):
    """Var x(σ) = S² + σ² along the way and at the end, up to a step error that vanishes with the step."""
    worst = []
    for n in (200, 400, 800):
        schedule = karras(n, 1e-3, 2.0, 7)
        churn = options.get("s_churn", 0) / n
        error = 0.0
        for end in (n // 8, n // 2, n):
            sigmas = schedule[: end + 1]
            scaled = {**options, "s_churn": churn * end} if churn else options
            error = max(error, abs(variance(sampler, sigmas, **scaled) / (S**2 + sigmas[-1] ** 2) - 1))
        worst.append(error)
    assert worst[-1] < 0.02
    assert worst[2] < max(0.4 * worst[0], 1e-5)


def test_euler_churns_and_resamples_as_in_algorithm_2():
    sigmas = karras(5, 0.1, 1.0, 7)
    draws = [torch.randn(3, dtype=torch.float64) for _ in range(15)]
    f, seen = recorded()
    queue = iter(draws)
    x0 = torch.randn(3, dtype=torch.float64)
    result = euler(f, x0, sigmas, s_churn=1.0, resamples=2, noise=lambda x: next(queue))

    x, queue = x0, iter(draws)
    for s, t in pairwise(sigmas):
        hat = s * 1.2  # 1 + s_churn / steps
        for last in (False, True):
            x = x + math.sqrt(hat**2 - s**2) * next(queue)
            x = x + flow(x, hat) * (t - hat)
            if not last:
                x = x + math.sqrt(s**2 - t**2) * next(queue)
    torch.testing.assert_close(result, x)
    assert seen == pytest.approx([s * 1.2 for s in sigmas[:-1] for _ in range(2)])


def test_churn_is_capped_at_the_square_root_of_two():
    f, seen = recorded()
    euler(f, torch.ones(1), [2.0, 1.0, 0.0], s_churn=50, noise=torch.randn_like)
    assert seen == pytest.approx([2 * math.sqrt(2), math.sqrt(2)])


@pytest.mark.parametrize(
    ("options", "mid"),
    [
        ({}, lambda a, b: (a + b) / 2),
        ({"rho": 2.0}, lambda a, b: ((math.sqrt(a) + math.sqrt(b)) / 2) ** 2),
        ({"midpoint": "geometric"}, lambda a, b: math.sqrt(a * b)),
    ],
)
def test_adpm2_evaluates_at_the_midpoint_that_it_names(options, mid):
    f, seen = recorded()
    adpm2(f, torch.ones(1), [2.0, 1.0, 0.0], noise=torch.zeros_like, **options)
    down = 1.0 / 2.0  # σ_down = σ_next²/σ for ancestral noise
    assert seen == pytest.approx([2.0, mid(2.0, down), 1.0])


@pytest.mark.parametrize(
    ("sampler", "options", "evaluations"),
    [(euler, {}, 6), (euler, {"resamples": 3}, 18), (heun, {}, 11), (adpm2, {}, 11), (dpmpp_2m, {}, 6)],
)
def test_evaluations_and_progress(sampler, options, evaluations):
    f, seen = recorded()
    progress = []
    sampler(
        f,
        torch.ones(2),
        karras(6, 0.01, 1, 7),
        noise=torch.randn_like,
        callback=lambda step, steps: progress.append((step, steps)),
        **options,
    )
    assert len(seen) == evaluations
    assert progress == [(i, 6) for i in range(1, 7)]


def test_samplers_are_pure_and_draw_nothing_by_themselves():
    x = torch.ones(3)
    state = torch.get_rng_state()
    for sampler in (euler, heun, dpmpp_2m):
        sampler(flow, x, [1.0, 0.5, 0.0])
    assert torch.equal(x, torch.ones(3))
    assert torch.equal(state, torch.get_rng_state())
    for sampler, options in ((euler, {"s_churn": 1}), (euler, {"resamples": 2}), (heun, {"s_churn": 1}), (adpm2, {})):
        with pytest.raises(ValueError, match="noise"):
            sampler(flow, x, [1.0, 0.5, 0.0], **options)
    with pytest.raises(ValueError, match="schedule"):
        euler(flow, x, [0.5, 1.0, 0.0])


def test_karras_schedule():
    sigmas = karras(50, 1e-4, 1.0, 7)
    assert len(sigmas) == 51
    assert all(isinstance(sigma, float) for sigma in sigmas)
    assert sigmas[0] == 1.0
    assert sigmas[-2:] == [1e-4, 0.0]
    steps = np.diff(np.array(sigmas[:-1]) ** (1 / 7))
    np.testing.assert_allclose(steps, steps[0])
    assert karras(1, 0.1, 2.0, 7) == [2.0, 0.0]


@pytest.mark.parametrize("bad", [(0, 0.1, 1, 7), (5, 0, 1, 7), (5, 2, 1, 7), (5, 1, 1, 7), (5, 0.1, 1, 0)])
def test_karras_refuses(bad):
    with pytest.raises(UserError):
        karras(*bad)


def test_seeded_noise_belongs_to_the_item():
    seeds = [11, 5, 99, 0]
    shape = (3, 1, 50)
    together = SeededNoise(seeds)
    first, second = together(torch.empty(4, *shape)), together(torch.empty(4, *shape))
    for i, seed in enumerate(seeds):
        alone = SeededNoise([seed])
        assert torch.equal(alone(torch.empty(1, *shape))[0], first[i])
        assert torch.equal(alone(torch.empty(1, *shape))[0], second[i])
    backwards = SeededNoise(seeds[::-1])(torch.empty(4, *shape, dtype=torch.float64))
    assert backwards.dtype == torch.float64
    assert torch.equal(backwards.flip(0).float(), first)
    assert not torch.equal(first, second)
    assert SeededNoise([3])(torch.empty(1, 100_000)).std().item() == pytest.approx(1, abs=0.01)
    with pytest.raises(ValueError, match="seeds"):
        together(torch.empty(2, *shape))


@pytest.mark.parametrize(("known", "others"), [(0, 4), (1, 2), (3, 1)])
def test_coupled_noise_has_unit_rows_that_sum_to_the_mixtures(known, others):
    K, T = known + others, 200_000
    noise = CoupledNoise([3, 4])
    given = noise.given(torch.empty(2, known, 1, T), others) if known else torch.empty(2, 0, 1, T)
    state = noise(torch.empty(2, others + 1, 1, T))
    sources = torch.cat([given, state[:, :-1]], dim=1)
    assert torch.equal(state[:, -1], sources.sum(1))
    expected = torch.full((K, K), -1 / K).fill_diagonal_(1)
    for item in torch.cat([sources, state[:, -1:]], dim=1)[:, :, 0]:
        covariance = item @ item.T / T
        torch.testing.assert_close(covariance[:K, :K], expected, rtol=0, atol=0.01)
        torch.testing.assert_close(covariance[K], torch.tensor([*[1 / K] * K, 1]), rtol=0, atol=0.01)
    # Later noise, of churn, knows nothing of the given sources, whose noise stays.
    later = noise(torch.empty(2, others + 1, 1, T))
    assert torch.equal(later[:, -1], later[:, :-1].sum(1))
    assert later.std().item() == pytest.approx(1, abs=0.01)


def test_coupled_noise_leaves_nothing_to_the_likelihood_terms():
    """Of silence, whose noise the denoiser leaves as it is; with independent noise the terms take some of it."""
    given, sigma = torch.zeros(1, 2, 1, 1000), 0.7
    model = guided(lambda x, sigma, cond: x, scale=0.0, encode=lambda texts: Bank())
    for kind, pulled in ((CoupledNoise, False), (SeededNoise, True)):
        noise = kind([1])
        drawn = noise.given(given, 2) if kind is CoupledNoise else noise(given)
        derivative = partial(
            model, given, ["a", "b"], ["c", "d"], gamma_x=lambda s: 2 * s, gamma_y=lambda s: 2 * s, noise=drawn
        )
        change = derivative(sigma * noise(torch.empty(1, 3, 1, 1000)), sigma)
        assert (change.abs().max().item() > 1e-5) is pulled


class Bank:
    def select(self, index):
        return self
