"""Separation of a mixture: Eq. 13 and 14."""

from __future__ import annotations

import torch
from torch import Tensor

from gmsdi.errors import UserError
from gmsdi.inference.base import (
    WAVEFORM,
    Consistency,
    Derivative,
    Guided,
    Join,
    Prompts,
    decoded,
    denoised,
    encoded,
    items_of,
    project,
    reference,
)
from gmsdi.models.protocol import Space
from gmsdi.types import Prompt
from gmsdi.types import join as join_texts


class Separator(Derivative):
    """GMSDI Separator, Eq. 13: all sources of a mixture together, one of them constrained to be the rest.

        x_K = y(0) − Σ_{l<K} x_l
        d_k = [(x_k − D(x_k, z_k)) − (x_K − D(x_K, z_K))]/σ,   k < K

    In a space that is not additive, x_K is computed from the denoised others (see `gmsdi.models.codecs.Latent`):

        x_K = E(y(0) − Σ_{l<K} Dec(D_l)) − Σ_{l<K} (x_l − D_l),   D_l = D(x_l, z_l)

    which needs two calls of the model: one for them and one for x_K.

    Args:
        model: see `gmsdi.inference`.
        mixture: y(0), see there.
        prompts: see there.
        constrained: the source K, by index from 0 or by the text of its prompt.
        space: see there.

    Attributes:
        rows: S = K − 1, the sources that are not constrained.
        constrained: index of the constrained source.

    Raises:
        UserError: if there are fewer than two prompts, or `constrained` is none of them.
    """

    def __call__(self, x: Tensor, sigma: float) -> Tensor:
        """dx/dσ, `[B, K − 1, ...]`."""
        K = self.constrained
        if self.space.additive:
            stems = self.stems(x)
            residual = stems - denoised(self.model, stems, sigma, self.prompts)
            free, last = torch.cat([residual[:, :K], residual[:, K + 1 :]], dim=1), residual[:, K : K + 1]
        else:
            clean = denoised(self.model, x, sigma, [[*item[:K], *item[K + 1 :]] for item in self.prompts])
            rest = self.space.rest(self.reference, x, clean)
            free, last = x - clean, rest - denoised(self.model, rest, sigma, [[item[K]] for item in self.prompts])
        return (free - last) / sigma

    def __init__(
        self, model: Guided, mixture: Tensor, prompts: Prompts, constrained: int | str, *, space: Space = WAVEFORM
    ) -> None:
        self.model, self.mixture, self.space = model, mixture, space
        self.reference = reference(space, mixture)
        self.prompts = items_of(prompts, at_least=2)
        self.rows = len(self.prompts[0]) - 1
        self.constrained = _index(self.prompts, constrained)

    def stems(self, x: Tensor) -> Tensor:
        """All K sources `[B, K, ...]`: the state with y(0) − Σx at the constrained place, so that they sum to y(0)."""
        return self._with_rest(x, self.space.rest(self.reference, x))

    def signals(self, x: Tensor) -> Tensor:
        """All K sources `[B, K, C, T]`; the constrained one is y(0) minus the others, so they sum to y(0)."""
        free = decoded(self.space, x)
        return self._with_rest(free, self.mixture.unsqueeze(1) - free.sum(dim=1, keepdim=True))

    def _with_rest(self, free: Tensor, rest: Tensor) -> Tensor:
        return torch.cat([free[:, : self.constrained], rest, free[:, self.constrained :]], dim=1)


class Extractor(Derivative):
    """GMSDI Extractor, Eq. 14: each source against the mixture of all others.

        r_k = y(0) − x_k
        d_k = [(x_k − D(x_k, z_k)) − (r_k − D(r_k, ⊗_{l≠k} z_l))]/σ

    The K problems are independent; they only share the batch.

    With `consistent` they are solved together, beyond the paper. Eq. 14 is d_k = 2·(x_k − D̄_k)/σ, where
    D̄_k = [D(x_k, z_k) + y(0) − D(r_k, ⊗_{l≠k} z_l)]/2 is the mean of two estimates of the source. The K estimates of a
    step are moved by the least that makes them sum to the mixture (mixture consistency, Wisdom et al. 2019):

        D̃_k = D̄_k + (y(0) − Σ_l D̄_l)/K,   d_k = 2·(x_k − D̃_k)/σ

    The network does the same work. At the end, `stems` removes the remaining error of the sum. In a space that is not
    additive, and for any other way of making them sum to the mixture, the estimates are decoded, moved and encoded.

    Args:
        model: see `gmsdi.inference`.
        mixture: y(0), see there.
        prompts: see there.
        consistent: project the estimates of each step onto the mixture; or a function that does it in another way,
            called with their signals `[B, K, C, T]` and the mixture, for instance `gmsdi.inference.ShareOut`.
        join: ⊗; its result has no negative text (z*) by default.
        space: see `gmsdi.inference`.

    Attributes:
        rows: S = K.
        gain: 2.

    Raises:
        UserError: if there are fewer than two prompts.
    """

    gain = 2.0

    def __call__(self, x: Tensor, sigma: float) -> Tensor:
        """dx/dσ, `[B, K, ...]`."""
        K = self.rows
        if self.space.additive:
            both = torch.cat([x, self._rests(x)], dim=1)
            own, complement = (both - denoised(self.model, both, sigma, self.prompts)).chunk(2, dim=1)
        else:
            clean = denoised(self.model, x, sigma, [item[:K] for item in self.prompts])
            rests = self._rests(x, clean)
            others = denoised(self.model, rests, sigma, [item[K:] for item in self.prompts])
            own, complement = x - clean, rests - others
        d = (own - complement) / sigma
        if self.consistent:
            d = self.gain * (x - self._consistent(x - sigma * d / self.gain)) / sigma
        return d

    def __init__(
        self,
        model: Guided,
        mixture: Tensor,
        prompts: Prompts,
        *,
        consistent: bool | Consistency = False,
        join: Join = join_texts,
        space: Space = WAVEFORM,
    ) -> None:
        items = items_of(prompts, at_least=2)
        self.model, self.mixture, self.space = model, mixture, space
        self.reference = reference(space, mixture)
        self.consistent = consistent
        self.rows = len(items[0])
        others = [[join(item[:k] + item[k + 1 :]) for k in range(self.rows)] for item in items]
        self.prompts = [[*item, *complement] for item, complement in zip(items, others, strict=True)]

    def stems(self, x: Tensor) -> Tensor:
        """The K sources `[B, K, ...]`; consistent ones sum to y(0) exactly."""
        return project(x, self.reference, self.space) if self.consistent else x

    def signals(self, x: Tensor) -> Tensor:
        """The K sources `[B, K, C, T]`; consistent ones sum to y(0) exactly, in any space."""
        signals = decoded(self.space, x)
        return self._moved(signals) if self.consistent else signals

    def _rests(self, x: Tensor, clean: Tensor | None = None) -> Tensor:
        """r_k of each source, `[B, K, ...]`."""
        mixture = self.reference.repeat_interleave(self.rows, dim=0)
        single = None if clean is None else clean.flatten(0, 1).unsqueeze(1)
        return self.space.rest(mixture, x.flatten(0, 1).unsqueeze(1), single).squeeze(1).unflatten(0, x.shape[:2])

    def _consistent(self, estimates: Tensor) -> Tensor:
        if callable(self.consistent):
            return encoded(self.space, self._moved(decoded(self.space, estimates)))
        return project(estimates, self.reference, self.space)

    def _moved(self, signals: Tensor) -> Tensor:
        return self.consistent(signals, self.mixture) if callable(self.consistent) else project(signals, self.mixture)


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
