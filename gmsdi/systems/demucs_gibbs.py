"""Demucs + Gibbs: a supervised separator that takes known sources as further input (reference [27] of the paper).

Manilow, Hawthorne, Huang, Pardo and Engel, "Improving Source Separation by Explicitly Modeling Dependencies Between
Sources", ICASSP 2022. One network, `gmsdi.models.demucs`, estimates every source from the mixture and any subset of the
other sources. At inference it first estimates all sources from the mixture alone and then continues as a block Gibbs
sampler: it repeatedly re-estimates a random block of sources given the mixture and its own latest estimates of the
others.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal, TypeAlias

import torch
from torch import Tensor

from gmsdi import level
from gmsdi.errors import UserError
from gmsdi.io.device import resolve_device, resolve_precision
from gmsdi.level import Rests
from gmsdi.models.checkpoint import load_model
from gmsdi.models.demucs import ConditionalSeparator, random_subset, uniform_below
from gmsdi.sampling.noise import SeededNoise
from gmsdi.sampling.solver import Callback

Block: TypeAlias = int | Literal["uniform", "annealed"]
Estimator: TypeAlias = Callable[[Tensor, Tensor, Tensor], Tensor]
"""`f(mixture [N, T], sources [N, K, T], known [N, K] bool) -> [N, K, T]`: estimates each unknown source from the
mixture and the known ones. Outputs for known sources and inputs for unknown ones are ignored."""


def block_gibbs(
    estimate: Estimator,
    mixture: Tensor,
    sources: int,
    *,
    steps: int,
    seeds: Sequence[int],
    block: Block = "uniform",
    noise: float = 0.0,
    callback: Callback | None = None,
) -> Tensor:
    """Block Gibbs sampling of sources given their mixture.

    The first pass knows no sources: x_k = f_k(y, ∅) for every k. Each step draws a block J of sources and sets

        x_J ← f_J(y, x_¬J) + noise·std(y)·ε,   ε ~ N(0, I)

    The network of [27] is trained by regression, so f is the mean of the conditional, and its spread is not known. With
    `noise` = 0, the default, every conditional is a point mass at its mean. For jointly Gaussian sources the posterior
    mean E[x | y] is then a fixed point and, if the posterior has a density, the only one. With `block` = 1 and `noise`
    equal to the standard deviation of the conditionals, the stationary distribution is the posterior.

    Note that in a mixture without noise, K − 1 known sources determine the last one. Blocks of one source therefore
    only make the estimates add up; moving them against each other takes larger blocks.

    Args:
        estimate: f.
        mixture: y, float32 `[B, T]`.
        sources: K, at least 2.
        steps: Gibbs steps after the first pass, 0 or more. The network is called `steps + 1` times.
        seeds: one per item, the only source of randomness.
        block: number of sources that a step resamples, from 1 to K; or "uniform", a number drawn for each item and
            step from 1 to K − 1, all equally likely, as in training; or "annealed", falling linearly from K − 1 in the
            first step to 1 in the last (shrinking blocks, as in Yao et al. 2014).
        noise: standard deviation of the noise added to each resampled source, relative to the mixture's.
        callback: called with (passes, all passes); the first pass is not one of the steps.

    Returns:
        The sources `[B, K, T]` after the last step.

    Raises:
        UserError: if an argument is out of range.
    """
    _check(steps, block, noise, sources)
    if len(seeds) != len(mixture):
        raise UserError(f"{len(seeds)} seeds for {len(mixture)} mixtures; give one each")
    streams = SeededNoise(seeds)
    # All blocks are drawn before the first step, so that the loop never waits for a copy to the device.
    blocks = _blocks(streams.generators, steps, sources, block).to(mixture.device)
    x = mixture.unsqueeze(1).expand(-1, sources, -1).clone()
    spread = noise * mixture.std(dim=-1, correction=0)[:, None, None]
    for step, resampled in enumerate(blocks):
        proposal = estimate(mixture, x, ~resampled)
        if noise:
            proposal = proposal + spread * streams(x)
        x = torch.where(resampled.unsqueeze(-1), proposal, x)
        if callback is not None:
            callback(step + 1, steps + 1)
    return x


class GibbsSeparator:
    """The network and how it is run.

    Args:
        network: the network.
        max_batch: mixtures that the network processes at once.
        fixed_batch: pad every batch to `max_batch`, see `gmsdi.sampling.session.Batch`.

    Attributes:
        labels: names of the K sources, in order.
        sample_rate: in Hz.
        window: length of the training windows, in samples; mixtures may have any length.
        channels: 1.
        level: see `gmsdi.models.demucs.ConditionalSeparator`.
        evaluations: mixtures that the network has separated so far.

    Raises:
        UserError: if `max_batch` is not positive.
    """

    channels = 1

    def __init__(self, network: ConditionalSeparator, *, max_batch: int = 16, fixed_batch: bool = False) -> None:
        if max_batch < 1:
            raise UserError(f"max_batch is {max_batch}; it must be at least 1")
        self.network, self.max_batch, self.fixed_batch = network, max_batch, fixed_batch
        self.labels, self.sample_rate, self.window = network.labels, network.sample_rate, network.window
        self.level = network.level
        self.evaluations = 0

    @torch.no_grad()
    def separate(
        self,
        mixture: Tensor,
        stems: Sequence[str] | None = None,
        *,
        steps: int,
        seeds: Sequence[int],
        block: Block = "uniform",
        noise: float = 0.0,
        levels: Sequence[float] | None = None,
        callback: Callback | None = None,
    ) -> Tensor:
        """Separate mixtures by block Gibbs sampling, see `block_gibbs`.

        Args:
            mixture: `[B, 1, T]`.
            stems: labels of the stems to return, in this order; None means all that the model knows. The model always
                estimates all of them.
            steps: Gibbs steps; 0 is the network's first pass alone, plain Demucs. [27] takes up to 512.
            seeds: one per item.
            block: how many sources a step resamples.
            noise: spread of the conditionals relative to the mixture's standard deviation.
            levels: level of the song that each item is from, see `gmsdi.systems.base.Separate`.
            callback: called with (step, steps).

        Returns:
            `[B, K, 1, T]` float32 on the CPU.

        Raises:
            UserError: if the input is not finite or has another shape, a label is unknown to the model, or an argument
                is out of range.
        """
        if mixture.ndim != 3 or mixture.shape[1] != 1 or 0 in mixture.shape:
            raise UserError(f"mixture has shape {tuple(mixture.shape)}; expected [items, 1, samples]")
        if not torch.isfinite(mixture).all():
            raise UserError("mixture holds NaN or infinite samples; repair or exclude it")
        wanted = self._places(stems)
        _check(steps, block, noise, len(self.labels))
        device = next(self.network.parameters()).device

        def sample(y: Tensor, seeds: Sequence[int], rests: Rests | None) -> Tensor:
            def batched(*inputs: Tensor) -> Tensor:
                size, rows = self.max_batch, len(y)
                if self.fixed_batch and (missing := -rows % size):
                    inputs = tuple(torch.cat([x, x[-1:].expand(missing, *x.shape[1:])]) for x in inputs)
                parts = zip(*(x.split(size) for x in inputs), strict=True)
                estimates = torch.cat([self.network(*part) for part in parts])
                self.evaluations += len(estimates)
                return estimates[:rows]

            found = block_gibbs(
                batched,
                y[:, 0],
                len(self.labels),
                steps=steps,
                seeds=seeds,
                block=block,
                noise=noise,
                callback=callback,
            )
            return found.unsqueeze(2)

        separated = level.separated(
            sample,
            mixture.to(device, torch.float32),
            seeds=seeds,
            stems=len(self.labels),
            known=self.level,
            levels=levels,
            sample_rate=self.sample_rate,
        )
        return separated[:, wanted]

    def _places(self, stems: Sequence[str] | None) -> list[int]:
        """Convert stems to indices into the labels."""
        if stems is None:
            return list(range(len(self.labels)))
        for stem in stems:
            if stem not in self.labels:
                raise UserError(f"the model was not trained with {stem!r}; it knows {', '.join(self.labels)}")
        if not stems or len(set(stems)) < len(stems):
            raise UserError(f"stems {', '.join(stems) or 'none'}: name at least one, and each once")
        return [self.labels.index(stem) for stem in stems]


def load_gibbs(
    path: str | Path,
    *,
    device: str = "auto",
    precision: str = "auto",
    max_batch: int = 16,
    fixed_batch: bool = False,
) -> GibbsSeparator:
    """Load a model folder of kind "gibbs", ready to separate.

    Args:
        path: the folder.
        device: "auto" (CUDA if there is one), or a torch device.
        precision: of the network, see `gmsdi.load`.
        max_batch: see `GibbsSeparator`.
        fixed_batch: see `GibbsSeparator`.

    Raises:
        UserError: if the folder does not hold a valid model, or holds one of another kind, or the device does not
            exist.
    """
    device = resolve_device(device)
    network = load_model(path, device=device)
    if not isinstance(network, ConditionalSeparator):
        raise UserError(f"{path}: not a model of kind gibbs")
    network.run_in(resolve_precision(precision, device))
    return GibbsSeparator(network, max_batch=max_batch, fixed_batch=fixed_batch)


def _blocks(generators: Sequence[torch.Generator], steps: int, sources: int, block: Block) -> Tensor:
    """Draw the sources that each pass re-estimates, bool `[steps + 1, B, K]`; the first pass estimates all."""
    draws = torch.stack([torch.rand(steps, sources + 1, generator=generator) for generator in generators], dim=1)
    if block == "uniform":
        sizes = 1 + uniform_below(draws[..., 0], sources - 1)
    elif block == "annealed":
        falling = torch.linspace(sources - 1, 1, steps) if steps > 1 else torch.ones(steps)
        sizes = falling.round().long().unsqueeze(-1)
    else:
        sizes = torch.tensor(block)
    first = torch.ones(1, len(generators), sources, dtype=torch.bool)
    return torch.cat([first, random_subset(draws[..., 1:], sizes)])


def _check(steps: int, block: Block, noise: float, sources: int) -> None:
    if isinstance(steps, bool) or not isinstance(steps, int) or steps < 0:
        raise UserError(f"Gibbs steps is {steps!r}; it must be a whole number of at least 0")
    whole = isinstance(block, int) and not isinstance(block, bool) and 1 <= block <= sources
    if not whole and block not in ("uniform", "annealed"):
        raise UserError(f"Gibbs block is {block!r}; it must be uniform, annealed, or a number from 1 to {sources}")
    if isinstance(noise, bool) or not isinstance(noise, int | float) or not 0 <= noise < math.inf:
        raise UserError(f"Gibbs noise is {noise!r}; it must be a number of at least 0")
