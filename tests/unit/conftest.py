"""Fixtures that several files of tests use."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest


@pytest.fixture(scope="module")
def windows(request):
    """A test split of seven chunks in which every stem sounds, with the module's LABELS and of its length WINDOW."""
    labels, window = request.module.LABELS, request.module.WINDOW
    stems = np.random.default_rng(0).normal(scale=0.1, size=(7, len(labels), 1, window)).astype(np.float32)
    rows = [(f"Track{k // 3}", window * (k % 3), ", ".join(labels)) for k in range(7)]
    return SimpleNamespace(
        labels=labels,
        window=window,
        folder="windows",
        table=pd.DataFrame(rows, columns=["track", "offset", "active"]),
        sample_rate=8000,
        channels=1,
        mixture=lambda ids: stems[list(ids)].sum(axis=1),
        stems=lambda ids: stems[list(ids)],
    )
