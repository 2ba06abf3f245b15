"""The text side of a batch: a bank of embedded prompts, and the prompt that each row of the batch uses."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class Conditioning:
    """Embeddings of P distinct prompts and the row-to-prompt map of a batch of N rows.

    Attributes:
        tokens: `[P, L, F]` token embeddings.
        mask: `[P, L]` true where a token may be attended to.
        index: `[N]` prompt number of each row.
        cache: what layers compute from the tokens alone (their keys and values), shared by all selections from the same
            bank, so that a sampling run computes it once. Filled only while gradients are off.
    """

    tokens: Tensor
    mask: Tensor
    index: Tensor
    cache: dict[Any, Any] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def bank(cls, tokens: Tensor, mask: Tensor) -> Conditioning:
        """Make a bank whose rows are its own prompts, in order."""
        return cls(tokens, mask, torch.arange(tokens.shape[0], device=tokens.device))

    def select(self, index: Tensor) -> Conditioning:
        """The conditioning of a batch whose row i uses prompt `index[i]` of the bank."""
        return replace(self, index=index.to(self.index.device))

    def cached(self, key: Any, compute: Any) -> Any:
        """Return `compute(self)`, cached under `key` for the life of the bank unless gradients are on."""
        if torch.is_grad_enabled():
            return compute(self)
        if key not in self.cache:
            self.cache[key] = compute(self)
        return self.cache[key]

    def pooled(self) -> Tensor:
        """`[P, F]` mean of the tokens of each prompt."""
        weight = self.mask.unsqueeze(-1).to(self.tokens.dtype)
        return (self.tokens * weight).sum(dim=1) / weight.sum(dim=1).clamp(min=1)
