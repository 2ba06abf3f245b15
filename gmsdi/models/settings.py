"""Settings of the networks; they can be read without torch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

from annotated_types import Len

from gmsdi.settings import About, Count, Flag, Natural, NonNegative, check


@dataclass(frozen=True)
class UNetConfig:
    """Hyper-parameters of `gmsdi.models.edm.unet.UNet1d`. Level i is between `factors[i]` and `factors[i + 1]`.

    The defaults are those of audio-diffusion-pytorch's class, which has no counterpart of `kernel_sizes`, `dilations`,
    `patch: conv` and `residual_bottleneck`; `text_modulation` corresponds to its `context_features`.
    """

    in_channels: Annotated[Count, About("audio channels")] = 1
    channels: Annotated[Count, About("width after patching; level i has channels x multipliers[i + 1]")] = 256
    patch_factor: Annotated[Count, About("samples that become one frame")] = 16
    patch: Annotated[
        Literal["resnet", "conv"],
        About(
            "resnet: a residual block at the full rate before patching; conv: a convolution over frames after it, "
            "many times cheaper"
        ),
    ] = "resnet"
    multipliers: Annotated[Sequence[Count], About("relative widths, one more than levels")] = (1, 2, 4, 4, 4, 4, 4)
    factors: Annotated[Sequence[Count], About("down-sampling on entering each level")] = (4, 4, 4, 2, 2, 2)
    num_blocks: Annotated[Sequence[Count], About("residual blocks of each level")] = (2, 2, 2, 2, 2, 2)
    kernel_sizes: Annotated[
        Sequence[Count] | None,
        About(
            "odd kernel size of the convolutions in each level's residual blocks; null: 3 everywhere; the bottleneck "
            "always has 3"
        ),
    ] = None
    dilations: Annotated[
        Sequence[Annotated[Sequence[Count], Len(1)]] | None,
        About(
            "for each level, the dilations of the convolutions in its residual blocks, two per block, repeated as "
            "needed; null: 1 everywhere"
        ),
    ] = None
    patch_kernel: Annotated[Count, About("for patch conv: odd kernel size of the patching, in frames")] = 3
    attentions: Annotated[Sequence[Flag], About("whether a level ends in self-attention")] = (
        False, False, False, True, True, True,
    )  # fmt: skip
    cross_attentions: Annotated[
        Sequence[Flag] | None, About("whether a level's residual blocks attend to the text; null: all of them")
    ] = None
    text_modulation: Annotated[Flag, About("modulate every residual block by the mean text embedding as well")] = False
    attention_heads: Annotated[Count, About("heads of each attention layer")] = 8
    attention_features: Annotated[Count, About("features per head")] = 128
    attention_multiplier: Annotated[Count, About("width of the feed-forward layers relative to the level")] = 2
    use_attention_bottleneck: Annotated[Flag, About("whether the bottleneck has self-attention")] = True
    residual_bottleneck: Annotated[
        Flag, About("add the bottleneck's attention to its input; otherwise it replaces the input")
    ] = False
    resnet_groups: Annotated[Count, About("groups of the group normalisations")] = 8
    kernel_multiplier_downsample: Annotated[
        Count, About("the kernel size of a down-sampling is this times its factor, plus one")
    ] = 2
    use_nearest_upsample: Annotated[
        Flag, About("up-sample by repetition and convolution; otherwise by transposed convolution")
    ] = False
    use_skip_scale: Annotated[Flag, About("multiply skip connections by 1/sqrt(2)")] = True
    text_features: Annotated[int | None, About("features of the text tokens; null for an unconditional network")] = None
    mapping_features: Annotated[Count | None, About("width of the noise level's features; null: 4 times channels")] = (
        None
    )

    def __post_init__(self) -> None:
        levels = len(self.factors)
        named: dict[str, Sequence[object]] = {"num_blocks": self.num_blocks, "attentions": self.attentions}
        for name in ("cross_attentions", "kernel_sizes", "dilations"):
            if getattr(self, name) is not None:
                named[name] = getattr(self, name)
        for name, values in named.items():
            if len(values) != levels:
                raise ValueError(f"{name} has {len(values)} entries for {levels} levels")
        if len(self.multipliers) != levels + 1:
            raise ValueError(f"multipliers has {len(self.multipliers)} entries, not one more than the {levels} levels")
        if self.patch not in ("resnet", "conv"):
            raise ValueError(f"patch is {self.patch!r}, neither 'resnet' nor 'conv'")
        for name, sizes in (("kernel_sizes", self.kernel_sizes or ()), ("patch_kernel", (self.patch_kernel,))):
            for size in sizes:
                if size < 1 or size % 2 == 0:
                    raise ValueError(f"{name} has {size}, which is not an odd number of frames")
        if self.patch == "resnet" and self.patch_kernel != 3:
            raise ValueError("patch_kernel is only for patch 'conv'")
        for level, dilations in enumerate(self.dilations or ()):
            if not dilations or min(dilations) < 1:
                raise ValueError(f"dilations of level {level} are {list(dilations)}; give one or more, each at least 1")

    @property
    def stride(self) -> int:
        """Input lengths must be multiples of this many samples."""
        return self.patch_factor * math.prod(self.factors)


@dataclass(frozen=True)
class CodecConfig:
    """Hyper-parameters of `gmsdi.models.autoencoder.Codec`."""

    latents: Annotated[Count, About("channels of the latents")] = 32
    hop: Annotated[Count, About("samples of a frame, an even number and at least `latents`")] = 64
    width: Annotated[Count, About("channels of the networks")] = 128
    blocks: Annotated[
        Natural, About("residual blocks of the encoder's and of the decoder's network; 0 is a linear codec")
    ] = 3
    kernel: Annotated[Count, About("odd kernel size of their convolutions, in frames")] = 5
    spectral: Annotated[NonNegative, About("weight of the error of magnitudes beside that of the signal")] = 0.1
    additive: Annotated[
        NonNegative,
        About("weight of the errors of additivity: of E and Dec at a sum of windows against the sum of theirs"),
    ] = 0.0

    def __post_init__(self) -> None:
        check(self, "codec")
        if self.hop % 2 or self.hop < self.latents:
            raise ValueError(f"hop is {self.hop}; it must be even and at least latents, {self.latents}")
        if self.kernel % 2 == 0:
            raise ValueError(f"kernel is {self.kernel}, which is not an odd number of frames")
