"""The network of Demucs + Gibbs: it estimates every source from a mixture and any subset of the other sources.

Manilow, Hawthorne, Huang, Pardo and Engel, "Improving Source Separation by Explicitly Modeling Dependencies Between
Sources", ICASSP 2022 (reference [27] of the paper). It is trained as an orderless neural autoregressive density
estimator (NADE, Uria et al. 2014).

The network is the time-domain one of the `demucs` package (Défossez et al. 2019). Neither the package's audio input and
output nor its training code is needed, so it is installed without its dependencies (see `pyproject.toml`).

A model folder whose `config.json` has `kind: "gibbs"` is built by `build`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from gmsdi.errors import UserError
from gmsdi.level import known_level
from gmsdi.models.trainable import DRAWS, TrainableModel, register_kind

KIND = "gibbs"
SNR_FLOOR = 1e-3
"""Error power relative to the mixture's, −30 dB, below which the loss "snr" hardly falls any further."""
LOSSES: dict[str, Callable[[Tensor], Tensor]] = {
    "l1": lambda error: error.abs().mean(dim=-1),
    "snr": lambda error: 10 * (error.square().mean(dim=-1) + SNR_FLOOR).log10(),
}
"""Map errors relative to the mixture's level, `[n, K, T]`, to the loss of each source, `[n, K]`."""
_LEVEL_FLOOR = 1e-5  # as in Demucs, so that silence stays silent


class ConditionalSeparator(TrainableModel):
    """Demucs with known sources as further inputs, trained for Demucs + Gibbs (`gmsdi.systems.demucs_gibbs`).

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
    """

    def __init__(self, net: nn.Module, config: dict[str, Any]) -> None:
        super().__init__()
        self.net = net
        self.config = config
        self.labels: list[str] = list(config["labels"])
        self.sample_rate: int = config["sample_rate"]
        self.window: int = config["window"]
        self.level = known_level(config)
        self.loss: str = config.get("loss", "l1")
        self.autocast = None

    def forward(self, mixture: Tensor, sources: Tensor, known: Tensor) -> Tensor:
        """Estimate the unknown sources; an `Estimator` of `gmsdi.systems.demucs_gibbs`.

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


def build(config: dict[str, Any]) -> ConditionalSeparator:
    """Build a separator with fresh weights.

    Args:
        config: `target`, which must be "stems"; `labels`, 2 to 15 names; `sample_rate` in Hz; `loss`, "l1" (the
            default) or "snr", see `ConditionalSeparator.training_loss`; and `demucs`, options of the package's `Demucs`
            (`channels`, `depth`, `growth`, `kernel_size`, `stride`, `resample`, …). Its inputs, outputs and levels
            cannot be set; they are fixed here.

    Raises:
        UserError: if the settings contradict each other, or the `demucs` package is not installed.
    """
    labels = config["labels"]
    if config.get("target") != "stems":
        raise UserError(f"model target is {config.get('target', 'mixture')!r}; a Gibbs separator needs target: stems")
    if not 2 <= len(labels) < DRAWS or len(set(labels)) < len(labels):
        raise UserError(f"model labels are {labels}; a Gibbs separator needs 2 to {DRAWS - 1} different ones")
    if config.get("loss", "l1") not in LOSSES:
        raise UserError(f"model loss is {config['loss']!r}; choose {' or '.join(LOSSES)}")
    return ConditionalSeparator(_demucs(config.get("demucs", {}), labels, config["sample_rate"]), config)


register_kind(KIND, lambda config, prompts: build(config))


def known_sources(draws: Tensor, sources: int) -> Tensor:
    """Draw the known sources of each training item: a random subset of 0 to K − 1, every size equally likely.

    Args:
        draws: uniform on [0, 1), `[n, K + 1 or more]`.
        sources: K.

    Returns:
        bool `[n, K]`.
    """
    return random_subset(draws[:, 1 : sources + 1], uniform_below(draws[:, 0], sources))


def random_subset(draws: Tensor, size: Tensor) -> Tensor:
    """A random subset of `size` elements, bool `[..., K]`, from the order of `draws` along the last axis."""
    rank = draws.argsort(dim=-1).argsort(dim=-1)
    return rank < size.unsqueeze(-1)


def uniform_below(draws: Tensor, n: int) -> Tensor:
    """Uniform integers 0 … n − 1; float32 can round the product up to n."""
    return (draws * n).long().clamp(max=n - 1)


def _level(mixture: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of mixtures `[N, T]`, each `[N, 1]`."""
    return mixture.mean(dim=-1, keepdim=True), _LEVEL_FLOOR + mixture.std(dim=-1, keepdim=True)


def _demucs(options: Mapping[str, Any], labels: Sequence[str], sample_rate: int) -> nn.Module:
    """Build the package's network with one output per source and the inputs of `ConditionalSeparator`."""
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
