"""Names of files and folders that are made from values of a configuration."""

from __future__ import annotations

import hashlib
import json
from typing import Any, TypeAlias

Config: TypeAlias = dict[str, Any]
"""A configuration, as YAML has it."""


def digest(value: Any) -> str:
    """A short hexadecimal name for a configuration value; equal values get equal names, whatever their key order."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:8]


def slug(label: str) -> str:
    """A stem label as part of a file name: letters, digits and underscores."""
    return "".join(c if c.isalnum() and c.isascii() else "_" for c in label)
