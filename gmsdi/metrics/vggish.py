"""The VGGish embedding, which the paper uses for its Fréchet audio distances."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from gmsdi.errors import UserError
from gmsdi.io.features import clips_at
from gmsdi.io.weights import Weights, pinned, read_torch

if TYPE_CHECKING:
    import torch

WEIGHTS = Weights(
    # Google's TensorFlow weights as a PyTorch state dict; the file's name holds the beginning of the digest.
    url="https://github.com/harritaylor/torchvggish/releases/download/v0.1/vggish-10086976.pth",
    sha256="10086976245803799d9194e9a73d9b6c1549c71d1b80106f5cade5608a561f4b",
    megabytes=289,
)


class VGGish:
    """The 128 units of VGGish's last layer before its ReLU, one frame per 0.96 s.

    Network: Hershey et al., "CNN Architectures for Large-Scale Audio Classification", 2017, trained on a forerunner of
    YouTube-8M; front end as in its release with AudioSet (log mel magnitudes of 64 bands, 125 to 7500 Hz, every 10 ms).
    As in the libraries that compute FAD, the last ReLU and that release's PCA and quantisation are left out. The
    remainder of a clip after its last whole frame is dropped.

    Args:
        checkpoint: File of the weights; None: downloaded once, see `Weights.file`.
        sha256: Digest that the weights must have, if they are not the published ones.
        hop: Seconds from one frame to the next; others use 0.96, without overlap.
        batch: Frames per forward pass.
        device: Device that the network runs on.

    Raises:
        UserError: if the weights are not available, have another digest, or belong to another network.
    """

    name = "vggish-YouTube8M-linear128"
    sample_rate = 16000
    _window, _n_fft, _spacing = 400, 512, 160  # samples: 25 ms, the next power of 2, 10 ms
    _length = 96  # spectrogram frames per embedded frame

    def __init__(
        self,
        checkpoint: str | Path | None = None,
        *,
        sha256: str | None = None,
        hop: float = 0.96,
        batch: int = 32,
        device: str = "cpu",
    ) -> None:
        self._hop = round(hop * self.sample_rate / self._spacing)
        if self._hop < 1 or batch < 1:
            raise UserError("VGGish: hop and batch must be positive")
        self._batch, self._device = batch, device
        file = pinned(WEIGHTS, sha256).file(checkpoint)
        self._layers = _layers()
        try:
            self._layers.load_state_dict(read_torch(file), assign=True)
        except (RuntimeError, TypeError) as error:
            raise UserError(f"{file}: not the weights of VGGish; use those of {WEIGHTS.url}") from error
        self._layers.to(device).eval().requires_grad_(False)
        self._filters = _mel_filters(self.sample_rate, self._n_fft)

    def clips_at_once(self, samples: int, sample_rate: int) -> int:
        """Number of clips that share calls of the network, see `Embedding.clips_at_once`."""
        return self._batch

    def frames(self, audio: Any, sample_rate: int) -> np.ndarray:
        """Embed clips; see `Embedding.frames`. Returns float32 `[n · frames per clip, 128]`."""
        import torch

        clips = torch.from_numpy(clips_at(self.sample_rate, audio, sample_rate)).to(self._device)
        needed = self._window + (self._length - 1) * self._spacing
        if clips.shape[-1] < needed:
            seconds = [samples / self.sample_rate for samples in (clips.shape[-1], needed)]
            raise UserError(f"{self.name}: a clip of {seconds[0]:.2f} s is shorter than a frame of {seconds[1]:.3f} s")
        with torch.inference_mode():
            return torch.cat([self._embed(patches) for patches in self._patches(clips)]).cpu().numpy()

    def _embed(self, patches: torch.Tensor) -> torch.Tensor:
        """Log-mel patches `[n, 96, 64]` -> `[n, 128]`."""
        maps = self._layers["features"](patches[:, None])  # [n, 512, 6, 4]
        # The first dense layer's columns are in TensorFlow's order: time, frequency, channel.
        return self._layers["embeddings"](maps.permute(0, 2, 3, 1).flatten(1))

    def _patches(self, clips: torch.Tensor) -> Iterator[torch.Tensor]:
        """Cut log-mel patches `[≤ batch, 96, 64]` out of `clips` `[n, T]`."""
        for group in clips.split(self._batch):
            patches = self._log_mel(group).unfold(1, self._length, self._hop)  # [n, patches, mels, frames]
            yield from patches.transpose(2, 3).flatten(0, 1).split(self._batch)

    def _log_mel(self, clips: torch.Tensor) -> torch.Tensor:
        """ln(mel magnitude + 0.01) of the windows within each clip, `[n, T]` -> `[n, 1 + (T - 400) // 160, 64]`."""
        import torch

        window = torch.hann_window(self._window, device=clips.device)
        spectrum = torch.fft.rfft(clips.unfold(1, self._window, self._spacing) * window, self._n_fft)
        return (spectrum.abs() @ self._filters.to(spectrum.real).T + 0.01).log()


def _mel_filters(sample_rate: int, n_fft: int) -> torch.Tensor:
    """Triangles of height 1 on the mel scale 1127 ln(1 + f / 700), float64 `[64, n_fft // 2 + 1]`."""
    import torch
    from transformers.audio_utils import mel_filter_bank

    bank = mel_filter_bank(
        n_fft // 2 + 1, 64, 125, 7500, sample_rate, mel_scale="kaldi", triangularize_in_mel_space=True
    )
    return torch.from_numpy(np.ascontiguousarray(bank.T))


def _layers() -> torch.nn.ModuleDict:
    """The layers without weights; parameters are named as in the published file."""
    import torch
    from torch import nn

    with torch.device("meta"):
        features, channels = nn.Sequential(), 1
        for widths in ((64,), (128,), (256, 256), (512, 512)):
            for width in widths:
                features.extend([nn.Conv2d(channels, width, 3, padding=1), nn.ReLU(inplace=True)])
                channels = width
            features.append(nn.MaxPool2d(2))
        embeddings = nn.Sequential(nn.Linear(6 * 4 * 512, 4096), nn.ReLU(inplace=True))
        embeddings.extend([nn.Linear(4096, 4096), nn.ReLU(inplace=True), nn.Linear(4096, 128)])
    return nn.ModuleDict({"features": features, "embeddings": embeddings})
