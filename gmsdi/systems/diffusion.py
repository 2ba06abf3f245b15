"""What the systems of diffusion models of stems share: loading, batching, and sampling a derivative on windows."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gmsdi import level
from gmsdi.errors import UserError
from gmsdi.inference import Derivative, check_stability
from gmsdi.inference.resting import Resting
from gmsdi.io.device import resolve_precision
from gmsdi.level import Rests
from gmsdi.models.checkpoint import load_model
from gmsdi.models.edm.denoiser import TextDenoiser
from gmsdi.models.protocol import Denoiser
from gmsdi.sampling.guidance import Guided, guided
from gmsdi.sampling.noise import SeededNoise
from gmsdi.sampling.session import batched
from gmsdi.sampling.solver import Callback, Solver


class OnWindows:
    """Base class of systems of diffusion models of one channel: their device, and how a derivative is sampled.

    Attributes:
        labels: the labels of the K stems, in order.
        sample_rate: in Hz.
        window: T, in samples.
        channels: 1.
        level: the level of the mixtures that the training stems are from, see `gmsdi.level`.
        evaluations: signals that the networks have denoised so far; the K stems of a joint model count as one.
    """

    channels = 1

    def __init__(
        self,
        config: Mapping[str, Any],
        labels: Sequence[str],
        device: str | torch.device,
        max_batch: int,
        fixed_batch: bool,
        clamp: float | None,
    ) -> None:
        if max_batch < 1:
            raise UserError(f"max_batch is {max_batch}; it must be at least 1")
        self.labels = list(labels)
        self.sample_rate: int = config["sample_rate"]
        self.window: int = config["window"]
        self.level = level.known_level(config)
        self.device = torch.device(device)
        self.max_batch, self.fixed_batch = max_batch, fixed_batch
        self.clamp = clamp
        self.evaluations = 0

    def _batched(self, denoiser: Denoiser) -> Guided:
        """Wrap a denoiser without guidance, in batches that fit the memory."""

        def counted(x: Tensor, sigma: Tensor, cond: Any) -> Tensor:
            self.evaluations += len(x)
            return denoiser.denoise(x, sigma, cond)

        model = guided(counted, 0.0, clamp=self.clamp, encode=denoiser.embed)
        return batched(model, self.max_batch, fixed=self.fixed_batch)

    def _separated(
        self,
        derivative: Callable[[Tensor], Derivative],
        mixture: Tensor,
        stems: int,
        solver: Solver,
        seeds: Sequence[int],
        levels: Sequence[float] | None,
        callback: Callback | None,
    ) -> Tensor:
        """Separate mixtures: the stems `[B, K, 1, T]` on the CPU, at the level of the mixture."""

        def sample(y: Tensor, seeds: Sequence[int], rests: Rests | None) -> Tensor:
            separation = derivative(y)
            return separation.stems(self._run(separation, len(y), solver, SeededNoise(seeds), callback, rests))

        return level.separated(
            sample,
            self._signals(mixture, 3, "mixture"),
            seeds=seeds,
            stems=stems,
            known=self.level,
            levels=levels,
            sample_rate=self.sample_rate,
        )

    def _run(
        self,
        derivative: Derivative,
        items: int,
        solver: Solver,
        noise: SeededNoise,
        callback: Callback | None,
        rests: Rests | None = None,
    ) -> Tensor:
        """Sample the state `[B, S, 1, T]` of `derivative`; `rests` are the rests of its mixtures."""
        if len(noise.generators) != items:
            raise UserError(f"{len(noise.generators)} seeds for {items} items; give one each")
        sigmas = solver.sigmas()
        # Without the step to 0: with MSDM's γ = 0.75·σ it overshoots once, by at most what is left at sigma_min.
        check_stability(derivative, sigmas[:-1], step=solver.step)
        derivative = derivative if rests is None else Resting(derivative, rests)
        with torch.no_grad():
            x = sigmas[0] * noise(torch.empty(items, derivative.rows, 1, self.window, device=self.device))
            return solver.sample(derivative, x, noise=noise, callback=callback)

    def _signals(self, x: Tensor, axes: int, name: str) -> Tensor:
        """Check signals and move them to the device as float32."""
        if x.ndim != axes or tuple(x.shape[-2:]) != (1, self.window) or 0 in x.shape:
            raise UserError(
                f"{name} has shape {tuple(x.shape)}; expected {axes} axes, of which the last two are 1 channel and "
                f"{self.window} samples"
            )
        if not torch.isfinite(x).all():
            raise UserError(f"{name} holds NaN or infinite samples; repair or exclude it")
        return x.to(self.device, torch.float32)

    def _places(self, stems: Sequence[str]) -> list[int]:
        """Indices of labels, each of which may be named only once."""
        unknown = [stem for stem in stems if stem not in self.labels]
        if unknown:
            raise UserError(f"stem {unknown[0]!r} is unknown to the model; it has {', '.join(self.labels)}")
        if len(set(stems)) < len(stems):
            raise UserError(f"stems {', '.join(stems)}: name each only once")
        return [self.labels.index(stem) for stem in stems]


def load_denoiser(path: str | Path, device: str, precision: str) -> TextDenoiser:
    """Load the diffusion model of a folder.

    Raises:
        UserError: if the folder does not hold a valid model, or holds one of another kind.
    """
    model = load_model(path, device=device)
    if not isinstance(model, TextDenoiser):
        raise UserError(f"{path}: this model is of kind {model.config.get('kind')!r}, not a diffusion model")
    model.run_in(resolve_precision(precision, device))
    return model
