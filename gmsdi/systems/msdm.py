"""Multi-Source Diffusion Models (MSDM, reference [14]), the paper's Section 2.2: the joint model.

Unlike GMSDI, it needs separated stems for training. It is one denoiser D(x_1, ..., x_K, σ) of all K stems as channels
(Eq. 3), with total generation, partial generation by imputation, and two separators, "contextual Dirac" and Gaussian.
Weakly supervised MSDM is in `gmsdi.systems.weak_msdm`.

As in `gmsdi.inference`, scores are written in derivative form, dx/dσ = (x − D)/σ, for a state `[B, S, 1, T]` and any
sampler of `gmsdi.sampling.samplers`; derivatives have `rows` (S) and `stems(x)`. Stems have one channel.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeAlias, cast

import torch
from torch import Tensor

from gmsdi import inference, level
from gmsdi.errors import UserError
from gmsdi.inference import Gamma, Noise
from gmsdi.io.device import resolve_device
from gmsdi.models.checkpoint import STEMS, target_of
from gmsdi.models.edm.text import prompt_of
from gmsdi.models.protocol import Denoiser
from gmsdi.sampling.guidance import Prompt
from gmsdi.sampling.noise import SeededNoise, sample_seeds
from gmsdi.sampling.solver import Callback, Solver
from gmsdi.stability import gaussian_gamma, positive, pull
from gmsdi.systems.diffusion import OnWindows, load_denoiser

JointModel: TypeAlias = Callable[[Tensor, float], Tensor]
"""`D = model(x, sigma)`: the K stems of each item, `[B, K, T]`, denoised together in one forward pass."""


def total(model: JointModel, count: int) -> Imputation:
    """Total generation, Eq. 3: all stems together.

    Args:
        model: D.
        count: K.

    Returns:
        The derivative over the K stems.
    """
    return Imputation(model, count, None, (), None)


def partial(
    model: JointModel, count: int, given: Tensor, places: Sequence[int], *, noise: Tensor | Noise | None = None
) -> Imputation:
    """Partial generation by imputation (Song et al. 2021, Section 5): the given stems are noised, not sampled.

        d_j = (x_j − D_j(x_1, ..., x_K, σ))/σ for the other stems j, with x_i = x_i(0) + σ·ε_i for the given ones

    Imputation as published redraws ε in every evaluation; a callable `noise` does this. A tensor keeps one ε for the
    whole run, so that the derivative is deterministic and every sampler keeps its order of convergence.

    Either way the result only approximates the conditional distribution of the other stems, because the model sees the
    given ones through noise. If ε is redrawn, churn brings it closer, and resampling (as in RePaint, Lugmayr et al.
    2022) converges to it.

    Args:
        model: D.
        count: K.
        given: x_i(0), `[B, I, 1, T]`, clean.
        places: the index of each given stem among the K.
        noise: ε, `[B, I, 1, T]`; or a function called with `given` in each evaluation; None draws ε once from torch's
            global generator.

    Returns:
        The derivative over the K − I other stems, in order.

    Raises:
        UserError: if the places are not I distinct indices, or nothing is left to generate.
    """
    if given.ndim != 4 or given.shape[1] != len(places) or not places:
        raise UserError(f"given stems have shape {tuple(given.shape)}, but there are {len(places)} places for them")
    if len(set(places)) < len(places) or not all(0 <= place < count for place in places) or len(places) == count:
        raise UserError(f"given stems {list(places)} must be distinct, among 0..{count - 1}, and leave one to generate")
    return Imputation(model, count, given, places, torch.randn_like(given) if noise is None else noise)


def contextual(
    model: JointModel, mixture: Tensor, labels: Sequence[str], constrained: int | str
) -> inference.Separator:
    """MSDM's Dirac separator: Eq. 13 with D_k(x_1, ..., x_K, σ), so that each stem is denoised given the others.

    Args:
        model: D.
        mixture: y(0), `[B, 1, T]`.
        labels: the K labels.
        constrained: the stem that is y(0) minus the others, by index or label.

    Returns:
        The derivative over the K − 1 other stems; the stems sum to the mixture.

    Raises:
        UserError: if there are fewer than two labels, or `constrained` is not one of them.
    """
    count = len(labels)

    def rows(x: Tensor, sigma: float, prompts: Sequence[Prompt | str]) -> Tensor:
        return model(x.reshape(-1, count, x.shape[-1]), sigma).reshape(x.shape)

    return inference.separator(rows, mixture, labels, constrained)


def gaussian(model: JointModel, mixture: Tensor, count: int, *, gamma: Gamma = gaussian_gamma) -> Gaussian:
    """MSDM's Gaussian separator: the joint model with y(0) ~ N(Σ_l x_l, γ²) in place of the constraint.

        d_k = (x_k − D_k(x_1, ..., x_K, σ))/σ − (σ/(2γ²))·(y(0) − Σ_l x_l)

    The ½ is MSDM's; the gradient of a Gaussian's logarithm does not have it.

    Args:
        model: D.
        mixture: y(0), `[B, 1, T]`.
        count: K.
        gamma: γ.

    Returns:
        The derivative over the K stems, which sum to the mixture only approximately.

    Raises:
        UserError: if γ is not positive.
    """
    return Gaussian(model, mixture, count, positive("gamma", gamma))


class Imputation(inference.Derivative):
    """The derivative of `total` and `partial`.

    Attributes:
        rows: S, the number of generated stems.
        free: their indices among the K.
    """

    def __init__(
        self, model: JointModel, count: int, given: Tensor | None, places: Sequence[int], noise: Tensor | Noise | None
    ) -> None:
        self.model = model
        self.count = count
        self.given, self.noise = given, noise
        self.places = list(places)
        self.free = [k for k in range(count) if k not in self.places]
        self.rows = len(self.free)

    def __call__(self, x: Tensor, sigma: float) -> Tensor:
        """dx/dσ, `[B, K − I, 1, T]`."""
        stems = x if self.given is None else self._together(self.given_at(sigma), x)
        denoised = self.model(stems.squeeze(2), sigma).unsqueeze(2)
        if self.given is not None:
            denoised = torch.stack([denoised[:, k] for k in self.free], dim=1)
        return (x - denoised) / sigma

    def given_at(self, sigma: float) -> Tensor:
        """x_i(0) + σ·ε, `[B, I, 1, T]`."""
        assert self.given is not None
        noise = self.noise(self.given) if callable(self.noise) else cast(Tensor, self.noise)
        return self.given + sigma * noise

    def stems(self, x: Tensor) -> Tensor:
        """All K stems `[B, K, 1, T]`, the given ones unchanged."""
        return x if self.given is None else self._together(self.given, x)

    def _together(self, given: Tensor, x: Tensor) -> Tensor:
        rows = dict(zip([*self.places, *self.free], [*given.unbind(1), *x.unbind(1)], strict=True))
        return torch.stack([rows[k] for k in range(self.count)], dim=1)


class Gaussian(inference.Derivative):
    """The derivative of `gaussian`.

    Attributes:
        rows: S = K.
    """

    def __init__(self, model: JointModel, mixture: Tensor, count: int, gamma: Gamma) -> None:
        self.model = model
        self.mixture = mixture
        self.rows = count
        self.gamma = gamma

    def __call__(self, x: Tensor, sigma: float) -> Tensor:
        """dx/dσ, `[B, K, 1, T]`."""
        denoised = self.model(x.squeeze(2), sigma).unsqueeze(2)
        excess = self.mixture.unsqueeze(1) - x.sum(dim=1, keepdim=True)
        return (x - denoised) / sigma - self._pull(sigma) * excess

    def stems(self, x: Tensor) -> Tensor:
        """The stems `[B, K, 1, T]`."""
        return x

    def coupling(self, sigma: float) -> float:
        """λ(σ) of the likelihood's effect on e = y(0) − Σx, de/dσ = λ·e (see `inference.check_stability`)."""
        return self.rows * self._pull(sigma)

    def _pull(self, sigma: float) -> float:
        return pull(self.gamma, sigma) / 2


class JointMSDM(OnWindows):
    """The joint model and the tasks that MSDM solves with it, with one seed per window.

    Args:
        denoiser: of states `[N, K, T]`. It is usually unconditional; one with text is prompted with all labels.
        config: `sample_rate`, `window`, `labels`, and optionally `level`.
        device: the device of the denoiser.
        max_batch: items that the model denoises at once.
        fixed_batch: pad every batch to `max_batch`, see `gmsdi.sampling.session.Batch`.
        clamp: limit of the denoised signal; None: no limit. MSDM uses 1 wherever it samples.
    """

    def __init__(
        self,
        denoiser: Denoiser,
        config: Mapping[str, Any],
        *,
        device: str | torch.device = "cpu",
        max_batch: int = 16,
        fixed_batch: bool = False,
        clamp: float | None = None,
    ) -> None:
        super().__init__(config, config["labels"], device, max_batch, fixed_batch, clamp)
        self.denoiser = denoiser
        model, prompt = self._batched(denoiser), prompt_of(self.labels)
        self.model: JointModel = lambda x, sigma: model(x, sigma, [prompt] * len(x))

    def generate(
        self, *, solver: Solver, seeds: Sequence[int], callback: Callback | None = None
    ) -> tuple[Tensor, Tensor]:
        """Total generation: coherent stems from noise alone, as loud as in training.

        Args:
            solver: how to integrate.
            seeds: one per item, so B in all.
            callback: called with (step, steps).

        Returns:
            The stems `[B, K, 1, T]` and their sum `[B, 1, T]`, float32 on the CPU.
        """
        derivative = total(self.model, len(self.labels))
        stems = self._run(derivative, len(seeds), solver, SeededNoise(seeds), callback).cpu()
        return stems, stems.sum(dim=1)

    def accompany(
        self,
        given: Tensor,
        given_stems: Sequence[str],
        *,
        solver: Solver,
        seeds: Sequence[int],
        best_of: int = 1,
        given_noise: Literal["fixed", "redrawn"] = "redrawn",
        levels: Sequence[float] | None = None,
        callback: Callback | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Partial generation by imputation: the other stems, to accompany the given ones.

        With `best_of` = n, n samples are drawn for each item, and the one with the highest L2 norm over all generated
        stems is kept. With n = 100 the paper thus counters MSDM's tendency to generate silence. The first sample is
        that of n = 1, so more samples never lower the norm.

        Args:
            given: `[B, I, 1, T]`.
            given_stems: the I labels.
            solver: how to integrate.
            seeds: one per item.
            best_of: n; up to `max_batch` samples are drawn at once.
            given_noise: whether the noise of the given stems is redrawn in every evaluation, or fixed.
            levels: level of the mixture that each item's stems are part of, see `gmsdi.systems.base.Accompany`.
            callback: called with (step, steps), over all n samples.

        Returns:
            The K − I other stems `[B, K − I, 1, T]`, in the order of the labels, and the sum of all K `[B, 1, T]`,
            float32 on the CPU.

        Raises:
            UserError: if the input is not finite, has another shape, or does not fit the stems.
        """
        if best_of < 1:
            raise UserError(f"best_of is {best_of}; it must be at least 1")
        if given_noise not in ("fixed", "redrawn"):
            raise UserError(f"given_noise is {given_noise!r}; choose fixed or redrawn")
        x, places = self._signals(given, 4, "given stems"), self._places(given_stems)
        if len(seeds) != len(x):
            raise UserError(f"{len(seeds)} seeds for {len(x)} items; give one each")
        items, together = len(x), max(1, self.max_batch // len(x))
        candidates = [sample_seeds([seed], best_of) for seed in seeds]
        firsts = range(0, best_of, together)

        def sample(x: Tensor) -> tuple[Tensor]:
            kept = torch.empty(0, device=self.device)
            for done, first in enumerate(firsts):
                drawn = range(first, min(first + together, best_of))
                noise = SeededNoise([per_item[i] for i in drawn for per_item in candidates])
                repeated = x.repeat(len(drawn), 1, 1, 1)
                derivative = partial(
                    self.model,
                    len(self.labels),
                    repeated,
                    places,
                    noise=noise if given_noise == "redrawn" else noise(repeated),
                )
                report = _later(callback, done, len(firsts))
                samples = self._run(derivative, len(repeated), solver, noise, report).unflatten(0, (len(drawn), items))
                samples = torch.cat([kept, samples]) if done else samples
                loudest = samples.square().sum(dim=(2, 3, 4)).argmax(dim=0)
                kept = samples[loudest, torch.arange(items, device=self.device)].unsqueeze(0)
            return (kept[0],)

        (others,) = level.accompanied(
            sample,
            x,
            stems=len(places),
            others=len(self.labels) - len(places),
            known=self.level,
            levels=levels,
            sample_rate=self.sample_rate,
        )
        x = x.cpu()
        return others, partial(self.model, len(self.labels), x, places, noise=x).stems(others).sum(dim=1)

    def separate(
        self,
        mixture: Tensor,
        *,
        constrained: int | str,
        solver: Solver,
        seeds: Sequence[int],
        levels: Sequence[float] | None = None,
        callback: Callback | None = None,
    ) -> Tensor:
        """Separate with the contextual Dirac separator (see `contextual`).

        Args:
            mixture: `[B, 1, T]`.
            constrained: the stem that is the mixture minus the others, by index or label.
            solver: how to integrate.
            seeds: one per item.
            levels: level of the song that each item is from, see `gmsdi.systems.base.Separate`.
            callback: called with (step, steps).

        Returns:
            `[B, K, 1, T]` float32 on the CPU; the stems sum to the mixture.

        Raises:
            UserError: if the input is not finite or has another shape, or the constrained stem is unknown.
        """
        return self._separated(
            lambda y: contextual(self.model, y, self.labels, constrained),
            mixture, len(self.labels), solver, seeds, levels, callback,
        )  # fmt: skip

    def separate_gaussian(
        self,
        mixture: Tensor,
        *,
        gamma: Gamma = gaussian_gamma,
        solver: Solver,
        seeds: Sequence[int],
        levels: Sequence[float] | None = None,
        callback: Callback | None = None,
    ) -> Tensor:
        """Separate with the Gaussian separator (see `gaussian`).

        Args:
            mixture: `[B, 1, T]`.
            gamma: γ of the likelihood.
            solver: how to integrate.
            seeds: one per item.
            levels: level of the song that each item is from, see `gmsdi.systems.base.Separate`.
            callback: called with (step, steps).

        Returns:
            `[B, K, 1, T]` float32 on the CPU.

        Raises:
            UserError: if the input is not finite or has another shape, or the steps are unstable with this γ.
        """
        count = len(self.labels)
        return self._separated(
            lambda y: gaussian(self.model, y, count, gamma=gamma), mixture, count, solver, seeds, levels, callback
        )


def load_joint(
    path: str | Path,
    *,
    device: str = "auto",
    precision: str = "auto",
    max_batch: int = 16,
    fixed_batch: bool = False,
    clamp: float | None = None,
) -> JointMSDM:
    """Load a joint model, whose target is "stems".

    Args:
        path: the folder.
        device: "auto" (CUDA if there is one), or a torch device.
        precision: of the network, see `gmsdi.load`.
        max_batch: see `JointMSDM`.
        fixed_batch: see `JointMSDM`.
        clamp: see `JointMSDM`.

    Raises:
        UserError: if the folder does not hold a valid model, or holds one of another target, or the device does not
            exist.
    """
    device = resolve_device(device)
    denoiser = load_denoiser(path, device, precision)
    target = target_of(denoiser.config)
    if target != STEMS:
        raise UserError(
            f"{path}: this model has target {target!r}; joint MSDM needs one that was trained with target stems"
        )
    return JointMSDM(
        denoiser, denoiser.config, device=device, max_batch=max_batch, fixed_batch=fixed_batch, clamp=clamp
    )


def _later(callback: Callback | None, done: int, runs: int) -> Callback | None:
    """A callback for one of several runs that counts the steps of all runs."""
    return None if callback is None else lambda step, steps: callback(done * steps + step, runs * steps)
