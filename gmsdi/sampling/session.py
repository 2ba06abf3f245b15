"""The one place that runs a model: batches, windows, counting, seeds.

Signals longer than the model's window are sampled as a whole: the state has the full length, and in every step the
model denoises overlapping windows of it, which are cross-faded linearly (as MultiDiffusion does for images, Bar-Tal et
al. 2023). This keeps the windows consistent with each other, and constraints on the state, such as stems that sum to
the mixture, hold at any length.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from gmsdi.errors import UserError
from gmsdi.inference.base import Derivative, Guided
from gmsdi.inference.resting import Resting
from gmsdi.level import Rests
from gmsdi.models.protocol import Model, Traits, Waveform
from gmsdi.sampling.guidance import guided
from gmsdi.sampling.noise import SeededNoise
from gmsdi.sampling.solver import Guidance, Solver
from gmsdi.sampling.windows import overlap_of
from gmsdi.stability import check_stability
from gmsdi.types import Labels, Progress, Stem


@dataclass(frozen=True)
class Batch:
    """How many signals the model denoises at once.

    Attributes:
        size: the maximum, which bounds the memory (guidance doubles the network's rows).
        fixed: pad every batch to `size`. All calls of the network then have the same shape, so an item's result is the
            same to the last bit whatever it is batched with. A few items then take as long as a full batch.

    Raises:
        UserError: if `size` is less than 1.
    """

    size: int = 16
    fixed: bool = False

    def __post_init__(self) -> None:
        if self.size < 1:
            raise UserError(f"max_batch is {self.size}; it must be at least 1")


class Session:
    """A model together with its sampling settings.

    The procedures of `gmsdi.inference` take a session as their model: called with states `[N, ...]` of any length, a
    noise level and N prompts, it returns the guided D, in batches and over windows. `sample` then integrates their
    derivatives:

        session = Session(gmsdi.load("mini"), Solver("euler", steps=25, sigma_max=2.0), Guidance(w=2.0))
        derivative = inference.separator(session, mixture, ["Bass", "Drums"], "Drums")
        stems = derivative.stems(session.sample(derivative, mixture.shape[1:], seeds=[0]))

    Args:
        model: see `gmsdi.models.protocol.Model`.
        solver: how to integrate.
        guidance: strength and kind of the guidance.
        batch: how many signals to denoise at once.

    Attributes:
        labels: the model's labels.
        level: the level of the model's training mixtures, see `gmsdi.level`; None leaves signals as they are.
        device: the device of the states.

    Raises:
        UserError: if the schedule exceeds the range of noise levels that the model can denoise.
    """

    def __init__(
        self, model: Model, solver: Solver, guidance: Guidance | None = None, batch: Batch | None = None
    ) -> None:
        self.model, self.solver = model, solver
        self.guidance, self.batch = guidance or Guidance(), batch or Batch()
        self.space, self.labels = model.space, Labels(model.labels)
        traits = Traits.of(model)
        self.level, self.device = traits.level, torch.device(traits.device)
        self._count = [0]  # shared with sessions derived from this one, as are the embeddings
        self._embeddings: dict[tuple[str | None, ...], Any] = {}
        require_range(solver, model.sigma_range)
        self._asleep: Rests | None = None
        self._denoise = self._prepared()

    @property
    def evaluations(self) -> int:
        """Signals that the network has denoised so far: a long one counts once per window; guidance doubles it."""
        return self._count[0]

    def using(self, solver: Solver | None = None, guidance: Guidance | None = None) -> Session:
        """The same model with other settings; both sessions share one count of evaluations."""
        other = Session(self.model, solver or self.solver, guidance or self.guidance, self.batch)
        other._count, other._embeddings = self._count, self._embeddings
        return other

    def resting(self, rests: Rests | None) -> Session:
        """A session that skips the model in windows that rest throughout, and whose states decay to zero in rests.

        `rests` refers to waveforms, per item of the batch; in other spaces it is ignored.
        """
        other = self.using()
        if rests is not None and isinstance(self.space, Waveform):
            other._asleep = rests
            other._denoise = other._prepared()
        return other

    def __call__(self, x: Tensor, sigma: float, prompts: Sequence[Stem]) -> Tensor:
        """The guided D of states `[N, ...]` of any length."""
        return self._denoise(x, sigma, prompts)

    def sample(
        self,
        derivative: Derivative,
        shape: Sequence[int],
        seeds: Sequence[int] | SeededNoise,
        *,
        progress: Progress | None = None,
    ) -> Tensor:
        """Sample the state of a derivative of this session.

        Args:
            derivative: from a procedure of `gmsdi.inference`.
            shape: the shape of one row of one item, `[C, T]` for a waveform (`Space.shape`).
            seeds: one per item, so B in all; or the noise of B items, from which drawing continues.
            progress: called with (step, steps).

        Returns:
            `[B, S, ...]`, at σ = 0.

        Raises:
            UserError: if the steps are unstable.
        """
        noise = seeds if isinstance(seeds, SeededNoise) else SeededNoise(seeds)
        sigmas = self.solver.sigmas()
        check_stability(derivative, sigmas, step=self.solver.step)
        if self._asleep is not None:
            derivative = Resting(derivative, self._asleep)
        blank = torch.empty(len(noise.generators), 1, *shape, device=self.device)
        with torch.no_grad():
            x = sigmas[0] * noise(blank.expand(-1, derivative.rows, *shape))
            return self.solver.sample(derivative, x, noise=noise, callback=progress)

    def shape(self, samples: int | None = None) -> tuple[int, ...]:
        """The shape of the state of a signal of this many samples; None means the model's window."""
        return self.space.shape(self.model.window if samples is None else samples)

    def padded(self, samples: int) -> int:
        """The shortest length, in samples, that overlapping windows fill exactly and that is at least `samples`."""
        window, ratio = self._window, self._ratio
        hop = window - self._overlap
        return ratio * (window + hop * math.ceil(max(0, samples - ratio * window) / (ratio * hop)))

    @property
    def _window(self) -> int:
        """The model's window in steps of a state."""
        return self.shape()[-1]

    @property
    def _ratio(self) -> int:
        """Samples per step of a state."""
        return self.model.window // self._window

    @property
    def _overlap(self) -> int:
        return overlap_of(self._window)

    def _embedded(self, texts: Sequence[str | None]) -> Any:
        """The model's embeddings of these texts, made once for all batches."""
        key = tuple(texts)
        if key not in self._embeddings:
            self._embeddings[key] = self.model.embed(texts)
        return self._embeddings[key]

    def _prepared(self) -> Guided:
        """The guided denoiser, over windows and in batches that fit the memory."""
        settings = self.guidance
        interval = None if settings.interval is None else (float(settings.interval[0]), float(settings.interval[1]))

        def counted(x: Tensor, sigma: Tensor, embeddings: Any) -> Tensor:
            self._count[0] += len(x)
            return self.model.denoise(x, sigma, embeddings)

        model = guided(
            counted,
            settings.w,
            convention=settings.convention,
            interval=interval,
            clamp=settings.clamp,
            encode=self._embedded,
        )
        model = batched(model, self.batch.size, fixed=self.batch.fixed)
        return over_windows(model, self._window, self._overlap, self._asleep)


def require_range(solver: Solver, sigma_range: tuple[float, float]) -> None:
    """Refuse a schedule that exceeds the noise levels that a model can denoise.

    Raises:
        UserError: if it does.
    """
    low, high = sigma_range
    if solver.sigma_min < low or solver.sigma_max > high:
        raise UserError(
            f"the solver's noise levels are {solver.sigma_min:g} to {solver.sigma_max:g}, but the model knows "
            f"{low:g} to {high:g}; change the solver's sigma_min and sigma_max"
        )


def batched(model: Guided, size: int, *, fixed: bool = False) -> Guided:
    """A model that denoises any number of rows, at most `size` at a time; `fixed` pads the last batch to `size`."""

    def in_batches(x: Tensor, sigma: float, prompts: Sequence[Stem]) -> Tensor:
        rows = len(x)
        if fixed and (missing := -rows % size):
            x = torch.cat([x, x[-1:].expand(missing, *x.shape[1:])])
            prompts = [*prompts, *[prompts[-1]] * missing]
        parts = [model(x[i : i + size], sigma, prompts[i : i + size]) for i in range(0, len(x), size)]
        return torch.cat(parts)[:rows]

    return in_batches


def over_windows(model: Guided, window: int, overlap: int, rests: Rests | None = None) -> Guided:
    """A model for states longer than its window, denoised in overlapping windows that are cross-faded linearly.

    Args:
        model: a model of windows.
        window: its length, in steps of the last axis.
        overlap: of neighbouring windows, in steps, between 1 and half a window.
        rests: the rests of the items, each of which has equally many signals; windows that rest throughout become
            zeros.

    Returns:
        A model of states of up to `window` steps, which are passed on unchanged, or of `window + k·(window − overlap)`.
    """
    hop = window - overlap

    def whole(x: Tensor, sigma: float, prompts: Sequence[Stem]) -> Tensor:
        length = x.shape[-1]
        if length <= window:
            return model(x, sigma, prompts)
        if (length - window) % hop:
            raise ValueError(f"{length} samples are not whole windows of {window} with an overlap of {overlap}")
        pieces = x.unfold(-1, window, hop).movedim(-2, 1)  # [N, windows, ..., window]
        repeated = [prompt for prompt in prompts for _ in range(pieces.shape[1])]
        flat = pieces.flatten(0, 1)
        if rests is None:
            denoised = model(flat, sigma, repeated)
        else:
            places, awake = rests.awake(len(x), window, hop)
            denoised = torch.zeros_like(flat)
            denoised[awake] = model(flat[awake], sigma, [repeated[i] for i in places])
        denoised = denoised.unflatten(0, pieces.shape[:2])
        fade = (torch.arange(overlap, device=x.device, dtype=x.dtype) + 0.5) / overlap
        out = torch.zeros_like(x)
        for i in range(pieces.shape[1]):
            piece = denoised[:, i].clone()
            if i > 0:
                piece[..., :overlap] *= fade
            if i < pieces.shape[1] - 1:
                piece[..., hop:] *= 1 - fade
            out[..., i * hop : i * hop + window] += piece
        return out

    return whole
