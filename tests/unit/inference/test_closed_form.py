"""Eq. 10–14 as gradients of log densities, and what the samplers make of them, for Gaussian sources.

`test_inference` compares each equation with matrices of scores at one point; here the maps are derived a second time,
from the densities, and followed through whole runs.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch

from gmsdi import inference
from gmsdi.sampling.guidance import Prompt, join
from gmsdi.sampling.noise import SeededNoise
from gmsdi.sampling.samplers import adpm2, dpmpp_2m, euler, heun
from gmsdi.sampling.schedules import karras
from tests.helpers.closed_form import (
    Energies,
    Linear,
    Normal,
    Responses,
    World,
    adpm2_moments,
    dpmpp_2m_moments,
    errors_by_steps,
    euler_moments,
    gaussian_log_density,
    heun_moments,
    linear,
    order,
    posterior,
    probe,
)
from tests.helpers.gaussians import guide

LABELS, T, W = ["Bass", "Drums", "Guitar", "Piano"], 2, 0.6
NEGATIVE = {"Drums": "Bass", "Piano": "Bass, Drums"}
WORLD = World.random(LABELS, T, W)
MODEL = guide(WORLD, W)
GAMMAS = {
    "both": (0.5, 0.8),
    "x": (0.5, math.inf),
    "y": (math.inf, 0.8),
    "none": (math.inf, math.inf),
    "sigma": (lambda sigma: 2.2 * sigma, lambda sigma: 3 * sigma),
}


def prompts(labels) -> list[Prompt]:
    return [Prompt(label, NEGATIVE.get(label)) for label in labels]


@dataclass
class Problem:
    """A derivative for items of the batch that have mixtures (or given sources) of their own.

    Attributes:
        rows: S.
        build: the derivative, with every item repeated so often.
        energies: of each item.
    """

    rows: int
    build: Callable[[int], Any]
    energies: list[Energies]

    def linear(self, item: int = 0) -> Linear:
        return linear(self.energies[item], self.rows, T)


def signals(*shape) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(sum(shape)).normal(size=shape))


def total(K, gammas, groups=None, items=1) -> Problem:
    gamma_x, gamma_y = GAMMAS[gammas]
    rows = [
        prompts([LABELS[k] for k in group])[0] if len(group) == 1 else join(prompts([LABELS[k] for k in group]))
        for group in groups or [[k] for k in range(K)]
    ]

    def energies(x, sigma):
        excess = x[-1] - x[:-1].sum(0)
        pull = gaussian_log_density(excess, gamma_x, sigma)
        own = [WORLD.log_density(prompt, x[k], sigma) + pull for k, prompt in enumerate(rows)]
        joint = WORLD.log_density(Prompt(", ".join(LABELS[:K])), x[-1], sigma)
        return [*own, joint + gaussian_log_density(excess, gamma_y, sigma)]

    derivative = inference.total(MODEL, prompts(LABELS[:K]), groups=groups, gamma_x=gamma_x, gamma_y=gamma_y)
    return Problem(len(rows) + 1, lambda repeats: derivative, [energies] * items)


def partial(given, generated, gammas, items=1, alpha=0.7, beta=1.2) -> Problem:
    gamma_x, gamma_y = GAMMAS[gammas]
    heard, epsilon = signals(items, len(given), 1, T), signals(items, len(given), 1, T) / 2

    def energies_of(item):
        def energies(x, sigma):
            known = alpha * (heard[item] + sigma * epsilon[item]).sum((0, 1))
            excess = x[-1] - known - beta * x[:-1].sum(0)
            # Eq. 12 pulls the sources by 1/γ², without the β that the chain rule would add.
            pull = gaussian_log_density(excess, gamma_x, sigma) / beta
            own = [WORLD.log_density(prompt, x[j], sigma) + pull for j, prompt in enumerate(prompts(generated))]
            joint = WORLD.log_density(Prompt(", ".join([*given, *generated])), x[-1], sigma)
            return [*own, joint + gaussian_log_density(excess, gamma_y, sigma)]

        return energies

    def build(repeats):
        return inference.partial(
            MODEL,
            heard.repeat_interleave(repeats, 0),
            prompts(given),
            prompts(generated),
            alpha=alpha,
            beta=beta,
            gamma_x=gamma_x,
            gamma_y=gamma_y,
            noise=epsilon.repeat_interleave(repeats, 0),
        )

    return Problem(len(generated) + 1, build, [energies_of(item) for item in range(items)])


def conditioned(given, generated, gamma="sigma", items=1, share=0.3) -> Problem:
    gamma_x, _ = GAMMAS[gamma]
    heard = signals(items, len(given), 1, T)

    def energies_of(item):
        def energies(x, sigma):
            z, known, own = x[-1], heard[item].sum((0, 1)), prompts(generated)
            alone = own[0] if len(own) == 1 else join(own)
            whole = Prompt(", ".join([*given, *generated]))
            density = WORLD.log_density(alone, z, sigma) * (1 - share)
            density = density + WORLD.log_density(whole, z + known, sigma) * share
            if len(own) == 1:
                return [density]
            pull = gaussian_log_density(z - x[:-1].sum(0), gamma_x, sigma)
            return [*(WORLD.log_density(prompt, x[j], sigma) + pull for j, prompt in enumerate(own)), density]

        return energies

    def build(repeats):
        return inference.conditioned(
            MODEL,
            heard.repeat_interleave(repeats, 0),
            prompts(given),
            prompts(generated),
            share=share,
            gamma_x=gamma_x,
            lags=None,
        )

    rows = len(generated) + (len(generated) > 1)
    return Problem(rows, build, [energies_of(item) for item in range(items)])


def separator(K, constrained, items=1) -> Problem:
    y = signals(items, 1, T)
    own = prompts(LABELS[:K])
    free = [prompt for k, prompt in enumerate(own) if k != constrained]

    def energies_of(item):
        def energies(x, sigma):
            rest = WORLD.log_density(own[constrained], y[item, 0] - x.sum(0), sigma)
            return [WORLD.log_density(prompt, x[k], sigma) + rest for k, prompt in enumerate(free)]

        return energies

    def build(repeats):
        return inference.separator(MODEL, y.repeat_interleave(repeats, 0), own, constrained)

    return Problem(K - 1, build, [energies_of(item) for item in range(items)])


def extractor(K, items=1) -> Problem:
    y = signals(items, 1, T)
    own = prompts(LABELS[:K])

    def energies_of(item):
        def energies(x, sigma):
            return [
                WORLD.log_density(prompt, x[k], sigma)
                + WORLD.log_density(join(own[:k] + own[k + 1 :]), y[item, 0] - x[k], sigma)
                for k, prompt in enumerate(own)
            ]

        return energies

    def build(repeats):
        return inference.extractor(MODEL, y.repeat_interleave(repeats, 0), own)

    return Problem(K, build, [energies_of(item) for item in range(items)])


def partitions(K):
    """Of 0, ..., K − 1, all of them."""
    if K == 0:
        return [[]]
    smaller = partitions(K - 1)
    joined = [[*p[:m], [*p[m], K - 1], *p[m + 1 :]] for p in smaller for m in range(len(p))]
    return [*joined, *([*p, [K - 1]] for p in smaller)]


def check(problem: Problem):
    """At every σ and for every item, the derivative is the affine map that the densities imply."""
    items = len(problem.energies)
    for sigma in (0.03, 0.7, 5.0):
        A, b = probe(problem.build, items, problem.rows, T, sigma)
        for item in range(items):
            matrix, offset = problem.linear(item)(sigma)
            scale = max(np.abs(matrix).max(), 0.01)  # of x/σ and D/σ, which may nearly cancel
            np.testing.assert_allclose(A[item], matrix, rtol=0, atol=1e-11 * scale)
            np.testing.assert_allclose(b[item], offset, rtol=0, atol=1e-11 * scale)


@pytest.mark.parametrize("items", [1, 3])
@pytest.mark.parametrize("gammas", GAMMAS)
@pytest.mark.parametrize("K", [2, 3, 4])
def test_total_climbs_the_densities_of_equation_10(K, gammas, items):
    check(total(K, gammas, items=items))


@pytest.mark.parametrize("groups", [*partitions(3), *partitions(4)], ids=str)
def test_groups_climb_the_densities_of_equation_11(groups):
    assert sorted(k for group in groups for k in group) == list(range(sum(map(len, groups))))
    check(total(sum(map(len, groups)), "both", groups=groups))


@pytest.mark.parametrize("gammas", GAMMAS)
@pytest.mark.parametrize("known", [["Bass"], ["Guitar", "Drums"], ["Piano", "Bass", "Guitar"]], ids=len)
def test_partial_climbs_the_densities_of_equation_12(known, gammas):
    check(partial(known, [label for label in LABELS if label not in known], gammas, items=2))


@pytest.mark.parametrize("share", [0.0, 0.4, 1.0])
@pytest.mark.parametrize("known", [["Bass"], ["Guitar", "Drums"], ["Piano", "Bass", "Guitar"]], ids=len)
def test_conditioned_climbs_a_product_of_two_densities(known, share):
    check(conditioned(known, [label for label in LABELS if label not in known], items=2, share=share))


@pytest.mark.parametrize(("K", "constrained"), [(K, k) for K in (2, 3, 4) for k in range(K)])
def test_separator_climbs_the_densities_of_equation_13(K, constrained):
    check(separator(K, constrained, items=3))


@pytest.mark.parametrize("K", [2, 3, 4])
def test_extractor_climbs_the_densities_of_equation_14(K):
    check(extractor(K, items=3))


PROBLEMS = {
    "total": total(3, "sigma"),
    "groups": total(4, "both", groups=[[0, 2], [1, 3]]),
    "partial": partial(["Drums"], ["Bass", "Piano"], "sigma"),
    "conditioned": conditioned(["Drums"], ["Bass", "Piano"]),
    "separator": separator(3, 1),
    "extractor": extractor(3),
}
STEPS = 8
SAMPLERS = {
    "euler": (euler, euler_moments, {}, 0),
    "euler-churn": (euler, euler_moments, {"s_churn": 2.0}, STEPS),
    "euler-capped-churn-resamples": (euler, euler_moments, {"s_churn": 20.0, "resamples": 3}, 5 * STEPS),
    "heun-churn": (heun, heun_moments, {"s_churn": 1.0}, STEPS),
    "adpm2-arithmetic": (adpm2, adpm2_moments, {}, STEPS - 1),
    "adpm2-geometric": (adpm2, adpm2_moments, {"midpoint": "geometric"}, STEPS - 1),
    "dpmpp_2m": (dpmpp_2m, dpmpp_2m_moments, {}, 0),
}


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("problem", PROBLEMS)
def test_samplers_output_has_the_mean_and_covariance_of_the_exact_recursion(problem, sampler):
    run, recursion, options, draws = SAMPLERS[sampler]
    problem, sigmas = PROBLEMS[problem], karras(STEPS, 0.02, 3.0, 7)
    noise = Responses(problem.rows, T, draws)
    x = run(problem.build(noise.items), noise.start(sigmas[0]), sigmas, noise=noise, **options)
    expected = recursion(problem.linear(), Normal.isotropic(problem.rows * T, sigmas[0]), sigmas, **options)
    scale = np.abs(expected.moments).max()
    np.testing.assert_allclose(noise.moments(x).moments, expected.moments, rtol=0, atol=1e-10 * scale)


def test_seeded_noise_gives_these_moments():
    """Draws are independent from step to step, from item to item and from row to row."""
    problem, sigmas, items = PROBLEMS["separator"], karras(6, 0.02, 3.0, 7), 3000
    expected = euler_moments(problem.linear(), Normal.isotropic(2 * T, 3.0), sigmas, s_churn=2.0, resamples=2)
    noise = SeededNoise(range(items))
    x = 3.0 * noise(torch.empty(items, problem.rows, 1, T, dtype=torch.float64))
    x = euler(problem.build(items), x, sigmas, s_churn=2.0, resamples=2, noise=noise)
    flat = x.reshape(items, -1).numpy()
    spread = np.sqrt(np.diag(expected.covariance))
    assert (np.abs(flat.mean(0) - expected.mean) < 4.5 * spread / math.sqrt(items)).all()
    # The standard error of an entry of a covariance matrix is at most √(2/N) times the standard deviations' product.
    error = np.abs(np.cov(flat.T) - expected.covariance) / np.outer(spread, spread)
    assert error.max() < 4.5 * math.sqrt(2 / items)


@pytest.mark.parametrize(
    ("sampler", "options", "expected"),
    [
        (euler, {}, 1),
        (heun, {}, 2),
        (adpm2, {"eta": 0.0}, 2),
        (adpm2, {"eta": 0.0, "midpoint": "geometric"}, 2),
        (dpmpp_2m, {}, 2),
    ],
)
@pytest.mark.parametrize("problem", PROBLEMS)
def test_coupled_derivatives_converge_at_the_samplers_order(problem, sampler, options, expected):
    """Error against step count on a log-log fit."""
    problem, steps = PROBLEMS[problem], [24, 48, 96]
    errors = errors_by_steps(problem.build(1), signals(1, problem.rows, 1, T), sampler, steps, **options)
    assert order(steps, errors) > expected - 0.2
    assert errors[-1] < 0.02


@pytest.mark.parametrize(
    ("sampler", "options", "per_step"),
    [
        (euler, {"s_churn": 0.13}, 1),
        (euler, {"resamples": 2}, 1),
        (euler, {"s_churn": 0.13, "resamples": 2}, 3),
        (adpm2, {}, 1),
    ],
)
def test_covariance_is_that_of_the_noisy_signal_at_every_sigma(sampler, options, per_step):
    """Cov x(σ) = C + σ²I wherever the model is asked, up to a step error that halves with the step.

    `s_churn` is here per step and per 100 of them, so that a step's churn shrinks with the steps.
    """
    world = World.random(["Bass"], T)
    derivative = inference.single(guide(world, 0.0), ["Bass"])
    C, worst = world.covariance("Bass"), []
    for n in (60, 120):
        sigmas = karras(n, 0.01, 3.0, 7)
        noise = Responses(1, T, (n - (sampler is adpm2)) * per_step)
        error = 0.0

        def recording(x, sigma, noise=noise):
            nonlocal error
            exact = C + sigma**2 * np.eye(T)
            error = max(error, np.abs(noise.so_far(x).covariance - exact).max() / np.abs(exact).max())
            return derivative(x, sigma)

        x = np.linalg.cholesky(C / sigmas[0] ** 2 + np.eye(T))  # the start has the signal in it
        first = torch.einsum("tu,bscu->bsct", torch.from_numpy(x), noise.start(sigmas[0]))
        settings = {**options, "s_churn": options["s_churn"] * 100} if "s_churn" in options else options
        sampler(recording, first, sigmas, noise=noise, **settings)
        worst.append(error)
    assert worst[1] < 0.1
    assert worst[1] < 0.62 * worst[0]


def two_scalars(c1, c2):
    """The Separator's map for y = 1, the sum of two scalar sources of variances c1 and c2; its state is the first."""
    world = World({"a": np.array([[c1]]), "b": np.array([[c2]])})
    y = torch.ones(1, 1, 1, dtype=torch.float64)

    def at(sigma):
        A, b = probe(lambda n: inference.separator(guide(world, 0.0), y.repeat(n, 1, 1), ["a", "b"], 1), 1, 1, 1, sigma)
        return A[0], b[0]

    return at, posterior(world, ["a", "b"], np.array([1.0]))


@pytest.mark.parametrize("ratio", [0.01, 1.0, 30.0])
def test_without_churn_the_end_state_divides_by_amplitude_and_is_too_sure(ratio):
    """Two Gaussians, Eq. 13 or 14: the ODE ends at y·√c₁/(√c₁ + √c₂); the posterior mean is y·c₁/(c₁ + c₂).

    Its variance c₁c₂σ²/((c₁ + σ²)(c₂ + σ²)), with σ the first σ, vanishes where the posterior's is c₁c₂/(c₁ + c₂).
    """
    c1, c2, top = ratio, 1.0, 100.0
    at, exact = two_scalars(c1, c2)
    end = heun_moments(at, Normal.isotropic(1, top), karras(400, 1e-3, top, 7))
    assert end.mean.item() == pytest.approx(math.sqrt(c1) / (math.sqrt(c1) + math.sqrt(c2)), abs=1e-3)
    assert end.covariance.item() == pytest.approx(c1 * c2 * top**2 / ((c1 + top**2) * (c2 + top**2)), rel=1e-2)
    assert exact.mean[0] == pytest.approx(c1 / (c1 + c2))
    assert exact.covariance[0, 0] == pytest.approx(c1 * c2 / (c1 + c2))


@pytest.mark.parametrize("ratio", [0.1, 10.0])
def test_churn_leads_to_the_posterior(ratio):
    """With ever more noise along the way Eq. 13 becomes annealed Langevin dynamics, whose end is p(x | y)."""
    at, exact = two_scalars(ratio, 1.0)
    gaps = []
    for steps in (50, 200, 800):  # each step churns by 5 %, so that the total churn grows with the steps
        sigmas = karras(steps, 1e-3, 10.0, 7)
        end = euler_moments(at, Normal.isotropic(1, 10.0), sigmas, s_churn=0.05 * steps, resamples=2)
        gaps.append([end.mean.item() - exact.mean[0], end.covariance.item() / exact.covariance[0, 0] - 1])
    mean, variance = np.abs(gaps).T
    assert mean[-1] < 0.02  # the gap of the ODE is 0.15
    assert variance[-1] < 0.1
    assert (np.diff(mean) < 0).all()
    assert (np.diff(variance) < 0).all()
