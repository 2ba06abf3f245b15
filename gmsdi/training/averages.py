"""Averages of the weights by power functions of time, whose length can be chosen after training.

The average of exponent γ at step t weighs the weights of step τ by about (γ + 1)·τ^γ / t^(γ+1), so that it always looks
back over the same share of the training (Karras et al. 2024, "Analyzing and Improving the Training Dynamics of
Diffusion Models", Sect. 3). Its length is given as σ_rel, the standard deviation of that profile in units of t. From
snapshots of two such averages, averages of other lengths can be reconstructed: the combination of snapshots whose
profile comes nearest.

`python -m gmsdi.training.averages SNAPSHOTS OUT --sigma-rel 0.07` writes a model folder from the snapshots of a
training.
"""

from __future__ import annotations

import argparse
import copy
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from gmsdi.errors import UserError
from gmsdi.io.files import atomic
from gmsdi.training.config import LONGEST

CONFIG = "config.json"


def exponent(sigma_rel: float) -> float:
    """The exponent γ of a power-function average of this length.

    It solves σ_rel² = (γ + 1) / ((γ + 2)²·(γ + 3)).

    Raises:
        UserError: if no average has this length.
    """
    if not 0 < sigma_rel <= LONGEST:
        raise UserError(f"an average's sigma_rel is {sigma_rel}; it must be above 0 and at most {LONGEST:.3f}")
    t = sigma_rel**-2
    return float(max(0.0, np.roots([1, 7, 16 - t, 12 - t]).real.max()))


class RunningAverage(nn.Module):
    """An average of a model's weights over the steps of its training.

    Unlike torch's `AveragedModel` it does not count the steps in a tensor on the device: to read it, the host would
    wait for the GPU in every step.

    Args:
        model: the model; the average starts as a copy of it, `module`.
        rate: the weight of a step, counted from 1, in the average up to it.
    """

    def __init__(self, model: nn.Module, rate: Callable[[int], float]) -> None:
        super().__init__()
        self.module = copy.deepcopy(model).requires_grad_(False)
        self.rate = rate

    @torch.no_grad()
    def update(self, model: nn.Module, step: int) -> None:
        """Add the weights after a step, the first of which is 1. Buffers are not averaged, but copied."""
        torch._foreach_lerp_(list(self.module.parameters()), list(model.parameters()), self.rate(step))
        for own, current in zip(self.module.buffers(), model.buffers(), strict=True):
            own.copy_(current)


def exponential_rate(decay: float) -> Callable[[int], float]:
    """The rate of an exponential average that starts at the weights of the first step."""
    return lambda step: 1.0 if step == 1 else 1 - decay


def power_rate(sigma_rel: float) -> Callable[[int], float]:
    """The rate of an average by a power function of this length."""
    gamma = exponent(sigma_rel)
    return lambda step: float(1 - (1 - 1 / step) ** (gamma + 1))


def profile(gamma: float, step: int, steps: int) -> np.ndarray:
    """The weights of steps 1 … `steps` in the average at `step`, float64 `[steps]`."""
    ends = np.clip(np.arange(steps + 1) / step, 0, 1) ** (gamma + 1)
    return np.diff(ends)


def combination(saved: Sequence[tuple[int, float]], sigma_rel: float, step: int) -> tuple[np.ndarray, float]:
    """How to combine saved averages into one of another length.

    Args:
        saved: step and σ_rel of each saved average.
        sigma_rel: the length wanted.
        step: the step wanted.

    Returns:
        The factor of each saved average, `[n]`, and the distance of their combined profile from the right one, relative
        to the norm of the latter.
    """
    steps = max(step, *(at for at, _ in saved))
    columns = np.stack([profile(exponent(length), at, steps) for at, length in saved], axis=1)
    target = profile(exponent(sigma_rel), step, steps)
    factors = np.linalg.lstsq(columns, target, rcond=None)[0]
    return factors, float(np.linalg.norm(columns @ factors - target) / np.linalg.norm(target))


def save_snapshot(folder: str | Path, step: int, averages: Mapping[float, Mapping[str, Tensor]]) -> None:
    """Write the averages of a step as `<step>.safetensors`, in float16.

    Args:
        folder: the folder of the training's snapshots.
        step: the training step.
        averages: σ_rel to weights.
    """
    tensors = {
        f"{sigma_rel}/{name}": tensor.detach().to("cpu", torch.float16).contiguous()
        for sigma_rel, weights in averages.items()
        for name, tensor in weights.items()
    }
    with atomic(Path(folder) / f"{step}.safetensors") as path:
        save_file(tensors, path)


def reconstruct(folder: str | Path, sigma_rel: float, *, step: int | None = None) -> tuple[dict[str, Tensor], float]:
    """Reconstruct the average of any length from the snapshots of a training.

    Args:
        folder: the folder of the snapshots.
        sigma_rel: length of the average.
        step: the training step of the average, which must be that of a snapshot; None means the last one.

    Returns:
        Weights in float32, and the relative distance of the profile, see `combination`: a few hundredths or less for
        lengths between those that were saved, and more the further outside.

    Raises:
        UserError: if there are no snapshots, or none of that step, or the length is out of range.
    """
    folder = Path(folder)
    files = {int(file.stem): file for file in folder.glob("*.safetensors") if file.stem.isdecimal()}
    if not files:
        raise UserError(f"{folder}: no snapshots found; they are in the work folder of a training with ema_power")
    step = max(files) if step is None else step
    if step not in files:
        raise UserError(f"{folder}: no snapshot of step {step}, only of {', '.join(map(str, sorted(files)))}")
    opened = {at: safe_open(file, framework="pt") for at, file in sorted(files.items()) if at <= step}
    saved = [(at, length) for at, file in opened.items() for length in sorted({_length(key) for key in file.keys()})]  # noqa: SIM118
    factors, distance = combination(saved, sigma_rel, step)
    weights: dict[str, Tensor] = {}
    for (at, length), factor in zip(saved, factors, strict=True):
        for key in opened[at].keys():  # noqa: SIM118
            if _length(key) == length:
                name = key.partition("/")[2]
                part = opened[at].get_tensor(key).double() * factor
                weights[name] = weights[name] + part if name in weights else part
    return {name: tensor.float() for name, tensor in weights.items()}, distance


def main(arguments: Sequence[str] | None = None) -> int:
    """Write a model folder with the average of a given length; the exit status is 1 for a `UserError`."""
    parser = argparse.ArgumentParser(prog="python -m gmsdi.training.averages", description=main.__doc__)
    parser.add_argument("snapshots", type=Path, help="folder of the snapshots, `averages` in a training's work folder")
    parser.add_argument("out", type=Path, help="model folder to write")
    parser.add_argument("--sigma-rel", type=float, required=True, help="length of the average, e.g. 0.07")
    parser.add_argument("--step", type=int, help="training step of the average; default: that of the last snapshot")
    given = parser.parse_args(arguments)
    try:
        _write(given.snapshots, given.out, given.sigma_rel, given.step)
    except UserError as error:
        print(f"gmsdi: {error}", file=sys.stderr)
        return 1
    return 0


def _write(snapshots: Path, out: Path, sigma_rel: float, step: int | None) -> None:
    from gmsdi.models.checkpoint import build_model, save_model

    weights, distance = reconstruct(snapshots, sigma_rel, step=step)
    config: dict[str, Any] = json.loads((snapshots / CONFIG).read_text())
    model = build_model(config)
    model.load_state_dict(weights, strict=False)
    told = {"averages": str(snapshots), "sigma_rel": sigma_rel, "step": step, "distance": distance}
    save_model(out, model, {"provenance.json": json.dumps(told, indent=2) + "\n"})


def _length(key: str) -> float:
    return float(key.partition("/")[0])


if __name__ == "__main__":
    sys.exit(main())
