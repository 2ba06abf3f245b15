"""The frozen text encoder: a T5 with random weights, in a folder and in a cache, against its own hidden states."""

from __future__ import annotations

import copy
import json
import os
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from gmsdi.errors import UserError
from gmsdi.models.checkpoint import build_model, load_model, save_model
from gmsdi.models.edm.text import FrozenText, PretrainedT5, build_text, prompt_of, unique_bank
from tests.helpers import fresh, tiny

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
    model.embed(["Bass", "Piano"])
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
        loaded.embed(["Drums, Bass"])
    save_model(tmp_path / "again", loaded)
    first, second = (load_file(tmp_path / name / "prompts.safetensors") for name in ("model", "again"))
    assert first["tokens"].shape == (7, LENGTH, 12)
    assert all(torch.equal(first[name], second[name]) for name in ("tokens", "mask"))
    (tmp_path / "model" / "prompts.safetensors").write_bytes(b"nothing")
    with pytest.raises(UserError, match=r"prompts\.safetensors: not embeddings of prompts .*remove the file"):
        load_model(tmp_path / "model")
    config = json.loads((tmp_path / "again" / "config.json").read_text())
    config["text"]["max_length"] = 9
    (tmp_path / "again" / "config.json").write_text(json.dumps(config))
    with pytest.raises(UserError, match=r"of 7 prompts, but text\.max_length is 9"):
        load_model(tmp_path / "again")


def test_a_populated_cache_serves_without_a_connection(folder, tmp_path):
    """Another process, as the environment is read when the libraries are imported."""
    commit = "0123456789abcdef" * 2 + "01234567"
    repository = tmp_path / "home" / "hub" / "models--google-t5--t5-tiny"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text(commit)
    shutil.copytree(folder, repository / "snapshots" / commit)
    code = """
import sys
from pathlib import Path
from gmsdi.errors import UserError
from gmsdi.models.edm.text import build_text

text = build_text({"kind": "t5", "name": "google-t5/t5-tiny", "max_length": 8})
text.write_prompts(Path(sys.argv[1]), ["Bass", "Drums"])
try:
    build_text({"kind": "t5", "name": "t5-small", "max_length": 8})
except UserError as error:
    print(error)
"""
    unset = ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "TRANSFORMERS_CACHE")
    environment = {name: value for name, value in os.environ.items() if name not in unset}
    environment |= {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "home")}
    stored = tmp_path / "stored.safetensors"
    result = fresh.run(code, stored, cwd=tmp_path, environment=environment)
    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines()[-1] == (
        "text encoder 't5-small' is not in the Hugging Face cache, and HF_HUB_OFFLINE is set; run `hf download "
        "t5-small config.json model.safetensors tokenizer.json tokenizer_config.json` where there is a connection "
        "(and copy that cache, HF_HOME), or set text.name to a local folder with these files"
    )
    known = FrozenText(PretrainedT5("google-t5/t5-tiny"), max_length=LENGTH, prompts=stored)
    prompts = ["Bass", "Drums", "Bass, Drums"]
    own = build_text({**TEXT, "name": str(folder)})(prompts)
    assert torch.equal(known(prompts).tokens, own.tokens)
    assert torch.equal(known(prompts).mask, own.mask)


def _pickled(folder):
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()


def _incomplete(folder):
    weights = load_file(folder / "model.safetensors")
    del weights["encoder.final_layer_norm.weight"]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def _another_kind(folder):
    (folder / "config.json").write_text('{"model_type": "bert"}')


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (_pickled, r"no T5 that can be read; it needs config\.json model\.safetensors .*pickled weights are not read"),
        (_incomplete, r"weight encoder\.final_layer_norm\.weight is missing"),
        (_another_kind, "is a bert, not a T5"),
        (lambda folder: (folder / "model.safetensors").write_bytes(b"nothing"), r"model\.safetensors is damaged"),
        (lambda folder: (folder / "config.json").unlink(), "no T5 that can be read"),
        (shutil.rmtree, "no such folder"),
    ],
)
def test_what_cannot_be_read_is_named_in_one_line(folder, damage, says):
    damage(folder)
    with pytest.raises(UserError, match=says) as raised:
        build_text({**TEXT, "name": str(folder)})
    assert "\n" not in str(raised.value)
