"""A model of the real classes, small enough for a test, with random weights."""

from __future__ import annotations

from pathlib import Path

import torch

from gmsdi.models.checkpoint import build_model, save_model

CONFIG = {
    "sample_rate": 8000,
    "window": 256,
    "labels": ["Bass", "Drums", "Piano"],
    "sigma_data": 0.1,
    "unet": {
        "channels": 16,
        "patch_factor": 4,
        "patch": "conv",
        "multipliers": [1, 1, 1],
        "factors": [2, 2],
        "num_blocks": [1, 1],
        "attentions": [False, True],
        "attention_heads": 2,
        "attention_features": 8,
        "resnet_groups": 4,
    },
    "text": {"kind": "tiny", "features": 16, "heads": 2, "layers": 1, "max_length": 32},
}
DEMUCS = {
    "channels": 4,
    "depth": 2,
    "dconv_depth": 1,
    "resample": False,
    "norm_starts": 2,
    "dconv_attn": 2,
    "dconv_lstm": 2,
}
"""The network of Demucs + Gibbs."""


def write(folder: Path) -> Path:
    """Save the model; its weights are random everywhere, so that every part counts."""
    torch.manual_seed(0)
    model = build_model(CONFIG)
    with torch.no_grad():
        for parameter in model.net.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    save_model(folder, model)
    return folder
