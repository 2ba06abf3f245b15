"""A denoiser in closed form: every text names a zero-mean Gaussian, for which D(x, σ) = C·(C + σ²I)⁻¹·x."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gmsdi.models.protocol import Denoiser
from gmsdi.sampling.guidance import Guided, guided


@dataclass(frozen=True)
class Bank:
    """Conditioning by text."""

    texts: tuple[str | None, ...]

    def select(self, index: Tensor) -> Bank:
        return Bank(tuple(self.texts[i] for i in index.tolist()))


def guide(denoiser: Denoiser, w: float, **options: Any) -> Guided:
    """A model that takes prompts, of a denoiser."""
    return guided(denoiser.denoise, w, encode=denoiser.embed, **options)


class GaussianDenoiser:
    """Counts what it is asked for: `rows` of each forward and the texts of each `embed`."""

    def __init__(self, length: int | None = None, scale: float = 1.0) -> None:
        self.length = length  # None: white, for any length
        self.scale = scale
        self.rows: list[int] = []
        self.encoded: list[list[str | None]] = []

    def covariance(self, text: str | None) -> np.ndarray:
        """Of `length` samples (1 if white), a function of the text."""
        rng = np.random.default_rng(int(hashlib.sha256(str(text).encode()).hexdigest()[:8], 16))
        root = rng.normal(size=(self.length or 1,) * 2)
        return self.scale**2 * (root @ root.T / (self.length or 1) + 0.1 * np.eye(self.length or 1))

    def embed(self, texts: Sequence[str | None]) -> Bank:
        self.encoded.append(list(texts))
        return Bank(tuple(texts))

    def denoise(self, x: Tensor, sigma: Tensor, cond: Bank) -> Tensor:
        return self(x, sigma, cond)

    def __call__(self, x: Tensor, sigma: Tensor, cond: Bank) -> Tensor:
        assert len(cond.texts) == len(x) == len(sigma)
        self.rows.append(len(x))
        rows = []
        for row, s, text in zip(x, sigma.tolist(), cond.texts, strict=True):
            C = self.covariance(text)
            gain = torch.from_numpy(C @ np.linalg.inv(C + s**2 * np.eye(len(C)))).to(x.dtype)
            rows.append(row @ gain.T if self.length else row * gain.item())
        return torch.stack(rows)
