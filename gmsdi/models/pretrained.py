"""What all pretrained text encoders need: tokens, and plain messages about missing files."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor

from gmsdi.errors import UserError


def as_tokens(vectors: Tensor) -> Tensor:
    """Unit vectors of a CLAP `[n, F]` as sequences of one token `[n, 1, F]`.

    They are multiplied by √F, so that the F numbers have a mean square of 1, like those of a newly initialised z*.
    """
    return vectors[:, None] * vectors.shape[-1] ** 0.5


@contextmanager
def explained(what: str, name: str, *, key: str, files: Sequence[str], kind: str) -> Iterator[None]:
    """Turn the errors of transformers about missing or damaged files into UserErrors of one line.

    Args:
        what: what is read, for the message.
        name: a local folder, or a name on the hub.
        key: the configuration key that has the name.
        files: files that the folder must contain.
        kind: kind of model that the folder should contain.

    Raises:
        UserError: in place of the errors of transformers.
    """
    folder, needed = Path(name).expanduser(), " ".join(files)
    if not folder.is_dir() and (folder.is_absolute() or name.startswith((".", "~")) or name.count("/") > 1):
        raise UserError(f"{what} {name!r}: no such folder; set {key} to one that holds {needed}")
    try:
        yield
    except SafetensorError as error:
        raise UserError(f"{what} {name!r}: model.safetensors is damaged ({error}); fetch it again") from error
    except (OSError, ValueError, RuntimeError) as error:
        if folder.is_dir():
            raise UserError(
                f"{what} {name!r}: the folder holds no {kind} that can be read; it needs {needed} (pickled weights are "
                "not read)"
            ) from error
        offline = os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE")
        why = "HF_HUB_OFFLINE is set" if offline else "it cannot be downloaded"
        raise UserError(
            f"{what} {name!r} is not in the Hugging Face cache, and {why}; run `hf download {name} {needed}` where "
            f"there is a connection (and copy that cache, HF_HOME), or set {key} to a local folder with these files"
        ) from error


def tokenize(tokenizer: Any, texts: Sequence[str], max_length: int) -> tuple[Tensor, Tensor]:
    """Token ids and attention mask of P prompts, padded: both `[P, max_length]`.

    Raises:
        UserError: if a prompt has more than `max_length` tokens.
    """
    # Converted to tensors only below, since prompts that are too long are not padded and do not form a matrix.
    encoded = tokenizer(list(texts), padding="max_length", max_length=max_length)
    require_short(texts, encoded["input_ids"], max_length)
    return torch.tensor(encoded["input_ids"]), torch.tensor(encoded["attention_mask"])


def require_short(texts: Sequence[str], ids: Sequence[Sequence[int]], max_length: int) -> None:
    """Refuse P prompts of which one is too long.

    Args:
        texts: the prompts.
        ids: their tokens.
        max_length: most tokens of a prompt.

    Raises:
        UserError: if a prompt has more than `max_length` tokens.
    """
    for text, tokens in zip(texts, ids, strict=True):
        if len(tokens) > max_length:
            raise UserError(f"prompt {text!r} is longer than {max_length} tokens; shorten it")
