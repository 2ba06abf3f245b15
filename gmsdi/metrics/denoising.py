"""How well a signal can be separated from white noise: a reference to compare denoisers with."""

from __future__ import annotations

import torch
from torch import Tensor

LEVELS = (0.005, 0.015, 0.03, 0.1, 0.3, 1.0)
"""Noise levels σ at which denoisers are compared."""


def oracle_wiener(
    clean: Tensor, sigma: float, noise: Tensor, *, n_fft: int = 1024, hop: int = 256, window: Tensor | None = None
) -> Tensor:
    """MSE/σ² of a Wiener filter that knows the power of the clean signal in every cell of its spectrogram.

    Its estimate of the cell X(t, f) is |X|²/(|X|² + P)·(X + N), where P is the mean power of the noise. It uses the
    clean signal's powers, which no denoiser knows, but neither its phases nor relations between cells. It is therefore
    not a bound: a model that has learned what its signals are like can and should do better.

    Args:
        clean: `[..., T]`.
        sigma: standard deviation of the noise.
        noise: white noise of standard deviation 1, of the same shape.
        n_fft: samples per frame.
        hop: samples from one frame to the next.
        window: `[n_fft]`; None means a Hann window.

    Returns:
        `[...]`, the mean over time.
    """
    window = torch.hann_window(n_fft) if window is None else window
    window = window.to(clean)

    def spectrogram(signal: Tensor) -> Tensor:
        flat = signal.reshape(-1, signal.shape[-1])
        return torch.stft(flat, n_fft, hop, window=window, return_complex=True)

    power = spectrogram(clean).abs().square()
    gain = power / (power + sigma**2 * window.square().sum())
    filtered = gain * spectrogram(clean + sigma * noise)
    estimate = torch.istft(filtered, n_fft, hop, window=window, length=clean.shape[-1]).reshape(clean.shape)
    return (estimate - clean).square().mean(dim=-1) / sigma**2
