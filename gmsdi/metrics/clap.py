"""The embedding of LAION's CLAP, whose audio network runs in transformers."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from gmsdi.errors import UserError
from gmsdi.metrics.features import clips_at, mel_filters
from gmsdi.metrics.weights import Weights, pinned, read_torch

if TYPE_CHECKING:
    import torch

WEIGHTS = Weights(
    url="https://huggingface.co/lukewys/laion_clap/resolve/b3708341862f581175dba5c356a4ebf74a9b6651/"
    "music_audioset_epoch_15_esc_90.14.pt",
    sha256="fae3e9c087f2909c28a09dc31c8dfcdacbc42ba44c70e972b58c1bd1caf6dedd",
    megabytes=2352,
)

# Parameters of LAION's network, as patterns, and their names in transformers. Its qkv matrices are split beforehand.
_NAMES = (
    (r"^audio_branch\.", "audio_model.audio_encoder."),
    (r"^audio_projection\.0\.", "audio_projection.linear1."),
    (r"^audio_projection\.2\.", "audio_projection.linear2."),
    (r"\.bn0\.", ".batch_norm."),
    (r"\.norm1\.", ".layernorm_before."),
    (r"\.norm2\.", ".layernorm_after."),
    (r"\.attn\.proj\.", ".attention.output.dense."),
    (r"\.attn\.", ".attention.self."),
    (r"\.mlp\.fc1\.", ".intermediate.dense."),
    (r"\.mlp\.fc2\.", ".output.dense."),
)
# What the embedding does not need or derives itself: the front end, the tagging head, the masks of shifted windows.
_UNUSED = re.compile(r"spectrogram_extractor|logmel_extractor|tscam_conv|\.head\.|\.attn_mask$")


class CLAP:
    """The 512 dimensions, of unit length, in which LAION's music CLAP compares audio with text; a frame is 10 s.

    Network: Wu et al., "Large-scale Contrastive Language-Audio Pretraining", 2023, HTS-AT (base) trained on music,
    AudioSet and LAION-Audio-630k without feature fusion. laion-clap embeds ten seconds at random of a longer clip;
    here a clip gives a frame for every window of ten seconds that lies within it, from its beginning, every `hop`. A
    shorter clip is repeated as often as it fits whole, then padded with zeros, as there; and samples are rounded to 16
    bits, as there.

    The laion-clap package itself is not used: it asks for NumPy 1 and loads a text encoder along with the audio's.

    Args:
        checkpoint: File of the weights as LAION publishes them; None: downloaded once, see `Weights.file`.
        sha256: Digest that the weights must have, if they are not the published ones.
        hop: Seconds from one window to the next.
        batch: Windows per forward pass.
        device: Where the network runs.

    Raises:
        UserError: if the weights cannot be had, have another digest, or are of another network.
    """

    name = "clap-LAION-music_audioset-projection512"
    sample_rate = 48000
    _n_fft, _spacing, _window = 1024, 480, 480000

    def __init__(
        self,
        checkpoint: str | Path | None = None,
        *,
        sha256: str | None = None,
        hop: float = 1.0,
        batch: int = 8,
        device: str = "cpu",
    ) -> None:
        import torch

        self._hop = round(hop * self.sample_rate)
        if self._hop < 1 or batch < 1:
            raise UserError("CLAP: hop and batch must be positive")
        self._batch, self._device = batch, device
        file = pinned(WEIGHTS, sha256).file(checkpoint)
        content = read_torch(file, mmap=True)  # the text encoder and the optimizer's state stay in the file
        self._network = _network()
        try:
            state = content["state_dict"] if isinstance(content, dict) else {}
            self._network.load_state_dict(from_laion(state), assign=True)
        except (RuntimeError, KeyError, AttributeError) as error:
            raise UserError(f"{file}: not the weights of LAION's HTSAT-base; use those of {WEIGHTS.url}") from error
        self._network.to(device).eval().requires_grad_(False)
        filters = mel_filters(self.sample_rate, self._n_fft, 64, 50, 14000)
        self._filters = torch.from_numpy(filters).float().to(device)

    def clips_at_once(self, samples: int, sample_rate: int) -> int:
        """See `Embedding.clips_at_once`."""
        return self._batch

    def frames(self, audio: Any, sample_rate: int) -> np.ndarray:
        """Embed clips; see `Embedding.frames`. Returns float32 `[n · windows per clip, 512]`."""
        import torch

        clips = np.clip(clips_at(self.sample_rate, audio, sample_rate), -1, 1)
        clips = np.trunc(clips * np.float32(32767)) / np.float32(32767)
        length = clips.shape[-1]
        if length < self._window:
            clips = np.tile(clips, self._window // length)
            clips = np.pad(clips, ((0, 0), (0, self._window - clips.shape[-1])))
        with torch.inference_mode():
            return torch.cat([self._embed(windows) for windows in self._windows(torch.from_numpy(clips))]).numpy()

    def _windows(self, clips: torch.Tensor) -> Iterator[torch.Tensor]:
        """Cut windows `[≤ batch, 480000]` out of `clips` `[n, T]`."""
        per_clip = clips.unfold(1, self._window, self._hop)  # a view: [n, windows, 480000]
        index = [(clip, window) for clip in range(per_clip.shape[0]) for window in range(per_clip.shape[1])]
        for start in range(0, len(index), self._batch):
            rows, columns = zip(*index[start : start + self._batch], strict=True)
            yield per_clip[list(rows), list(columns)].to(self._device)

    def _embed(self, windows: torch.Tensor) -> torch.Tensor:
        import torch.nn.functional as F

        embedded = self._network(input_features=self._log_mel(windows)[:, None]).audio_embeds
        return F.normalize(embedded, dim=-1).cpu()

    def _log_mel(self, windows: torch.Tensor) -> torch.Tensor:
        """Mel power in dB, at least -100, `[n, T]` -> `[n, 1 + T // 480, 64]`."""
        import torch

        hann = torch.hann_window(self._n_fft, device=windows.device)
        spectrum = torch.stft(windows, self._n_fft, self._spacing, window=hann, return_complex=True)
        power = self._filters @ spectrum.abs().square()
        return 10 * power.clamp(min=1e-10).log10().transpose(1, 2)


def from_laion(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Name the parameters of LAION's audio encoder as transformers' `ClapAudioModelWithProjection` does.

    Args:
        state: The state dict in a checkpoint of LAION's, from distributed training or not.
    """
    converted = {}
    for key, value in state.items():
        key = key.removeprefix("module.")
        if not key.startswith(("audio_branch.", "audio_projection.")) or _UNUSED.search(key):
            continue
        parts = {key: value}
        if ".attn.qkv." in key:
            names = (key.replace(".qkv.", f".{name}.") for name in ("query", "key", "value"))
            parts = dict(zip(names, value.chunk(3), strict=True))
        for name, part in parts.items():
            for pattern, replacement in _NAMES:
                name = re.sub(pattern, replacement, name)
            converted[name] = part
    return converted


def _network() -> torch.nn.Module:
    """HTSAT-base with its projection, without values."""
    import torch
    from transformers import ClapAudioConfig, ClapAudioModelWithProjection

    config = ClapAudioConfig(
        patch_embeds_hidden_size=128, depths=[2, 2, 12, 2], num_attention_heads=[4, 8, 16, 32], hidden_size=1024
    )
    with torch.device("meta"):
        return ClapAudioModelWithProjection(config)
