"""Beyond the paper: Wiener filtering, and dividing a residual by the power of the stems in each spectrogram cell."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from gmsdi.errors import UserError

_FLOOR = 1e-10  # least power of a stem, so that silence is divided equally instead of dividing by zero


@dataclass(frozen=True)
class Wiener:
    """Filters stems out of their mixture, by the power that they have in each cell of its spectrogram.

        X̂_k(t, f) = |X_k(t, f)|² / Σ_l |X_l(t, f)|² · Y(t, f),   x_k ← (1 − amount)·x_k + amount·x̂_k

    The filter of locally stationary Gaussian sources whose powers are those of the estimates (Liutkus and Badeau 2015).
    It removes what an estimate has that is not in the mixture, and restores the mixture's phases, but it cannot tell
    apart two stems in one cell; hence the amount.

    Attributes:
        sample_rate: in Hz.
        amount: from 0, the stems as they are, to 1, the filtered ones alone.
        seconds: length of the Hann window, rounded up to a power of 2 in samples; windows overlap by three quarters.

    Raises:
        UserError: if the amount is out of range; on use, if the window is not positive or is longer than the signal.
    """

    sample_rate: int
    amount: float = 1.0
    seconds: float = 0.25

    def __call__(self, stems: Tensor, mixture: Tensor) -> Tensor:
        """Filter stems `[..., K, C, T]` with their mixture `[..., C, T]`. The filtered part sums to the mixture."""
        filtered = _by_power(stems, mixture, "wiener", self.seconds, self.sample_rate)
        return stems + self.amount * (filtered - stems)

    def __post_init__(self) -> None:
        if not 0 <= self.amount <= 1:
            raise UserError(f"wiener amount is {self.amount}; it must be from 0 to 1")


@dataclass(frozen=True)
class ShareOut:
    """Divides the residual (mixture minus the sum of the stems) among the stems: in part by power, otherwise equally.

        e = y − Σ_l x_l,   Ê_k(t, f) = |X_k(t, f)|² / Σ_l |X_l(t, f)|² · E(t, f)
        x_k ← x_k + amount·ê_k + (1 − amount)·e/K

    Equal parts are the least change that makes the stems sum to the mixture (mixture consistency, Wisdom et al. 2019),
    and the best guess if all stems are equally wrong everywhere. But a stem is rarely wrong where it is silent.

    Attributes:
        sample_rate: in Hz.
        amount: share of the residual that is divided by power, from 0 to 1.
        seconds: see `Wiener`.

    Raises:
        UserError: see `Wiener`.
    """

    sample_rate: int
    amount: float = 1.0
    seconds: float = 0.125

    def __call__(self, stems: Tensor, mixture: Tensor) -> Tensor:
        """Make stems `[..., K, C, T]` sum to their mixture `[..., C, T]`."""
        missing = mixture - stems.sum(dim=-3)
        shares = _by_power(stems, missing, "share_out", self.seconds, self.sample_rate)
        return stems + self.amount * shares + (1 - self.amount) / stems.shape[-3] * missing.unsqueeze(-3)

    def __post_init__(self) -> None:
        if not 0 <= self.amount <= 1:
            raise UserError(f"share_out amount is {self.amount}; it must be from 0 to 1")


def _by_power(stems: Tensor, signal: Tensor, name: str, seconds: float, sample_rate: int) -> Tensor:
    """Split `signal` `[..., C, T]` into K parts by the power of the stems `[..., K, C, T]` in each spectrogram cell."""
    size = 1 << max(0, round(seconds * sample_rate) - 1).bit_length()
    if seconds <= 0 or not 4 <= size <= stems.shape[-1]:
        raise UserError(f"{name} window is {seconds} s, {size} samples; it must be shorter than the signal and above 0")
    window = torch.hann_window(size, device=stems.device)

    def spectrum(x: Tensor) -> Tensor:
        flat = x.reshape(-1, x.shape[-1])
        cells = torch.stft(flat, size, size // 4, window=window, pad_mode="constant", return_complex=True)
        return cells.reshape(*x.shape[:-1], *cells.shape[-2:])

    power = spectrum(stems).abs().square() + _FLOOR
    cells = power / power.sum(dim=-4, keepdim=True) * spectrum(signal).unsqueeze(-4)
    flat = cells.reshape(-1, *cells.shape[-2:])
    return torch.istft(flat, size, size // 4, window=window, length=stems.shape[-1]).reshape(stems.shape)
