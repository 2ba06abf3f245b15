"""Arrays of NumPy and tensors of torch, which need not be imported."""

from __future__ import annotations

from typing import Any

import numpy as np


def as_array(signal: Any) -> np.ndarray:
    """A tensor on any device, or what NumPy takes, as an array."""
    return signal.detach().cpu().numpy() if hasattr(signal, "detach") else np.asarray(signal)
