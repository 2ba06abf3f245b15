"""LAION's CLAP by the package laion-clap, as an alternative to `gmsdi.models.clap.encoder.Clap` by transformers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch

from gmsdi.errors import UserError
from gmsdi.io.features import clips_at
from gmsdi.io.foreign import left_out
from gmsdi.io.weights import pinned, read_torch
from gmsdi.models.clap.network import FEATURES, LAION, MAX_LENGTH, WEIGHTS, roberta_tokenizer
from gmsdi.models.pretrained import tokenize

UNUSED = (
    *("PIL", "braceexpand", "ftfy", "h5py", "sklearn", "timm", "torchaudio", "torchvision", "wandb", "webdataset"),
    "wget",
)
"""Packages that laion-clap imports only for its training, its image networks and its other text encoders."""


class LaionClap:
    """Embeds audio and texts by laion-clap's own `CLAP_Module`, with the interface of `encoder.Clap`.

    Front end, networks and rounding are the package's, but the weights are read without running code from a pickle, and
    nothing is downloaded on import. As in `encoder.Clap`, the middle of a window longer than ten seconds is embedded,
    and a text that is too long is refused; the package itself would take a random part, and truncate the text.

    Args:
        checkpoint: file of the weights as published by LAION; None: that file, downloaded once.
        sha256: digest that the file must have, if its weights are not the published ones.
        tokenizer: RoBERTa's, a local folder with `network.TOKENIZER_FILES`, or a name on the hub.
        batch: windows per forward pass.
        device: the device that it runs on.

    Raises:
        UserError: if `batch` is not positive, or `checkpoint` is a folder. Other faults are reported at the first use.
    """

    features = FEATURES

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
        if self._path is not None and self._path.is_dir():
            raise UserError(
                f"CLAP {str(self._path)!r} is a folder, but laion-clap reads the file of LAION's weights; name it in "
                "text.checkpoint, or choose text.kind clap"
            )
        self._weights, self._tokenizer, self._batch, self._device = pinned(WEIGHTS, sha256), tokenizer, batch, device

    @property
    def name(self) -> str:
        """The name of this CLAP, for provenance."""
        return f"{WEIGHTS.filename}, by laion-clap"

    @property
    def digest(self) -> str:
        """SHA-256 of the weights."""
        return self._weights.sha256

    @property
    def prompt_features(self) -> int:
        """D. The networks are loaded, so that missing files are reported at once."""
        self._module  # noqa: B018
        return self.features

    @cached_property
    def _module(self) -> Any:
        """The package's `CLAP_Module`, ready for inference."""
        package = imported()
        tokenizer = roberta_tokenizer(self._tokenizer)  # first, before 2.4 GB are read or even downloaded
        file = self._weights.file(self._path)
        with weightless(file, tokenizer) as state:
            module = package.CLAP_Module(enable_fusion=False, amodel="HTSAT-base", device=self._device)
        # A constant that transformers no longer stores; laion-clap drops it, too.
        state.pop("text_branch.embeddings.position_ids", None)
        try:
            module.model.load_state_dict(state)
        except RuntimeError as error:
            raise UserError(_not_ours(file)) from error
        return module.to(self._device).eval().requires_grad_(False)

    def embed_audio(self, windows: Any, sample_rate: int) -> np.ndarray:
        """Embed windows of audio, one vector each.

        Args:
            windows: `[n, T]` or `[n, C, T]` (averaged to mono), NumPy or torch.
            sample_rate: in Hz.

        Returns:
            float32 `[n, D]` of unit length.

        Raises:
            UserError: if the package or the weights are not available, or the audio is not finite.
        """
        module = self._module
        clips = clips_at(LAION.sample_rate, windows, sample_rate)
        start = max(0, clips.shape[-1] - LAION.window) // 2
        clips = clips[:, start : start + LAION.window]
        with torch.inference_mode():
            parts = [
                module.get_audio_embedding_from_data(clips[first : first + self._batch])
                for first in range(0, len(clips), self._batch)
            ]
        return np.concatenate(parts)

    def embed_text(self, texts: Sequence[str]) -> np.ndarray:
        """Embed texts one by one, so that a vector depends only on its text.

        Returns:
            float32 `[P, D]` of unit length.

        Raises:
            UserError: if the package, the weights or the tokenizer are not available, or a text is too long.
        """
        module = self._module
        tokenize(module.tokenize, texts, MAX_LENGTH)  # refuses texts that the package would truncate
        with torch.inference_mode():
            return np.concatenate([module.get_text_embedding([text]) for text in texts])


def imported() -> Any:
    """Import laion-clap without the packages that are not needed here, and without downloading its three tokenizers.

    Raises:
        UserError: if it, or a package that it needs, is not installed.
    """
    # Imported before anything is left out, so that they are complete.
    from transformers import BartModel, BartTokenizer, BertModel, BertTokenizer, RobertaModel, RobertaTokenizer

    del BartModel, BertModel, RobertaModel
    try:
        with left_out(UNUSED), ExitStack() as answers:
            for kind in (BartTokenizer, BertTokenizer, RobertaTokenizer):
                answers.enter_context(_answering(kind, None))
            import laion_clap
            from torchlibrosa import stft  # noqa: F401  # which imports librosa's filters when it is first used
    except ImportError as error:
        raise UserError(
            f"laion-clap cannot be imported ({error}); run the workflow with --use-conda, or install what "
            f"envs/clap.post-deploy.sh does; or set text.kind to clap"
        ) from error
    return laion_clap


@contextmanager
def weightless(file: Path, tokenizer: Any) -> Iterator[dict[str, torch.Tensor]]:
    """A context in which `CLAP_Module` is built without downloading weights; a checkpoint then provides them.

    Args:
        file: the checkpoint, already verified. RoBERTa's sizes are taken from it.
        tokenizer: the tokenizer for `CLAP_Module`.

    Yields:
        The checkpoint's parameters, by laion-clap's names.

    Raises:
        UserError: if the weights belong to another network.
    """
    from transformers import RobertaModel, RobertaTokenizer

    content = read_torch(file)
    state = content.get("state_dict", content) if isinstance(content, dict) else {}
    state = {key.removeprefix("module."): value for key, value in state.items()}
    try:
        roberta = RobertaModel(_roberta(state))
    except (KeyError, AttributeError, IndexError) as error:
        raise UserError(_not_ours(file)) from error
    with _answering(RobertaTokenizer, tokenizer), _answering(RobertaModel, roberta):
        yield state


def _roberta(state: Mapping[str, torch.Tensor]) -> Any:
    """The configuration of the RoBERTa in a checkpoint; RoBERTa's heads have 64 features."""
    from transformers import RobertaConfig

    prefix = "text_branch.embeddings."
    words, positions, types = (
        state[f"{prefix}{name}_embeddings.weight"].shape for name in ("word", "position", "token_type")
    )
    layers = {key.split(".")[3] for key in state if key.startswith("text_branch.encoder.layer.")}
    return RobertaConfig(
        vocab_size=words[0],
        hidden_size=words[1],
        num_attention_heads=words[1] // 64,
        num_hidden_layers=len(layers),
        intermediate_size=state["text_branch.encoder.layer.0.intermediate.dense.weight"].shape[0],
        max_position_embeddings=positions[0],
        type_vocab_size=types[0],
        layer_norm_eps=1e-5,
    )


def _not_ours(file: Path) -> str:
    return f"{file}: not the weights of LAION's HTSAT-base; use those of {WEIGHTS.url}"


@contextmanager
def _answering(kind: type, answer: Any) -> Iterator[None]:
    """A context in which `kind.from_pretrained` returns `answer`; it is restored afterwards."""
    own = vars(kind).get("from_pretrained")
    kind.from_pretrained = staticmethod(lambda *_, **__: answer)  # type: ignore[attr-defined]
    try:
        yield
    finally:
        if own is None:
            del kind.from_pretrained  # type: ignore[attr-defined]
        else:
            kind.from_pretrained = own  # type: ignore[attr-defined]
