"""Text encoders: prompts to token embeddings, with the learned unconditional embedding z*."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from contextlib import suppress
from itertools import combinations
from pathlib import Path
from typing import Any, Protocol

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from gmsdi.errors import UserError
from gmsdi.models.clap.encoder import ClapPrompts, clap_of
from gmsdi.models.edm.conditioning import Conditioning
from gmsdi.models.pretrained import as_tokens, explained, tokenize

FILES = ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json")
"""What a pretrained encoder's folder holds, as the hub has it."""
SUBSETS = 6
"""Up to so many labels, the embeddings of all combinations of them are stored with a model."""


class T5Text(nn.Module):
    """A T5 encoder (Raffel et al. 2020) trained with the network, and z*, one learned vector per token position.

    Prompts are padded to `max_length` tokens; the network attends to the real ones only.

    Args:
        encoder: transformers' `T5EncoderModel`.
        tokenizer: its tokenizer.
        max_length: tokens of a prompt.
    """

    def __init__(self, encoder: Any, tokenizer: Any, *, max_length: int) -> None:
        super().__init__()
        self.tokenizer = tokenizer
        self.max_length = max_length
        self.encoder = encoder
        self.features: int = encoder.config.d_model
        self.unconditional = nn.Parameter(torch.randn(max_length, self.features))

    def forward(self, texts: Sequence[str | None]) -> Conditioning:
        """Embed P prompts; None stands for z*.

        Raises:
            UserError: if a prompt has more than `max_length` tokens.
        """
        device = self.unconditional.device
        ids, mask = tokenize(self.tokenizer, [text or "" for text in texts], self.max_length)
        tokens = self.encoder(input_ids=ids.to(device), attention_mask=mask.to(device)).last_hidden_state.float()
        absent = torch.tensor([text is None for text in texts], device=device)
        tokens = torch.where(absent[:, None, None], self.unconditional, tokens)
        return Conditioning.bank(tokens, mask.to(device).bool() | absent[:, None])


class PretrainedT5:
    """A pretrained T5 encoder that keeps its weights; it is read when a prompt is first embedded.

    It runs on the CPU in float32 and on one prompt at a time, so that an embedding depends on nothing but its text. It
    is no part of the module that uses it: neither saved nor copied with it.

    Args:
        name: a local folder with `FILES` (or another tokenizer's files), or a name on the hub, which is taken from the
            Hugging Face cache or downloaded into it; with HF_HUB_OFFLINE=1 from the cache alone.
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
        """The encoder and its tokenizer.

        Raises:
            UserError: if they are neither in the folder or the cache nor downloadable, damaged, or not of a T5.
        """
        if self._loaded is None:
            from transformers import AutoConfig, AutoTokenizer, T5EncoderModel

            folder = Path(self.name).expanduser()
            source = str(folder) if folder.is_dir() else self.name
            with explained("text encoder", self.name, key="text.name", files=FILES, kind="T5"):
                kind = AutoConfig.from_pretrained(source).model_type
                if kind != "t5":
                    raise UserError(f"text encoder {self.name!r} is a {kind}, not a T5; choose another as text.name")
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
        """The embedding of one prompt: tokens `[L, F]`, float32, and their attention mask `[L]`, L being `max_length`.

        Raises:
            UserError: see `load`; or if the prompt has more than `max_length` tokens.
        """
        encoder, tokenizer = self.load()
        ids, mask = tokenize(tokenizer, [text], max_length)
        return encoder(input_ids=ids, attention_mask=mask).last_hidden_state[0], mask[0].bool()


class PromptEncoder(Protocol):
    """A pretrained encoder that keeps its weights: `PretrainedT5`, or `gmsdi.models.clap.encoder.ClapPrompts`."""

    @property
    def name(self) -> str:
        """Which encoder it is."""
        ...

    @property
    def features(self) -> int:
        """F, the width of the embeddings."""
        ...

    def embed(self, text: str, max_length: int) -> tuple[Tensor, Tensor]:
        """The embedding of one prompt: tokens `[L, F]`, float32, and their attention mask `[L]`; L is `max_length`.

        Raises:
            UserError: if the prompt is too long, or the encoder cannot be had.
        """
        ...


class FrozenText(nn.Module):
    """Embeddings of a pretrained encoder, each prompt's computed once and kept; z*, one learned vector per position.

    Neither a training step nor a sampling step runs the encoder on a prompt that was seen before. The embeddings are
    stored beside a saved model (`write_prompts`); a model with those of all its prompts needs no encoder.

    Args:
        encoder: the encoder.
        max_length: L, tokens of a prompt, to which prompts are padded.
        attend_padding: let cross-attention see padding tokens, as audio-diffusion-pytorch does.
        prompts: file of embeddings, of `write_prompts`.

    Raises:
        UserError: if the file is damaged or of another `max_length`; without one, if the encoder cannot be had.
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
        # Row 0 stands in for z*. No buffers: what is known differs from process to process.
        self._rows: dict[str | None, int] = {text: row for row, text in enumerate([None, *texts])}
        self._tokens = torch.cat([torch.zeros(1, max_length, self.features), tokens])
        self._mask = torch.cat([torch.zeros(1, max_length, dtype=torch.bool), mask])

    def forward(self, texts: Sequence[str | None]) -> Conditioning:
        """Embed P prompts; None stands for z*.

        Raises:
            UserError: if a prompt has more than `max_length` tokens, or is new and the encoder cannot be had.
        """
        device = self.unconditional.device
        self.embed(text for text in texts if text is not None)
        rows = torch.tensor([self._rows[text] for text in texts], device=device)
        absent = rows == 0
        tokens = torch.where(absent[:, None, None], self.unconditional, self._tokens[rows])
        return Conditioning.bank(tokens, self._mask[rows] | absent[:, None] | self.attend_padding)

    def embed(self, texts: Iterable[str]) -> None:
        """Compute and keep the embeddings of those prompts that are new.

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
        """Store all known embeddings, and those of the combinations of the labels: up to `SUBSETS` labels all of them.

        The file is safetensors: `tokens` float32 `[P, L, F]`, `mask` `[P, L]`, and the P prompts in its metadata, in
        alphabetical order. A combination that cannot be embedded, being too long, is left out.
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
    """One token of a CLAP: of the mixture itself in training, of the prompt otherwise (Sect. 4); and z*.

    Args:
        encoder: the text tower.
        prompts: file of embeddings, of `write_prompts`.

    Raises:
        UserError: see `FrozenText`.
    """

    def __init__(self, encoder: PromptEncoder, *, prompts: Path | None = None) -> None:
        super().__init__(encoder, max_length=1, prompts=prompts)

    def of_audio(self, embeddings: Tensor, dropped: Tensor) -> Conditioning:
        """The conditioning of n rows by E(y), the embeddings of their own audio.

        Args:
            embeddings: `[n, F]` unit vectors.
            dropped: `[n]`, true where z* takes their place.
        """
        tokens = torch.where(dropped[:, None, None], self.unconditional, as_tokens(embeddings))
        return Conditioning.bank(tokens, torch.ones_like(dropped)[:, None])


class NoText(nn.Module):
    """The text side of an unconditional network, which any prompt leaves as it is."""

    features = None

    def forward(self, texts: Sequence[str | None]) -> Conditioning:
        """P prompts of one token without features."""
        return Conditioning.bank(torch.empty(len(texts), 1, 0), torch.ones(len(texts), 1, dtype=torch.bool))


def build_text(config: dict[str, Any], *, prompts: Path | None = None) -> T5Text | FrozenText | NoText:
    """Build the text encoder that a model's configuration names.

    `kind: tiny` makes a small T5 over bytes, with ByT5's tokenizer, which needs no file; it is trained together with
    the network. `kind: t5` takes the pretrained `name` (`t5-small`, `t5-base`, a local folder) and keeps it as it is.
    `kind: clap` takes the `checkpoint` of a CLAP (see `gmsdi.models.clap.encoder.Clap`), which has `features`
    dimensions; the network is trained on embeddings of mixtures (see `gmsdi.training.loop.Batches`). `kind: none` is
    for an unconditional network.

    Args:
        config: `kind` and what it needs.
        prompts: for `t5` and `clap`, embeddings that are known already, see `FrozenText.write_prompts`.

    Raises:
        UserError: if the pretrained encoder is neither in the cache nor downloadable, or of another width.
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
    if config["kind"] == "clap":
        return _build_clap(config, prompts)
    from transformers import ByT5Tokenizer, T5Config, T5EncoderModel

    tokenizer = ByT5Tokenizer(extra_ids=0)
    t5 = T5Config(
        vocab_size=len(tokenizer),
        d_model=config["features"],
        d_ff=2 * config["features"],
        d_kv=config["features"] // config["heads"],
        num_layers=config["layers"],
        num_heads=config["heads"],
        dropout_rate=0.0,
    )
    return T5Text(T5EncoderModel(t5), tokenizer, max_length=config["max_length"])


def _build_clap(config: dict[str, Any], prompts: Path | None) -> FrozenClapText:
    text = FrozenClapText(ClapPrompts(clap_of(config)), prompts=prompts)
    if text.features != config["features"]:
        raise UserError(
            f"text.features is {config['features']}, but the embeddings of this CLAP have {text.features}; change it"
        )
    return text


def prompt_of(labels: Sequence[str]) -> str:
    """The paper's prompt for a set of stem labels: "Bass, Drums"."""
    return ", ".join(labels)


def unique_bank(encoder: nn.Module, texts: Sequence[str | None]) -> Conditioning:
    """Conditioning of N rows in which every distinct text is embedded once."""
    distinct = list(dict.fromkeys(texts))
    index: Tensor = torch.tensor([distinct.index(text) for text in texts])
    return encoder(distinct).select(index)


def _read_prompts(file: Path, max_length: int) -> tuple[list[str], Tensor, Tensor]:
    """What `write_prompts` has stored: the P prompts, tokens `[P, L, F]` and mask `[P, L]`."""
    try:
        with safe_open(file, framework="pt") as stored:
            texts = json.loads(stored.metadata()["prompts"])
            tokens, mask = stored.get_tensor("tokens"), stored.get_tensor("mask")
    except (SafetensorError, OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{file}: not embeddings of prompts ({error}); remove it, and they are computed again"
        ) from error
    if tokens.shape[:2] != (len(texts), max_length) or mask.shape != tokens.shape[:2]:
        raise UserError(
            f"{file}: embeddings {tuple(tokens.shape)} of {len(texts)} prompts, but text.max_length is {max_length}; "
            "remove it, and they are computed again"
        )
    return texts, tokens, mask
