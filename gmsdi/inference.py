"""Generalized Multi-Source Diffusion Inference: Section 3 of the paper.

Each procedure couples several signals that one text-conditioned model denoises, each with its own prompt. What the
paper writes as scores S is written here in derivative form, for the probability-flow ODE of Karras et al. 2022:

    dx/dσ = −σ·S(x, z, σ) = (x − D(x, σ, z))/σ.

A likelihood term (1/γ²)·(...) of a score thus becomes −(σ/γ²)·(...) in the derivative.

Throughout,

- the state x is `[B, S, C, T]`: B independent items, S coupled rows, C channels, T samples;
- `model(x [N, C, T], sigma, prompts)` returns the denoised `[N, C, T]` (`gmsdi.sampling.guidance.guided`); it is called
  once per evaluation, with all rows of all items;
- `prompts` are the K prompts of the sources, the same for every item, or a list of B such lists;
- γ is a float, `math.inf` (the term is dropped) or a function of σ.

The functions return derivatives: callables `(x, sigma) -> dx/dσ` for any sampler of `gmsdi.sampling.samplers`, with

- `rows`: S, the rows of the state;
- `stems(x)`: the sources in the order of the prompts.

The paper gives neither the values of γ, α and β, nor negative prompts for joint rows (z* is used), nor whether the
noise of the given sources is drawn anew in every step (see `partial`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Any, TypeAlias, TypeGuard, cast

import torch
from torch import Tensor

from gmsdi.errors import UserError
from gmsdi.sampling.guidance import Model, Prompt, as_prompt
from gmsdi.sampling.guidance import join as join_texts

Gamma: TypeAlias = float | Callable[[float], float]
Prompts: TypeAlias = Sequence[str | Prompt] | Sequence[Sequence[str | Prompt]]
Join: TypeAlias = Callable[[Sequence[Prompt]], Prompt]
Noise: TypeAlias = Callable[[Tensor], Tensor]
Consistency: TypeAlias = Callable[[Tensor, Tensor], Tensor]


def single(model: Model, prompts: Sequence[str | Prompt]) -> Single:
    """Plain text-to-music sampling of one signal per item, Eq. 1: dx/dσ = (x − D(x, z))/σ.

    Args:
        model: see the module.
        prompts: one per item, or one for all of them.

    Returns:
        The derivative over one row.
    """
    return Single(model, _items([[prompt] for prompt in prompts]))


def total(
    model: Model,
    prompts: Prompts,
    *,
    groups: Sequence[Sequence[int]] | None = None,
    gamma_x: Gamma,
    gamma_y: Gamma,
    consistent: bool = False,
    join: Join = join_texts,
) -> Generation:
    """Total generation, Eq. 10: K coherent sources and their mixture, sampled in parallel.

        d_k = (x_k − D(x_k, z_k))/σ − (σ/γ_x²)·(y − Σ_l x_l)
        d_y = (y − D(y, ⊗_l z_l))/σ − (σ/γ_y²)·(Σ_l x_l − y)

    With `groups`, Eq. 11: one row per group J_m of a partition of the sources, with the prompt ⊗_{j∈J_m} z_j; the
    row is Σ_{j∈J_m} x_j, so `stems` then gives one signal per group.

    Args:
        model: see the module.
        prompts: see the module.
        groups: the partition, lists of source indices from 0; None puts each source in a group of its own.
        gamma_x: γ of the sources' likelihood.
        gamma_y: γ of the mixture's likelihood; the paper sets it to ∞ here.
        consistent: beyond the paper, `stems` moves the sources, all alike, to where they sum to the mixture row. The
            last step leaves them apart by what noise its σ still has in them, which schedules of few steps make
            audible. It suits γ_y = ∞, where the mixture is sampled as if it were alone.
        join: ⊗.

    Returns:
        The derivative over one row per group and, last, the mixture y.

    Raises:
        UserError: if there is no prompt, or `groups` is not a partition, or a γ is not positive.
    """
    items = _items(prompts)
    if groups is not None:
        K = len(items[0])
        if sorted(k for group in groups for k in group) != list(range(K)) or not all(groups):
            raise UserError(f"groups {[list(g) for g in groups]} do not split the {K} sources 0..{K - 1} into parts")
        rows = [
            [join([item[k] for k in group]) if len(group) > 1 else item[group[0]] for group in groups] for item in items
        ]
    else:
        rows = items
    return Generation(
        model,
        [[*row, join(item)] for row, item in zip(rows, items, strict=True)],
        gamma_x=gamma_x,
        gamma_y=gamma_y,
        consistent=consistent,
    )


def partial(
    model: Model,
    given: Tensor,
    given_prompts: Prompts,
    prompts: Prompts,
    *,
    alpha: float = 1.0,
    beta: float = 1.0,
    gamma_x: Gamma,
    gamma_y: Gamma,
    noise: Tensor | Noise | None = None,
    join: Join = join_texts,
) -> Generation:
    """Partial generation, Eq. 12: accompaniments x_J of the given sources x_I.

        e   = y − (α·Σ_{i∈I} x_i(σ) + β·Σ_{l∈J} x_l),   x_i(σ) = x_i + σ·ε_i
        d_j = (x_j − D(x_j, z_j))/σ − (σ/γ_x²)·e
        d_y = (y − D(y, ⊗_{I∪J} z))/σ + (σ/γ_y²)·e

    The given sources are not part of the state and stay as they are. The paper does not say how often ε is drawn. Here
    it is drawn once by default, so that the derivative is a function and every sampler keeps its order; a callable
    draws it anew in every evaluation.

    For an accompaniment that is generated as one mixture (Eq. 11), pass a single joint prompt.

    Args:
        model: see the module.
        given: x_I, `[B, I, C, T]`, clean.
        given_prompts: the I prompts of the given sources (or B lists of them).
        prompts: the J prompts of the sources to generate (or B lists of them).
        alpha: α, the scale of the given sources in the mixture.
        beta: β, the scale of the generated ones.
        gamma_x: γ of the sources' likelihood.
        gamma_y: γ of the mixture's likelihood; the paper has γ_y ≪ ∞ here.
        noise: ε, `[B, I, C, T]`; or a function called with `given` in each evaluation; None draws ε once from torch's
            global generator.
        join: ⊗, called with the given prompts followed by the others.

    Returns:
        The derivative over the J generated rows and, last, the mixture y.

    Raises:
        UserError: if there is no prompt, or the given prompts do not match `given`, or a γ is not positive.
    """
    given_items, items = _with_given(given, given_prompts, prompts)
    rows = [[*row, join([*known, *row])] for known, row in zip(given_items, items, strict=True)]
    return Generation(
        model,
        rows,
        gamma_x=gamma_x,
        gamma_y=gamma_y,
        given=given,
        noise=torch.randn_like(given) if noise is None else noise,
        alpha=alpha,
        beta=beta,
    )


def conditioned(
    model: Model,
    given: Tensor,
    given_prompts: Prompts,
    prompts: Prompts,
    *,
    share: float = 0.5,
    gamma_x: Gamma,
    lags: int | None = 16,
    join: Join = join_texts,
) -> Conditioned:
    """Partial generation beyond the paper: an accompaniment that is heard together with the clean given sources.

    Eq. 12 adds a row for the mixture and pulls it and the sources towards each other. But a model of mixtures can judge
    an accompaniment z = Σ_{l∈J} x_l directly, for z(σ) + Σ_{i∈I} x_i, with clean x_i, is the mixture at the same noise
    level σ. Here the row z follows the product of two densities, p(z | ⊗_J z)^(1 − a) · p(Σ_I x_i + z | ⊗_{I∪J} z)^a:

        D̄   = (1 − a)·D(z, ⊗_{l∈J} z_l) + a·[D(z + Σ_{i∈I} x_i, ⊗_{I∪J} z) − Σ_{i∈I} x_i]
        d_z = (z − P·D̄)/σ
        d_j = (x_j − D(x_j, z_j))/σ − (σ/γ_x²)·(z − Σ_{l∈J} x_l)

    so that z is to its sources what y is in total generation (Eq. 10 with γ_y = ∞). A single source is z itself.
    `stems` shares out what several still lack to z.

    The given sources once more, louder or softer or filtered, always make a likely mixture with themselves. P takes out
    of D̄ such copies: its least-squares approximation Σ_i h_i∗x_i, with filters h_i of 2·lags + 1 coefficients, a little
    regularised. The final z has none of them; real stems of one piece hardly have any.

    Args:
        model: see the module.
        given: x_I, `[B, I, C, T]`, clean.
        given_prompts: the I prompts of the given sources (or B lists of them).
        prompts: the J prompts of the sources to generate (or B lists of them).
        share: a; 0 judges the accompaniment alone, 1 nothing but the whole mixture.
        gamma_x: γ of the sources' likelihood; one source alone has none.
        lags: samples of the filters before and after 0; None leaves the copies in.
        join: ⊗, called with the given prompts followed by the others.

    Returns:
        The derivative over the J generated rows and, last, z; over one row for a single source.

    Raises:
        UserError: if there is no prompt, or the given prompts do not match `given`, γ is not positive, `share` is not
            between 0 and 1, or `lags` is negative.
    """
    known, items = _with_given(given, given_prompts, prompts)
    return Conditioned(model, given, known, items, share, gamma_x, lags, join)


def separator(model: Model, mixture: Tensor, prompts: Prompts, constrained: int | str) -> Separator:
    """GMSDI Separator, Eq. 13: all sources of a mixture together, one of them constrained to be the rest.

        x_K = y(0) − Σ_{l<K} x_l
        d_k = [(x_k − D(x_k, z_k)) − (x_K − D(x_K, z_K))]/σ,   k < K

    Args:
        model: see the module.
        mixture: y(0), `[B, C, T]`.
        prompts: see the module.
        constrained: the source K, by index from 0 or by the text of its prompt.

    Returns:
        The derivative over the K − 1 sources that are not constrained; `stems` puts the constrained one in its place,
        so the stems sum to the mixture.

    Raises:
        UserError: if there are fewer than two prompts, or `constrained` is none of them.
    """
    return Separator(model, mixture, _items(prompts, at_least=2), constrained)


def extractor(
    model: Model,
    mixture: Tensor,
    prompts: Prompts,
    *,
    consistent: bool | Consistency = False,
    join: Join = join_texts,
) -> Extractor:
    """GMSDI Extractor, Eq. 14: each source against the mixture of all others.

        r_k = y(0) − x_k
        d_k = [(x_k − D(x_k, z_k)) − (r_k − D(r_k, ⊗_{l≠k} z_l))]/σ

    The K problems are independent; they only share the batch.

    With `consistent` they are solved together, beyond the paper. Eq. 14 is d_k = 2·(x_k − D̄_k)/σ, where
    D̄_k = [D(x_k, z_k) + y(0) − D(r_k, ⊗_{l≠k} z_l)]/2 is the mean of two estimates of the source. The K estimates of a
    step are moved by the least that makes them sum to the mixture (mixture consistency, Wisdom et al. 2019):

        D̃_k = D̄_k + (y(0) − Σ_l D̄_l)/K,   d_k = 2·(x_k − D̃_k)/σ

    The network's work is the same; `stems` takes what is left of the sum's error out at the end.

    Args:
        model: see the module.
        mixture: y(0), `[B, C, T]`.
        prompts: see the module.
        consistent: project the estimates of each step onto the mixture; or a function that does it in another way,
            called with estimates `[B, K, C, T]` and the mixture `[B, C, T]`, for instance `wiener.share_out`.
        join: ⊗; its result has no negative text (z*) by default.

    Returns:
        The derivative over the K sources.

    Raises:
        UserError: if there are fewer than two prompts.
    """
    return Extractor(model, mixture, _items(prompts, at_least=2), consistent, join)


def projected(model: Model, mixture: Tensor, prompts: Prompts, *, gain: float = 2.0) -> Projected:
    """Separator without a constrained source, beyond the paper: the K estimates of each step sum to the mixture.

        D̃_k = D(x_k, z_k) + (y(0) − Σ_l D(x_l, z_l))/K,   d_k = gain·(x_k − D̃_k)/σ

    In Eq. 13 the constrained source y(0) − Σ_{l<K} x_l carries the noise of all others, √(K − 1)·σ, and is denoised as
    if it were σ. Here every source has its own noise, and the mixture enters through the estimates: D̃ is the point
    nearest to D that sums to y(0) (mixture consistency, Wisdom et al. 2019; the same projection as in the null-space
    samplers of Wang et al. 2023).

    Args:
        model: see the module.
        mixture: y(0), `[B, C, T]`.
        prompts: see the module.
        gain: factor of the derivative. 1 is the probability-flow ODE of D̃. Eq. 13 and 14 add to each source's residual
            that of its counterpart, which amounts to 2; sources separate far better with it.

    Returns:
        The derivative over the K sources; `stems` makes their sum exact.

    Raises:
        UserError: if there are fewer than two prompts.
    """
    return Projected(model, mixture, _items(prompts, at_least=2), gain)


class Single:
    """The derivative of `single`.

    Attributes:
        rows: S = 1.
    """

    rows = 1

    def __init__(self, model: Model, prompts: list[list[Prompt]]) -> None:
        self.model = model
        self.prompts = prompts

    def __call__(self, x: Tensor, sigma: float) -> Tensor:
        """dx/dσ, `[B, 1, C, T]`."""
        return (x - _denoise(self.model, x, sigma, self.prompts)) / sigma

    def stems(self, x: Tensor) -> Tensor:
        """The signals `[B, 1, C, T]`."""
        return x


class Generation:
    """The derivative of `total` and `partial`.

    Attributes:
        rows: S, the generated rows and the mixture row.
    """

    def __init__(
        self,
        model: Model,
        prompts: list[list[Prompt]],
        *,
        gamma_x: Gamma,
        gamma_y: Gamma,
        given: Tensor | None = None,
        noise: Tensor | Noise | None = None,
        alpha: float = 1.0,
        beta: float = 1.0,
        consistent: bool = False,
    ) -> None:
        self.model = model
        self.prompts = prompts
        self.rows = len(prompts[0])
        self.consistent = consistent
        self.gamma_x, self.gamma_y = _positive("gamma_x", gamma_x), _positive("gamma_y", gamma_y)
        self.given, self.noise = given, noise
        self.alpha, self.beta = alpha, beta

    def __call__(self, x: Tensor, sigma: float) -> Tensor:
        """dx/dσ, `[B, S, C, T]`."""
        d = (x - _denoise(self.model, x, sigma, self.prompts)) / sigma
        pull_x, pull_y = _pull(self.gamma_x, sigma), _pull(self.gamma_y, sigma)
        if pull_x or pull_y:
            sources, y = x[:, :-1], x[:, -1:]
            excess = y - self.beta * sources.sum(dim=1, keepdim=True)
            if self.given is not None:
                excess = excess - self.alpha * self.given_at(sigma).sum(dim=1, keepdim=True)
            d = d + torch.cat([(-pull_x * excess).expand_as(sources), pull_y * excess], dim=1)
        return d

    def given_at(self, sigma: float) -> Tensor:
        """x_I(σ) = x_I + σ·ε, `[B, I, C, T]`, the perturbation kernel of Eq. 2."""
        assert self.given is not None
        noise = self.noise(self.given) if callable(self.noise) else cast(Tensor, self.noise)
        return self.given + sigma * noise

    def stems(self, x: Tensor) -> Tensor:
        """The generated sources (or groups) `[B, S − 1, C, T]`; consistent ones sum to the mixture row."""
        return _project(x[:, :-1], x[:, -1]) if self.consistent else x[:, :-1]

    def mixture_row(self, x: Tensor) -> Tensor:
        """The row y, `[B, C, T]`."""
        return x[:, -1]

    def coupling(self, sigma: float) -> float:
        """λ(σ) of the likelihood terms' effect on e = y − (α·Σx_I + β·Σx_J), which they move by de/dσ = λ·e.

        λ = (β·(S − 1)/γ_x² + 1/γ_y²)·σ.
        """
        return self.beta * (self.rows - 1) * _pull(self.gamma_x, sigma) + _pull(self.gamma_y, sigma)


class Conditioned:
    """The derivative of `conditioned`.

    Attributes:
        rows: S = J + 1, or 1 for a single source.
    """

    def __init__(
        self,
        model: Model,
        given: Tensor,
        given_prompts: list[list[Prompt]],
        prompts: list[list[Prompt]],
        share: float,
        gamma_x: Gamma,
        lags: int | None,
        join: Join,
    ) -> None:
        if not 0 <= share <= 1:
            raise UserError(
                f"share is {share}; it must be between 0 (the accompaniment alone) and 1 (the whole mixture)"
            )
        if lags is not None and lags < 0:
            raise UserError(f"lags is {lags}; it must be a number of samples, or None")
        self.model = model
        self.given = given.sum(dim=1, keepdim=True)
        # Item by item, each in memory of its own: the rounding of transforms depends on how many there are, and where.
        self.copies = None if lags is None else [Copies(item.clone(), lags) for item in given]
        self.share = share
        self.gamma_x = _positive("gamma_x", gamma_x)
        several = len(prompts[0]) > 1
        self.rows = len(prompts[0]) + several
        self.prompts = [
            [*row, *([join(row)] if several else []), join([*known, *row])]
            for known, row in zip(given_prompts, prompts, strict=True)
        ]

    def __call__(self, x: Tensor, sigma: float) -> Tensor:
        """dx/dσ, `[B, S, C, T]`."""
        heard = torch.cat([x, x[:, -1:] + self.given], dim=1)
        denoised = _denoise(self.model, heard, sigma, self.prompts)
        z = torch.lerp(denoised[:, -2:-1], denoised[:, -1:] - self.given, self.share)
        if self.copies:
            z = (
                z
                - torch.stack([copies(item.clone()) for copies, item in zip(self.copies, z[:, 0], strict=True)])[
                    :, None
                ]
            )
        d = (x - torch.cat([denoised[:, :-2], z], dim=1)) / sigma
        pull = _pull(self.gamma_x, sigma)
        if self.rows > 1 and pull:
            excess = x[:, -1:] - x[:, :-1].sum(dim=1, keepdim=True)
            d = torch.cat([d[:, :-1] - pull * excess, d[:, -1:]], dim=1)
        return d

    def stems(self, x: Tensor) -> Tensor:
        """The generated sources `[B, J, C, T]`; they sum to z exactly."""
        return x if self.rows == 1 else _project(x[:, :-1], x[:, -1])

    def mixture_row(self, x: Tensor) -> Tensor:
        """Σ_I x_i + z, `[B, C, T]`."""
        return x[:, -1] + self.given[:, 0]

    def coupling(self, sigma: float) -> float:
        """λ(σ) of e = z − Σ_J x, see `Generation.coupling`."""
        return (self.rows - 1) * _pull(self.gamma_x, sigma)


class Copies:
    """What of a signal is a copy of given sources, filtered: least squares over circular shifts of the sources.

    Args:
        sources: `[I, C, T]`; one filter for all channels of a source. Silent ones have no copies.
        lags: shifts by −lags to lags samples.
        ridge: regularisation, relative to the energy of a source. Shifts of low notes hardly differ, and nothing is
            gained by what little they differ in.
    """

    def __init__(self, sources: Tensor, lags: int, ridge: float = 1e-3) -> None:
        self.samples = sources.shape[-1]
        norm = sources.square().sum(dim=(1, 2), keepdim=True).sqrt()
        self.spectra = torch.fft.rfft(sources / norm.clamp_min(torch.finfo(sources.dtype).tiny))
        shifts = torch.arange(-lags, lags + 1, device=sources.device)
        self.places = shifts % self.samples
        between = self._correlations(self.spectra.unsqueeze(1), self.spectra)
        gram = between[..., (shifts[:, None] - shifts) % self.samples].transpose(1, 2).flatten(2, 3).flatten(0, 1)
        self.inverse = torch.linalg.inv(gram + ridge * torch.eye(len(gram), dtype=gram.dtype, device=gram.device))

    def __call__(self, x: Tensor) -> Tensor:
        """The copies in a signal `[C, T]`, of the same shape."""
        found = self._correlations(self.spectra, torch.fft.rfft(x))[..., self.places]
        weights = (self.inverse @ found.flatten()).reshape(found.shape)
        filters = x.new_zeros(len(found), self.samples).index_add(-1, self.places, weights)
        return torch.fft.irfft((torch.fft.rfft(filters).unsqueeze(1) * self.spectra).sum(dim=0), n=self.samples)

    def _correlations(self, a: Tensor, b: Tensor) -> Tensor:
        """Σ a[n]·b[n + t] for all t, over channels, of signals with these spectra `[..., C, F]`."""
        return torch.fft.irfft((a.conj() * b).sum(dim=-2), n=self.samples)


class Separator:
    """The derivative of `separator`.

    Attributes:
        rows: S = K − 1.
        constrained: index of the constrained source.
    """

    def __init__(self, model: Model, mixture: Tensor, prompts: list[list[Prompt]], constrained: int | str) -> None:
        self.model = model
        self.mixture = mixture
        self.prompts = prompts
        self.rows = len(prompts[0]) - 1
        self.constrained = _index(prompts, constrained)

    def __call__(self, x: Tensor, sigma: float) -> Tensor:
        """dx/dσ, `[B, K − 1, C, T]`."""
        stems = self.stems(x)
        residual = stems - _denoise(self.model, stems, sigma, self.prompts)
        K = self.constrained
        free = torch.cat([residual[:, :K], residual[:, K + 1 :]], dim=1)
        return (free - residual[:, K : K + 1]) / sigma

    def stems(self, x: Tensor) -> Tensor:
        """All K sources `[B, K, C, T]`: the state with y(0) − Σx at the constrained place."""
        rest = self.mixture.unsqueeze(1) - x.sum(dim=1, keepdim=True)
        return torch.cat([x[:, : self.constrained], rest, x[:, self.constrained :]], dim=1)


class Extractor:
    """The derivative of `extractor`.

    Attributes:
        rows: S = K.
        gain: 2, the g of d = g·(x − D)/σ for the estimates D.
    """

    gain = 2.0

    def __init__(
        self, model: Model, mixture: Tensor, prompts: list[list[Prompt]], consistent: bool | Consistency, join: Join
    ) -> None:
        self.model = model
        self.mixture = mixture
        self.consistent = _project if consistent is True else consistent
        self.rows = len(prompts[0])
        others = [[join(item[:k] + item[k + 1 :]) for k in range(self.rows)] for item in prompts]
        self.prompts = [[*item, *complement] for item, complement in zip(prompts, others, strict=True)]

    def __call__(self, x: Tensor, sigma: float) -> Tensor:
        """dx/dσ, `[B, K, C, T]`."""
        both = torch.cat([x, self.mixture.unsqueeze(1) - x], dim=1)
        own, complement = (both - _denoise(self.model, both, sigma, self.prompts)).chunk(2, dim=1)
        d = (own - complement) / sigma
        if self.consistent:
            d = self.gain * (x - self.consistent(x - sigma * d / self.gain, self.mixture)) / sigma
        return d

    def stems(self, x: Tensor) -> Tensor:
        """The K sources `[B, K, C, T]`; consistent ones sum to y(0) exactly."""
        return _project(x, self.mixture) if self.consistent else x


class Projected:
    """The derivative of `projected`.

    Attributes:
        rows: S = K.
        gain: g of d = g·(x − D)/σ.
    """

    def __init__(self, model: Model, mixture: Tensor, prompts: list[list[Prompt]], gain: float) -> None:
        self.model = model
        self.mixture = mixture
        self.prompts = prompts
        self.gain = gain
        self.rows = len(prompts[0])

    def __call__(self, x: Tensor, sigma: float) -> Tensor:
        """dx/dσ, `[B, K, C, T]`."""
        return self.gain * (x - _project(_denoise(self.model, x, sigma, self.prompts), self.mixture)) / sigma

    def stems(self, x: Tensor) -> Tensor:
        """The K sources `[B, K, C, T]`; they sum to y(0) exactly."""
        return _project(x, self.mixture)


def check_stability(derivative: Any, sigmas: Sequence[float], *, step: Callable[..., Tensor] | None = None) -> None:
    """Refuse a schedule whose explicit steps would make the likelihood terms of Eq. 10–12 diverge.

    The terms move the mixture's error e = y − Σx by de/dσ = λ(σ)·e (`Generation.coupling`), so an Euler step over Δσ
    multiplies it by 1 − λ·Δσ: it shrinks only if λ·Δσ < 2, with γ_x = γ_y = γ and K sources (K + 1)·Δσ·σ/γ² < 2.

    For γ = c·σ the bound is (K + 1)·Δσ/(c²·σ) < 2. Every schedule that ends at 0 has a step with Δσ = σ, so it needs
    c² > (K + 1)/2 whatever the number of steps (c² > K/2 with γ_y = ∞). With c = √(K + 1) that step removes the error
    exactly, which makes it the natural choice. The bound is on the terms alone: where σ is above the data's scale the
    denoiser contracts too, and (1 + (K + 1)/c²)·Δσ/σ < 2 keeps both together from overshooting.

    An implicit treatment would not pull harder: backward Euler, e/(1 + λ·Δσ), equals the explicit step with
    γ² + (K + 1)·Δσ·σ in place of γ², that is with c² + (K + 1)·Δσ/σ in place of c². A constant γ is stable if it is
    large against the steps at high σ; it lets go of the error where σ falls below it.

    Args:
        derivative: of any procedure; those without a coupling pass.
        sigmas: the schedule.
        step: the sampler, to test what its own stages make of e, called as `step(derivative, x, sigmas)` with
            schedules of one step; None is Euler without churn.

    Raises:
        UserError: names the first step that diverges and a γ that does not.
    """
    coupling = getattr(derivative, "coupling", None)
    if coupling is None:
        return
    for i, (sigma, sigma_next) in enumerate(pairwise(sigmas)):
        amount = (sigma - sigma_next) * coupling(sigma)
        growth = 1 - amount
        if step is not None:
            one = torch.ones(1, dtype=torch.float64)
            growth = step(lambda e, s: coupling(s) * e, one, [sigma, sigma_next]).item()
        if growth <= -1 or growth > 1 + 1e-9:
            what = (
                f"step {i + 1} of {len(sigmas) - 1} (sigma {sigma:.4g} to {sigma_next:.4g}) multiplies the mixture's "
                f"error by {growth:.3g}: it is unstable"
            )
            if amount <= 0:
                raise UserError(f"{what}; beta must be positive")
            raise UserError(
                f"{what}; raise gamma: {math.sqrt(derivative.rows):.3g}*sigma is stable in every schedule, and a "
                f"constant gamma may also take more steps"
            )


def gamma_from_config(value: float | str | Mapping[str, float]) -> Gamma:
    """γ as configurations write it: a number, "inf", or `{"sigma": c}` for γ = c·σ.

    With c·σ the likelihood may be limited to noise levels: by `{"sigma": c, "above": s, "below": t}`, or one of them,
    to s ≤ σ < t; elsewhere γ = ∞. What a clip is made of, its notes and their instruments, is settled at high noise
    levels; further down a term only moves what each row's denoiser has to make of it.

    Raises:
        UserError: for anything else, or if a number is not positive, or no noise level is left.
    """
    if isinstance(value, Mapping):
        c, above, below = value.get("sigma"), value.get("above", 0.0), value.get("below", math.inf)
        known = value.keys() <= {"sigma", "above", "below"}
        if known and _is_number(c) and c > 0 and _is_number(above) and _is_number(below) and 0 <= above < below:
            if math.isinf(c):
                return math.inf
            return lambda sigma: c * sigma if above <= sigma < below else math.inf
    elif value == "inf":
        return math.inf
    elif _is_number(value) and float(value) > 0:
        return float(value)
    raise UserError(
        f'gamma is {value!r}; write a positive number, "inf", or {{sigma: c}} for gamma = c*sigma, maybe with above '
        "and below, the noise levels between which it acts"
    )


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool) and not math.isnan(value)


def _positive(name: str, gamma: Gamma) -> Gamma:
    if not callable(gamma) and not gamma > 0:
        raise UserError(f"{name} is {gamma}; it must be positive (inf drops the term)")
    return gamma


def _pull(gamma: Gamma, sigma: float) -> float:
    """σ/γ², the factor of a likelihood term in derivative form; 0 for γ = ∞."""
    value = gamma(sigma) if callable(gamma) else gamma
    return 0.0 if math.isinf(value) else sigma / value**2


def _denoise(model: Model, x: Tensor, sigma: float, prompts: list[list[Prompt]]) -> Tensor:
    """D of all rows of all items `[B, R, C, T]` in one call of the model."""
    rows = [prompt for item in _expand(prompts, x.shape[0]) for prompt in item]
    return model(x.flatten(0, 1), sigma, rows).unflatten(0, x.shape[:2])


def _project(x: Tensor, mixture: Tensor) -> Tensor:
    """The point nearest to the sources x `[B, K, C, T]` that sums to the mixture `[B, C, T]`."""
    return x + (mixture.unsqueeze(1) - x.sum(dim=1, keepdim=True)) / x.shape[1]


def _items(prompts: Prompts, at_least: int = 1) -> list[list[Prompt]]:
    """One list of prompts per item; a single list if the batch shares them."""
    nested = bool(prompts) and not isinstance(prompts[0], str | Prompt)
    lists = cast(Sequence[Sequence[str | Prompt]], prompts if nested else [prompts])
    if isinstance(prompts, str) or len({len(item) for item in lists}) > 1:
        raise UserError("prompts must be a list with one entry per source, of the same length for every item")
    if len(lists[0]) < at_least:
        raise UserError(f"{len(lists[0])} prompts, but at least {at_least} needed")
    return [[as_prompt(prompt) for prompt in item] for item in lists]


def _expand(prompts: list[list[Prompt]], batch: int) -> list[list[Prompt]]:
    """`prompts` for a batch: repeated if shared."""
    if len(prompts) == 1:
        return prompts * batch
    if len(prompts) != batch:
        raise UserError(f"prompts for {len(prompts)} items, but a batch of {batch}")
    return prompts


def _with_given(
    given: Tensor, given_prompts: Prompts, prompts: Prompts
) -> tuple[list[list[Prompt]], list[list[Prompt]]]:
    """The prompts of given and of other sources as `_items`, as many lists of the ones as of the others."""
    known, items = _items(given_prompts), _items(prompts)
    if given.ndim != 4 or given.shape[1] != len(known[0]):
        raise UserError(f"given sources of shape {tuple(given.shape)}, but {len(known[0])} prompts for them")
    if len(known) != len(items):  # one of the two is shared by the batch
        batch = max(len(known), len(items))
        known, items = _expand(known, batch), _expand(items, batch)
    return known, items


def _index(prompts: list[list[Prompt]], constrained: int | str) -> int:
    """The constrained source as an index."""
    if isinstance(constrained, str):
        texts = [[prompt.text for prompt in item] for item in prompts]
        places = {item.index(constrained) if constrained in item else -1 for item in texts}
        if len(places) != 1 or -1 in places:
            raise UserError(f"constrained source {constrained!r} is not among the stems {', '.join(texts[0])}")
        return places.pop()
    if not 0 <= constrained < len(prompts[0]):
        raise UserError(f"constrained source {constrained} is not an index into {len(prompts[0])} stems")
    return constrained
