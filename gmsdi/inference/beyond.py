"""Beyond the paper: separation by projection, and accompaniments that are judged with the clean given sources.

The consistent Extractor, also beyond the paper, is an option of Eq. 14 (`gmsdi.inference.separation.Extractor`).
"""

from __future__ import annotations

import torch
from torch import Tensor

from gmsdi.errors import UserError
from gmsdi.inference.base import (
    WAVEFORM,
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
    with_given,
)
from gmsdi.models.protocol import Space
from gmsdi.stability import Gamma, coupling_of, positive, pull
from gmsdi.types import join as join_texts


class Projected(Derivative):
    """Separator without a constrained source: the K estimates of each step sum to the mixture.

        D̃_k = D(x_k, z_k) + (y(0) − Σ_l D(x_l, z_l))/K,   d_k = gain·(x_k − D̃_k)/σ

    In Eq. 13 the constrained source y(0) − Σ_{l<K} x_l carries the noise of all others, √(K − 1)·σ, and is denoised as
    if it were σ. Here every source has its own noise, and the mixture enters through the estimates: D̃ is the point
    nearest to D that sums to y(0) (mixture consistency, Wisdom et al. 2019; the same projection as in the null-space
    samplers of Wang et al. 2023).

    Args:
        model: see `gmsdi.inference`.
        mixture: y(0), see there.
        prompts: see there.
        gain: factor of the derivative. 1 is the probability-flow ODE of D̃. Eq. 13 and 14 add the residual of each
            source's counterpart to its own, which amounts to a gain of 2; this separates far better.
        space: see `gmsdi.inference`.

    Attributes:
        rows: S = K.

    Raises:
        UserError: if there are fewer than two prompts.
    """

    def __call__(self, x: Tensor, sigma: float) -> Tensor:
        """dx/dσ, `[B, K, ...]`."""
        estimates = project(denoised(self.model, x, sigma, self.prompts), self.reference, self.space)
        return self.gain * (x - estimates) / sigma

    def __init__(
        self, model: Guided, mixture: Tensor, prompts: Prompts, *, gain: float = 2.0, space: Space = WAVEFORM
    ) -> None:
        self.model, self.mixture, self.space = model, mixture, space
        self.reference = reference(space, mixture)
        self.prompts = items_of(prompts, at_least=2)
        self.gain: float = gain
        self.rows = len(self.prompts[0])

    def stems(self, x: Tensor) -> Tensor:
        """The K sources `[B, K, ...]`; they sum to y(0) exactly."""
        return project(x, self.reference, self.space)

    def signals(self, x: Tensor) -> Tensor:
        """The K sources `[B, K, C, T]`; they sum to y(0) exactly, in any space."""
        return project(decoded(self.space, x), self.mixture)


class Conditioned(Derivative):
    """Partial generation: an accompaniment that is judged together with the clean given sources.

    Eq. 12 adds a row for the mixture and pulls it and the sources towards each other. But a model of mixtures can judge
    an accompaniment z = Σ_{l∈J} x_l directly, for z(σ) + Σ_{i∈I} x_i, with clean x_i, is the mixture at the same noise
    level σ. Here the row z follows the product of two densities, p(z | ⊗_J z)^(1 − a) · p(Σ_I x_i + z | ⊗_{I∪J} z)^a:

        D̄   = (1 − a)·D(z, ⊗_{l∈J} z_l) + a·[D(z + Σ_{i∈I} x_i, ⊗_{I∪J} z) − Σ_{i∈I} x_i]
        d_z = (z − P·D̄)/σ
        d_j = (x_j − D(x_j, z_j))/σ − (σ/γ_x²)·(z − Σ_{l∈J} x_l)

    so that z is to its sources what y is in total generation (Eq. 10 with γ_y = ∞). A single source is z itself; if
    there are several, `stems` divides the residual (z minus their sum) among them.

    A louder, softer or filtered copy of the given sources always makes a plausible mixture with them. P removes such
    copies from D̄: it subtracts the least-squares approximation Σ_i h_i∗x_i, slightly regularised, with filters h_i of
    2·lags + 1 coefficients. The final z contains no copies; the real stems of a piece hardly contain any of each other.

    In a space that is not additive, x_i, D̄ and P are of signals, and D̄ is encoded; z + Σ_i x_i is the encoded sum of
    Dec(D(z, ⊗_J z)) and x_i, with the noise z − D(z, ⊗_J z) added. This needs two calls of the model.

    Args:
        model: see `gmsdi.inference`.
        given: x_I, `[B, I, ...]`, clean.
        given_prompts: the I prompts of the given sources (or B lists of them).
        prompts: the J prompts of the sources to generate (or B lists of them).
        share: a; 0 judges the accompaniment alone, 1 only the whole mixture.
        gamma_x: γ of the sources' likelihood; unused for a single source.
        lags: how far the filters reach before and after 0, in steps of the state's time axis, or in samples if the
            space is not additive; None leaves the copies in.
        join: ⊗, called with the given prompts followed by the others.
        space: see `gmsdi.inference`.

    Attributes:
        rows: S, the J generated rows and, last, z; one row for a single source.

    Raises:
        UserError: if there is no prompt, or the given prompts do not match `given`, γ is not positive, `share` is not
            between 0 and 1, or `lags` is negative.
    """

    def __call__(self, x: Tensor, sigma: float) -> Tensor:
        """dx/dσ, `[B, S, ...]`."""
        if self.space.additive:
            heard = torch.cat([x, x[:, -1:] + self.given], dim=1)
            clean = denoised(self.model, heard, sigma, self.prompts)
            clean, whole = clean[:, :-1], clean[:, -1:]
            z = self._original(torch.lerp(clean[:, -1:], whole - self.given, self.share))
        else:
            clean = denoised(self.model, x, sigma, [item[:-1] for item in self.prompts])
            alone = decoded(self.space, clean[:, -1:])
            heard = encoded(self.space, alone + self.given) + x[:, -1:] - clean[:, -1:]
            whole = denoised(self.model, heard, sigma, [item[-1:] for item in self.prompts])
            both = torch.lerp(alone, decoded(self.space, whole) - self.given, self.share)
            z = encoded(self.space, self._original(both))
        d = (x - torch.cat([clean[:, :-1], z], dim=1)) / sigma
        factor = pull(self.gamma_x, sigma)
        if self.rows > 1 and factor:
            excess = x[:, -1:] - self.space.mix(x[:, :-1], clean[:, :-1])
            d = torch.cat([d[:, :-1] - factor * excess, d[:, -1:]], dim=1)
        return d

    def _original(self, z: Tensor) -> Tensor:
        """P·z, `[B, 1, ...]`."""
        if not self.copies:
            return z
        found = [copies(item.clone()) for copies, item in zip(self.copies, z[:, 0], strict=True)]
        return z - torch.stack(found)[:, None]

    def __init__(
        self,
        model: Guided,
        given: Tensor,
        given_prompts: Prompts,
        prompts: Prompts,
        *,
        share: float = 0.5,
        gamma_x: Gamma,
        lags: int | None = 16,
        join: Join = join_texts,
        space: Space = WAVEFORM,
    ) -> None:
        known, items = with_given(given, given_prompts, prompts)
        require_share(share)
        if lags is not None and lags < 0:
            raise UserError(f"lags is {lags}; it must be a number of samples, or None")
        self.model, self.space = model, space
        if not space.additive:
            given = decoded(space, given)
        self.given = given.sum(dim=1, keepdim=True)
        # One item at a time, each in its own memory: the rounding of a transform depends on batch size and alignment.
        self.copies = None if lags is None else [Copies(item.clone(), lags) for item in given]
        self.share = share
        self.gamma_x = positive("gamma_x", gamma_x)
        several = len(items[0]) > 1
        self.rows = len(items[0]) + several
        self.prompts = [
            [*row, *([join(row)] if several else []), join([*heard, *row])]
            for heard, row in zip(known, items, strict=True)
        ]

    def stems(self, x: Tensor) -> Tensor:
        """The generated sources `[B, J, ...]`; they sum to z exactly."""
        if self.rows == 1:
            return x
        return project(x[:, :-1], x[:, -1] if self.space.additive else self.space.decode(x[:, -1]), self.space)

    def signals(self, x: Tensor) -> Tensor:
        """The generated sources `[B, J, C, T]`; they sum to the signal of z exactly."""
        signals = decoded(self.space, x)
        return signals if self.rows == 1 else project(signals[:, :-1], signals[:, -1])

    def mixture_row(self, x: Tensor) -> Tensor:
        """Σ_I x_i + z, `[B, ...]`."""
        if self.space.additive:
            return x[:, -1] + self.given[:, 0]
        return self.space.encode(self.space.decode(x[:, -1]) + self.given[:, 0])

    def coupling(self, sigma: float) -> float:
        """λ(σ) of e = z − Σ_J x, see `Total.coupling`."""
        return coupling_of(sigma, self.rows - 1, self.gamma_x)


def require_share(share: float) -> None:
    """Refuse a weight of the whole mixture that is none, see `Conditioned`.

    Raises:
        UserError: if it is out of range.
    """
    if not (isinstance(share, int | float) and 0 <= share <= 1):
        raise UserError(f"share is {share!r}; it must be between 0 (the accompaniment alone) and 1 (the whole mixture)")


class Copies:
    """The part of a state that is a filtered copy of given sources: least squares over their circular shifts.

    Args:
        sources: `[I, ..., T]`; one filter for all channels of a source. Silent ones have no copies.
        lags: shifts by −lags to lags steps.
        ridge: regularisation, relative to the energy of a source. The shifts of a low note hardly differ, so that the
            problem would be nearly singular without it.
    """

    def __init__(self, sources: Tensor, lags: int, ridge: float = 1e-3) -> None:
        sources = sources.flatten(1, -2)  # [I, C, T]
        self.samples = sources.shape[-1]
        norm = sources.square().sum(dim=(1, 2), keepdim=True).sqrt()
        self.spectra = torch.fft.rfft(sources / norm.clamp_min(torch.finfo(sources.dtype).tiny))
        shifts = torch.arange(-lags, lags + 1, device=sources.device)
        self.places = shifts % self.samples
        between = self._correlations(self.spectra.unsqueeze(1), self.spectra)
        gram = between[..., (shifts[:, None] - shifts) % self.samples].transpose(1, 2).flatten(2, 3).flatten(0, 1)
        self.inverse = torch.linalg.inv(gram + ridge * torch.eye(len(gram), dtype=gram.dtype, device=gram.device))

    def __call__(self, x: Tensor) -> Tensor:
        """The copies in a state `[..., T]`, of the same shape."""
        found = self._correlations(self.spectra, torch.fft.rfft(x.flatten(0, -2)))[..., self.places]
        weights = (self.inverse @ found.flatten()).reshape(found.shape)
        filters = x.new_zeros(len(found), self.samples).index_add(-1, self.places, weights)
        spectrum = (torch.fft.rfft(filters).unsqueeze(1) * self.spectra).sum(dim=0)
        return torch.fft.irfft(spectrum, n=self.samples).reshape(x.shape)

    def _correlations(self, a: Tensor, b: Tensor) -> Tensor:
        """Σ a[n]·b[n + t] for all t, over channels, of signals with these spectra `[..., C, F]`."""
        return torch.fft.irfft((a.conj() * b).sum(dim=-2), n=self.samples)
