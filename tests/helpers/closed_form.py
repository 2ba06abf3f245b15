"""Gaussian sources, for which everything is known: densities, and what a sampler makes of them, in float64."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import pairwise
from typing import Any, TypeAlias

import numpy as np
import torch
from scipy.integrate import solve_ivp
from torch import Tensor

from gmsdi.sampling.guidance import Prompt
from gmsdi.sampling.schedules import karras
from tests.helpers.gaussians import Bank

Energies: TypeAlias = Callable[[Tensor, float], list[Tensor]]
"""For x `[S, T]` and σ: the log density, up to a constant, that row k climbs, for each k."""

Linear: TypeAlias = Callable[[float], tuple[np.ndarray, np.ndarray]]
"""σ -> A `[n, n]`, b `[n]` of the derivative A·x + b, with the S rows of T samples as one vector of n."""


class World:
    """Independent zero-mean Gaussian sources, one per label; a joint prompt names the sum of its sources.

    A denoiser of one channel, with `embed`. The text None (z*) names a signal of its own.

    Args:
        covariances: label to `[T, T]`.
        w: guidance that `log_density` is to take into account.
    """

    def __init__(self, covariances: Mapping[str, np.ndarray], w: float = 0.0) -> None:
        self.covariances = covariances
        self.w = w
        self.length = len(next(iter(covariances.values())))
        self.gain = lru_cache(maxsize=None)(self._gain)

    @classmethod
    def random(cls, labels: Sequence[str], length: int, w: float = 0.0) -> World:
        rng = np.random.default_rng(0)
        roots = rng.normal(size=(len(labels), length, length))
        return cls({label: root @ root.T + 0.05 * np.eye(length) for label, root in zip(labels, roots, strict=True)}, w)

    def covariance(self, text: str | None) -> np.ndarray:
        if text is None:
            return sum(self.covariances.values()) / 3 + np.eye(self.length) / 5
        return sum(self.covariances[label] for label in text.split(", "))

    def log_density(self, prompt: Prompt, x: Tensor, sigma: float) -> Tensor:
        """Of a noisy signal `[T]`, guided: (1 + w)·log p(x | z) − w·log p(x | z⁻)."""
        positive, negative = (
            -x @ torch.from_numpy(np.linalg.inv(self.covariance(text) + sigma**2 * np.eye(self.length))) @ x / 2
            for text in (prompt.text, prompt.negative)
        )
        return (1 + self.w) * positive - self.w * negative

    def embed(self, texts: Sequence[str | None]) -> Bank:
        return Bank(tuple(texts))

    def denoise(self, x: Tensor, sigma: Tensor, cond: Bank) -> Tensor:
        return self(x, sigma, cond)

    def __call__(self, x: Tensor, sigma: Tensor, cond: Bank) -> Tensor:
        gains = torch.stack([self.gain(text, sigma[0].item()) for text in cond.texts])
        return torch.einsum("ntu,ncu->nct", gains, x)

    def _gain(self, text: str | None, sigma: float) -> Tensor:
        C = self.covariance(text)
        return torch.from_numpy(C @ np.linalg.inv(C + sigma**2 * np.eye(self.length)))


def gaussian_log_density(residual: Tensor, gamma: float | Callable[[float], float], sigma: float) -> Tensor:
    """log N(residual | 0, γ²I) up to a constant, 0 for γ = ∞."""
    value = gamma(sigma) if callable(gamma) else gamma
    return residual.new_zeros(()) if math.isinf(value) else -(residual @ residual) / (2 * value**2)


def linear(energies: Energies, rows: int, length: int) -> Linear:
    """dx/dσ = −σ·∇ of each row's energy, as a matrix and a vector."""

    def at(sigma: float) -> tuple[np.ndarray, np.ndarray]:
        def score(flat: Tensor) -> Tensor:
            x = flat.reshape(rows, length)
            gradients = [
                torch.autograd.grad(energy, x, create_graph=True, retain_graph=True)[0][k]
                for k, energy in enumerate(energies(x, sigma))
            ]
            return torch.cat(gradients)

        origin = torch.zeros(rows * length, dtype=torch.float64, requires_grad=True)
        matrix = torch.autograd.functional.jacobian(score, origin)
        return -sigma * matrix.numpy(), -sigma * score(origin).detach().numpy()

    return at


def probe(
    build: Callable[[int], Any], items: int, rows: int, length: int, sigma: float
) -> tuple[np.ndarray, np.ndarray]:
    """A `[items, n, n]` and b `[items, n]` of a derivative, from what it makes of 0 and of every unit vector.

    `build(repeats)` is the derivative with each of its items repeated so often.
    """
    n = rows * length
    x = torch.cat([torch.zeros(1, n), torch.eye(n)]).double().reshape(1 + n, rows, 1, length)
    d = build(1 + n)(x.repeat(items, 1, 1, 1), sigma).reshape(items, 1 + n, n).numpy()
    return (d[:, 1:] - d[:, :1]).transpose(0, 2, 1), d[:, 0]


@dataclass
class Normal:
    """A Gaussian on its way through a sampler."""

    mean: np.ndarray
    covariance: np.ndarray

    @classmethod
    def isotropic(cls, n: int, sigma: float) -> Normal:
        return cls(np.zeros(n), sigma**2 * np.eye(n))

    def affine(self, matrix: np.ndarray, offset: np.ndarray) -> Normal:
        return Normal(matrix @ self.mean + offset, matrix @ self.covariance @ matrix.T)

    def noisier(self, sigma: float, sigma_new: float) -> Normal:
        return Normal(self.mean, self.covariance + (sigma_new**2 - sigma**2) * np.eye(len(self.mean)))

    @cached_property
    def moments(self) -> np.ndarray:
        return np.column_stack([self.mean, self.covariance])


def euler_moments(at: Linear, x: Normal, sigmas: Sequence[float], s_churn: float = 0, resamples: int = 1) -> Normal:
    """Algorithm 2 of Karras et al. 2022 without its second-order part, and MSDM's resampling."""
    eye, steps = np.eye(len(x.mean)), len(sigmas) - 1
    for sigma, after in pairwise(sigmas):
        hat = sigma * (1 + min(s_churn / steps, math.sqrt(2) - 1))
        for last in [False] * (resamples - 1) + [True]:
            A, b = at(hat)
            x = x.noisier(sigma, hat).affine(eye + (after - hat) * A, (after - hat) * b)
            x = x if last else x.noisier(after, sigma)
    return x


def heun_moments(at: Linear, x: Normal, sigmas: Sequence[float], s_churn: float = 0) -> Normal:
    eye, steps = np.eye(len(x.mean)), len(sigmas) - 1
    for sigma, after in pairwise(sigmas):
        hat = sigma * (1 + min(s_churn / steps, math.sqrt(2) - 1))
        h, (A, b) = after - hat, at(hat)
        if after > 0:
            A2, b2 = at(after)
            A, b = (A + A2 @ (eye + h * A)) / 2, (b + b2 + h * A2 @ b) / 2
        x = x.noisier(sigma, hat).affine(eye + h * A, h * b)
    return x


def adpm2_moments(at: Linear, x: Normal, sigmas: Sequence[float], midpoint: str = "power") -> Normal:
    eye = np.eye(len(x.mean))
    for sigma, after in pairwise(sigmas):
        down = after**2 / sigma  # for ancestral noise, σ_up² = σ_next² − σ_next⁴/σ²
        A, b = at(sigma)
        if down > 0:
            middle = (sigma + down) / 2 if midpoint == "power" else math.sqrt(sigma * down)
            A2, b2 = at(middle)
            A, b = A2 @ (eye + (middle - sigma) * A), b2 + (middle - sigma) * A2 @ b
        x = x.affine(eye + (down - sigma) * A, (down - sigma) * b).noisier(down, after)
    return x


def dpmpp_2m_moments(at: Linear, x: Normal, sigmas: Sequence[float]) -> Normal:
    """On the pair of the state and the D of the step before."""
    n, eye = len(x.mean), np.eye(len(x.mean))
    pair = Normal(np.pad(x.mean, (0, n)), np.pad(x.covariance, (0, n)))
    before = math.inf
    for i, (sigma, after) in enumerate(pairwise(sigmas)):
        A, b = at(sigma)
        D, d = eye - sigma * A, -sigma * b
        width = math.log(sigma / after) if after > 0 else math.inf
        r = width / (2 * before) if i > 0 and after > 0 else 0.0
        ratio = after / sigma
        x_now = np.hstack([ratio * eye + (1 - ratio) * (1 + r) * D, -(1 - ratio) * r * eye])
        pair = pair.affine(np.vstack([x_now, np.hstack([D, 0 * eye])]), np.concatenate([(1 - ratio) * (1 + r) * d, d]))
        before = width
    return Normal(pair.mean[:n], pair.covariance[:n, :n])


def errors_by_steps(
    derivative: Callable[[Tensor, float], Tensor],
    x0: Tensor,
    sampler: Callable[..., Tensor],
    steps: Sequence[int],
    *,
    high: float = 2.0,
    low: float = 0.2,
    **options: Any,
) -> list[float]:
    """Largest error of a deterministic sampler for each number of steps; the truth is an eighth-order solver's.

    The schedule ends at `low`, since a step to 0 is of first order by construction.
    """

    def flat(sigma: float, x: np.ndarray) -> np.ndarray:
        return derivative(torch.from_numpy(x).reshape(x0.shape), sigma).flatten().numpy()

    truth = solve_ivp(flat, (high, low), x0.flatten().numpy(), method="DOP853", rtol=1e-11, atol=1e-12).y[:, -1]
    results = (sampler(derivative, x0, karras(n, low, high, 7)[:-1], **options) for n in steps)
    return [float(np.abs(x.flatten().numpy() - truth).max()) for x in results]


def order(steps: Sequence[int], errors: Sequence[float]) -> float:
    """Slope of a line through the errors on logarithmic axes, downwards."""
    return -float(np.polyfit(np.log(steps), np.log(errors), 1)[0])


class Responses:
    """Noise that lets one run of a sampler with an affine derivative show its output's exact mean and covariance.

    Item 0 of the batch hears no noise at all; every other item hears a single 1, in one place of one draw.

    Args:
        rows: S of the state `[B, S, 1, T]`.
        length: T.
        draws: how often the sampler asks for noise.
    """

    def __init__(self, rows: int, length: int, draws: int) -> None:
        self.shape, self.n = (rows, 1, length), rows * length
        self.items = 1 + self.n * (1 + draws)
        self.drawn = 0

    def __call__(self, x: Tensor) -> Tensor:
        units = torch.zeros(self.items, self.n, dtype=torch.float64)
        place = torch.arange(self.n)
        units[1 + self.n * self.drawn + place, place] = 1
        self.drawn += 1
        return units.reshape(self.items, *self.shape)

    def start(self, sigma: float) -> Tensor:
        """The first state, σ times the first draw."""
        return sigma * self(torch.empty(0))

    def moments(self, x: Tensor) -> Normal:
        assert 1 + self.n * self.drawn == self.items, f"{self.drawn - 1} draws"
        return self.so_far(x)

    def so_far(self, x: Tensor) -> Normal:
        flat = x.reshape(self.items, self.n).numpy()
        response = flat[1:] - flat[0]
        return Normal(flat[0], response.T @ response)


def posterior(world: World, labels: Sequence[str], y: np.ndarray) -> Normal:
    """p(x_1, ..., x_K | Σx = y), `[K·T]`."""
    C = np.stack([world.covariance(label) for label in labels])
    weights = np.concatenate(C) @ np.linalg.inv(C.sum(0))
    K, T = C.shape[:2]
    prior = np.zeros((K, T, K, T))
    for k in range(K):
        prior[k, :, k] = C[k]
    return Normal(weights @ y, prior.reshape(K * T, K * T) - weights @ np.concatenate(C).T)
