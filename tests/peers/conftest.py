"""Peers are optional: without them their tests are skipped, unless the environment says GMSDI_PEERS=required."""

from __future__ import annotations

import importlib.util
import os

import pytest

PEERS = (
    "audio_diffusion_pytorch",
    "diffusers",
    "fast_bss_eval",
    "frechet_audio_distance",
    "laion_clap",
    "museval",
    "torchmetrics",
    "torchsde",
    "torchvggish",
)
NEEDED = {"test_pretrained.py": ("diffusers", "torchsde")}
"""The peers that a file's tests need, where not all: they then also run where only these are installed."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    missing = [peer for peer in PEERS if importlib.util.find_spec(peer) is None]
    if missing and os.environ.get("GMSDI_PEERS") == "required":
        raise pytest.UsageError(reason(missing))
    for item in items:
        needed = [peer for peer in missing if peer in NEEDED.get(item.path.name, PEERS)]
        if item.path.parent.name == "peers" and needed:
            item.add_marker(pytest.mark.skip(reason=reason(needed)))


def reason(missing: list[str]) -> str:
    return f"{', '.join(missing)} not installed; see the peers extra in pyproject.toml"
