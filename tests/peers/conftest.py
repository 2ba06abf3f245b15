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


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    missing = [peer for peer in PEERS if importlib.util.find_spec(peer) is None]
    if not missing:
        return
    reason = f"{', '.join(missing)} not installed; see the peers extra in pyproject.toml"
    if os.environ.get("GMSDI_PEERS") == "required":
        raise pytest.UsageError(reason)
    for item in items:
        if item.path.parent.name == "peers":
            item.add_marker(pytest.mark.skip(reason=reason))
