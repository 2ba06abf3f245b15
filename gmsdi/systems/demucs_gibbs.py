"""Demucs + Gibbs: a supervised separator that takes known sources as further input (reference [27] of the paper).

Manilow, Hawthorne, Huang, Pardo and Engel, "Improving Source Separation by Explicitly Modeling Dependencies Between
Sources", ICASSP 2022. One network estimates every source from the mixture and any subset of the other sources, an
orderless neural autoregressive density estimator (NADE, Uria et al. 2014). At inference it first estimates all sources
from the mixture alone and then continues as a block Gibbs sampler: it repeatedly re-estimates a random block of sources
given the mixture and its own latest estimates of the others.

The network is the time-domain one of the `demucs` package (Défossez et al. 2019). Neither the package's audio input and
output nor its training code is needed, so it is installed without its dependencies (see `pyproject.toml`).

A model folder whose `config.json` has `kind: "gibbs"` is built by `build`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor, nn

from gmsdi import level
from gmsdi.errors import UserError
from gmsdi.io.device import resolve_device, resolve_precision
from gmsdi.models.checkpoint import load_model
from gmsdi.models.trainable import TrainableModel, register_kind
from gmsdi.sampling.noise import SeededNoise

Callback: TypeAlias = Callable[[int, int], None]
Block: TypeAlias = int | Literal["uniform", "annealed"]
Estimator: TypeAlias = Callable[[Tensor, Tensor, Tensor], Tensor]
"""`f(mixture [N, T], sources [N, K, T], known [N, K] bool) -> [N, K, T]`: estimates each unknown source from the
mixture and the known ones. Outputs for known sources and inputs for unknown ones are ignored."""

SNR_FLOOR = 1e-3
"""Error power relative to the mixture's, −30 dB, below which the loss "snr" hardly falls any further."""
LOSSES: dict[str, Callable[[Tensor], Tensor]] = {
    "l1": lambda error: error.abs().mean(dim=-1),
    "snr": lambda error: 10 * (error.square().mean(dim=-1) + SNR_FLOOR).log10(),
}
"""Map errors relative to the mixture's level, `[n, K, T]`, to the loss of each source, `[n, K]`."""
_LEVEL_FLOOR = 1e-5  # as in Demucs, so that silence stays silent
_DRAWS = 16  # uniform numbers per training item


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
        callback: called with (step, steps); with step 0 after the first pass.

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
            callback(step, steps)
    return x


class GibbsSeparator(TrainableModel):
    """A separator that takes known sources as further inputs.

    The input of the network has 1 + 2·K channels: the mixture, the K sources with zeros in place of unknown ones, and K
    masks that are 1 where a source is known. The masks distinguish a source that is known to be silent from an unknown
    one.

    Levels are normalised as in Demucs: the mixture is centred and divided by its standard deviation. Known sources are
    divided, and estimates multiplied, by the same number. The mixture's mean is not added back, since it does not
    belong to any single source.

    Args:
        net: `[N, 1 + 2·K, T] -> [N, K, 1, T]`.
        config: the content of the model's `config.json`: `labels`, and optionally `loss`.

    Attributes:
        labels: names of the K sources, in order.
        sample_rate: in Hz.
        window: length of the training windows, in samples; mixtures may have any length.
        level: the level of the training mixtures, see `gmsdi.level`. Each mixture is divided by its own standard
            deviation anyway; scaling to `level` makes the floor of that deviation equal for soft and loud mixtures.
        loss: name of the training loss.
        evaluations: mixtures that the network has separated so far.
        max_batch: mixtures that the network processes at once.
        fixed_batch: pad every batch to `max_batch`, see `gmsdi.sampling.session.Batch`.
    """

    def __init__(self, net: nn.Module, config: dict[str, Any]) -> None:
        super().__init__()
        self.net = net
        self.config = config
        self.labels: list[str] = list(config["labels"])
        self.sample_rate: int = config["sample_rate"]
        self.window: int = config["window"]
        self.level = level.known_level(config)
        self.loss: str = config.get("loss", "l1")
        self.autocast = None
        self.evaluations = 0
        self.max_batch, self.fixed_batch = 16, False

    def forward(self, mixture: Tensor, sources: Tensor, known: Tensor) -> Tensor:
        """Estimate the unknown sources; an `Estimator`.

        Args:
            mixture: `[N, T]`.
            sources: `[N, K, T]`; values of unknown sources are ignored, but must be finite.
            known: bool `[N, K]`.

        Returns:
            `[N, K, T]` float32; only the rows of unknown sources are meaningful.
        """
        mean, level = _level(mixture)
        mask = known.to(mixture.dtype).unsqueeze(-1)
        inputs = [((mixture - mean) / level).unsqueeze(1), mask * sources / level.unsqueeze(1), mask.expand_as(sources)]
        with torch.autocast(mixture.device.type, dtype=self.autocast, enabled=self.autocast is not None):
            raw = self.net(torch.cat(inputs, dim=1))
        return level.unsqueeze(1) * raw.squeeze(2).to(mixture.dtype)

    def training_loss(self, batch: Mapping[str, Any]) -> Tensor:
        """Loss of each item on its unknown sources, given the mixture and its known ones.

        Orderless NADE (Uria, Murray and Larochelle 2014) maximises Σ_d log p(x_{o_d} | x_{o_<d}, y), averaged over all
        orders o of the K sources. If the order and one position d are drawn uniformly, the number d − 1 of known
        sources is uniform on 0 … K − 1, and the known sources are a random subset of that size. All K − d + 1 sources
        that may come next share this input, so their mean loss, which is returned here, is an unbiased estimate of the
        sum up to the factor K. If each source were known by the toss of a coin instead, the mixture alone, from which
        every separation starts, would occur in 2⁻ᴷ of the items rather than 1/K.

        The loss of one source, with its error e relative to the mixture's standard deviation, is

        - "l1": mean(|e|), the loss of Demucs;
        - "snr": 10·log₁₀(mean(e²) + 10⁻³), in dB: up to a constant, the negative signal-to-noise ratio, soft-limited
          at 30 dB as in Wisdom et al. 2020. A dB counts the same for soft and loud sources, as it does in the tables'
          SI-SDR improvement. But the gradient grows as the error shrinks, so that sources that are easy to separate
          dominate the others early in training.

        Unlike SI-SDR, both are well defined for silent sources.

        Args:
            batch: `clean` `[n, K, T]` float32, the sources, with silence where one does not play; and `draws` float32
                `[n, 16]`, uniform on [0, 1), the only source of randomness.

        Returns:
            `[n]` float32.

        Raises:
            UserError: if the numbers of sources and labels differ.
        """
        clean, draws = batch["clean"], batch["draws"]
        K = len(self.labels)
        if clean.ndim != 3 or clean.shape[1] != K:
            raise UserError(
                f"training stems have shape {tuple(clean.shape)}, but the model needs [items, {K}, samples] for "
                f"{', '.join(self.labels)}; rebuild the windows with these classes"
            )
        known = known_sources(draws, K)
        mixture = clean.sum(dim=1)
        error = (self(mixture, clean, known) - clean) / _level(mixture)[1].unsqueeze(1)
        unknown = ~known
        return (LOSSES[self.loss](error) * unknown).sum(dim=1) / unknown.sum(dim=1)

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
            levels: level of the piece that each item is from, see `gmsdi.systems.base.Separate`.
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
        device = next(self.net.parameters()).device

        def sample(y: Tensor, seeds: Sequence[int], rests: Any) -> Tensor:
            def batched(*inputs: Tensor) -> Tensor:
                size, rows = self.max_batch, len(y)
                if self.fixed_batch and (missing := -rows % size):
                    inputs = tuple(torch.cat([x, x[-1:].expand(missing, *x.shape[1:])]) for x in inputs)
                parts = zip(*(x.split(size) for x in inputs), strict=True)
                estimates = torch.cat([self(*part) for part in parts])
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


def build(config: dict[str, Any]) -> GibbsSeparator:
    """Build a separator with fresh weights.

    Args:
        config: `target`, which must be "stems"; `labels`, 2 to 15 names; `sample_rate` in Hz; `loss`, "l1" (the
            default) or "snr", see `GibbsSeparator.training_loss`; and `demucs`, options of the package's `Demucs`
            (`channels`, `depth`, `growth`, `kernel_size`, `stride`, `resample`, …). Its inputs, outputs and levels
            cannot be set; they are fixed here.

    Raises:
        UserError: if the settings contradict each other, or the `demucs` package is not installed.
    """
    labels = config["labels"]
    if config.get("target") != "stems":
        raise UserError(f"model target is {config.get('target', 'mixture')!r}; a Gibbs separator needs target: stems")
    if not 2 <= len(labels) < _DRAWS or len(set(labels)) < len(labels):
        raise UserError(f"model labels are {labels}; a Gibbs separator needs 2 to {_DRAWS - 1} different ones")
    if config.get("loss", "l1") not in LOSSES:
        raise UserError(f"model loss is {config['loss']!r}; choose {' or '.join(LOSSES)}")
    return GibbsSeparator(_demucs(config.get("demucs", {}), labels, config["sample_rate"]), config)


register_kind("gibbs", lambda config, prompts: build(config))


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
        precision: of the network, see `gmsdi.pipeline.load`.
        max_batch: see `GibbsSeparator`.
        fixed_batch: see `GibbsSeparator`.

    Raises:
        UserError: if the folder does not hold a valid model, or holds one of another kind, or the device does not
            exist.
    """
    device = resolve_device(device)
    if max_batch < 1:
        raise UserError(f"max_batch is {max_batch}; it must be at least 1")
    model = load_model(path, device=device)
    if not isinstance(model, GibbsSeparator):
        raise UserError(f"{path}: not a model of kind gibbs")
    model.autocast = resolve_precision(precision, device)
    model.max_batch, model.fixed_batch = max_batch, fixed_batch
    return model


def known_sources(draws: Tensor, sources: int) -> Tensor:
    """Draw the known sources of each training item: a random subset of 0 to K − 1, every size equally likely.

    Args:
        draws: uniform on [0, 1), `[n, K + 1 or more]`.
        sources: K.

    Returns:
        bool `[n, K]`.
    """
    return _subset(draws[:, 1 : sources + 1], _uniform_below(draws[:, 0], sources))


def _blocks(generators: Sequence[torch.Generator], steps: int, sources: int, block: Block) -> Tensor:
    """Draw the sources that each pass re-estimates, bool `[steps + 1, B, K]`; the first pass estimates all."""
    draws = torch.stack([torch.rand(steps, sources + 1, generator=generator) for generator in generators], dim=1)
    if block == "uniform":
        sizes = 1 + _uniform_below(draws[..., 0], sources - 1)
    elif block == "annealed":
        falling = torch.linspace(sources - 1, 1, steps) if steps > 1 else torch.ones(steps)
        sizes = falling.round().long().unsqueeze(-1)
    else:
        sizes = torch.tensor(block)
    first = torch.ones(1, len(generators), sources, dtype=torch.bool)
    return torch.cat([first, _subset(draws[..., 1:], sizes)])


def _subset(draws: Tensor, size: Tensor) -> Tensor:
    """A random subset of `size` elements, bool `[..., K]`, from the order of `draws` along the last axis."""
    rank = draws.argsort(dim=-1).argsort(dim=-1)
    return rank < size.unsqueeze(-1)


def _uniform_below(draws: Tensor, n: int) -> Tensor:
    """Uniform integers 0 … n − 1; float32 can round the product up to n."""
    return (draws * n).long().clamp(max=n - 1)


def _level(mixture: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of mixtures `[N, T]`, each `[N, 1]`."""
    return mixture.mean(dim=-1, keepdim=True), _LEVEL_FLOOR + mixture.std(dim=-1, keepdim=True)


def _check(steps: int, block: Block, noise: float, sources: int) -> None:
    if isinstance(steps, bool) or not isinstance(steps, int) or steps < 0:
        raise UserError(f"Gibbs steps is {steps!r}; it must be a whole number of at least 0")
    whole = isinstance(block, int) and not isinstance(block, bool) and 1 <= block <= sources
    if not whole and block not in ("uniform", "annealed"):
        raise UserError(f"Gibbs block is {block!r}; it must be uniform, annealed, or a number from 1 to {sources}")
    if isinstance(noise, bool) or not isinstance(noise, int | float) or not 0 <= noise < math.inf:
        raise UserError(f"Gibbs noise is {noise!r}; it must be a number of at least 0")


def _demucs(options: Mapping[str, Any], labels: Sequence[str], sample_rate: int) -> nn.Module:
    """Build the package's network with one output per source and the inputs of `GibbsSeparator`."""
    try:
        from demucs.demucs import Demucs, rescale_module
    except ImportError as error:
        raise UserError(
            f"Demucs + Gibbs needs the demucs package ({error}); run: python -m pip install einops julius && "
            "python -m pip install --no-deps demucs==4.1.0"
        ) from error
    try:
        net = Demucs(list(labels), audio_channels=1, normalize=False, samplerate=sample_rate, **options)
    except (TypeError, ValueError, AssertionError) as error:
        raise UserError(
            f"model demucs: no network can be built from these options ({error}); the channels of every layer must be "
            "a multiple of norm_groups from norm_starts on, and of 4 heads times dconv_comp from dconv_attn on"
        ) from error
    # Demucs has equally many audio channels at input and output, so the first convolution is replaced by a wider one.
    first = net.encoder[0][0]
    wide = nn.Conv1d(1 + 2 * len(labels), first.out_channels, first.kernel_size, first.stride)
    rescale_module(wide, reference=options.get("rescale", 0.1))
    net.encoder[0][0] = wide
    return net
