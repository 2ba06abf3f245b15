"""Plain sampling, total generation and partial generation: Eq. 1 and 10 to 12."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from gmsdi.errors import UserError
from gmsdi.inference.base import (
    WAVEFORM,
    Derivative,
    Guided,
    Join,
    Noise,
    Prompts,
    decoded,
    denoised,
    items_of,
    project,
    with_given,
)
from gmsdi.models.protocol import Space
from gmsdi.stability import Gamma, coupling_of, positive, pull
from gmsdi.types import Prompt, Stem
from gmsdi.types import join as join_texts


class Single(Derivative):
    """Plain text-to-music sampling of one signal per item, Eq. 1.

        d = (x − D(x, z))/σ

    Args:
        model: see `gmsdi.inference`.
        prompts: one per item, or one for all of them.
    """

    rows = 1

    def __call__(self, x: Tensor, sigma: float) -> Tensor:
        """dx/dσ, `[B, 1, ...]`."""
        return (x - denoised(self.model, x, sigma, self.prompts)) / sigma

    def __init__(self, model: Guided, prompts: Sequence[Stem]) -> None:
        self.model = model
        self.prompts = items_of([[prompt] for prompt in prompts])

    def stems(self, x: Tensor) -> Tensor:
        """The signals `[B, 1, ...]`."""
        return x


class Total(Derivative):
    """Total generation, Eq. 10: K coherent sources and their mixture, sampled in parallel.

        e   = y − Σ_l x_l
        d_k = (x_k − D(x_k, z_k))/σ − (σ/γ_x²)·e
        d_y = (y − D(y, ⊗_l z_l))/σ + (σ/γ_y²)·e

    In a space that is not additive, Σ_l x_l is E(Σ_l Dec(D_l)) + Σ_l (x_l − D_l), of the denoised D_l. It is taken to
    move with a source as in an additive space, where its derivative by x_k is 1.

    With `groups`, Eq. 11: one row per group J_m of a partition of the sources, with the prompt ⊗_{j∈J_m} z_j; the
    row is Σ_{j∈J_m} x_j, so `stems` then gives one signal per group.

    Args:
        model: see `gmsdi.inference`.
        prompts: see there.
        groups: the partition, lists of source indices from 0; None puts each source in a separate group.
        gamma_x: γ of the sources' likelihood.
        gamma_y: γ of the mixture's likelihood; the paper sets it to ∞ here.
        consistent: beyond the paper, `stems` moves all sources by the same amount so that they sum to the mixture row.
            After the last step they still miss it by noise of that step's σ, which is audible with few steps. Suited to
            γ_y = ∞, where the mixture is sampled as if it were alone.
        join: ⊗.
        space: see `gmsdi.inference`.

    Attributes:
        rows: S, one per group and, last, the mixture y.

    Raises:
        UserError: if there is no prompt, or `groups` is not a partition, or a γ is not positive.
    """

    def __call__(self, x: Tensor, sigma: float) -> Tensor:
        """dx/dσ, `[B, S, ...]`."""
        clean = denoised(self.model, x, sigma, self.prompts)
        d = (x - clean) / sigma
        pull_x, pull_y = pull(self.gamma_x, sigma), pull(self.gamma_y, sigma)
        if pull_x or pull_y:
            e = self.excess(x, clean, sigma)
            d = d + torch.cat([(-pull_x * e).expand_as(x[:, :-1]), pull_y * e], dim=1)
        return d

    def excess(self, x: Tensor, clean: Tensor, sigma: float) -> Tensor:
        """e, `[B, 1, ...]`, at a state with these denoised rows."""
        return x[:, -1:] - self.space.mix(x[:, :-1], clean[:, :-1])

    def __init__(
        self,
        model: Guided,
        prompts: Prompts,
        *,
        groups: Sequence[Sequence[int]] | None = None,
        gamma_x: Gamma,
        gamma_y: Gamma,
        consistent: bool = False,
        join: Join = join_texts,
        space: Space = WAVEFORM,
    ) -> None:
        items = items_of(prompts)
        if groups is not None:
            K = len(items[0])
            if sorted(k for group in groups for k in group) != list(range(K)) or not all(groups):
                raise UserError(
                    f"groups {[list(g) for g in groups]} do not split the {K} sources 0..{K - 1} into parts"
                )
        self.model, self.space = model, space
        self.prompts = [[*_grouped(item, groups, join), join(item)] for item in items]
        self.rows = len(self.prompts[0])
        self.consistent = consistent
        self.gamma_x, self.gamma_y = positive("gamma_x", gamma_x), positive("gamma_y", gamma_y)

    def stems(self, x: Tensor) -> Tensor:
        """The sources (or groups) `[B, S − 1, ...]`; consistent ones sum to the mixture row."""
        if not self.consistent:
            return x[:, :-1]
        mixture = x[:, -1] if self.space.additive else self.space.decode(x[:, -1])
        return project(x[:, :-1], mixture, self.space)

    def signals(self, x: Tensor) -> Tensor:
        """The sources (or groups) `[B, S − 1, C, T]`; consistent ones sum to the mixture row's signal."""
        signals = decoded(self.space, x[:, :-1])
        return project(signals, self.space.decode(x[:, -1])) if self.consistent else signals

    def mixture_row(self, x: Tensor) -> Tensor:
        """The row y, `[B, ...]`."""
        return x[:, -1]

    def coupling(self, sigma: float) -> float:
        """λ(σ) = ((S − 1)/γ_x² + 1/γ_y²)·σ, by which the likelihood terms move e: de/dσ = λ·e."""
        return coupling_of(sigma, self.rows - 1, self.gamma_x, self.gamma_y)


class Partial(Total):
    """Partial generation, Eq. 12: accompaniments x_J of the given sources x_I.

        e   = y − (α·Σ_{i∈I} x_i(σ) + β·Σ_{l∈J} x_l),   x_i(σ) = x_i + σ·ε_i
        d_j = (x_j − D(x_j, z_j))/σ − (σ/γ_x²)·e
        d_y = (y − D(y, ⊗_{I∪J} z))/σ + (σ/γ_y²)·e

    In a space that is not additive, e is y − E(α·Σ_i Dec(x_i) + β·Σ_l Dec(D_l)) − α·σ·Σ_i ε_i − β·Σ_l (x_l − D_l).

    The given sources are not part of the state and stay as they are. The paper does not say how often ε is drawn. Here
    it is drawn once by default, so that the derivative is a function and every sampler keeps its order; a callable
    draws it anew in every evaluation.

    For an accompaniment that is generated as one mixture (Eq. 11), pass a single joint prompt.

    Args:
        model: see `gmsdi.inference`.
        given: x_I, `[B, I, ...]`, clean.
        given_prompts: the I prompts of the given sources (or B lists of them).
        prompts: the J prompts of the sources to generate (or B lists of them).
        alpha: α, the scale of the given sources in the mixture.
        beta: β, the scale of the generated ones.
        gamma_x: γ of the sources' likelihood.
        gamma_y: γ of the mixture's likelihood; the paper has γ_y ≪ ∞ here.
        noise: ε, `[B, I, ...]`; or a function called with `given` in each evaluation; None draws ε once from torch's
            global generator.
        join: ⊗, called with the given prompts followed by the others.
        space: see `gmsdi.inference`.

    Attributes:
        rows: S, the J generated rows and, last, the mixture y.

    Raises:
        UserError: if there is no prompt, or the given prompts do not match `given`, or a γ is not positive.
    """

    def excess(self, x: Tensor, clean: Tensor, sigma: float) -> Tensor:
        """e, `[B, 1, ...]`; the rest is as in Eq. 10."""
        if self.space.additive:
            made = self.beta * self.space.mix(x[:, :-1])
            return x[:, -1:] - made - self.alpha * self.space.mix(self.given_at(sigma))
        made, heard = decoded(self.space, clean[:, :-1]).sum(dim=1), self.heard
        noises = self.beta * (x - clean)[:, :-1].sum(dim=1) + self.alpha * (self.given_at(sigma) - self.given).sum(
            dim=1
        )
        return x[:, -1:] - (self.space.encode(self.alpha * heard + self.beta * made) + noises).unsqueeze(1)

    def given_at(self, sigma: float) -> Tensor:
        """x_I(σ) = x_I + σ·ε, `[B, I, ...]`, the perturbation kernel of Eq. 2."""
        return self.given + sigma * (self.noise(self.given) if callable(self.noise) else self.noise)

    def __init__(
        self,
        model: Guided,
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
        space: Space = WAVEFORM,
    ) -> None:
        known, items = with_given(given, given_prompts, prompts)
        super().__init__(model, items, gamma_x=gamma_x, gamma_y=gamma_y, space=space)
        self.prompts = [[*row, join([*heard, *row])] for heard, row in zip(known, items, strict=True)]
        self.given = given
        if not space.additive:
            self.heard = decoded(space, given).sum(dim=1)
        self.noise = torch.randn_like(given) if noise is None else noise
        self.alpha, self.beta = alpha, beta

    def coupling(self, sigma: float) -> float:
        """λ(σ) = (β·(S − 1)/γ_x² + 1/γ_y²)·σ, by which the likelihood terms move e: de/dσ = λ·e."""
        return coupling_of(sigma, self.rows - 1, self.gamma_x, self.gamma_y, self.beta)


def _grouped(item: list[Prompt], groups: Sequence[Sequence[int]] | None, join: Join) -> list[Prompt]:
    """The prompt of each group of sources."""
    if groups is None:
        return item
    return [join([item[k] for k in group]) if len(group) > 1 else item[group[0]] for group in groups]
