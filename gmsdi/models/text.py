"""Text encoders: prompts to token embeddings, with the learned unconditional embedding z*."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from gmsdi.errors import UserError
from gmsdi.models.conditioning import Conditioning


class T5Text(nn.Module):
    """A T5 encoder (Raffel et al. 2020) and z*, one learned vector per token position.

    Prompts are padded to `max_length` tokens; the network attends to the real ones only, or with `attend_padding` to
    all of them, as audio-diffusion-pytorch does.

    Args:
        encoder: transformers' `T5EncoderModel`.
        tokenizer: its tokenizer.
        max_length: tokens of a prompt.
        frozen: whether the encoder keeps its weights; a frozen encoder is not part of the saved model.
        attend_padding: let cross-attention see padding tokens.
    """

    def __init__(
        self, encoder: Any, tokenizer: Any, *, max_length: int, frozen: bool, attend_padding: bool = False
    ) -> None:
        super().__init__()
        self.tokenizer = tokenizer
        self.max_length = max_length
        self.frozen = frozen
        self.attend_padding = attend_padding
        self.encoder = encoder.requires_grad_(not frozen)
        self.features: int = encoder.config.d_model
        self.unconditional = nn.Parameter(torch.randn(max_length, self.features))

    def forward(self, texts: Sequence[str | None]) -> Conditioning:
        """Embed P prompts; None stands for z*.

        Raises:
            UserError: if a prompt has more than `max_length` tokens.
        """
        device = self.unconditional.device
        encoded = self.tokenizer(
            [text or "" for text in texts], padding="max_length", max_length=self.max_length, return_tensors="pt"
        )
        if encoded.input_ids.shape[1] > self.max_length:
            longest = max((text or "" for text in texts), key=len)
            raise UserError(f"prompt {longest!r} is longer than {self.max_length} tokens; shorten it")
        ids, mask = encoded.input_ids.to(device), encoded.attention_mask.to(device)
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.frozen):
            tokens = self.encoder(input_ids=ids, attention_mask=mask).last_hidden_state.float()
        absent = torch.tensor([text is None for text in texts], device=device)
        tokens = torch.where(absent[:, None, None], self.unconditional, tokens)
        attended = mask.bool() | absent[:, None] | self.attend_padding
        return Conditioning.bank(tokens, attended)

    def train(self, mode: bool = True) -> T5Text:
        """Keep a frozen encoder out of training mode (its dropout stays off)."""
        super().train(mode)
        if self.frozen:
            self.encoder.eval()
        return self


class NoText(nn.Module):
    """The text side of an unconditional network, which any prompt leaves as it is."""

    features = None

    def forward(self, texts: Sequence[str | None]) -> Conditioning:
        """P prompts of one token without features."""
        return Conditioning.bank(torch.empty(len(texts), 1, 0), torch.ones(len(texts), 1, dtype=torch.bool))


def build_text(config: dict[str, Any]) -> T5Text | NoText:
    """Build the text encoder that a model's configuration names.

    `kind: tiny` makes a small T5 over bytes, with ByT5's tokenizer, which needs no file; it is trained together with
    the network. `kind: t5` loads the pretrained `name` (`t5-small`) and freezes it. `kind: none` is for an
    unconditional network.

    Raises:
        UserError: if the pretrained encoder is neither in the cache nor downloadable.
    """
    if config["kind"] == "none":
        return NoText()
    from transformers import AutoTokenizer, ByT5Tokenizer, T5Config, T5EncoderModel

    if config["kind"] == "tiny":
        byte_tokenizer = ByT5Tokenizer(extra_ids=0)
        t5 = T5Config(
            vocab_size=len(byte_tokenizer),
            d_model=config["features"],
            d_ff=2 * config["features"],
            d_kv=config["features"] // config["heads"],
            num_layers=config["layers"],
            num_heads=config["heads"],
            dropout_rate=0.0,
        )
        return T5Text(T5EncoderModel(t5), byte_tokenizer, max_length=config["max_length"], frozen=False)
    name = config["name"]
    try:
        encoder, tokenizer = T5EncoderModel.from_pretrained(name), AutoTokenizer.from_pretrained(name)
    except (OSError, ValueError) as error:
        raise UserError(
            f"text encoder {name!r} is neither a local folder nor in the Hugging Face cache, and cannot be downloaded; "
            f"run `hf download {name}` on a machine with a connection, or give the folder as text.name"
        ) from error
    return T5Text(
        encoder,
        tokenizer,
        max_length=config["max_length"],
        frozen=True,
        attend_padding=config.get("attend_padding", False),
    )


def prompt_of(labels: Sequence[str]) -> str:
    """The paper's prompt for a set of stem labels: "Bass, Drums"."""
    return ", ".join(labels)


def unique_bank(encoder: nn.Module, texts: Sequence[str | None]) -> Conditioning:
    """Conditioning of N rows in which every distinct text is embedded once."""
    distinct = list(dict.fromkeys(texts))
    index: Tensor = torch.tensor([distinct.index(text) for text in texts])
    return encoder(distinct).select(index)
