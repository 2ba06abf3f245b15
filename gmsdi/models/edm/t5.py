"""A small T5 encoder over bytes, which is trained together with the network.

Its parameters are named as in transformers' `T5EncoderModel`, which gives the same embeddings. It is written out here
because importing that class takes several times as long as opening a model.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from gmsdi.models.pretrained import require_short

END, OFFSET = 1, 3
"""ByT5's tokens (Xue et al. 2022): 0 is padding, 1 the end of a text, 2 unused, and a byte b is b + 3."""
BUCKETS, FARTHEST = 32, 128
"""T5's buckets of relative positions, and the distance from which on positions share one."""


def tokens_of(texts: Sequence[str], max_length: int) -> tuple[Tensor, Tensor]:
    """Token ids and attention mask of P prompts, padded: both `[P, max_length]`, the mask boolean.

    Raises:
        UserError: if a prompt has more than `max_length` tokens: bytes in UTF-8, and one for its end.
    """
    ids = [[*(byte + OFFSET for byte in text.encode()), END] for text in texts]
    require_short(texts, ids, max_length)
    padded = torch.tensor([row + [0] * (max_length - len(row)) for row in ids])
    return padded, padded != 0


class T5Encoder(nn.Module):
    """The encoder of T5 (Raffel et al. 2020, Sect. 2.1), without dropout.

    Args:
        features: F, the width of the embeddings; the feed-forward layers have twice as many.
        heads: number of attention heads.
        layers: number of blocks.
    """

    def __init__(self, features: int, heads: int, layers: int) -> None:
        super().__init__()
        self.shared = nn.Embedding(256 + OFFSET, features)
        blocks = nn.ModuleList(_Block(features, heads, positions=layer == 0) for layer in range(layers))
        self.encoder = nn.ModuleDict({"block": blocks, "final_layer_norm": _Norm(features)})

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Embed P prompts, `[P, L, F]`.

        Args:
            ids: `[P, L]` tokens.
            mask: `[P, L]` true where a token may be attended to.
        """
        x = self.shared(ids)
        blocks: Any = self.encoder["block"]
        bias = blocks[0].positions(ids.shape[1])
        bias = torch.where(mask[:, None, None], bias, torch.finfo(bias.dtype).min)  # [P, heads, L, L]
        for block in blocks:
            x = block(x, bias)
        return self.encoder["final_layer_norm"](x)


class _Block(nn.Module):
    """Self-attention and a feed-forward layer, each on normalised inputs and with a skip connection."""

    def __init__(self, features: int, heads: int, *, positions: bool) -> None:
        super().__init__()
        width = features // heads
        self.heads = heads
        attention = nn.ModuleDict(
            {
                # Attention is not divided by the root of a head's width; its initial weights are, instead.
                "q": _linear(features, heads * width, (features * width) ** -0.5),
                "k": _linear(features, heads * width, features**-0.5),
                "v": _linear(features, heads * width, features**-0.5),
                "o": _linear(heads * width, features, (heads * width) ** -0.5),
            }
        )
        if positions:
            table = nn.Embedding(BUCKETS, heads)
            nn.init.normal_(table.weight, std=features**-0.5)
            attention["relative_attention_bias"] = table
        dense = {
            "wi": _linear(features, 2 * features, features**-0.5),
            "wo": _linear(2 * features, features, (2 * features) ** -0.5),
        }
        self.layer = nn.ModuleList(
            [
                nn.ModuleDict({"SelfAttention": attention, "layer_norm": _Norm(features)}),
                nn.ModuleDict({"DenseReluDense": nn.ModuleDict(dense), "layer_norm": _Norm(features)}),
            ]
        )

    def positions(self, length: int) -> Tensor:
        """What the first block adds to the attention of all blocks, by relative position: `[1, heads, L, L]`."""
        layers: Any = self.layer
        table = layers[0]["SelfAttention"]["relative_attention_bias"]
        places = torch.arange(length, device=table.weight.device)
        return table(bucket_of(places - places[:, None])).permute(2, 0, 1)[None]

    def forward(self, x: Tensor, bias: Tensor) -> Tensor:
        """Transform `[P, L, F]`; `bias` is added to the attention, `[P, heads, L, L]`."""
        layers: Any = self.layer
        attention, dense = layers[0]["SelfAttention"], layers[1]["DenseReluDense"]
        y = layers[0]["layer_norm"](x)
        q, k, v = (attention[name](y).unflatten(-1, (self.heads, -1)).transpose(1, 2) for name in "qkv")
        y = functional.scaled_dot_product_attention(q, k, v, attn_mask=bias.to(q.dtype), scale=1.0)
        x = x + attention["o"](y.transpose(1, 2).flatten(-2))
        return x + dense["wo"](functional.relu(dense["wi"](layers[1]["layer_norm"](x))))


class _Norm(nn.Module):
    """Divides by the root mean square, which is computed in float32."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(features))

    def forward(self, x: Tensor) -> Tensor:
        """Normalise `[..., F]`."""
        x = x * torch.rsqrt(x.float().square().mean(-1, keepdim=True) + 1e-6)
        return self.weight * x.to(self.weight.dtype)


def bucket_of(distance: Tensor) -> Tensor:
    """The bucket of a relative position: each of the nearest has its own, those farther off share ever wider ones."""
    half = BUCKETS // 2
    exact = half // 2
    far = distance.abs().clamp(min=1)
    shared = exact + (torch.log(far / exact) / math.log(FARTHEST / exact) * (half - exact)).long()
    near = torch.where(distance.abs() < exact, distance.abs(), shared.clamp(max=half - 1))
    return near + half * (distance > 0)


def _linear(inputs: int, outputs: int, std: float) -> nn.Linear:
    layer = nn.Linear(inputs, outputs, bias=False)
    nn.init.normal_(layer.weight, std=std)
    return layer
