"""The frozen text encoder: a T5 with random weights, in a folder, against its own hidden states."""

from __future__ import annotations

import copy
import json
import shutil

import pytest
import torch
from safetensors.torch import load_file

from gmsdi.errors import UserError
from gmsdi.models.checkpoint import build_model, load_model, save_model
from gmsdi.models.text import PretrainedT5, build_text, prompt_of, unique_bank
from tests.unit import tiny

VOCABULARY = ["<pad>", "</s>", "<unk>", "▁", "▁Bass", ",", "▁Drums", "▁Piano"]
LENGTH = 8
# By hand: the words, the comma, and the end of the sentence.
IDS = {"Bass, Drums": [4, 5, 6, 1], "Piano": [7, 1]}
TEXT = {"kind": "t5", "max_length": LENGTH}


@pytest.fixture(scope="module")
def original():
    """A T5 encoder with random weights."""
    from transformers import T5Config, T5EncoderModel

    torch.manual_seed(0)
    config = T5Config(vocab_size=len(VOCABULARY), d_model=12, d_ff=16, d_kv=6, num_layers=2, num_heads=2)
    model = T5EncoderModel(config).eval().requires_grad_(False)
    for parameter in model.parameters():
        parameter.add_(0.3 * torch.randn_like(parameter))
    return model


@pytest.fixture
def folder(original, tmp_path):
    """The encoder as the hub has it."""
    from transformers import T5Tokenizer

    path = tmp_path / "t5-tiny"
    original.save_pretrained(path)
    scores = [(token, 0.0 if token.startswith("<") else -1.0) for token in VOCABULARY]
    T5Tokenizer(vocab=scores, extra_ids=0).save_pretrained(path)
    return path


def model_of(folder):
    """A denoiser with that encoder, random everywhere."""
    torch.manual_seed(1)
    model = build_model({**tiny.CONFIG, "text": {**TEXT, "name": str(folder)}})
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model


def test_embeddings_are_the_encoders_own_without_padding(original, folder):
    text = build_text({**TEXT, "name": str(folder)})
    assert text.features == 12
    bank = text(["Piano", None, "Bass, Drums", "Piano"])
    assert bank.tokens.shape == (4, LENGTH, 12)
    for row, prompt in ((0, "Piano"), (2, "Bass, Drums"), (3, "Piano")):
        ids = IDS[prompt]
        expected = original(input_ids=torch.tensor([ids])).last_hidden_state[0]
        torch.testing.assert_close(bank.tokens[row, : len(ids)], expected)
        assert bank.mask[row].tolist() == [True] * len(ids) + [False] * (LENGTH - len(ids))
    assert torch.equal(bank.tokens[1], text.unconditional)
    assert bank.mask[1].all()
    assert build_text({**TEXT, "name": str(folder), "attend_padding": True})(["Piano"]).mask.all()
    with pytest.raises(UserError, match="longer than 8 tokens; shorten it"):
        text(["Bass, " * 9])


def test_every_prompt_is_embedded_once_and_training_still_has_its_gradients(folder, monkeypatch):
    calls = []
    embed = PretrainedT5.embed
    monkeypatch.setattr(
        PretrainedT5, "embed", lambda self, text, length: calls.append(text) or embed(self, text, length)
    )
    model = model_of(folder)
    average = copy.deepcopy(model)  # as training keeps one
    assert average.text.encoder is model.text.encoder
    assert not any("encoder" in name for name in model.state_dict())
    batch = {"clean": torch.randn(4, 1, 256), "noise": torch.randn(4, 1, 256), "sigma": torch.full((4,), 0.2)}
    batch["texts"] = ["Bass", "Bass, Drums", None, "Bass"]
    with torch.inference_mode():  # a validation before the first step
        first = model.training_loss(batch)
    for _ in range(2):
        loss = model.training_loss(batch)
        loss.mean().backward()
    torch.testing.assert_close(loss.detach(), first)
    assert calls == ["Bass", "Bass, Drums"]
    assert model.text.unconditional.grad.abs().sum() > 0
    model.encode(["Bass", "Piano"])
    assert calls == ["Bass", "Bass, Drums", "Piano"]


def test_a_saved_model_samples_without_its_encoder(folder, tmp_path):
    model = model_of(folder).eval()
    save_model(tmp_path / "model", model)
    weights = load_file(tmp_path / "model" / "model.safetensors")
    assert [name for name in weights if name.startswith("text.")] == ["text.unconditional"]
    shutil.rmtree(folder)
    loaded = load_model(tmp_path / "model")
    x, sigma = torch.randn(4, 1, 256), torch.full((4,), 0.3)
    texts = ["Bass", "Bass, Drums", None, prompt_of(tiny.CONFIG["labels"])]
    with torch.no_grad():
        expected = model(x, sigma, unique_bank(model.text, texts))
        assert torch.equal(loaded(x, sigma, unique_bank(loaded.text, texts)), expected)
    with pytest.raises(UserError, match=r"t5-tiny': no such folder; set text\.name to one that holds config\.json"):
        loaded.encode(["Drums, Bass"])
    save_model(tmp_path / "again", loaded)
    first, second = (load_file(tmp_path / name / "prompts.safetensors") for name in ("model", "again"))
    assert first["tokens"].shape == (7, LENGTH, 12)
    assert all(torch.equal(first[name], second[name]) for name in ("tokens", "mask"))
    (tmp_path / "model" / "prompts.safetensors").write_bytes(b"nothing")
    with pytest.raises(UserError, match=r"prompts\.safetensors: not embeddings of prompts .*remove it"):
        load_model(tmp_path / "model")
    config = json.loads((tmp_path / "again" / "config.json").read_text())
    config["text"]["max_length"] = 9
    (tmp_path / "again" / "config.json").write_text(json.dumps(config))
    with pytest.raises(UserError, match=r"of 7 prompts, but text\.max_length is 9"):
        load_model(tmp_path / "again")
