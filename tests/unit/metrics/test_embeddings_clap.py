"""CLAP with a small network of the same kind and weights as LAION publishes them."""

import hashlib

import numpy as np
import pytest
import torch
from transformers import ClapAudioConfig, ClapAudioModelWithProjection, ClapFeatureExtractor

from gmsdi.errors import UserError
from gmsdi.metrics.clap import CLAP
from gmsdi.models.clap import network as clap

RATE = 48000
SMALL = ClapAudioConfig(
    patch_embeds_hidden_size=8, depths=[1, 2], num_attention_heads=[2, 4], hidden_size=16, projection_dim=12
)


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return ClapAudioModelWithProjection(SMALL).eval()


@pytest.fixture
def checkpoint(network, tmp_path, monkeypatch):
    """The network's weights under LAION's names, with what else LAION's files hold."""
    published = {}
    for name, value in network.state_dict().items():
        name = name.replace("audio_model.audio_encoder.", "audio_branch.").replace("batch_norm", "bn0")
        name = name.replace("audio_projection.linear1", "audio_projection.0").replace(
            "projection.linear2", "projection.2"
        )
        name = name.replace("layernorm_before", "norm1").replace("layernorm_after", "norm2")
        name = name.replace("attention.self", "attn").replace("attention.output.dense", "attn.proj")
        name = name.replace("intermediate.dense", "mlp.fc1").replace("output.dense", "mlp.fc2")
        published[f"module.{name}"] = value
    for name in [name for name in published if ".query." in name]:
        parts = [published.pop(name.replace("query", part)) for part in ("query", "key", "value")]
        published[name.replace("query", "qkv")] = torch.cat(parts)
    published["module.audio_branch.logmel_extractor.melW"] = torch.zeros(513, 64)
    published["module.audio_branch.layers.0.blocks.1.attn_mask"] = torch.zeros(3)
    published["module.audio_branch.head.weight"] = torch.zeros(5, 5)
    published["module.text_branch.embeddings.position_ids"] = torch.arange(4)
    path = tmp_path / "clap.pt"
    torch.save({"epoch": 15, "state_dict": published, "metrics": {"map": np.float64(0.5)}}, path)

    def small():
        with torch.device("meta"):
            return ClapAudioModelWithProjection(SMALL)

    monkeypatch.setattr(clap, "_audio_network", small)
    return {"checkpoint": path, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}


def theirs(network, clips):
    """The embeddings of clips of at most ten seconds by transformers' own front end."""
    extractor = ClapFeatureExtractor(truncation="rand_trunc", padding="repeatpad", frequency_min=50)
    # LAION rounds to 16 bits, towards zero.
    clips = [(np.clip(clip, -1, 1) * 32767).astype(np.int16) / 32767 for clip in clips]
    features = extractor(clips, sampling_rate=RATE, return_tensors="pt").input_features.float()
    with torch.inference_mode():
        embedded = network(input_features=features).audio_embeds
    return (embedded / embedded.norm(dim=-1, keepdim=True)).numpy()


def test_frames_are_those_of_transformers_front_end(network, checkpoint):
    noise = 0.5 * np.random.default_rng(0).standard_normal((2, 12 * RATE)).astype(np.float32)
    noise *= np.linspace(1e-3, 1, noise.shape[1], dtype=np.float32)
    embedding = CLAP(**checkpoint, batch=3)
    frames = embedding.frames(noise, RATE)
    assert frames.dtype == np.float32
    windows = [noise[clip, start * RATE : (start + 10) * RATE] for clip in (0, 1) for start in (0, 1, 2)]
    np.testing.assert_allclose(frames, theirs(network, windows), atol=1e-4)
    np.testing.assert_array_equal(embedding.frames(noise, RATE), frames)  # nothing is drawn at random
    # A short clip is repeated, then padded.
    short = noise[:, -4 * RATE :]
    np.testing.assert_allclose(embedding.frames(short, RATE), theirs(network, short), atol=1e-4)
    assert CLAP(**checkpoint, hop=0.5).frames(noise, RATE).shape == (10, 12)


def test_errors_say_what_to_do(checkpoint, tmp_path):
    with pytest.raises(UserError, match=r"clap\.pt: has the sha256 .*not fae3e9c0.*; download https://huggingface"):
        CLAP(checkpoint["checkpoint"])
    other = tmp_path / "other.pt"
    for content in ({"state_dict": {"module.audio_branch.norm.weight": torch.zeros(2)}}, {}, torch.zeros(2)):
        torch.save(content, other)
        with pytest.raises(UserError, match=r"other\.pt: not the weights of LAION's HTSAT-base"):
            CLAP(other, sha256=hashlib.sha256(other.read_bytes()).hexdigest())
    with pytest.raises(UserError, match="must be positive"):
        CLAP(**checkpoint, batch=0)
