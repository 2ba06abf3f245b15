"""Classifier-free guidance: from a denoiser with embeddings to a model that takes prompts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from gmsdi.errors import UserError
from gmsdi.inference.base import Guided
from gmsdi.models.protocol import Embeddings
from gmsdi.types import Prompt, Stem, as_prompt, join

__all__ = ["Guided", "Prompt", "as_prompt", "guided", "join"]


def guided(
    denoiser: Callable[[Tensor, Tensor, Any], Tensor],
    scale: float,
    *,
    convention: str = "paper",
    interval: tuple[float, float] | None = None,
    encode: Callable[[Sequence[str | None]], Embeddings],
    clamp: float | None = None,
) -> Guided:
    """Classifier-free guidance (Section 2.1): D* = D(z) + w·(D(z) − D(z⁻)), with z⁻ the negative prompt or z*.

    Since D is affine in the score, this is the paper's S* = S(z) + w·(S(z) − S(z*)). Rows with z and rows with z⁻ go
    through the network in one forward pass; rows that would be multiplied by zero are left out. Every distinct text is
    encoded once.

    Args:
        denoiser: `D(x [N, ...], sigma [N], cond)`, for instance `Model.denoise`.
        scale: w in the "paper" convention; in "adp" (audio-diffusion-pytorch's `embedding_scale`) it is s = 1 + w.
        convention: "paper" or "adp".
        interval: σ range, ends included, within which guidance acts; outside it the model is D(z).
        encode: the embeddings of texts, for instance `Model.embed`.
        clamp: clip the guided D to ±clamp, as audio-diffusion-pytorch does with 1; None does not clip.

    Returns:
        A function of states, a noise level and prompts.

    Raises:
        UserError: for an unknown convention.
    """
    if convention not in ("paper", "adp"):
        raise UserError(f"guidance convention is {convention!r}; choose paper or adp")
    w = float(scale) if convention == "paper" else float(scale) - 1
    bank = _Bank(encode)

    def model(x: Tensor, sigma: float, prompts: Sequence[Stem]) -> Tensor:
        rows = [as_prompt(prompt) for prompt in prompts]
        if len(rows) != x.shape[0]:
            raise ValueError(f"{x.shape[0]} rows but {len(rows)} prompts")
        active = 0.0 if interval is not None and not interval[0] <= sigma <= interval[1] else w
        positive = [row.text for row in rows]
        negative = [row.negative for row in rows]
        # Register negatives even where guidance is off, so that a σ interval does not encode the bank twice.
        bank.register(positive + negative if w != 0 else positive)
        if active == 0:
            denoised = evaluate(x, sigma, positive)
        elif active == -1:
            denoised = evaluate(x, sigma, negative)
        else:
            with_text, without = evaluate(torch.cat([x, x]), sigma, positive + negative).chunk(2)
            denoised = with_text + active * (with_text - without)
        return denoised if clamp is None else denoised.clamp(-clamp, clamp)

    def evaluate(x: Tensor, sigma: float, texts: Sequence[str | None]) -> Tensor:
        return denoiser(x, torch.full((x.shape[0],), sigma, dtype=x.dtype, device=x.device), bank.rows(texts, x.device))

    return model


class _Bank:
    """The embeddings of all texts seen so far and the row indices of the batches seen so far."""

    def __init__(self, encode: Callable[[Sequence[str | None]], Embeddings]) -> None:
        self.encode = encode
        self.number: dict[str | None, int] = {}
        self.embedded: Any = None
        self.selected: dict[tuple[str | None, ...], Any] = {}

    def register(self, texts: Sequence[str | None]) -> None:
        """Embed new texts, together with the known ones again, since a bank is encoded as a whole."""
        new = dict.fromkeys(text for text in texts if text not in self.number)
        if new:
            self.number.update({text: len(self.number) + i for i, text in enumerate(new)})
            self.embedded = self.encode(list(self.number))
            self.selected.clear()

    def rows(self, texts: Sequence[str | None], device: torch.device) -> Any:
        """The conditioning of a batch with these texts, cached so that its index is copied to the device only once."""
        key = tuple(texts)
        if key not in self.selected:
            index = torch.tensor([self.number[text] for text in texts], device=device)
            self.selected[key] = self.embedded.select(index)
        return self.selected[key]
