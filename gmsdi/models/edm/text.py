"""Text encoders, from prompts to token embeddings, with the learned unconditional embedding z*."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from itertools import combinations
from pathlib import Path
from typing import Any, Protocol

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from gmsdi.errors import UserError
from gmsdi.models.clap import CLAPS
from gmsdi.models.clap.encoder import ClapPrompts, clap_of
from gmsdi.models.edm.conditioning import Conditioning
from gmsdi.models.edm.t5 import T5Encoder, tokens_of
from gmsdi.models.pretrained import as_tokens, explained, tokenize

FILES = ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json")
"""The files in a pretrained encoder's folder, as on the hub."""
SUBSETS = 6
"""Most labels for which the embeddings of all their combinations are stored with a model."""


class T5Text(nn.Module):
    """A small T5 encoder over bytes, trained with the network, and z*, one learned vector per token position.

    Prompts are padded to `max_length` tokens; the network attends to the real ones only.

    Args:
        encoder: the encoder.
        features: F, the width of its embeddings.
        max_length: maximum number of tokens in a prompt.
    """

    def __init__(self, encoder: T5Encoder, *, features: int, max_length: int) -> None:
        super().__init__()
        self.max_length = max_length
        self.encoder = encoder
        self.features = features
        self.unconditional = nn.Parameter(torch.randn(max_length, features))

    def forward(self, texts: Sequence[str | None]) -> Conditioning:
        """Embed P prompts; None stands for z*.

        Raises:
            UserError: if a prompt has more than `max_length` tokens.
        """
        device = self.unconditional.device
        ids, mask = (part.to(device) for part in tokens_of([text or "" for text in texts], self.max_length))
        tokens = self.encoder(ids, mask).float()
        absent = torch.tensor([text is None for text in texts], device=device)
        tokens = torch.where(absent[:, None, None], self.unconditional, tokens)
        return Conditioning.bank(tokens, mask | absent[:, None])


class PretrainedT5:
    """A frozen, pretrained T5 encoder, loaded when a prompt is first embedded.

    It runs on the CPU in float32, one prompt at a time, so that an embedding depends only on its text. It is not part
    of the module that uses it: it is neither saved nor copied with it.

    Args:
        name: a local folder with `FILES` (or another tokenizer's files), or a name on the hub, which is read from the
            Hugging Face cache or downloaded into it; with HF_HUB_OFFLINE=1, only from the cache.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self._loaded: tuple[Any, Any] | None = None

    def __deepcopy__(self, memo: dict[int, Any]) -> PretrainedT5:
        return self

    @property
    def features(self) -> int:
        """F, the width of the embeddings."""
        return int(self.load()[0].config.d_model)

    def load(self) -> tuple[Any, Any]:
        """Load the encoder and its tokenizer.

        Raises:
            UserError: if they are neither in the folder or cache nor downloadable, or are damaged, or are not a T5.
        """
        if self._loaded is None:
            from transformers import AutoConfig, AutoTokenizer, T5EncoderModel

            folder = Path(self.name).expanduser()
            source = str(folder) if folder.is_dir() else self.name
            with explained("text encoder", self.name, key="text.name", files=FILES, kind="T5"):
                kind = AutoConfig.from_pretrained(source).model_type
                if kind != "t5":
                    raise UserError(f"text encoder {self.name!r} is a {kind}, not a T5; choose another text.name")
                # Never a pickle: safetensors or nothing.
                loaded: Any = T5EncoderModel.from_pretrained(source, use_safetensors=True, output_loading_info=True)
                encoder, found = loaded
                tokenizer = AutoTokenizer.from_pretrained(source)
            if found["missing_keys"]:
                missing = min(found["missing_keys"])
                raise UserError(
                    f"text encoder {self.name!r}: weight {missing} is missing; fetch model.safetensors again"
                )
            self._loaded = encoder.float().eval().requires_grad_(False), tokenizer
        return self._loaded

    def embed(self, text: str, max_length: int) -> tuple[Tensor, Tensor]:
        """Embed one prompt: tokens `[L, F]`, float32, and their attention mask `[L]`, where L is `max_length`.

        Raises:
            UserError: see `load`; or if the prompt has more than `max_length` tokens.
        """
        encoder, tokenizer = self.load()
        ids, mask = tokenize(tokenizer, [text], max_length)
        return encoder(input_ids=ids, attention_mask=mask).last_hidden_state[0], mask[0].bool()


class PromptEncoder(Protocol):
    """A frozen, pretrained encoder: `PretrainedT5`, or `gmsdi.models.clap.encoder.ClapPrompts`."""

    @property
    def name(self) -> str:
        """The name of the encoder."""
        ...

    @property
    def features(self) -> int:
        """F, the width of the embeddings."""
        ...

    def embed(self, text: str, max_length: int) -> tuple[Tensor, Tensor]:
        """Embed one prompt: tokens `[L, F]`, float32, and their attention mask `[L]`, where L is `max_length`.

        Raises:
            UserError: if the prompt is too long, or the encoder is not available.
        """
        ...


class FrozenText(nn.Module):
    """Embeddings of a frozen, pretrained encoder, cached per prompt, and z*, one learned vector per position.

    The encoder never runs twice on the same prompt, in training or sampling. The embeddings are stored beside a saved
    model (`write_prompts`); if those of all its prompts are there, the model needs no encoder.

    Args:
        encoder: the encoder.
        max_length: L, the number of tokens that prompts are padded to.
        attend_padding: let cross-attention see padding tokens, as audio-diffusion-pytorch does.
        prompts: a file of embeddings, written by `write_prompts`.

    Raises:
        UserError: if the file is damaged or has another `max_length`; without a file, if the encoder is not available.
    """

    def __init__(
        self, encoder: PromptEncoder, *, max_length: int, attend_padding: bool = False, prompts: Path | None = None
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.max_length = max_length
        self.attend_padding = attend_padding
        if prompts is None:
            texts: list[str] = []
            tokens = torch.empty(0, max_length, encoder.features)
            mask = torch.empty(0, max_length, dtype=torch.bool)
        else:
            texts, tokens, mask = _read_prompts(prompts, max_length)
        self.features: int = tokens.shape[-1]
        self.unconditional = nn.Parameter(torch.randn(max_length, self.features))
        # Row 0 is a placeholder for z*. Not buffers, since the cached prompts differ from process to process.
        self._rows: dict[str | None, int] = {text: row for row, text in enumerate([None, *texts])}
        self._tokens = torch.cat([torch.zeros(1, max_length, self.features), tokens])
        self._mask = torch.cat([torch.zeros(1, max_length, dtype=torch.bool), mask])

    def forward(self, texts: Sequence[str | None]) -> Conditioning:
        """Embed P prompts; None stands for z*.

        Raises:
            UserError: if a prompt has more than `max_length` tokens, or is new and the encoder is not available.
        """
        device = self.unconditional.device
        self.embed(text for text in texts if text is not None)
        rows = torch.tensor([self._rows[text] for text in texts], device=device)
        absent = rows == 0
        tokens = torch.where(absent[:, None, None], self.unconditional, self._tokens[rows])
        return Conditioning.bank(tokens, self._mask[rows] | absent[:, None] | self.attend_padding)

    def embed(self, texts: Iterable[str]) -> None:
        """Compute and cache the embeddings of new prompts.

        Raises:
            UserError: see `forward`.
        """
        new = [text for text in dict.fromkeys(texts) if text not in self._rows]
        device = self.unconditional.device
        # Not in inference mode, whose tensors could not serve a training step later.
        with torch.inference_mode(False), torch.no_grad():
            if new:
                tokens, masks = zip(*(self.encoder.embed(text, self.max_length) for text in new), strict=True)
                self._tokens = torch.cat([self._tokens, torch.stack(tokens).to(self._tokens.device)])
                self._mask = torch.cat([self._mask, torch.stack(masks).to(self._mask.device)])
                self._rows |= {text: row for row, text in enumerate(new, len(self._rows))}
            self._tokens, self._mask = self._tokens.to(device), self._mask.to(device)

    def write_prompts(self, file: Path, labels: Sequence[str]) -> None:
        """Store all cached embeddings, and those of combinations of the labels.

        With up to `SUBSETS` labels these are all combinations; otherwise the single labels, and all labels together.

        The file is safetensors: `tokens` float32 `[P, L, F]`, `mask` `[P, L]`, and the P prompts in its metadata, in
        alphabetical order. A combination that is too long to embed is left out.
        """
        sizes = range(1, len(labels) + 1) if len(labels) <= SUBSETS else [1, len(labels)]
        for prompt in (prompt_of(subset) for size in sizes for subset in combinations(labels, size)):
            with suppress(UserError):
                self.embed([prompt])
        texts = sorted(text for text in self._rows if text is not None)
        rows = [self._rows[text] for text in texts]
        known = {"tokens": self._tokens[rows].cpu(), "mask": self._mask[rows].cpu()}
        save_file(known, file, metadata={"format": "pt", "encoder": self.encoder.name, "prompts": json.dumps(texts)})


class FrozenClapText(FrozenText):
    """One token: the CLAP embedding of the mixture itself in training, of the prompt otherwise (Sect. 4); and z*.

    Args:
        encoder: the text tower.
        prompts: a file of embeddings, written by `write_prompts`.

    Raises:
        UserError: see `FrozenText`.
    """

    def __init__(self, encoder: PromptEncoder, *, prompts: Path | None = None) -> None:
        super().__init__(encoder, max_length=1, prompts=prompts)

    def of_audio(self, embeddings: Tensor, dropped: Tensor) -> Conditioning:
        """Condition n rows on E(y), the embeddings of their own audio.

        Args:
            embeddings: `[n, F]` unit vectors.
            dropped: `[n]`, true where z* replaces the embedding.
        """
        tokens = torch.where(dropped[:, None, None], self.unconditional, as_tokens(embeddings))
        return Conditioning.bank(tokens, torch.ones_like(dropped)[:, None])


class NoText(nn.Module):
    """The text side of an unconditional network, which ignores prompts."""

    features = None

    def forward(self, texts: Sequence[str | None]) -> Conditioning:
        """Return P prompts of one token without features."""
        return Conditioning.bank(torch.empty(len(texts), 1, 0), torch.ones(len(texts), 1, dtype=torch.bool))


def build_text(config: dict[str, Any], *, prompts: Path | None = None) -> T5Text | FrozenText | NoText:
    """Build the text encoder that a model's configuration names.

    `kind: tiny` makes a small T5 over bytes, which needs no tokenizer's file, and trains it together with the
    network. `kind: t5` uses the pretrained `name` (`t5-small`, `t5-base`, a local folder), frozen. `kind: clap`
    uses the `checkpoint` of a CLAP (see `gmsdi.models.clap.encoder.Clap`) with `features` dimensions; the network is
    then trained on embeddings of mixtures (see `gmsdi.training.batches.Batches`); with `kind: laion_clap` the package
    laion-clap computes these. `kind: none` is for an unconditional network.

    Args:
        config: `kind` and the settings of that kind.
        prompts: for `t5` and `clap`, a file of embeddings, see `FrozenText.write_prompts`.

    Raises:
        UserError: if the pretrained encoder is neither in the cache nor downloadable, or has another width.
    """
    if config["kind"] == "none":
        return NoText()
    if config["kind"] == "t5":
        return FrozenText(
            PretrainedT5(config["name"]),
            max_length=config["max_length"],
            attend_padding=config.get("attend_padding", False),
            prompts=prompts,
        )
    if config["kind"] in CLAPS:
        return _build_clap(config, prompts)
    encoder = T5Encoder(config["features"], config["heads"], config["layers"])
    return T5Text(encoder, features=config["features"], max_length=config["max_length"])


def require_prompts(config: Mapping[str, Any], texts: Sequence[str]) -> None:
    """Refuse prompts that the text encoder of a configuration cannot take, without building it.

    Of an encoder whose tokenizer is a file, nothing can be said.

    Args:
        config: see `build_text`.
        texts: the prompts.

    Raises:
        UserError: if one has too many tokens.
    """
    if config["kind"] not in ("none", "t5", *CLAPS):
        tokens_of(texts, config["max_length"])


def write_clap_prompts(text: dict[str, Any], file: Path, labels: Sequence[str]) -> None:
    """Store a CLAP's embeddings of the labels and their combinations, see `FrozenText.write_prompts`.

    Args:
        text: the section `text` of a model's configuration.
        file: the file to write.
        labels: labels of the model.

    Raises:
        UserError: if the CLAP is not available.
    """
    _build_clap(text, None).write_prompts(file, labels)


def _build_clap(config: dict[str, Any], prompts: Path | None) -> FrozenClapText:
    text = FrozenClapText(ClapPrompts(clap_of(config)), prompts=prompts)
    if text.features != config["features"]:
        raise UserError(
            f"text.features is {config['features']}, but this CLAP's embeddings have {text.features}; set it to that"
        )
    return text


def prompt_of(labels: Sequence[str]) -> str:
    """The paper's prompt for a set of stem labels: "Bass, Drums"."""
    return ", ".join(labels)


def unique_bank(encoder: nn.Module, texts: Sequence[str | None]) -> Conditioning:
    """Condition N rows on their texts, embedding every distinct text once."""
    distinct = list(dict.fromkeys(texts))
    index: Tensor = torch.tensor([distinct.index(text) for text in texts])
    return encoder(distinct).select(index)


def _read_prompts(file: Path, max_length: int) -> tuple[list[str], Tensor, Tensor]:
    """Read what `write_prompts` has stored: the P prompts, tokens `[P, L, F]` and mask `[P, L]`."""
    try:
        with safe_open(file, framework="pt") as stored:
            texts = json.loads(stored.metadata()["prompts"])
            tokens, mask = stored.get_tensor("tokens"), stored.get_tensor("mask")
    except (SafetensorError, OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{file}: not embeddings of prompts ({error}); remove the file to have them computed again"
        ) from error
    if tokens.shape[:2] != (len(texts), max_length) or mask.shape != tokens.shape[:2]:
        raise UserError(
            f"{file}: embeddings {tuple(tokens.shape)} of {len(texts)} prompts, but text.max_length is {max_length}; "
            "remove the file to have them computed again"
        )
    return texts, tokens, mask
