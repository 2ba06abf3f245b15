"""The embedding of LAION's CLAP, for Fréchet distances."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from gmsdi.errors import UserError

if TYPE_CHECKING:
    import torch


class CLAP:
    """The unit vectors of 512 dimensions in which LAION's music CLAP compares audio with text, one per window of 10 s.

    Network: Wu et al., "Large-scale Contrastive Language-Audio Pretraining", 2023, see `gmsdi.models.clap.network`.
    laion-clap embeds ten random seconds of a longer clip; here a clip gives one frame for every window of ten seconds
    that fits into it, from its beginning in steps of `hop`. As in laion-clap, a shorter clip is repeated as often as it
    fits completely and then padded with zeros, and samples are rounded to 16 bits.

    Args:
        checkpoint: File of the weights as published by LAION; None: downloaded once, see `Weights.file`.
        sha256: Digest that the weights must have, if they are not the published ones.
        hop: Seconds from one window to the next.
        batch: Windows per forward pass.
        device: Device that the network runs on.

    Raises:
        UserError: if the weights are not available, have another digest, or belong to another network.
    """

    name = "clap-LAION-music_audioset-projection512"
    sample_rate = 48000

    def __init__(
        self,
        checkpoint: str | Path | None = None,
        *,
        sha256: str | None = None,
        hop: float = 1.0,
        batch: int = 8,
        device: str = "cpu",
    ) -> None:
        from gmsdi.io.weights import pinned
        from gmsdi.models.clap.network import LAION, WEIGHTS, AudioTower, laion_network

        self._hop = round(hop * self.sample_rate)
        if self._hop < 1 or batch < 1:
            raise UserError("CLAP: hop and batch must be positive")
        self._batch, self._device = batch, device
        network = laion_network(pinned(WEIGHTS, sha256).file(checkpoint), "audio")
        self._tower = AudioTower(network, LAION).to(device)

    def clips_at_once(self, samples: int, sample_rate: int) -> int:
        """Number of clips that share calls of the network, see `Embedding.clips_at_once`."""
        return self._batch

    def frames(self, audio: Any, sample_rate: int) -> np.ndarray:
        """Embed clips; see `Embedding.frames`. Returns float32 `[n · windows per clip, 512]`."""
        import torch

        clips = torch.from_numpy(self._tower.front_end.clips(audio, sample_rate))
        with torch.inference_mode():
            return torch.cat([self._tower(windows).cpu() for windows in self._windows(clips)]).numpy()

    def _windows(self, clips: torch.Tensor) -> Iterator[torch.Tensor]:
        """Cut windows `[≤ batch, 480000]` out of `clips` `[n, T]`."""
        per_clip = clips.unfold(1, self._tower.front_end.window, self._hop)  # a view: [n, windows, 480000]
        index = [(clip, window) for clip in range(per_clip.shape[0]) for window in range(per_clip.shape[1])]
        for start in range(0, len(index), self._batch):
            rows, columns = zip(*index[start : start + self._batch], strict=True)
            yield per_clip[list(rows), list(columns)].to(self._device)
