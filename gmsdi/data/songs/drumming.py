"""Drum parts: a kit of common and uncommon keys, beats from sparse to dense, fills and rolls."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gmsdi.data.notes import Note, pick, weighted
from gmsdi.data.songs.playing.passages import Meter, Passage, motif
from gmsdi.data.songs.score import DRUM_KEYS

_KICKS, _SNARES = {36: 0.7, 35: 0.3}, {38: 0.5, 40: 0.22, 37: 0.14, 39: 0.14}
_TOMS = (41, 43, 45, 47, 48, 50)
_CRASHES = {49: 0.55, 57: 0.25, 55: 0.1, 52: 0.1}
_TIMEKEEPERS = {
    42: 0.46,
    51: 0.15,
    44: 0.06,
    46: 0.06,
    59: 0.05,
    53: 0.04,
    70: 0.05,
    82: 0.03,
    54: 0.05,
    69: 0.03,
    0: 0.02,
}
_EXTRAS = (  # common ones, drawn more often than the other keys
    39, 54, 56, 60, 61, 62, 63, 64, 65, 66, 67, 68, 69, 70, 75, 76, 77, 80, 81, 82, 37, 31, 73, 74, 78, 79, 58, 71, 72,
)  # fmt: skip
_RINGS = {  # ticks of drums that ring longer than most; a SoundFont may cut them off at the end of the note
    28: 60, 29: 120, 30: 480, 46: 240, 49: 960, 51: 300, 52: 700, 53: 240, 55: 500, 57: 960, 58: 400, 59: 300, 71: 200,
    72: 480, 74: 300, 79: 200, 81: 400, 84: 500, 86: 200, 87: 500,
}  # fmt: skip
BEATS = {
    "backbeat": 0.3, "four": 0.12, "half": 0.07, "double": 0.06, "swing": 0.09, "shuffle": 0.06, "latin": 0.1,
    "toms": 0.05, "train": 0.04, "random": 0.11,
}  # fmt: skip


@dataclass(frozen=True)
class Kit:
    """The keys of a song's drums and how they are struck."""

    kick: int
    snare: int
    other_snare: int
    time: int
    other_time: int
    crash: int
    toms: tuple[int, ...]
    extras: tuple[int, ...]
    level: float
    depth: float


def kit(rng: np.random.Generator) -> Kit:
    """Draw a kit, with up to six extra keys from all of General MIDI's."""
    count = int(weighted(rng, {0: 0.3, 1: 0.25, 2: 0.18, 3: 0.12, 4: 0.08, 6: 0.07}))
    extras = tuple(
        int(pick(rng, _EXTRAS)) if rng.random() < 0.6 else int(rng.integers(DRUM_KEYS.start, DRUM_KEYS.stop))
        for _ in range(count)
    )
    toms = tuple(_TOMS[i] for i in sorted(rng.permutation(6)[: int(rng.integers(2, 5))], reverse=True))
    return Kit(
        weighted(rng, _KICKS), weighted(rng, _SNARES), weighted(rng, _SNARES), weighted(rng, _TIMEKEEPERS),
        weighted(rng, _TIMEKEEPERS), weighted(rng, _CRASHES), toms, extras,
        float(np.clip(rng.normal(92, 12), 55, 115)), float(rng.uniform(6, 36)),
    )  # fmt: skip


@dataclass(frozen=True)
class Beat:
    """A pattern of one or two bars: hits as (steps, key, velocity), and its length in bars."""

    hits: tuple[tuple[float, int, int], ...]
    bars: int


def beat(rng: np.random.Generator, meter: Meter, drums: Kit, style: str) -> Beat:
    """Draw a pattern in a style of `BEATS`."""
    steps = meter.steps
    bars = 2
    size = bars * steps
    hits: list[tuple[float, int, int]] = []

    def strike(at: float, key: int, strength: float, more: float = 0.0) -> None:
        velocity = round(min(127.0, max(12.0, drums.level + drums.depth * (strength - 0.6) + more)))
        if key and 0 <= at < size:
            hits.append((at, key, velocity))

    accents = [at + bar * steps for bar in range(bars) for at in meter.accents]
    strong, weak = accents[::2], accents[1::2]
    if len(meter.accents) % 2:  # with an odd number of groups, the first of the bar is strong and the last weak
        strong = [bar * steps for bar in range(bars)]
        weak = [at + bar * steps for bar in range(bars) for at in meter.accents[1:]]
        if len(meter.accents) > 2 and rng.random() < 0.5:
            weak = weak[-1::-2][::-1]
    weights = np.tile(meter.weights, bars)
    time = drums.time if rng.random() < 0.75 else drums.other_time
    snare = drums.snare if rng.random() < 0.8 else drums.other_snare

    def sprinkle(key: int, density: float, sharp: float = 1.0, more: float = 0.0) -> None:
        """Add hits drawn by the bar's weights, usually the same in both bars."""
        once = rng.random() < 0.6
        chance = weights[:steps] if once else weights
        chance = chance**sharp
        chance = chance * (density / chance.mean())
        found = np.flatnonzero(rng.random(len(chance)) < chance)
        for at in [*found, *(found + steps)] if once else found:
            strike(float(at), key, float(weights[at]), more)

    def keep(gap: float, miss: float = 0.0, more: float = 0.0, first: float = 0.0) -> None:
        """Keep time on hi-hat, ride or shaker."""
        for k in range(int((size - first) / gap + 0.999)):
            at = first + k * gap
            on_step = at == int(at)
            if rng.random() >= miss and at < size:
                key = 46 if time == 42 and k % 8 == 7 and rng.random() < 0.25 else time
                strike(at, key, float(weights[int(at)]) if on_step else 0.3, more)

    if style == "backbeat":
        for at in strong:
            strike(at, drums.kick, 1.0, 8)
        sprinkle(drums.kick, float(rng.uniform(0.0, 0.18)), 0.5)
        for at in weak:
            strike(at, snare, 1.0, 8)
        keep(float(rng.choice((1, 2, 2, 2, 4))), float(rng.choice((0, 0, 0.1))), -10)
    elif style == "four":
        for at in accents:
            strike(at, drums.kick, 1.0, 8)
        for at in weak:
            strike(at, snare, 0.9)
        if rng.random() < 0.7:
            keep(4, 0.0, -6, 2.0)
        else:
            keep(float(rng.choice((1, 2))), 0.05, -10)
    elif style == "half":
        strike(0, drums.kick, 1.0, 8)
        strike(steps, drums.kick, 1.0, 8)
        sprinkle(drums.kick, float(rng.uniform(0.0, 0.12)))
        middle = meter.accents[len(meter.accents) // 2] if len(meter.accents) > 1 else steps // 2
        for bar in range(bars):
            strike(middle + bar * steps, snare, 1.0, 10)
        keep(float(rng.choice((1, 2, 4))), 0.0, -12)
    elif style == "double":
        gap = float(rng.choice((1, 2)))
        for k in range(int(size / gap)):
            strike(k * gap, drums.kick, float(weights[int(k * gap)]))
        if rng.random() < 0.4:
            for k in range(int(size / 2)):
                strike(2 * k + 1, snare, 0.8)
        else:
            for at in weak:
                strike(at, snare, 1.0, 10)
        keep(float(rng.choice((2, 4))), 0.0, 0)
    elif style == "swing":
        for at in accents:
            strike(at, time, 0.9)
            if rng.random() < 0.65:
                strike(at + 8 / 3, time, 0.4, -6)
        for at in weak:
            strike(at, 44, 0.6, -8)
        if rng.random() < 0.5:
            for at in accents:
                strike(at, drums.kick, 0.3, -28)
        sprinkle(snare, float(rng.uniform(0.02, 0.15)), 0.2, -24)
    elif style == "shuffle":
        for at in accents:
            strike(at, time, 0.9)
            strike(at + 8 / 3, time, 0.5, -6)
        for at in strong:
            strike(at, drums.kick, 1.0, 6)
            if rng.random() < 0.4:
                strike(at + 8 / 3, drums.kick, 0.5)
        for at in weak:
            strike(at, snare, 1.0, 8)
    elif style == "latin":
        clave = pick(
            rng, ((0, 3, 6, 10, 12), (0, 3, 7, 10, 12), (2, 4, 8, 11, 14), (0, 3, 6, 9, 12), (0, 4, 6, 10, 14))
        )
        key = pick(rng, (75, 76, 37, 56, 77, 62))
        for bar in range(bars):
            for at in clave:
                if at < steps:
                    strike(at + bar * steps, key, 0.8)
        sprinkle(pick(rng, (63, 64, 62, 60, 61)), float(rng.uniform(0.15, 0.45)), 0.3, -6)
        for at in strong:
            strike(at, drums.kick, 0.8)
            if rng.random() < 0.6:
                strike(at + 3, drums.kick, 0.6, -6)
        keep(float(rng.choice((1, 2))), 0.05, -16)
    elif style == "toms":
        for at in strong:
            strike(at, drums.kick, 1.0, 6)
        for key in drums.toms:
            sprinkle(key, float(rng.uniform(0.06, 0.25)), 0.6)
        for at in weak:
            if rng.random() < 0.5:
                strike(at, snare, 1.0)
    elif style == "train":
        for k in range(size):
            strike(k, snare, float(weights[k]), 6 if k in weak else -30)
        for at in strong:
            strike(at, drums.kick, 1.0)
    else:
        keys = [drums.kick, snare, time, drums.other_time, *drums.toms[:2]]
        for key in keys[: int(rng.integers(2, len(keys) + 1))]:
            if key:
                pattern, length = motif(rng, meter)
                for base in range(0, size, length * steps):
                    for place in pattern:
                        strike(base + place, key, 0.5 + 0.4 * (place % 4 == 0))
    if rng.random() < 0.25:  # ghost notes
        sprinkle(drums.snare, float(rng.uniform(0.03, 0.2)), -0.3, -45)
    return Beat((*hits, *percussion(rng, meter, drums).hits), bars)


def percussion(rng: np.random.Generator, meter: Meter, drums: Kit) -> Beat:
    """Draw a pattern of two bars of the extra keys alone; it may be empty."""
    size = 2 * meter.steps
    hits: list[tuple[float, int, int]] = []
    for key in drums.extras:
        if rng.random() < 0.75:
            pattern, length = motif(rng, meter)
            level = drums.level + float(rng.uniform(-25, 8))
            for base in range(0, size, length * meter.steps):
                for place in pattern:
                    accent = drums.depth * (0.3 if place % 4 == 0 else -0.1)
                    hits.append((base + place, key, round(min(127.0, max(12.0, level + accent)))))
    return Beat(tuple(hit for hit in hits if hit[0] < size), 2)


def perform(rng: np.random.Generator, passage: Passage, drums: Kit, pattern: Beat, *, fill: bool) -> list[Note]:
    """Play a beat through a passage, with small variations, a crash at its start, and a fill or roll at its end."""
    meter = passage.meter
    last = passage.end
    hits: list[tuple[int, int, int]] = []
    if fill:
        length = int(rng.choice((meter.steps // 4, meter.steps // 2, meter.steps)))
        last = max(passage.start, passage.end - max(2, length) * meter.step)
        hits += _fill(rng, passage, drums, last)
    miss = float(rng.choice((0.0, 0.0, 0.03, 0.1)))
    extra = float(rng.choice((0.0, 0.1, 0.4)))
    unit = pattern.bars * meter.bar
    for base in range(passage.start, passage.end, unit):
        kept = rng.random(len(pattern.hits)) >= miss
        for (at, key, velocity), keep in zip(pattern.hits, kept.tolist(), strict=True):
            tick = base + round(at * meter.step)
            if keep and tick < last:
                hits.append((tick, key, velocity))
        if extra and rng.random() < extra and pattern.hits:
            _, key, velocity = pick(rng, pattern.hits)
            tick = base + int(rng.integers(pattern.bars * meter.steps)) * meter.step
            if tick < last:
                hits.append((tick, key, max(20, velocity - 15)))
    if rng.random() < 0.55:
        hits.append((passage.start, drums.crash, min(127, round(drums.level + 10))))
    return struck(hits, passage.end)


def ring(key: int) -> int:
    """Length of a drum's note in ticks."""
    return _RINGS.get(key, 100)


def struck(hits: list[tuple[int, int, int]], end: int) -> list[Note]:
    """Notes of (tick, key, velocity), each as long as its drum rings."""
    return [
        Note(tick, min(end, tick + ring(key)), key, min(127, max(8, velocity)))
        for tick, key, velocity in hits
        if tick < end
    ]


def _fill(rng: np.random.Generator, passage: Passage, drums: Kit, start: int) -> list[tuple[int, int, int]]:
    """Hits from `start` to the passage's end."""
    step = passage.meter.step
    kind = weighted(rng, {"toms": 0.35, "snare": 0.15, "mixed": 0.25, "roll": 0.15, "stop": 0.1})
    keys = (drums.snare, *drums.toms)
    hits = []
    if kind == "roll":
        unit = max(30, round(passage.ticks(float(rng.uniform(0.045, 0.085)))))
        ticks = range(start, passage.end, unit)
        low, high = sorted(rng.uniform(40, 120, 2).tolist())
        key = drums.snare if rng.random() < 0.7 else pick(rng, keys)
        hits = [(tick, key, round(low + (high - low) * k / max(1, len(ticks)))) for k, tick in enumerate(ticks)]
    elif kind == "stop":
        hits = [(start, drums.kick, round(drums.level + 8)), (start, drums.crash, round(drums.level))]
    else:
        unit = int(rng.choice((step, step, 2 * step, step * 2 // 3, step * 4 // 3)))
        ticks = range(start, passage.end, unit)
        for k, tick in enumerate(ticks):
            if rng.random() < 0.12:
                continue
            place = k / max(1, len(ticks))
            key = (
                drums.snare if kind == "snare" else keys[int(place * len(keys))] if kind == "toms" else pick(rng, keys)
            )
            hits.append((tick, key, round(drums.level - 8 + 24 * place + float(rng.normal(0, 6)))))
            if rng.random() < 0.15:
                hits.append((tick, drums.kick, round(drums.level)))
    return hits
