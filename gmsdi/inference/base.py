"""What the procedures share: the protocol of a derivative, prompts by item, and the width γ of a likelihood."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol, TypeAlias, TypeGuard, cast

from torch import Tensor

from gmsdi.errors import UserError
from gmsdi.models.protocol import Space, Waveform
from gmsdi.types import Prompt, Stem, as_prompt

Guided: TypeAlias = Callable[[Tensor, float, Sequence[Stem]], Tensor]
"""`D = model(x, sigma, prompts)`: x `[N, ...]`, sigma a float, N prompts; returns `[N, ...]`."""
Gamma: TypeAlias = float | Callable[[float], float]
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
        """λ(σ) of a likelihood term, which moves the error e of a sum by de/dσ = λ·e (`check_stability`)."""
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
    """D of all rows of all items `[B, R, ...]` in one call of the model."""
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

    In a space that is not additive, the nearest signals are taken: the sources are decoded, each gets an equal part of
    what their sum lacks, and they are encoded again.
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


def positive(name: str, gamma: Gamma) -> Gamma:
    """Check that γ is positive, unless it is a function of σ, and return it."""
    if not callable(gamma) and not gamma > 0:
        raise UserError(f"{name} is {gamma}; it must be positive (inf drops the term)")
    return gamma


def pull(gamma: Gamma, sigma: float) -> float:
    """σ/γ², the factor of a likelihood term in derivative form; 0 for γ = ∞."""
    value = gamma(sigma) if callable(gamma) else gamma
    return 0.0 if math.isinf(value) else sigma / value**2


def natural_gamma(sources: int) -> Gamma:
    """γ = √(K + 1)·σ, with which a step to 0 makes K sources sum to the mixture row (`check_stability`)."""
    return lambda sigma: math.sqrt(sources + 1) * sigma


def gamma_from_config(value: float | str | Mapping[str, float]) -> Gamma:
    """γ as configurations write it: a number, "inf", or `{"sigma": c}` for γ = c·σ.

    With c·σ the likelihood may be limited to a range of noise levels: `{"sigma": c, "above": s, "below": t}` (or one of
    the two) limits it to s ≤ σ < t; elsewhere γ = ∞. The notes of a clip and their instruments are settled at high
    noise levels; at lower ones the term only shifts the input of each row's denoiser.

    Raises:
        UserError: for anything else, or if a number is not positive, or no noise level is left.
    """
    if isinstance(value, Mapping):
        c, above, below = value.get("sigma"), value.get("above", 0.0), value.get("below", math.inf)
        known = value.keys() <= {"sigma", "above", "below"}
        if known and _is_number(c) and c > 0 and _is_number(above) and _is_number(below) and 0 <= above < below:
            if math.isinf(c):
                return math.inf
            return lambda sigma: c * sigma if above <= sigma < below else math.inf
    elif value == "inf":
        return math.inf
    elif _is_number(value) and float(value) > 0:
        return float(value)
    raise UserError(
        f'gamma is {value!r}; write a positive number, "inf", or {{sigma: c}} for gamma = c*sigma, maybe with above '
        "and below, the noise levels between which it acts"
    )


def gamma_from_text(text: str, name: str = "gamma") -> Gamma:
    """γ as a user writes it: a number, "inf", or "2*sigma", also "2*sigma above 0.1 below 1".

    Args:
        text: what is written.
        name: what it is for, for the message.

    Raises:
        UserError: for anything else.
    """
    number, star, rest = text.partition("*sigma")
    words = rest.split()
    try:
        value = float(number)
        limits = {key: float(level) for key, level in zip(words[::2], words[1::2], strict=True)}
        return gamma_from_config({"sigma": value, **limits} if star else value)
    except (ValueError, UserError):
        raise UserError(
            f'{name} {text!r}: write a positive number, "inf", or "2*sigma" (also "2*sigma above 0.1 below 1")'
        ) from None


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool) and not math.isnan(value)
