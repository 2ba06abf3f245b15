"""Notes, random choices and pitches: what every composer of songs here uses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

TICKS_PER_BEAT = 480
_T = TypeVar("_T")


@dataclass(frozen=True)
class Note:
    """A note: `start` and `end` in ticks (`TICKS_PER_BEAT` per beat), MIDI `pitch` and `velocity`."""

    start: int
    end: int
    pitch: int
    velocity: int


def pick(rng: np.random.Generator, options: Sequence[_T]) -> _T:
    """Draw one of the options, all equally likely."""
    return options[int(rng.integers(len(options)))]


def weighted(rng: np.random.Generator, options: dict[_T, float]) -> _T:
    """Draw one of the options by weight."""
    at = rng.random() * sum(options.values())
    chosen = next(iter(options))
    for chosen, weight in options.items():  # noqa: B007 (rounding may leave `at` above 0 at the last)
        at -= weight
        if at < 0:
            break
    return chosen


def near(pitch_class: int, centre: float) -> int:
    """The pitch of this class nearest to `centre`."""
    return pitch_class + 12 * round((centre - pitch_class) / 12)
