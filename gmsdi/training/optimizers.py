"""Muon for matrices and AdamW for everything else, in one optimiser."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.optim.adamw import adamw

COEFFICIENTS = (3.4445, -4.7750, 2.0315)
"""Coefficients of the quintic Newton-Schulz iteration (Jordan et al. 2024).

The polynomial is steep at zero; it brings singular values to between 0.7 and 1.2.
"""
ITERATIONS = 5
RMS = 0.2
"""Root mean square of Muon's updates at a learning rate of 1, about that of AdamW's (Liu et al. 2025)."""


def orthogonalised(matrices: Tensor, *, dtype: torch.dtype = torch.bfloat16) -> Tensor:
    """Approximately U·Vᵀ of each matrix U·S·Vᵀ, with singular values near 1.

    Args:
        matrices: `[B, m, n]`, fastest with m ≤ n.
        dtype: dtype of the computation.

    Returns:
        `[B, m, n]` of that dtype. Singular values below about 1/1000 of the matrix's norm stay small.
    """
    a, b, c = COEFFICIENTS
    x = matrices.to(dtype)
    x = x / x.norm(dim=(1, 2), keepdim=True).clamp(min=1e-7)
    tall = x.shape[1] > x.shape[2]
    x = x.mT if tall else x
    for _ in range(ITERATIONS):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.mT if tall else x


class Muon(torch.optim.Optimizer):
    """Muon (Jordan et al. 2024) for matrices, AdamW for the rest.

    Muon steps along the orthogonalised Nesterov momentum O of the gradient,

        M ← μM + (1 − μ)G,   W ← (1 − ηλ)W − η·0.2·√max(m, n)·O,   O ≈ U·Vᵀ of (1 − μ)G + μM,

    for W `[m, n]`. With the factor 0.2·√max(m, n) (Liu et al. 2025, `match_rms_adamw` of `torch.optim.Muon`) the update
    has the root mean square 0.2·η, about that of AdamW's, so that both use the same learning rate η and decay λ. A
    convolution's weight is treated as the matrix `[out, in · kernel]`. Matrices of equal shape are orthogonalised
    together.

    Orthogonalising matrices of 256 rows costs about 6000 operations per weight, whatever the batch size. Where this is
    expensive compared with the gradients, `every` = k orthogonalises one k-th of the matrices in each step, in turn,
    and the others reuse their last O. A new gradient makes up only a tenth of the momentum.

    Args:
        matrices: weights `[out, in, ...]` for Muon.
        transposed: weights `[in, out, ...]` of transposed convolutions, for Muon.
        others: parameters for AdamW.
        undecayed: parameters for AdamW without weight decay.
        lr: learning rate η of all parameters.
        betas: AdamW's moment decays.
        weight_decay: λ of all parameters but `undecayed`.
        momentum: Muon's μ.
        every: steps from one orthogonalisation of a matrix to the next; 1 is Muon as published.
        dtype: dtype in which matrices are orthogonalised.
    """

    def __init__(
        self,
        matrices: Iterable[nn.Parameter],
        transposed: Iterable[nn.Parameter],
        others: Iterable[nn.Parameter],
        undecayed: Iterable[nn.Parameter] = (),
        *,
        lr: float,
        betas: tuple[float, float] = (0.9, 0.99),
        weight_decay: float = 0.01,
        momentum: float = 0.95,
        every: int = 1,
        dtype: torch.dtype = torch.bfloat16,
    ) -> None:
        self.dtype = dtype
        groups: list[dict[str, Any]] = [
            {"params": list(matrices), "kind": "matrices"},
            {"params": list(transposed), "kind": "transposed"},
            {"params": list(others), "kind": "others", "fused": True},
            {"params": list(undecayed), "kind": "others", "fused": True, "weight_decay": 0.0},
        ]
        defaults = {"lr": lr, "betas": tuple(betas), "weight_decay": weight_decay, "momentum": momentum}
        defaults["every"] = every
        super().__init__([group for group in groups if group["params"]], defaults)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Take one step.

        Args:
            closure: computes the loss and its gradients; None uses the gradients that are there.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            given = [parameter for parameter in group["params"] if parameter.grad is not None]
            if given:
                (self._adamw if group["kind"] == "others" else self._muon)(given, group)
        return loss

    def _muon(self, parameters: list[Tensor], group: dict[str, Any]) -> None:
        rate, momentum, every = float(group["lr"]), group["momentum"], group["every"]
        for parameter in parameters:
            if not self.state[parameter]:
                self.state[parameter].update(momentum=torch.zeros_like(parameter), count=0)
        states = [self.state[parameter] for parameter in parameters]
        torch._foreach_lerp_([x["momentum"] for x in states], _gradients(parameters), 1 - momentum)
        due = [p for i, p in enumerate(parameters) if (n := self.state[p]["count"]) == 0 or n % every == i % every]
        updates = self._updates(due, momentum, transposed=group["kind"] == "transposed")
        torch._foreach_mul_(parameters, 1 - rate * group["weight_decay"])
        for parameter, state in zip(parameters, states, strict=True):
            if every > 1:
                state["count"] = state["count"] % every + 1
                if parameter in updates:
                    state["update"] = updates[parameter].clone()  # a copy, so as not to keep the whole stack
            update = updates[parameter] if parameter in updates else state["update"]
            longer = max(update.shape[0], update.shape[1])
            target = parameter.transpose(0, 1) if group["kind"] == "transposed" else parameter
            target.add_(update.reshape(target.shape), alpha=-rate * RMS * longer**0.5)

    def _updates(self, parameters: Sequence[Tensor], momentum: float, *, transposed: bool) -> dict[Tensor, Tensor]:
        """The orthogonalised update `[out, in · kernel]` of each parameter."""
        same: dict[tuple[int, int], list[tuple[Tensor, Tensor]]] = {}
        for parameter in parameters:
            (gradient,) = _gradients([parameter])
            update = gradient.lerp(self.state[parameter]["momentum"], momentum)
            matrix = (update.transpose(0, 1) if transposed else update).flatten(1)
            wide = (matrix if matrix.shape[0] <= matrix.shape[1] else matrix.mT).to(self.dtype)
            same.setdefault((wide.shape[0], wide.shape[1]), []).append((parameter, wide))
        found = {}
        for entries in same.values():
            results = orthogonalised(torch.stack([wide for _, wide in entries]), dtype=self.dtype)
            for (parameter, _), result in zip(entries, results, strict=True):
                rows = parameter.shape[1 if transposed else 0]
                found[parameter] = result if rows <= parameter.numel() // rows else result.mT
        return found

    def _adamw(self, parameters: list[Tensor], group: dict[str, Any]) -> None:
        for parameter in parameters:
            state = self.state[parameter]
            if not state:
                state["step"] = torch.zeros((), dtype=torch.float32, device=parameter.device)
                state["exp_avg"], state["exp_avg_sq"] = torch.zeros_like(parameter), torch.zeros_like(parameter)
        states = [self.state[parameter] for parameter in parameters]
        adamw(
            parameters,
            _gradients(parameters),
            [state["exp_avg"] for state in states],
            [state["exp_avg_sq"] for state in states],
            [],
            [state["step"] for state in states],
            fused=True,
            amsgrad=False,
            beta1=group["betas"][0],
            beta2=group["betas"][1],
            lr=group["lr"],
            weight_decay=group["weight_decay"],
            eps=1e-8,
            maximize=False,
        )


def divided(model: nn.Module, ends: Sequence[str] = ()) -> tuple[list[nn.Parameter], ...]:
    """Divide the parameters of a model into the groups of `Muon`.

    Matrices are the weights of linear layers and of convolutions. Embeddings, normalisations, biases and single
    parameters do not count as matrices, nor do the first and last layers, whose rows or columns each have a meaning of
    their own.

    Args:
        model: the model.
        ends: prefixes of the names of parameters of the first and last layers.

    Returns:
        Matrices, matrices of transposed convolutions, and all others. Parameters without gradients are left out.
    """
    wide: set[Tensor] = set()
    transposed: set[Tensor] = set()
    for name, module in model.named_modules():
        if f"{name}.weight".startswith(tuple(ends)):
            continue
        if isinstance(module, nn.ConvTranspose1d | nn.ConvTranspose2d):
            (transposed if module.groups == 1 else set()).add(module.weight)
        elif isinstance(module, nn.Linear | nn.Conv1d | nn.Conv2d):
            wide.add(module.weight)
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    return (
        [parameter for parameter in parameters if parameter in wide],
        [parameter for parameter in parameters if parameter in transposed],
        [parameter for parameter in parameters if parameter not in wide and parameter not in transposed],
    )


def _gradients(parameters: Iterable[Tensor]) -> list[Tensor]:
    return [cast(Tensor, parameter.grad) for parameter in parameters]
