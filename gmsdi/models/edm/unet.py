"""A one-dimensional U-Net over waveforms, conditioned on the noise level and on text tokens.

Internally a signal is `[N, C, 1, L]` with the channels last in memory, so that convolutions, normalisation and
attention share one layout and nothing has to be reordered. Weights keep the shapes of one-dimensional convolutions.

The architecture is that of Moûsai (Schneider et al. 2023) in the form used by MSDM: waveform patches, residual
convolution blocks whose second half is modulated by the noise level, transformer blocks on the deeper levels, and
cross-attention to the text tokens inside every residual block. With the default options the network is mathematically
equal to `UNet1d` / `UNetConditional1d` of audio-diffusion-pytorch 0.0.43; `UNetConfig` lists the options that depart
from it.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gmsdi.models.edm.conditioning import Conditioning
from gmsdi.models.settings import UNetConfig


class UNet1d(nn.Module):
    """`F(x, c_noise, text)`: the raw network inside the preconditioning of `models.edm.denoiser`."""

    def __init__(self, config: UNetConfig) -> None:
        super().__init__()
        self.config = config
        mapping = config.mapping_features or config.channels * 4
        widths = [config.channels * m for m in config.multipliers]
        cross = config.cross_attentions or [True] * len(config.factors)
        text = [config.text_features if used else None for used in cross]

        self.to_time = nn.Sequential(
            FourierFeatures(config.channels), nn.Linear(config.channels + 1, mapping), nn.GELU()
        )
        self.to_text: nn.Module | None = None
        if config.text_features is not None and config.text_modulation:
            self.to_text = nn.Sequential(nn.Linear(config.text_features, mapping), nn.GELU())
        self.to_mapping = nn.Sequential(nn.Linear(mapping, mapping), nn.GELU(), nn.Linear(mapping, mapping), nn.GELU())
        if config.patch == "resnet":
            self.patch: nn.Module = ResnetPatch(config, mapping)
            self.unpatch: nn.Module = ResnetUnpatch(config, mapping)
        else:
            self.patch = ConvPatch(config)
            self.unpatch = ConvUnpatch(config)
        self.downs = nn.ModuleList(
            DownLevel(config, widths[i], widths[i + 1], i, mapping, text[i]) for i in range(len(config.factors))
        )
        self.bottleneck = Bottleneck(config, widths[-1], mapping, text[-1])
        self.ups = nn.ModuleList(
            UpLevel(config, widths[i + 1], widths[i], i, mapping, text[i]) for i in reversed(range(len(config.factors)))
        )

    def forward(self, x: Tensor, time: Tensor, cond: Conditioning | None = None) -> Tensor:
        """Evaluate the network.

        Args:
            x: `[N, C, T]`, T a multiple of `config.stride`.
            time: `[N]` noise-level coordinate (c_noise).
            cond: the text of each row; None for an unconditional network.

        Returns:
            `[N, C, T]`.
        """
        if x.shape[-1] % self.config.stride:
            raise ValueError(f"length {x.shape[-1]} is not a multiple of {self.config.stride} samples")
        features = self.to_time(time)
        if self.to_text is not None and cond is not None:
            features = features + cond.cached(id(self), lambda c: self.to_text(c.pooled()))[cond.index]
        mapping = self.to_mapping(features)
        x = x.unsqueeze(2).contiguous(memory_format=torch.channels_last)
        x = first = self.patch(x, mapping)
        skips = []
        for down in self.downs:
            x, kept = down(x, mapping, cond)
            skips.append(kept)
        x = self.bottleneck(x, mapping, cond)
        for up in self.ups:
            x = up(x, skips.pop(), mapping, cond)
        return self.unpatch(x + first, mapping).squeeze(2)


class FourierFeatures(nn.Module):
    """`[N]` -> `[N, 1 + dim]`: the value itself, then sines and cosines at learned frequencies."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.frequencies = nn.Parameter(torch.randn(dim // 2))

    def forward(self, t: Tensor) -> Tensor:
        t = t.unsqueeze(-1)
        angles = t * self.frequencies * (2 * math.pi)
        return torch.cat([t, angles.sin(), angles.cos()], dim=-1)


class Conv(nn.Conv1d):
    """A one-dimensional convolution of `[N, C, 1, L]`."""

    def forward(self, x: Tensor) -> Tensor:
        if self.kernel_size == (1,):
            return F.linear(x.permute(0, 2, 3, 1), self.weight.squeeze(-1), self.bias).permute(0, 3, 1, 2)
        stride, padding = (1, self.stride[0]), (0, int(self.padding[0]))
        return F.conv2d(x, self.weight.unsqueeze(2), self.bias, stride, padding, (1, self.dilation[0]))


class ConvTranspose(nn.ConvTranspose1d):
    """A one-dimensional transposed convolution of `[N, C, 1, L]`."""

    def forward(self, x: Tensor, output_size: list[int] | None = None) -> Tensor:
        return F.conv_transpose2d(
            x,
            self.weight.unsqueeze(2),
            self.bias,
            (1, self.stride[0]),
            (0, int(self.padding[0])),
            (0, self.output_padding[0]),
        )


class ConvBlock(nn.Module):
    """Group normalisation, optional modulation, SiLU, convolution."""

    def __init__(self, in_channels: int, out_channels: int, groups: int, kernel: int = 3, dilation: int = 1) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(groups, in_channels)
        self.conv = Conv(in_channels, out_channels, kernel, padding=dilation * (kernel // 2), dilation=dilation)

    def forward(self, x: Tensor, scale_shift: Tensor | None = None) -> Tensor:
        x = self.norm(x)
        if scale_shift is not None:
            scale, shift = scale_shift.to(x.dtype)[:, :, None, None].chunk(2, dim=1)
            x = torch.addcmul(shift, x, scale + 1)
        return self.conv(F.silu(x))


class ResnetBlock(nn.Module):
    """Two convolution blocks with a skip; the text enters between them, the noise level modulates the second."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        groups: int,
        mapping: int,
        *,
        text_features: int | None = None,
        heads: int = 0,
        head_features: int = 0,
        kernel: int = 3,
        dilations: tuple[int, int] = (1, 1),
    ) -> None:
        super().__init__()
        self.block1 = ConvBlock(in_channels, out_channels, groups, kernel, dilations[0])
        self.modulation = nn.Sequential(nn.SiLU(), nn.Linear(mapping, out_channels * 2))
        self.cross_attention: CrossAttention | None = None
        if text_features is not None:
            self.cross_attention = CrossAttention(out_channels, text_features, heads, head_features)
        self.block2 = ConvBlock(out_channels, out_channels, groups, kernel, dilations[1])
        self.skip = Conv(in_channels, out_channels, 1) if in_channels != out_channels else nn.Identity()

    def forward(self, x: Tensor, mapping: Tensor, cond: Conditioning | None = None) -> Tensor:
        h = self.block1(x)
        if self.cross_attention is not None:
            if cond is None:
                raise ValueError("this network needs text conditioning")
            h = h + self.cross_attention(h, cond)
        return self.block2(h, self.modulation(mapping)) + self.skip(x)


class ResnetPatch(nn.Module):
    """A residual block at the full rate, after which `patch_factor` samples become channels of one frame."""

    def __init__(self, config: UNetConfig, mapping: int) -> None:
        super().__init__()
        self.factor = config.patch_factor
        groups = min(config.patch_factor, config.in_channels)
        self.block = ResnetBlock(config.in_channels, config.channels // self.factor, groups, mapping)

    def forward(self, x: Tensor, mapping: Tensor) -> Tensor:
        # Not channels-last: the first normalisation's input needs no gradient, and PyTorch's (2.13) backward pass of a
        # channels-last group normalisation on the CPU crashes without one.
        return _samples_to_channels(self.block(x.contiguous(), mapping), self.factor)


class ResnetUnpatch(nn.Module):
    """The counterpart of `ResnetPatch`, from frames back to samples."""

    def __init__(self, config: UNetConfig, mapping: int) -> None:
        super().__init__()
        self.factor = config.patch_factor
        groups = min(config.patch_factor, config.in_channels)
        self.block = ResnetBlock(config.channels // self.factor, config.in_channels, groups, mapping)

    def forward(self, x: Tensor, mapping: Tensor) -> Tensor:
        return self.block(_channels_to_samples(x, self.factor), mapping)


class ConvPatch(nn.Module):
    """`patch_factor` samples become channels of one frame, followed by one convolution over a few frames."""

    def __init__(self, config: UNetConfig) -> None:
        super().__init__()
        self.factor = config.patch_factor
        kernel = config.patch_kernel
        self.conv = Conv(config.in_channels * self.factor, config.channels, kernel, padding=kernel // 2)

    def forward(self, x: Tensor, mapping: Tensor) -> Tensor:
        return self.conv(_samples_to_channels(x, self.factor))


class ConvUnpatch(nn.Module):
    """The counterpart of `ConvPatch`, from frames back to samples; its output is zero at first."""

    def __init__(self, config: UNetConfig) -> None:
        super().__init__()
        self.factor = config.patch_factor
        outputs = config.in_channels * self.factor
        self.block = ConvBlock(config.channels, outputs, config.resnet_groups, config.patch_kernel)
        nn.init.zeros_(self.block.conv.weight)

    def forward(self, x: Tensor, mapping: Tensor) -> Tensor:
        return _channels_to_samples(self.block(x), self.factor)


class DownLevel(nn.Module):
    """Down-sampling, residual blocks and self-attention of one level; also returns its skip connections."""

    def __init__(
        self, config: UNetConfig, in_channels: int, channels: int, level: int, mapping: int, text: int | None
    ) -> None:
        super().__init__()
        factor, kernel = config.factors[level], config.kernel_multiplier_downsample
        self.down = Conv(in_channels, channels, factor * kernel + 1, stride=factor, padding=factor * (kernel // 2))
        self.blocks = nn.ModuleList(
            _resnet(config, channels, channels, mapping, text, level, i) for i in range(config.num_blocks[level])
        )
        self.transformer = TransformerBlock(config, channels) if config.attentions[level] else None

    def forward(self, x: Tensor, mapping: Tensor, cond: Conditioning | None) -> tuple[Tensor, list[Tensor]]:
        x = self.down(x)
        skips = []
        for block in self.blocks:
            x = block(x, mapping, cond)
            skips.append(x)
        if self.transformer is not None:
            x = self.transformer(x)
            skips.append(x)
        return x, skips


class UpLevel(nn.Module):
    """Residual blocks over the level's skip connections, self-attention and up-sampling."""

    def __init__(
        self, config: UNetConfig, channels: int, out_channels: int, level: int, mapping: int, text: int | None
    ) -> None:
        super().__init__()
        self.skip_scale = 2**-0.5 if config.use_skip_scale else 1.0
        self.blocks = nn.ModuleList(
            _resnet(config, 2 * channels, channels, mapping, text, level, i)
            for i in range(config.num_blocks[level] + int(config.attentions[level]))
        )
        self.transformer = TransformerBlock(config, channels) if config.attentions[level] else None
        self.up = _upsample(channels, out_channels, config.factors[level], config.use_nearest_upsample)

    def forward(self, x: Tensor, skips: list[Tensor], mapping: Tensor, cond: Conditioning | None) -> Tensor:
        for block in self.blocks:
            x = block(torch.cat([x, skips.pop() * self.skip_scale], dim=1), mapping, cond)
        if self.transformer is not None:
            x = self.transformer(x)
        return self.up(x)


class Bottleneck(nn.Module):
    """Residual block, self-attention, residual block."""

    def __init__(self, config: UNetConfig, channels: int, mapping: int, text: int | None) -> None:
        super().__init__()
        self.pre = _resnet(config, channels, channels, mapping, text)
        self.attention: SelfAttention | None = None
        self.residual = config.residual_bottleneck
        if config.use_attention_bottleneck:
            self.attention = SelfAttention(
                channels, config.attention_heads, config.attention_features, zero=self.residual
            )
        self.post = _resnet(config, channels, channels, mapping, text)

    def forward(self, x: Tensor, mapping: Tensor, cond: Conditioning | None) -> Tensor:
        x = self.pre(x, mapping, cond)
        if self.attention is not None:
            h = _to_signal(self.attention(_to_frames(x)))
            x = x + h if self.residual else h
        return self.post(x, mapping, cond)


class TransformerBlock(nn.Module):
    """Self-attention and feed-forward layers, each added to its input."""

    def __init__(self, config: UNetConfig, channels: int) -> None:
        super().__init__()
        self.attention = SelfAttention(channels, config.attention_heads, config.attention_features, zero=True)
        self.feed_forward = nn.Sequential(
            nn.LayerNorm(channels, bias=False),
            nn.Linear(channels, channels * config.attention_multiplier, bias=False),
            nn.GELU(),
            nn.LayerNorm(channels * config.attention_multiplier, bias=False),
            nn.Linear(channels * config.attention_multiplier, channels, bias=False),
        )

    def forward(self, x: Tensor) -> Tensor:
        h = _to_frames(x)
        h = h + self.attention(h)
        h = h + self.feed_forward(h)
        return _to_signal(h)


class AttentionOutput(nn.Module):
    """Joins the heads and normalises. With `zero` the output is zero at first, which is safe only beside a residual."""

    def __init__(self, inner: int, features: int, zero: bool) -> None:
        super().__init__()
        self.linear = nn.Linear(inner, features, bias=False)
        self.norm = nn.LayerNorm(features, bias=False)
        if zero:
            nn.init.zeros_(self.norm.weight)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.linear(x))


class SelfAttention(nn.Module):
    """Multi-head self-attention of `[N, L, F]`, with normalised input and output."""

    def __init__(self, features: int, heads: int, head_features: int, *, zero: bool) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.LayerNorm(features, bias=False)
        self.to_q = nn.Linear(features, heads * head_features, bias=False)
        self.to_kv = nn.Linear(features, 2 * heads * head_features, bias=False)
        self.out = AttentionOutput(heads * head_features, features, zero)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(x)
        k, v = _split_heads(self.to_kv(x), self.heads, 2)
        (q,) = _split_heads(self.to_q(x), self.heads, 1)
        return self.out(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))


class CrossAttention(nn.Module):
    """Multi-head attention of `[N, C, 1, L]` frames to the tokens of each row's prompt."""

    def __init__(self, features: int, text_features: int, heads: int, head_features: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.LayerNorm(features, bias=False)
        self.norm_text = nn.LayerNorm(text_features, bias=False)
        self.to_q = nn.Linear(features, heads * head_features, bias=False)
        self.to_kv = nn.Linear(text_features, 2 * heads * head_features, bias=False)
        self.out = AttentionOutput(heads * head_features, features, zero=True)

    def forward(self, x: Tensor, cond: Conditioning) -> Tensor:
        k, v = cond.cached(id(self), self._keys_values)
        (q,) = _split_heads(self.to_q(self.norm(_to_frames(x))), self.heads, 1)
        # Written out, because with so few tokens the fused kernel is several times slower on a CPU than two products.
        bias = cond.cached("bias", _bias)[cond.index, None, None, :]
        scores = (q * q.shape[-1] ** -0.5) @ k[cond.index].transpose(-1, -2)
        h = torch.softmax(scores.float() + bias, dim=-1).to(v.dtype) @ v[cond.index]
        return _to_signal(self.out(h.transpose(1, 2).flatten(2)))

    def _keys_values(self, cond: Conditioning) -> tuple[Tensor, Tensor]:
        k, v = _split_heads(self.to_kv(self.norm_text(cond.tokens)), self.heads, 2)
        return k, v


def _bias(cond: Conditioning) -> Tensor:
    """`[P, L]` what is added to scores: -inf where a token may not be attended to. No constant is sent to a GPU."""
    return torch.zeros_like(cond.mask, dtype=torch.float32).masked_fill_(~cond.mask, -torch.inf)


def _samples_to_channels(x: Tensor, factor: int) -> Tensor:
    """`[N, C, 1, L·p]` -> `[N, C·p, 1, L]`: p successive samples become p channels."""
    x = x.unflatten(-1, (-1, factor)).permute(0, 1, 4, 2, 3).flatten(1, 2)
    return x.contiguous(memory_format=torch.channels_last)


def _channels_to_samples(x: Tensor, factor: int) -> Tensor:
    """The inverse of `_samples_to_channels`."""
    return x.unflatten(1, (-1, factor)).permute(0, 1, 3, 4, 2).flatten(3)


def _to_frames(x: Tensor) -> Tensor:
    """`[N, C, 1, L]` -> `[N, L, C]`, without a copy."""
    return x.squeeze(2).transpose(1, 2)


def _to_signal(x: Tensor) -> Tensor:
    """`[N, L, C]` -> `[N, C, 1, L]`, without a copy."""
    return x.transpose(1, 2).unsqueeze(2)


def _split_heads(x: Tensor, heads: int, parts: int) -> tuple[Tensor, ...]:
    """`[N, L, parts * heads * d]` -> `parts` tensors `[N, heads, L, d]`."""
    return x.unflatten(-1, (parts, heads, -1)).permute(2, 0, 3, 1, 4).unbind(0)


def _resnet(
    config: UNetConfig,
    in_channels: int,
    channels: int,
    mapping: int,
    text: int | None,
    level: int | None = None,
    block: int = 0,
) -> ResnetBlock:
    """Make residual block number `block` of a level; without a level, a residual block of the bottleneck."""
    kernel, dilations = 3, (1, 1)
    if level is not None and config.kernel_sizes is not None:
        kernel = config.kernel_sizes[level]
    if level is not None and config.dilations is not None:
        given = config.dilations[level]
        dilations = (given[2 * block % len(given)], given[(2 * block + 1) % len(given)])
    return ResnetBlock(
        in_channels,
        channels,
        config.resnet_groups,
        mapping,
        text_features=text,
        heads=config.attention_heads,
        head_features=config.attention_features,
        kernel=kernel,
        dilations=dilations,
    )


def _upsample(in_channels: int, out_channels: int, factor: int, nearest: bool) -> nn.Module:
    if factor == 1:
        return Conv(in_channels, out_channels, 3, padding=1)
    if nearest:
        return nn.Sequential(nn.Upsample(scale_factor=(1, factor)), Conv(in_channels, out_channels, 3, padding=1))
    return ConvTranspose(
        in_channels,
        out_channels,
        kernel_size=factor * 2,
        stride=factor,
        padding=factor // 2 + factor % 2,
        output_padding=factor % 2,
    )
