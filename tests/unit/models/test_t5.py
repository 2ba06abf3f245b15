"""The small T5 over bytes: the same bits as transformers' encoder and tokenizer."""

import subprocess
import sys

import pytest
import torch
from transformers import ByT5Tokenizer, T5Config, T5EncoderModel

from gmsdi.errors import UserError
from gmsdi.models.checkpoint import load_model
from gmsdi.models.edm.t5 import T5Encoder, tokens_of
from gmsdi.models.registry import BUNDLED
from tests import REPO

LENGTH = 140
"""More tokens than there are positions with a bucket of their own."""
TEXTS = ["Bass", "", "Bass, Drums", "Ænima Ȕ 🎸", "a long prompt, " * 9]


def theirs(own, features, heads, layers):
    sizes = {"d_model": features, "d_ff": 2 * features, "d_kv": features // heads}
    config = T5Config(vocab_size=259, **sizes, num_layers=layers, num_heads=heads, dropout_rate=0.0)
    model = T5EncoderModel(config)
    if own is not None:
        found = model.load_state_dict(own.state_dict(), strict=False)
        assert found.missing_keys == ["encoder.embed_tokens.weight"]  # the token table's other name
        assert not found.unexpected_keys
    return model


def bundled():
    return load_model(BUNDLED / "mini").text.encoder, (64, 4, 2)


def uneven():
    """Heads that do not fill the features."""
    torch.manual_seed(0)
    return T5Encoder(20, 3, 2), (20, 3, 2)


def rounded():
    encoder, sizes = uneven()
    return encoder.bfloat16(), sizes


@pytest.mark.parametrize("make", [bundled, uneven, rounded])
def test_embeddings_and_gradients_are_those_of_transformers(make):
    own, sizes = make()
    own.requires_grad_()
    other = theirs(own, *sizes).to(own.shared.weight.dtype)
    ids, mask = tokens_of(TEXTS, LENGTH)
    encoded = ByT5Tokenizer(extra_ids=0)(TEXTS, padding="max_length", max_length=LENGTH)
    assert ids.tolist() == encoded["input_ids"]
    assert mask.int().tolist() == encoded["attention_mask"]
    for rows in (slice(None), slice(0, 1), slice(4, 5)):
        expected = other(input_ids=ids[rows], attention_mask=mask[rows].long()).last_hidden_state
        assert torch.equal(own(ids[rows], mask[rows]), expected)
    if own.shared.weight.dtype != torch.float32:  # which is not trained
        return
    own(ids, mask).square().sum().backward()
    other(input_ids=ids, attention_mask=mask.long()).last_hidden_state.square().sum().backward()
    named = dict(other.named_parameters())
    for name, parameter in own.named_parameters():
        torch.testing.assert_close(parameter.grad, named[name].grad, msg=name)


def test_initial_weights_are_as_spread_as_those_of_transformers():
    torch.manual_seed(0)
    own = T5Encoder(96, 3, 1)
    named = dict(theirs(None, 96, 3, 1).named_parameters())
    assert own.state_dict().keys() == named.keys()
    for name, parameter in own.named_parameters():
        assert parameter.std().item() == pytest.approx(named[name].std().item(), rel=0.25), name
        assert parameter.mean().item() == pytest.approx(named[name].mean().item(), abs=0.5 * parameter.std().item()), (
            name
        )


def test_a_prompt_of_too_many_bytes_is_named():
    assert tokens_of(["Bass"], 5)[1].all()
    with pytest.raises(UserError, match="'Bässe' is longer than 6 tokens; shorten it"):
        tokens_of(["Bass", "Bässe"], 6)


def test_opening_the_bundled_model_loads_no_library_that_takes_seconds():
    code = "import sys, gmsdi.batch; gmsdi.load('mini', device='cpu').embed(['Bass']); print(*sys.modules)"
    result = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, cwd=REPO)
    assert not {"transformers", "pandas", "scipy", "torch._dynamo", "lightning"} & set(result.stdout.split())
