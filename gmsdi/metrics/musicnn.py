"""The musicnn embedding, whose weights come with this package."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from safetensors import safe_open

from gmsdi.errors import UserError
from gmsdi.io.features import clips_at, mel_filters

if TYPE_CHECKING:
    import torch

WEIGHTS = Path(__file__).parents[1] / "weights" / "musicnn"


class MusicNN:
    """The 200 units of musicnn's last hidden layer, one frame per (overlapping) window of three seconds.

    Network: Pons and Serra, "musicnn: pre-trained convolutional neural networks for music audio tagging", 2019. The
    weights are those of the `musicnn` package 0.1.0 (its ISC licence is beside them), extracted from its TensorFlow
    checkpoints by `benchmarks/convert_musicnn.py`. The network pools over a window, so that each window gives a single
    frame, and a clip gives one frame per window that fits. The released code uses three seconds without overlap;
    overlap gives short clips more frames, which are correlated.

    Args:
        dataset: The tagger's training set: "MTT" (MagnaTagATune) or "MSD" (Million Song Dataset).
        window: Seconds per frame; the network was trained with 3.
        hop: Seconds from one window to the next.
        batch: Windows per forward pass.

    Attributes:
        tags: The names of the 50 outputs of `probabilities`.

    Raises:
        UserError: if there is no such tagger, or the numbers are not positive.
    """

    sample_rate = 16000
    _n_fft, _spacing, _n_mels = 512, 256, 96

    def __init__(self, dataset: str = "MTT", *, window: float = 3.0, hop: float = 0.5, batch: int = 16) -> None:
        if dataset not in ("MTT", "MSD"):
            raise UserError(f"musicnn: no weights for '{dataset}'; choose MTT or MSD")
        self.name = f"musicnn-{dataset}-penultimate200"
        # A window holds the spectrogram frames whose centres are within it, less the last half frame: 187 in 3 s.
        self._window = (round(window * self.sample_rate) - self._n_fft // 2) // self._spacing + 1
        self._hop = round(hop * self.sample_rate / self._spacing)
        if self._window < 1 or self._hop < 1 or batch < 1:
            raise UserError("musicnn: window, hop and batch must be positive")
        self._batch = batch
        with safe_open(WEIGHTS / f"{dataset}.safetensors", framework="np") as file:
            self.tags: list[str] = json.loads(file.metadata()["tags"])
            self._network = _MusicNNNetwork({name: file.get_tensor(name) for name in file.keys()})  # noqa: SIM118

    def clips_at_once(self, samples: int, sample_rate: int) -> int:
        """Number of clips that share calls of the network, see `Embedding.clips_at_once`."""
        resampled = clips_at(self.sample_rate, np.zeros(samples, np.float32), sample_rate).shape[-1]
        return max(1, self._batch // len(self._starts(resampled)))

    def frames(self, audio: Any, sample_rate: int) -> np.ndarray:
        """Embed clips; see `Embedding.frames`. Returns float32 `[n · windows per clip, 200]`."""
        return self._run(self._network.penultimate, audio, sample_rate)

    def probabilities(self, audio: Any, sample_rate: int) -> np.ndarray:
        """Run the whole tagger; returns the probability of each of `tags`, float32 `[n · windows per clip, 50]`."""
        return self._run(self._network.probabilities, audio, sample_rate)

    def _run(self, function: Callable[[torch.Tensor], torch.Tensor], audio: Any, sample_rate: int) -> np.ndarray:
        import torch

        clips = torch.from_numpy(clips_at(self.sample_rate, audio, sample_rate))
        with torch.inference_mode():
            return torch.cat([function(patches) for patches in self._patches(clips)]).numpy()

    def _patches(self, clips: torch.Tensor) -> Iterator[torch.Tensor]:
        """Cut log-mel windows `[≤ batch, frames, mels]` out of `clips` `[n, T]`."""
        for group in clips.split(max(1, self._batch // len(self._starts(clips.shape[-1])))):
            spectrogram = self._log_mel(group)
            windows = spectrogram.unfold(1, self._window, self._hop)  # [n, windows, mels, frames]
            yield from windows.flatten(0, 1).transpose(1, 2).split(self._batch)

    def _starts(self, samples: int) -> range:
        """First spectrogram frame of each window of a clip of this many samples."""
        length = 1 + samples // self._spacing
        starts = range(0, length - self._window + 1, self._hop)
        if not starts:
            seconds, given = (n / self.sample_rate for n in (self._window * self._spacing, samples))
            raise UserError(f"{self.name}: a clip of {given:.2f} s is shorter than a window of {seconds:.2f} s")
        return starts

    def _log_mel(self, clips: torch.Tensor) -> torch.Tensor:
        """log10(1 + 10000 · mel power), `[n, T]` -> `[n, 1 + T // 256, 96]`."""
        import torch

        spectrum = torch.stft(
            clips, self._n_fft, self._spacing, window=torch.hann_window(self._n_fft), return_complex=True
        )
        filters = torch.from_numpy(mel_filters(self.sample_rate, self._n_fft, self._n_mels)).float()
        power = filters @ spectrum.abs().square()
        return torch.log10(1 + 10000 * power).transpose(1, 2)


class _MusicNNNetwork:
    """musicnn's graph at inference; variable names are TensorFlow's, numbered in the order of creation."""

    def __init__(self, weights: dict[str, np.ndarray]) -> None:
        import torch

        self._norms = []
        for index in range(11):
            name = _numbered("batch_normalization", index)
            gamma, beta = weights[f"{name}/gamma"], weights[f"{name}/beta"]
            mean, variance = weights[f"{name}/moving_mean"], weights[f"{name}/moving_variance"]
            scale = gamma / np.sqrt(variance + np.float32(1e-3))  # TensorFlow's default epsilon
            self._norms.append((torch.from_numpy(scale), torch.from_numpy(beta - mean * scale)))
        self._convs = []
        for index in range(8):
            name = _numbered("conv2d", index)
            kernel = torch.from_numpy(weights[f"{name}/kernel"]).permute(3, 2, 0, 1)  # HWIO -> OIHW
            # Channels last: four times faster than contiguous for these one-channel inputs on a CPU.
            kernel = kernel.to(memory_format=torch.channels_last)
            self._convs.append((kernel, torch.from_numpy(weights[f"{name}/bias"])))
        self._denses = []
        for index in range(2):
            name = _numbered("dense", index)
            matrix, bias = weights[f"{name}/kernel"], weights[f"{name}/bias"]
            self._denses.append((torch.from_numpy(matrix), torch.from_numpy(bias)))

    def probabilities(self, x: torch.Tensor) -> torch.Tensor:
        """Log-mel patches `[n, frames, 96]` -> tag probabilities `[n, 50]`."""
        kernel, bias = self._denses[1]
        return (self.penultimate(x) @ kernel + bias).sigmoid()

    def penultimate(self, x: torch.Tensor) -> torch.Tensor:
        """Log-mel patches `[n, frames, 96]` -> `[n, 200]`."""
        import torch

        scale, shift = self._norms[0]
        x = x * scale + shift
        # Front end: filters in frequency and time (timbre) and in time only (rhythm), then the maximum over frequency.
        front = torch.cat([self._block(x, index).amax(2) for index in range(5)], dim=2)
        # Middle: three layers over time, residual; each sees all features of the layer before.
        first = self._block(front, 5)[:, :, 0]
        second = first + self._block(first, 6)[:, :, 0]
        third = second + self._block(second, 7)[:, :, 0]
        features = torch.cat([front, first, second, third], dim=2)
        # Back end: maximum and mean over time, interleaved feature by feature.
        pooled = torch.stack([features.amax(1), features.mean(1)], dim=2).flatten(1)
        scale, shift = self._norms[9]
        kernel, bias = self._denses[0]
        hidden = ((pooled * scale + shift) @ kernel + bias).relu()
        scale, shift = self._norms[10]
        return hidden * scale + shift

    def _block(self, x: torch.Tensor, index: int) -> torch.Tensor:
        """Convolution ("same" in time, "valid" in frequency), ReLU, norm; `[n, T, F]` -> `[n, T, F', C]`."""
        import torch
        import torch.nn.functional as F

        kernel, bias = self._convs[index]
        scale, shift = self._norms[index + 1]
        time = kernel.shape[2]
        x = F.pad(x, (0, 0, (time - 1) // 2, time // 2))[:, None]  # TensorFlow pads the longer side at the end
        y = F.conv2d(x.to(memory_format=torch.channels_last), kernel, bias).permute(0, 2, 3, 1)
        return y.relu_().mul_(scale).add_(shift)


def _numbered(name: str, index: int) -> str:
    return f"{name}_{index}" if index else name
