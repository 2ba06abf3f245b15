"""The U-Net's parts against PyTorch's one-dimensional layers, and the properties that the whole has to have."""

import re

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from gmsdi.models.edm import unet
from gmsdi.models.edm.conditioning import Conditioning
from gmsdi.models.edm.unet import UNet1d, UNetConfig

SMALL = {
    "in_channels": 2,
    "channels": 16,
    "patch_factor": 4,
    "multipliers": (1, 2, 2),
    "factors": (3, 2),
    "num_blocks": (1, 2),
    "attentions": (False, True),
    "attention_heads": 2,
    "attention_features": 8,
    "resnet_groups": 4,
    "text_features": 12,
}
VARIANTS = [
    pytest.param({}, id="published"),
    pytest.param({"text_features": None}, id="unconditional"),
    pytest.param({"patch": "conv", "residual_bottleneck": True, "text_modulation": True}, id="mini"),
    pytest.param({"use_nearest_upsample": True, "cross_attentions": (False, True)}, id="nearest"),
    pytest.param({"use_attention_bottleneck": False, "mapping_features": 24, "factors": (2, 1)}, id="slim"),
    pytest.param(
        {"kernel_sizes": (7, 5), "dilations": ((2,), (1, 4, 8)), "patch": "conv", "patch_kernel": 5}, id="wide"
    ),
]


def scrambled(net: nn.Module) -> nn.Module:
    """Every parameter a random number: fresh networks keep some branches silent."""
    generator = torch.Generator().manual_seed(0)
    for parameter in net.parameters():
        scale = parameter[0].numel() ** -0.5 if parameter.ndim > 1 else 0.3
        parameter.data.copy_(torch.randn(parameter.shape, generator=generator) * scale)
    return net


def batch(net: UNet1d, rows: int = 3) -> tuple[torch.Tensor, torch.Tensor, Conditioning | None]:
    """Inputs of several noise levels; two prompts of different length for the rows."""
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(rows, net.config.in_channels, 2 * net.config.stride, generator=generator)
    time = torch.linspace(-1.5, 0.3, rows)
    if net.config.text_features is None:
        return x, time, None
    mask = torch.tensor([[True] * 5, [True] * 3 + [False] * 2])
    bank = Conditioning.bank(torch.randn(2, 5, net.config.text_features, generator=generator), mask)
    return x, time, bank.select(torch.arange(rows) % 2)


@pytest.mark.parametrize("options", VARIANTS)
def test_every_row_is_on_its_own(options):
    net = scrambled(UNet1d(UNetConfig(**{**SMALL, **options}))).eval()
    x, time, cond = batch(net)
    with torch.no_grad():
        together = net(x, time, cond)
        assert together.shape == x.shape
        for n in range(len(x)):
            alone = net(x[n : n + 1], time[n : n + 1], cond and cond.select(cond.index[n : n + 1]))
            torch.testing.assert_close(alone[0], together[n], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("options", VARIANTS)
def test_every_parameter_takes_part(options):
    net = scrambled(UNet1d(UNetConfig(**{**SMALL, **options})))
    net(*batch(net)).square().mean().backward()
    idle = [name for name, parameter in net.named_parameters() if parameter.grad is None or not parameter.grad.any()]
    assert not idle


def test_masked_tokens_and_other_prompts_of_the_bank_change_nothing():
    net = scrambled(UNet1d(UNetConfig(**SMALL, text_modulation=True))).eval()
    x, time, cond = batch(net, rows=2)
    tokens = cond.tokens.clone()
    tokens[~cond.mask] = 1e3
    longer = Conditioning(tokens, cond.mask, cond.index)
    short = Conditioning(cond.tokens[1:, :3], cond.mask[1:, :3], torch.tensor([0]))
    with torch.no_grad():
        result = net(x, time, cond)
        torch.testing.assert_close(net(x, time, longer), result)
        torch.testing.assert_close(net(x[1:], time[1:], short), result[1:])
        assert not torch.allclose(net(x, time, cond.select(torch.tensor([1, 0]))), result)


def test_convolutions_in_the_channels_last_layout_are_one_dimensional_ones():
    x = torch.randn(2, 6, 30)
    wide = x.unsqueeze(2).contiguous(memory_format=torch.channels_last)
    for layer, reference in (
        (unet.Conv(6, 8, 7, stride=3, padding=3), F.conv1d),
        (unet.Conv(6, 8, 1), F.conv1d),
        (unet.Conv(6, 8, 5, padding=6, dilation=3), F.conv1d),
        (unet.ConvTranspose(6, 8, 6, stride=3, padding=2, output_padding=1), F.conv_transpose1d),
    ):
        options = {"stride": layer.stride, "padding": layer.padding}
        if isinstance(layer, unet.ConvTranspose):
            options["output_padding"] = layer.output_padding
        else:
            options["dilation"] = layer.dilation
        expected = reference(x, layer.weight, layer.bias, **options)
        torch.testing.assert_close(layer(wide).squeeze(2), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("blocks", [1, 2, 3])
def test_convolutions_of_a_level_reach_as_far_as_their_kernels_and_dilations(blocks):
    """By the response to an impulse, on the way down and up; the other level and the bottleneck have kernel 3."""
    options = {"num_blocks": (blocks, 1), "kernel_sizes": (5, 3), "dilations": ((1, 2, 4), (1,)), "text_features": None}
    net = scrambled(UNet1d(UNetConfig(**{**SMALL, **options}))).eval()

    def reaches(*parts):
        found = []
        for layer in (half.conv for part in parts for half in (part.block1, part.block2)):
            x = torch.zeros(1, layer.in_channels, 1, 41)
            x[..., 20] = 1.0
            with torch.no_grad():
                heard = (layer(x) != layer(0 * x)).any(dim=1).flatten().nonzero().flatten()
            assert heard.min() + heard.max() == 40
            found.append(int(heard.max()) - 20)
        return found

    for level in (net.downs[0], net.ups[1]):
        assert reaches(*level.blocks) == [2, 4, 8, 2, 4, 8][: 2 * blocks]
    assert set(reaches(*net.downs[1].blocks, *net.ups[0].blocks, net.bottleneck.pre, net.bottleneck.post)) == {1}


@pytest.mark.parametrize("factor", [1, 2, 3, 4])
@pytest.mark.parametrize("nearest", [False, True])
def test_up_sampling_multiplies_the_length_alone(factor, nearest):
    assert unet._upsample(4, 6, factor, nearest)(torch.randn(2, 4, 1, 5)).shape == (2, 6, 1, 5 * factor)


def test_patches_are_successive_samples():
    x = torch.randn(2, 3, 1, 12)
    patched = unet._samples_to_channels(x, 4)
    for c in range(3):
        for p in range(4):
            assert torch.equal(patched[:, c * 4 + p, 0], x[:, c, 0, p::4])
    assert torch.equal(unet._channels_to_samples(patched, 4), x)


def multihead(attention: nn.Module, features: int, context: int) -> nn.MultiheadAttention:
    """PyTorch's own attention with the same projections; the output's normalisation is left to the caller."""
    inner = attention.to_q.out_features
    reference = nn.MultiheadAttention(inner, attention.heads, bias=False, kdim=context, vdim=context, batch_first=True)
    k, v = attention.to_kv.weight.chunk(2)
    weights = {"q_proj_weight": attention.to_q.weight, "k_proj_weight": k, "v_proj_weight": v}
    if context == inner:
        weights = {"in_proj_weight": torch.cat([attention.to_q.weight, k, v])}
    reference.load_state_dict({**weights, "out_proj.weight": attention.out.linear.weight})
    assert features == inner
    return reference


def test_self_attention_is_pytorchs():
    attention = scrambled(unet.SelfAttention(24, 3, 8, zero=False))
    x = torch.randn(2, 7, 24)
    h = attention.norm(x)
    expected = attention.out.norm(multihead(attention, 24, 24)(h, h, h)[0])
    torch.testing.assert_close(attention(x), expected, rtol=1e-4, atol=1e-5)


def test_cross_attention_is_pytorchs_with_a_key_mask():
    attention = scrambled(unet.CrossAttention(24, 10, 3, 8))
    x, tokens = torch.randn(2, 24, 1, 7), torch.randn(2, 5, 10)
    mask = torch.tensor([[True] * 5, [True, True, False, False, False]])
    queries, keys = attention.norm(x.squeeze(2).transpose(1, 2)), attention.norm_text(tokens)
    reference, _ = multihead(attention, 24, 10)(queries, keys, keys, key_padding_mask=~mask)
    result = attention(x, Conditioning.bank(tokens, mask)).squeeze(2).transpose(1, 2)
    torch.testing.assert_close(result, attention.out.norm(reference), rtol=1e-4, atol=1e-5)


def test_a_fresh_network_with_convolutional_patches_is_flat():
    """Its output is a constant per patch position, whatever it hears: D = c_skip·x and a small offset."""
    net = UNet1d(UNetConfig(**SMALL, patch="conv", residual_bottleneck=True))
    with torch.no_grad():
        output = net(*batch(net)).unflatten(-1, (-1, net.config.patch_factor))
    torch.testing.assert_close(output, output[:1, :, :1].expand_as(output))


@pytest.mark.parametrize(("text", "in_channels", "millions"), [(None, 1, 405.5), (None, 4, 405.5), (512, 1, 492.6)])
def test_defaults_are_msdms_network(text, in_channels, millions):
    with torch.device("meta"):
        net = UNet1d(UNetConfig(in_channels=in_channels, text_features=text))
    assert round(sum(parameter.numel() for parameter in net.parameters()) / 1e6, 1) == millions
    assert net.config.stride == 2**13


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_blocks": (1,)}, "num_blocks has 1 entries for 2 levels"),
        ({"attentions": (True,) * 3}, "attentions has 3 entries for 2 levels"),
        ({"multipliers": (1, 2)}, "multipliers has 2 entries, not one more than the 2 levels"),
        ({"cross_attentions": (True,)}, "cross_attentions has 1 entries for 2 levels"),
        ({"patch": "fft"}, "patch is 'fft'"),
        ({"kernel_sizes": (3,)}, "kernel_sizes has 1 entries for 2 levels"),
        ({"kernel_sizes": (3, 4)}, "kernel_sizes has 4, which is not an odd number"),
        ({"patch": "conv", "patch_kernel": 2}, "patch_kernel has 2, which is not an odd number"),
        ({"patch_kernel": 5}, "patch_kernel is only for patch 'conv'"),
        ({"dilations": ((1,), ())}, "dilations of level 1 are []"),
    ],
)
def test_contradictions_are_named(options, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        UNetConfig(**{**SMALL, **options})


def test_wrong_lengths_and_missing_text_are_named():
    net = UNet1d(UNetConfig(**SMALL))
    x, time, cond = batch(net)
    with pytest.raises(ValueError, match="length 47 is not a multiple of 24 samples"):
        net(x[..., :-1], time, cond)
    with pytest.raises(ValueError, match="needs text"):
        net(x, time, None)
