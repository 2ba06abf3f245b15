"""What all players of a passage share: its metre, chords and tempo; and the rhythms that they draw over it."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from gmsdi.data.notes import TICKS_PER_BEAT, Note, pick, weighted
from gmsdi.data.songs.harmony import Harmony


@dataclass(frozen=True)
class Meter:
    """A bar of `sum(groups)` steps of `step` ticks; each group begins with an accent."""

    signature: tuple[int, int]
    groups: tuple[int, ...]
    step: int = TICKS_PER_BEAT // 4

    @property
    def steps(self) -> int:
        """Steps per bar."""
        return sum(self.groups)

    @property
    def bar(self) -> int:
        """Ticks per bar."""
        return self.steps * self.step

    @cached_property
    def accents(self) -> tuple[int, ...]:
        """The steps on which a group begins."""
        return tuple(int(at) for at in np.cumsum((0, *self.groups[:-1])))

    @cached_property
    def weights(self) -> np.ndarray:
        """How strong each step is, from 0 to 1."""
        weights = np.full(self.steps, 0.2)
        for at, size in zip(self.accents, self.groups, strict=True):
            weights[at + 2 : at + size : 2] = 0.5
            weights[at] = 0.85
        weights[0] = 1.0
        return weights


@dataclass(frozen=True)
class Span:
    """A chord from `start` to `end`, in ticks."""

    start: int
    end: int
    harmony: Harmony


@dataclass(frozen=True)
class Passage:
    """A section's metre, chords and tempo, shared by all its players."""

    meter: Meter
    spans: tuple[Span, ...]
    tempo: float

    @property
    def start(self) -> int:
        """The first tick."""
        return self.spans[0].start

    @property
    def end(self) -> int:
        """The tick after the last one."""
        return self.spans[-1].end

    @cached_property
    def _starts(self) -> list[int]:
        return [span.start for span in self.spans]

    def at(self, tick: int) -> Harmony:
        """The chord at a tick."""
        return self.spans[max(0, bisect_right(self._starts, tick) - 1)].harmony

    def after(self, tick: int) -> int:
        """The tick at which the chord at `tick` ends."""
        return self.spans[max(0, bisect_right(self._starts, tick) - 1)].end

    def ticks(self, seconds: float) -> float:
        """Convert seconds to ticks."""
        return seconds * self.tempo / 60 * TICKS_PER_BEAT


Onset = tuple[int, int, float]  # start, ticks to the next, strength 0 to 1
Style = Callable[[np.random.Generator, Passage, tuple[int, int]], list[Note]]


# --- Rhythm -------------------------------------------------------------------------------------------------------


def motif(rng: np.random.Generator, meter: Meter, density: float | None = None) -> tuple[list[float], int]:
    """Draw a pattern of one or two bars: its onsets in steps, and its length in bars.

    Args:
        rng: source of randomness.
        meter: the bar.
        density: share of steps with an onset; None draws one, rarely near 0 or 1.
    """
    bars = int(weighted(rng, {1: 0.55, 2: 0.45}))
    if density is None:
        density = float(rng.beta(1.6, 2.6))
    size = meter.steps * bars
    kind = weighted(rng, {"weighted": 0.42, "pulse": 0.26, "even": 0.14, "triplets": 0.08, "accents": 0.10})
    if kind == "pulse":
        gap = min((1, 2, 3, 4, 6, 8), key=lambda g: (abs(1 / g - density), g))
        first = int(rng.integers(gap)) if rng.random() < 0.2 else 0
        onsets = [float(at) for at in range(first, size, gap)]
        onsets = [at for at in onsets if rng.random() < 0.9]
    elif kind == "even":  # spread as evenly as possible, a Euclidean rhythm
        count = max(1, round(density * meter.steps))
        turn = int(rng.integers(meter.steps)) if rng.random() < 0.3 else 0
        one = sorted((k * meter.steps // count + turn) % meter.steps for k in range(count))
        onsets = [float(at + bar * meter.steps) for bar in range(bars) for at in one]
    elif kind == "triplets":
        gap3 = pick(rng, (4 / 3, 8 / 3, 4 / 3, 2 / 3))
        onsets = [k * gap3 for k in range(int(size / gap3)) if rng.random() < min(1.0, 0.35 + density)]
    elif kind == "accents":
        onsets = [float(at + bar * meter.steps) for bar in range(bars) for at in meter.accents if rng.random() < 0.85]
    else:
        chance = np.tile(meter.weights, bars) ** float(rng.choice((0.3, 1.0, 2.0)))
        chance *= density / chance.mean()
        onsets = [float(at) for at in np.flatnonzero(rng.random(size) < chance)]
    if not onsets:
        onsets = [0.0]
    return onsets, bars


def onsets(
    rng: np.random.Generator,
    passage: Passage,
    density: float | None = None,
    *,
    fixed: tuple[list[float], int] | None = None,
) -> list[Onset]:
    """The onsets of a passage: a repeated motif with occasional variation."""
    meter = passage.meter
    pattern, bars = fixed or motif(rng, meter, density)
    other, _ = motif(rng, meter, density) if rng.random() < 0.4 else (pattern, bars)
    every = int(rng.choice((2, 4, 4, 8)))
    loosen = 0.12 if rng.random() < 0.3 else 0.0
    ticks: list[int] = []
    length = bars * meter.bar
    for count, base in enumerate(range(passage.start, passage.end, length)):
        chosen = other if count % every == every - 1 else pattern
        for at in chosen:
            tick = base + round(at * meter.step)
            if at < bars * meter.steps and tick < passage.end and (not loosen or rng.random() > loosen):
                ticks.append(tick)
    ticks = sorted(set(ticks)) or [passage.start]
    return spaced(passage, ticks)


def spaced(passage: Passage, ticks: Sequence[int]) -> list[Onset]:
    """Onsets at these ticks, which must be ascending."""
    meter = passage.meter
    weights = meter.weights
    result = []
    for tick, following in zip(ticks, [*ticks[1:], passage.end], strict=True):
        place, off = divmod((tick - passage.start) % meter.bar, meter.step)
        result.append((tick, following - tick, float(weights[place]) if not off else 0.3))
    return result


def chord_changes(passage: Passage, *, each_bar: bool = False) -> list[Onset]:
    """An onset for each chord, or for each chord and bar."""
    ticks = {span.start for span in passage.spans}
    if each_bar:
        ticks |= set(range(passage.start, passage.end, passage.meter.bar))
    return spaced(passage, sorted(ticks))


def pulse(passage: Passage, steps: int) -> list[Onset]:
    """An onset every `steps` steps, starting again with each bar."""
    bar = passage.meter.bar
    ticks = [
        base + at for base in range(passage.start, passage.end, bar) for at in range(0, bar, steps * passage.meter.step)
    ]
    return spaced(passage, [tick for tick in ticks if tick < passage.end])
