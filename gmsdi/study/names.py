"""Names of files and folders that are made from values of a configuration."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeAlias

Config: TypeAlias = dict[str, Any]
"""A configuration, as YAML has it."""


def digest(value: Any) -> str:
    """A short hexadecimal name for a configuration value; equal values get equal names, whatever their key order."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:8]


def training_id(
    model: Config,
    training: Config,
    seed: int,
    *,
    folders: Sequence[str | Path],
    code: str,
    codec: str | None = None,
    initial: str | None = None,
) -> str:
    """A name for all that a training's checkpoint depends on, so that another training does not resume it.

    Args:
        model: the configuration that the model is built from.
        training: the settings of the training.
        seed: the run's seed.
        folders: of its windows and embeddings, whose paths name what they are made of.
        code: digest of the code that trains it.
        codec: digest of the codec whose latents it learns; None if there is none.
        initial: digest of the model that it starts from; None for fresh weights.
    """
    return digest([model, training, seed, [str(folder) for folder in folders], code, codec, initial])


def slug(label: str) -> str:
    """A stem label as part of a file name: letters, digits and underscores."""
    return "".join(c if c.isalnum() and c.isascii() else "_" for c in label)
