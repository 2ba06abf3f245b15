"""Muon against an SVD and PyTorch's Muon, and AdamW's part against PyTorch's AdamW."""

import numpy as np
import pytest
import torch
from torch import nn

from gmsdi.models.checkpoint import load_model
from gmsdi.models.registry import BUNDLED
from gmsdi.training.optimizers import COEFFICIENTS, ITERATIONS, Muon, divided, orthogonalised


def random(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("shape", [(24, 60), (60, 24), (32, 32)])
def test_orthogonalised_keeps_the_singular_vectors_and_brings_the_values_near_one(shape):
    matrices = random(3, *shape).double()
    u, s, v = np.linalg.svd(matrices.numpy(), full_matrices=False)
    a, b, c = COEFFICIENTS
    values = s / np.linalg.norm(s, axis=-1, keepdims=True)
    for _ in range(ITERATIONS):
        values = a * values + b * values**3 + c * values**5
    exact = orthogonalised(matrices, dtype=torch.float64)
    np.testing.assert_allclose(exact, u * values[:, None] @ v, atol=1e-9)
    quick = orthogonalised(matrices)
    assert quick.dtype == torch.bfloat16
    found = np.linalg.svd(quick.double().numpy(), compute_uv=False)
    large = s > 0.05 * s.max(axis=-1, keepdims=True)
    assert found[large].min() > 0.6
    assert found.max() < 1.3
    cosine = (quick.double().numpy() * (u @ v)).sum(axis=(1, 2)) / np.sqrt((found**2).sum(-1) * s.shape[-1])
    assert cosine.min() > 0.95


def train(optimizer, parameters, steps=5, rates=(1.0, 0.5, 2.0, 1.0, 1.0)):
    """So many steps on gradients that are functions of the step and the number of values."""
    base = [group["lr"] for group in optimizer.param_groups]
    for step in range(steps):
        for group, lr in zip(optimizer.param_groups, base, strict=True):
            group["lr"] = lr * rates[step]
        for parameter in parameters:
            parameter.grad = random(parameter.numel(), seed=step).reshape(parameter.shape)
        optimizer.step()


@pytest.mark.parametrize("shape", [(24, 40), (40, 24)])
def test_matrices_go_where_pytorchs_muon_takes_them(shape):
    ours, theirs = (nn.Parameter(random(*shape) / 10) for _ in range(2))
    settings = {"lr": 0.05, "weight_decay": 0.1, "momentum": 0.9}
    train(Muon([ours], [], [], **settings), [ours])
    train(torch.optim.Muon([theirs], adjust_lr_fn="match_rms_adamw", **settings), [theirs])
    torch.testing.assert_close(ours, theirs, rtol=0, atol=0.05 * 0.2 * 5 * 2**-6)
    assert (ours - random(*shape) / 10).square().mean().sqrt() > 0.2 * 0.05


def test_convolutions_are_the_matrices_of_their_outputs():
    """`[out, in, kernel]` and, transposed, `[in, out, kernel]`, together with others of the same size."""
    convolution, transposed, wide, tall = random(8, 4, 5), random(4, 8, 5), random(8, 20), random(20, 8)
    settings = {"lr": 0.1, "weight_decay": 0.1, "dtype": torch.float32}

    def moved(tensor, gradient, kind=0):
        parameter = nn.Parameter(tensor.clone())
        groups = [[], [], []]
        groups[kind] = [parameter]
        parameter.grad = gradient
        Muon(*groups, **settings).step()
        return parameter.detach()

    gradients = [random(*x.shape, seed=1) for x in (convolution, transposed, wide, tall)]
    parameters = [nn.Parameter(x.clone()) for x in (convolution, transposed, wide, tall)]
    for parameter, gradient in zip(parameters, gradients, strict=True):
        parameter.grad = gradient
    Muon([parameters[0], *parameters[2:]], [parameters[1]], [], **settings).step()
    flat = moved(convolution.flatten(1), gradients[0].flatten(1)).reshape(8, 4, 5)
    torch.testing.assert_close(parameters[0], flat)
    swapped = moved(transposed.transpose(0, 1).flatten(1), gradients[1].transpose(0, 1).flatten(1))
    torch.testing.assert_close(parameters[1], swapped.reshape(8, 4, 5).transpose(0, 1))
    torch.testing.assert_close(parameters[2], moved(wide, gradients[2]))
    torch.testing.assert_close(parameters[3], moved(tall, gradients[3]))


def test_the_rest_is_pytorchs_adamw():
    ours, theirs = ([nn.Parameter(random(7, seed=k)) for k in range(3)] for _ in range(2))
    settings = {"lr": 0.02, "betas": (0.8, 0.95), "weight_decay": 0.1}
    train(Muon([], [], ours[:2], ours[2:], **settings), ours)
    reference = torch.optim.AdamW(theirs[:2], **settings, fused=True)
    reference.add_param_group({"params": theirs[2:], "weight_decay": 0.0})
    train(reference, theirs)
    assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))


def test_in_turn_every_matrix_is_orthogonalised_every_so_many_steps(monkeypatch):
    seen = []
    real = Muon._updates

    def counted(self, due, *rest, **options):
        seen.append([next(i for i, x in enumerate(parameters) if x is p) for p in due])
        return real(self, due, *rest, **options)

    monkeypatch.setattr(Muon, "_updates", counted)
    parameters = [nn.Parameter(random(4, 6, seed=k)) for k in range(5)]
    optimizer = Muon(parameters, [], [], lr=0.1, weight_decay=0.0, every=3, dtype=torch.float32)
    where = []
    for step in range(7):
        for parameter in parameters:
            parameter.grad = random(4, 6, seed=step)
        optimizer.step()
        where.append([p.detach().clone() for p in parameters])
    assert seen == [[0, 1, 2, 3, 4], [1, 4], [2], [0, 3], [1, 4], [2], [0, 3]]
    # matrix 1: new in steps 1 and 4 (from 0), the same update in between
    torch.testing.assert_close(where[2][1] - where[1][1], where[1][1] - where[0][1])
    assert not torch.allclose(where[4][1] - where[3][1], where[3][1] - where[2][1], atol=1e-3)


def test_a_models_matrices_are_its_linear_maps_and_convolutions_but_for_its_ends():
    model = load_model(BUNDLED / "mini").requires_grad_(True)
    parts = divided(model, model.ends)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    matrices, transposed, others = ({names[id(parameter)] for parameter in part} for part in parts)
    assert matrices | transposed | others == set(names.values())
    assert len(matrices) + len(transposed) + len(others) == len(names)
    assert all(name.startswith("net.ups.") and ".up." in name for name in transposed)
    assert {"net.patch.conv.weight", "net.unpatch.block.conv.weight", "text.unconditional"} <= others
    assert "text.encoder.shared.weight" in others
    share = sum(parameter.numel() for part in parts[:2] for parameter in part) / sum(
        p.numel() for p in model.parameters()
    )
    assert share > 0.98
    assert not any(name.endswith("bias") or "norm" in name for name in matrices | transposed)
