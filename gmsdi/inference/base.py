"""What the procedures share: the protocol of a derivative, and prompts by item."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol, TypeAlias, cast

from torch import Tensor

from gmsdi.errors import UserError
from gmsdi.models.protocol import Space, Waveform
from gmsdi.types import Prompt, Stem, as_prompt

Guided: TypeAlias = Callable[[Tensor, float, Sequence[Stem]], Tensor]
"""`D = model(x, sigma, prompts)`: x `[N, ...]`, sigma a float, N prompts; returns `[N, ...]`."""
Prompts: TypeAlias = Sequence[Stem] | Sequence[Sequence[Stem]]
Join: TypeAlias = Callable[[Sequence[Prompt]], Prompt]
Noise: TypeAlias = Callable[[Tensor], Tensor]
Consistency: TypeAlias = Callable[[Tensor, Tensor], Tensor]

WAVEFORM = Waveform()
"""The space of models of audio, in which signals add up."""


class Derivative(Protocol):
    """dx/dσ of a state `[B, S, ...]`: B independent items, each of S coupled rows.

    By default a derivative has neither a gain nor a coupling.

    Attributes:
        rows: S.
        gain: g of a derivative of the form d = g·(x − D)/σ, with estimates D of its signals; None for other forms.
        space: the space of the state.
    """

    rows: int
    gain: float | None = None
    space: Space = WAVEFORM

    def __call__(self, x: Tensor, sigma: float) -> Tensor:
        """dx/dσ, of the shape of x."""
        ...

    def stems(self, x: Tensor) -> Tensor:
        """The sources in the order of the prompts, `[B, K, ...]`, of a final state."""
        ...

    def signals(self, x: Tensor) -> Tensor:
        """The sources of a final state as signals `[B, K, C, T]`; if they sum to a mixture, they do so in any space."""
        return decoded(self.space, self.stems(x))

    def coupling(self, sigma: float) -> float:
        """λ(σ), by which likelihood terms change the error e of a sum: de/dσ = λ·e (see `check_stability`)."""
        return 0.0

    def estimate(self, x: Tensor, sigma: float) -> Tensor:
        """The estimates D of the signals in d = g·(x − D)/σ, `[B, S, ...]`.

        Raises:
            UserError: if the derivative does not have this form.
        """
        if self.gain is None:
            raise UserError(f"{type(self).__name__} implies no estimate of its signals")
        return x - sigma * self(x, sigma) / self.gain


class Mixed(Derivative, Protocol):
    """A derivative whose states also contain a mixture."""

    def mixture_row(self, x: Tensor) -> Tensor:
        """The mixture `[B, ...]` of a final state."""
        ...


def denoised(model: Guided, x: Tensor, sigma: float, prompts: list[list[Prompt]]) -> Tensor:
    """D of all coupled rows of all items, `[B, R, ...]`, in one call of the model."""
    rows = [prompt for item in expand(prompts, x.shape[0]) for prompt in item]
    return model(x.flatten(0, 1), sigma, rows).unflatten(0, x.shape[:2])


def decoded(space: Space, rows: Tensor) -> Tensor:
    """The signals `[B, S, C, T]` of states `[B, S, ...]`."""
    return space.decode(rows.flatten(0, 1)).unflatten(0, rows.shape[:2])


def encoded(space: Space, signals: Tensor) -> Tensor:
    """The states `[B, S, ...]` of signals `[B, S, C, T]`."""
    return space.encode(signals.flatten(0, 1)).unflatten(0, signals.shape[:2])


def reference(space: Space, mixture: Tensor) -> Tensor:
    """What `Space.rest` takes for a mixture `[B, C, T]`: its state, or the signal where the space is not additive."""
    return space.encode(mixture) if space.additive else mixture


def project(x: Tensor, mixture: Tensor, space: Space = WAVEFORM) -> Tensor:
    """The point nearest to the sources x `[B, K, ...]` that sums to the mixture, as `reference` gives it.

    In a space that is not additive, the nearest signals are taken: the sources are decoded, the
    residual (mixture minus sum) is divided equally among them, and they are encoded again.
    """
    if space.additive:
        return x + space.rest(mixture, x) / x.shape[1]
    return encoded(space, project(decoded(space, x), mixture))


def items_of(prompts: Prompts, at_least: int = 1) -> list[list[Prompt]]:
    """One list of prompts per item; a single list if the batch shares them."""
    nested = bool(prompts) and not isinstance(prompts[0], str | Prompt)
    lists = cast(Sequence[Sequence[Stem]], prompts if nested else [prompts])
    if isinstance(prompts, str) or len({len(item) for item in lists}) > 1:
        raise UserError("prompts must be a list with one entry per source, of the same length for every item")
    if len(lists[0]) < at_least:
        raise UserError(f"{len(lists[0])} prompts, but at least {at_least} needed")
    return [[as_prompt(prompt) for prompt in item] for item in lists]


def expand(prompts: list[list[Prompt]], batch: int) -> list[list[Prompt]]:
    """`prompts` for a batch: repeated if shared."""
    if len(prompts) == 1:
        return prompts * batch
    if len(prompts) != batch:
        raise UserError(f"prompts for {len(prompts)} items, but a batch of {batch}")
    return prompts


def with_given(
    given: Tensor, given_prompts: Prompts, prompts: Prompts
) -> tuple[list[list[Prompt]], list[list[Prompt]]]:
    """The prompts of the given and of the other sources, see `items_of`; both have the same number of lists."""
    known, items = items_of(given_prompts), items_of(prompts)
    if given.ndim < 4 or given.shape[1] != len(known[0]):
        raise UserError(f"given sources of shape {tuple(given.shape)}, but {len(known[0])} prompts for them")
    if len(known) != len(items):  # one of the two is shared by the batch
        batch = max(len(known), len(items))
        known, items = expand(known, batch), expand(items, batch)
    return known, items
