"""audio-diffusion-pytorch 0.0.43: our network and diffusion with its weights say what it says."""

import json

import pytest
import torch

from gmsdi.errors import UserError
from gmsdi.models.adapters.adp import convert, import_msdm, renamed
from gmsdi.models.checkpoint import load_model
from gmsdi.models.edm.unet import UNet1d, UNetConfig
from tests.peers.oracles import (
    MSDM,
    REDUCED,
    SMALL,
    adp_sampler,
    guided_difference,
    published,
    scrambled,
    unet_difference,
)

ODD = {
    "in_channels": 4,
    "use_nearest_upsample": True,
    "use_skip_scale": False,
    "use_attention_bottleneck": False,
    "attention_multiplier": 3,
    "factors": [2, 1],
}


@pytest.mark.parametrize(
    ("text", "arguments"),
    [
        pytest.param(None, REDUCED, id="msdm"),
        pytest.param((6, 24), REDUCED, id="msdm-text"),
        pytest.param(None, {**REDUCED, "in_channels": 4, "channels": 64}, id="msdm-joint"),
        pytest.param((5, 12), {**SMALL, "context_features": 12}, id="text-and-modulation"),
        pytest.param(None, {**SMALL, **ODD}, id="other-options"),
        pytest.param((5, 12), {**SMALL, "kernel_multiplier_downsample": 4}, id="kernel-4"),
    ],
)
def test_unet_gives_the_same_output(text, arguments):
    assert unet_difference(text, **arguments) < 1e-5


@pytest.mark.parametrize("scale", [1.0, 0.0, 4.0])
def test_guidance_and_clamp_are_those_of_its_embedding_scale(scale):
    assert guided_difference(scale) < 1e-5


def test_adpm2_follows_its_sampler():
    assert adp_sampler() < 1e-4


@pytest.mark.parametrize(
    ("text", "arguments", "millions"),
    [
        (None, {}, 405.5),
        (None, {"in_channels": 4}, 405.5),
        ((64, 512), {}, 492.6),
        ((64, 512), {"channels": 128, "attention_features": 64}, 130.9),
        ((64, 512), {"channels": 64, "attention_features": 64}, 49.6),
        ((64, 512), {"channels": 32, "attention_features": 32}, 16.3),
    ],
)
def test_parameters_are_as_many(text, arguments, millions):
    with torch.device("meta"):
        peer = published(text, **{**MSDM, **arguments})
        ours = UNet1d(UNetConfig(**arguments, text_features=text[1] if text else None))
    shapes = {renamed(name): tensor.numel() for name, tensor in peer.state_dict().items()}
    unconditional = shapes.pop("fixed_embedding.embedding.weight", 0)
    assert shapes == {name: tensor.numel() for name, tensor in ours.state_dict().items()}
    assert round((sum(shapes.values()) + unconditional) / 1e6, 1) == millions


def test_lightning_checkpoint_becomes_a_model_folder(tmp_path):
    """A file as MSDM's `Model` writes it: network under two names, an object of the library in the hyper-parameters."""
    from audio_diffusion_pytorch import AudioDiffusionModel, LogNormalDistribution

    arguments = {**SMALL, "in_channels": 4, "diffusion_sigma_data": 0.3}
    arguments["diffusion_sigma_distribution"] = LogNormalDistribution(-3.0, 1.0)
    peer = scrambled(AudioDiffusionModel(**arguments))
    content = {
        "epoch": 419,
        "state_dict": {f"model.{name}": tensor for name, tensor in peer.state_dict().items()},
        "hyper_parameters": {"learning_rate": 1e-4, **arguments},
    }
    torch.save(content, tmp_path / "msdm.ckpt")
    import_msdm(tmp_path / "msdm.ckpt", tmp_path / "model", window=2400)

    model = load_model(tmp_path / "model")
    assert model.config["labels"] == ["Bass", "Drums", "Guitar", "Piano"]
    assert model.config["target"] == "stems"
    assert model.sigma_data == 0.3
    x = torch.randn(2, 4, 240, generator=torch.Generator().manual_seed(0))
    for sigma in (0.01, 1.0):
        expected = peer.diffusion.denoise_fn(x, sigma=sigma)
        result = model(x, torch.full((2,), sigma), model.embed(["any", None])).clamp(-1, 1)
        torch.testing.assert_close(result, expected, rtol=0, atol=1e-5)
    taken = json.loads((tmp_path / "model" / "provenance.json").read_text())["read from it"]
    assert taken["attention_heads"] == SMALL["attention_heads"]


def test_text_conditional_checkpoint_brings_its_unconditional_embedding(tmp_path):
    from audio_diffusion_pytorch import AudioDiffusionConditional, LogNormalDistribution
    from transformers import ByT5Tokenizer, T5Config, T5EncoderModel

    tokenizer = ByT5Tokenizer(extra_ids=0)
    tokenizer.save_pretrained(tmp_path / "t5")
    t5 = T5Config(vocab_size=len(tokenizer), d_model=12, d_ff=8, d_kv=6, num_layers=1, num_heads=2)
    T5EncoderModel(t5).save_pretrained(tmp_path / "t5")
    arguments = {**SMALL, "diffusion_sigma_distribution": LogNormalDistribution(-3.0, 1.0)}
    peer = scrambled(AudioDiffusionConditional(embedding_features=12, embedding_max_length=9, **arguments))
    torch.save({"state_dict": peer.state_dict(), "hyper_parameters": SMALL}, tmp_path / "adp.ckpt")
    import_msdm(tmp_path / "adp.ckpt", tmp_path / "model", window=2400, text_encoder=str(tmp_path / "t5"))

    model = load_model(tmp_path / "model")
    x, sigma = torch.randn(2, 1, 240, generator=torch.Generator().manual_seed(0)), torch.full((2,), 0.3)
    bank = model.embed(["Bass", None])
    assert bank.mask.all()  # padding included, as there
    torch.testing.assert_close(bank.tokens[1], peer.unet.fixed_embedding.embedding.weight)
    # What it was trained with as sigma_data is not in this file: 0.2, MSDM's, is assumed, and the file says so.
    peer.diffusion.sigma_data = 0.2
    expected = peer.diffusion.denoise_fn(x, sigma=0.3, embedding=bank.tokens)
    torch.testing.assert_close(model(x, sigma, bank).clamp(-1, 1), expected, rtol=0, atol=1e-5)
    provenance = json.loads((tmp_path / "model" / "provenance.json").read_text())
    assert provenance["taken for granted"] == {"diffusion_sigma_data": 0.2}
    with pytest.raises(UserError, match="embeddings of 12 features; name the T5 model"):
        import_msdm(tmp_path / "adp.ckpt", tmp_path / "other", window=2400)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"patch_blocks": 2}, "several patch blocks"),
        ({"context_channels": [0, 4]}, "has shape|no counterpart"),
        ({"context_channels": [1]}, "2 channels in but 1 out"),
        ({"use_context_time": False}, "time conditioning"),
        ({"context_features": 7}, "context_features"),
    ],
)
def test_variants_that_ours_lacks_are_refused(arguments, message):
    with pytest.raises(UserError, match=message):
        convert(published(None, **{**SMALL, **arguments}).state_dict(), SMALL)
