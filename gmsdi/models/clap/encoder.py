"""One interface to CLAPs that embed audio and texts, LAION's or a small one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from gmsdi.errors import UserError
from gmsdi.io.files import sha256_of
from gmsdi.io.weights import pinned
from gmsdi.models.clap.laion import LaionClap
from gmsdi.models.clap.network import (
    FEATURES,
    LAION,
    MAX_LENGTH,
    WEIGHTS,
    AudioTower,
    TextTower,
    laion_network,
    roberta_tokenizer,
)
from gmsdi.models.clap.training import KIND, ContrastiveModel, build
from gmsdi.models.folders import described, fill, read_config
from gmsdi.models.pretrained import as_tokens
from gmsdi.models.trainable import kind_of


class Clap:
    """Embeds audio and texts as unit vectors of one space; each tower is loaded when it is first used.

    Args:
        checkpoint: a folder of a small CLAP (`gmsdi.models.clap.training`), or the file of the weights as published by
            LAION; None: that file, downloaded once (see `gmsdi.io.weights.Weights.file`).
        sha256: digest that the file must have, if its weights are not the published ones.
        tokenizer: of LAION's text tower, RoBERTa's: a local folder with `TOKENIZER_FILES`, or a name on the hub, which
            is read from the Hugging Face cache or downloaded into it.
        batch: windows per forward pass.
        device: the device that the towers run on.

    Raises:
        UserError: if the folder does not hold such a model, or `batch` is not positive. Other faults of the weights or
            the tokenizer are reported when a tower is first used.
    """

    def __init__(
        self,
        checkpoint: str | Path | None = None,
        *,
        sha256: str | None = None,
        tokenizer: str = "roberta-base",
        batch: int = 8,
        device: str = "cpu",
    ) -> None:
        if batch < 1:
            raise UserError(f"CLAP: batch is {batch}; it must be at least 1")
        self._path = None if checkpoint is None else Path(checkpoint).expanduser()
        self._sha256, self._tokenizer, self._batch, self._device = sha256, tokenizer, batch, device
        self._small = self._path is not None and self._path.is_dir()

    @property
    def name(self) -> str:
        """The name of this CLAP, for provenance."""
        return f"{self._path}" if self._small else WEIGHTS.filename

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the weights."""
        self._require()
        if not self._small:
            return pinned(WEIGHTS, self._sha256).sha256
        assert self._path is not None
        return sha256_of(self._path / "model.safetensors")

    @property
    def features(self) -> int:
        """D, the width of the embeddings."""
        return int(self._contrastive.config["features"]) if self._small else FEATURES

    @property
    def prompt_features(self) -> int:
        """D, read from the text tower."""
        network: Any = self.text.network
        return int(network.config.projection_dim)

    @cached_property
    def audio(self) -> AudioTower:
        """The audio tower, ready for inference."""
        self._require()
        tower = self._contrastive.audio if self._small else AudioTower(self._published("audio"), LAION)
        return tower.to(self._device).eval().requires_grad_(False)

    @cached_property
    def text(self) -> TextTower:
        """The text tower, ready for inference."""
        self._require()
        if self._small:
            tower = self._contrastive.text
        else:
            tokenizer = roberta_tokenizer(self._tokenizer)  # first, before 2.4 GB are read or even downloaded
            tower = TextTower(self._published("text"), tokenizer, MAX_LENGTH)
        return tower.to(self._device).eval().requires_grad_(False)

    def embed_audio(self, windows: Any, sample_rate: int) -> np.ndarray:
        """Embed windows of audio, one vector each.

        If a window is longer than the tower's (ten seconds for LAION's), its middle is embedded, unlike in laion-clap,
        which takes a random part. A shorter window is repeated, see `FrontEnd.clips`.

        Args:
            windows: `[n, T]` or `[n, C, T]` (averaged to mono), NumPy or torch.
            sample_rate: in Hz.

        Returns:
            float32 `[n, D]` of unit length.

        Raises:
            UserError: if the weights are not available, or the audio is not finite.
        """
        tower = self.audio
        clips = tower.front_end.clips(windows, sample_rate)
        start = (clips.shape[-1] - tower.front_end.window) // 2
        cropped = torch.from_numpy(clips[:, start : start + tower.front_end.window])
        with torch.inference_mode():
            parts = [tower(part.to(self._device)).cpu() for part in cropped.split(self._batch)]
        return torch.cat(parts).numpy()

    def embed_text(self, texts: Sequence[str]) -> np.ndarray:
        """Embed texts one by one, so that a vector depends only on its text.

        Returns:
            float32 `[P, D]` of unit length.

        Raises:
            UserError: if the weights or the tokenizer are not available, or a text is too long.
        """
        with torch.inference_mode():
            return torch.cat([self.text([text]).cpu() for text in texts]).numpy()

    def _require(self) -> None:
        if self._path is not None and not self._path.exists():
            raise UserError(
                f"CLAP {str(self._path)!r}: no such file or folder; set text.checkpoint to LAION's weights or to the "
                "folder of a small CLAP"
            )

    @cached_property
    def _contrastive(self) -> ContrastiveModel:
        assert self._path is not None
        config = read_config(self._path)
        if kind_of(config) != KIND:
            raise UserError(f"{self._path}: this model is not a CLAP; set text.checkpoint to the folder of a CLAP")
        model = described(self._path, lambda: build(config))
        return fill(model, self._path)

    @cached_property
    def _file(self) -> Path:
        return pinned(WEIGHTS, self._sha256).file(self._path)

    def _published(self, part: str) -> nn.Module:
        return laion_network(self._file, part)


def clap_of(text: Mapping[str, Any], *, device: str = "cpu") -> Clap | LaionClap:
    """The CLAP that a model's configuration names.

    Args:
        text: a model's `text`, of kind `laion_clap` by the package laion-clap; with `checkpoint`, `sha256` and
            `tokenizer`, each of which may be missing or None.
        device: the device that it runs on.

    Raises:
        UserError: see `Clap`.
    """
    given = {key: text[key] for key in ("sha256", "tokenizer") if text.get(key)}
    kind = LaionClap if text.get("kind") == "laion_clap" else Clap
    return kind(text.get("checkpoint"), **given, device=device)


class ClapPrompts:
    """A CLAP's text tower as the encoder of `gmsdi.models.edm.text.FrozenText`: a prompt is one token.

    It is not part of the module that uses it: it is neither saved nor copied with it.
    """

    def __init__(self, clap: Clap | LaionClap) -> None:
        self.clap = clap

    def __deepcopy__(self, memo: dict[int, Any]) -> ClapPrompts:
        return self

    @property
    def name(self) -> str:
        """The name of the CLAP."""
        return self.clap.name

    @property
    def features(self) -> int:
        """D, the width of the embeddings; read from the text tower, so that a missing tower is reported at once."""
        return self.clap.prompt_features

    def embed(self, text: str, max_length: int) -> tuple[Tensor, Tensor]:
        """Embed one prompt: a token `[1, D]` and its attention mask `[1]`.

        Raises:
            UserError: see `Clap.embed_text`.
        """
        return as_tokens(torch.from_numpy(self.clap.embed_text([text])))[0], torch.ones(1, dtype=torch.bool)
