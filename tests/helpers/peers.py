"""Tests that need packages by others are skipped without them, unless GMSDI_PEERS=required."""

import importlib.util
import os

import pytest

needs_museval = pytest.mark.skipif(
    importlib.util.find_spec("museval") is None and os.environ.get("GMSDI_PEERS") != "required",
    reason="museval not installed; see the peers extra in pyproject.toml",
)
