"""What the tasks on songs share: models, memory, and signals at a model's rate and back."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeAlias, TypeVar

from numpy.typing import ArrayLike

from gmsdi import level
from gmsdi.errors import UserError
from gmsdi.io.audio import Audio, Samples, Source, fit, resample
from gmsdi.io.memory import require_memory
from gmsdi.models import registry
from gmsdi.models.protocol import Model, Outline
from gmsdi.sampling.session import Batch, Session
from gmsdi.sampling.solver import Guidance, Solver

AnySource: TypeAlias = str | Path | Audio | Source | ArrayLike
AnyModel: TypeAlias = Model | Session | registry.Named | str | Path
Known: TypeAlias = Model | Outline
"""What is known of a model, opened or not."""
Checked = TypeVar("Checked")
_LONGEST = 86_400  # seconds
_ARRAYS = 28
"""Copies of the state of all rows that sampling holds at most, results included (measured by `benchmarks.songs`)."""


def require_seconds(value: float, name: str) -> None:
    """Refuse what is no length of time.

    Raises:
        UserError: if it is not positive, or of more than a day.
    """
    if not (isinstance(value, int | float) and 0 < value <= _LONGEST):
        raise UserError(f"{name} is {value!r}; it must be above 0 and at most {_LONGEST} (a day)")


def opened_after(model: AnyModel, check: Callable[[Known], Checked]) -> tuple[Model | Session, Checked]:
    """A model or session, loaded if it is named, and what a check makes of it.

    The check may refuse the model. A named model is checked by its outline before it is loaded.
    """
    if isinstance(model, str | Path):
        model = registry.Named(model)
    if isinstance(model, registry.Named):
        if (outline := model.outline()) is not None:
            check(outline)
        model = model.opened()
    inner = model.model if isinstance(model, Session) else model
    if not isinstance(inner, Model):
        raise UserError(f"the model is {model!r}; give a name, a folder, or a model (gmsdi.models.protocol)")
    return model, check(inner)


def session_of(opened: Model | Session, solver: Solver, guidance: Guidance, batch: Batch | None) -> Session:
    """A session that samples a model in this way."""
    return opened.using(solver, guidance) if isinstance(opened, Session) else Session(opened, solver, guidance, batch)


def require_prompts(known: Known, texts: Sequence[str]) -> None:
    """Refuse prompts that a model cannot take.

    Raises:
        UserError: if there is one.
    """
    if isinstance(known, Outline):
        known.require_prompts(texts)
    else:
        known.embed(texts)


def require_room(known: Known, rows: int, samples: int, what: str) -> None:
    """Refuse to sample more signals at a time than the memory holds."""
    require_memory(4 * _ARRAYS * rows * known.channels * samples, what, "ask for less at a time")


def require_plausible(parts: Mapping[str, Samples], about: float | None) -> None:
    """Refuse generated stems with peaks out of all proportion to a level in dB (None: unknown)."""
    peak = math.inf if about is None else 10 ** ((about + level.CREST) / 20)
    level.require_plausible(parts, peak=peak, what="but music of this level reaches")


def as_channels(samples: Samples, channels: int) -> Samples:
    """`[C, T]` averaged to one channel and repeated, if another number of channels is wanted."""
    return samples if len(samples) == channels else samples.mean(axis=0, keepdims=True).repeat(channels, axis=0)


def at_model_rate(session: Session, audio: Audio) -> Samples:
    """`[C, T]` at the model's rate and with its channels, padded with zeros to whole windows."""
    heard = as_channels(audio.samples, session.model.channels)
    samples = resample(heard, audio.sample_rate, session.model.sample_rate)
    return fit(samples, session.padded(samples.shape[1]))


def at_rate_of(session: Session, audio: Source, samples: Samples) -> Samples:
    """`[C, T]` from the model's rate and padded length to those of `audio`."""
    return fit(resample(samples, session.model.sample_rate, audio.sample_rate), audio.frames)
