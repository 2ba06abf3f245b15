"""A network replayed from graphs gives what it gives without."""

import pytest
import torch

from gmsdi.models.edm.conditioning import Conditioning
from gmsdi.models.edm.denoiser import EDMDenoiser
from gmsdi.models.edm.graphs import Graphs
from gmsdi.models.edm.unet import UNet1d, UNetConfig
from tests.peers.oracles import scrambled

UNET = {
    "channels": 8,
    "patch_factor": 2,
    "multipliers": [1, 2],
    "factors": [2],
    "num_blocks": [1],
    "attentions": [True],
    "attention_heads": 2,
    "attention_features": 4,
    "resnet_groups": 2,
}
DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU"))]


class Rerun:
    """Does on a CPU what a graph does: runs again on what the recorded memory now holds."""

    def __init__(self):
        self.recorded = self.replayed = 0

    def __call__(self, run):
        self.recorded += 1
        output = run()

        def replay():
            self.replayed += 1
            output.copy_(run())

        return output, replay


def pair(device, text=6, autocast=None, **options):
    """A denoiser, the same from graphs, and what records them."""
    plain, graphed = (
        EDMDenoiser(scrambled(UNet1d(UNetConfig(**UNET, text_features=text, **options))), 0.2, autocast).to(device)
        for _ in range(2)
    )
    record = Rerun() if device == "cpu" else None
    graphs = graphed.net.forward = Graphs(graphed.net.forward, record)
    return plain, graphed, graphs


def bank(seed, device, prompts=3):
    generator = torch.Generator().manual_seed(seed)
    mask = torch.ones(prompts, 4, dtype=torch.bool)
    mask[0, seed % 3 + 1 :] = False
    return Conditioning.bank(torch.randn(prompts, 4, 6, generator=generator).to(device), mask.to(device))


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("modulated", [False, True])
def test_graphs_follow_signals_levels_and_texts(device, modulated):
    plain, graphed, graphs = pair(device, text_modulation=modulated)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for seed in (1, 2, 3):
            texts = [bank(seed, device) for _ in range(2)]
            for rows in ([0, 1], [2, 0], [1, 1], [2, 1, 0], [0, 0, 2], [1, 2, 0]):
                x = torch.randn(len(rows), 1, 32, generator=generator).to(device)
                sigma = torch.rand(len(rows), generator=generator).to(device) + 0.1
                index = torch.tensor(rows, device=device)
                expected = plain(x, sigma, texts[0].select(index))
                found = graphed(x, sigma, texts[1].select(index))
                torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4)
    assert len(graphs.graphs) == 2
    if device == "cpu":
        assert graphs.record.recorded == 2
        assert graphs.record.replayed == 3 * 6 - 4  # all but the first with each shape, and the first of each new bank


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("autocast", [None, torch.bfloat16])
def test_networks_without_text_have_graphs(device, autocast):
    plain, graphed, graphs = pair(device, text=None, autocast=autocast)
    x = torch.randn(2, 1, 32, generator=torch.Generator().manual_seed(0)).to(device)
    kept = []
    with torch.no_grad():
        for level in (0.1, 0.2, 0.3, 0.4):
            sigma = torch.full((2,), level, device=device)
            kept.append((graphed(x * level, sigma), plain(x * level, sigma)))
    for found, expected in kept:  # no result is overwritten by a later one
        torch.testing.assert_close(found, expected, rtol=1e-2, atol=1e-2)
    assert all(graph is not None for graph in graphs.graphs.values())


def test_gradients_need_the_network_itself():
    _, graphed, graphs = pair("cpu")
    x, sigma = torch.randn(2, 1, 32, requires_grad=True), torch.ones(2)
    for _ in range(3):
        graphed(x, sigma, bank(0, "cpu").select(torch.tensor([0, 1]))).sum().backward()
    assert x.grad is not None
    assert not graphs.graphs
