"""Signals in and out of the tasks, their seeds, and progress."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from gmsdi.errors import UserError
from gmsdi.inference.base import Mixed
from gmsdi.sampling.noise import SeededNoise
from gmsdi.sampling.session import Session
from gmsdi.types import Progress


def with_mixture(
    session: Session, derivative: Mixed, shape: Sequence[int], noise: SeededNoise, progress: Progress | None
) -> tuple[Tensor, Tensor]:
    """The stems and the mixture of a final state, as signals on the CPU."""
    state = session.sample(derivative, shape, noise, progress=progress)
    mixture = session.space.decode(derivative.mixture_row(state))
    return derivative.signals(state).cpu(), mixture.cpu()


def checked(session: Session, x: Tensor, axes: int, name: str) -> Tensor:
    """Checked float32 signals on the device."""
    channels = session.model.channels
    if x.ndim != axes or x.shape[-2] != channels or 0 in x.shape:
        raise UserError(f"{name} has shape {tuple(x.shape)}; {axes} axes, with {channels} channels, expected")
    if not torch.isfinite(x).all():
        raise UserError(f"{name}: holds NaN or infinite samples; repair or exclude it")
    return x.to(session.device, torch.float32)


def require_seeds(seeds: Sequence[int], items: int) -> None:
    """Refuse seeds that are not one per item."""
    if len(seeds) != items:
        raise UserError(f"{len(seeds)} seeds for {items} items; give one each")


def part_of(progress: Progress | None, before: int, whole: int) -> Progress | None:
    """The progress of one of several runs that together have `whole` steps."""
    return None if progress is None else lambda step, steps: progress(before + step, whole)
