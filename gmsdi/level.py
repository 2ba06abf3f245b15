"""Loudness: scaling music to the level that a model was trained at and back, and deciding what is silence.

A network is not a linear function: it separates mixtures as loud as those it was trained on, and louder or quieter ones
worse or not at all. A model therefore records the level of its training mixtures (`level` in its `config.json`, in dB
relative to full scale). Every mixture is scaled to that level by one gain, and its stems are divided by the same gain,
so the stems of g·y are g times those of y. A model without `level` takes signals as they are.

The level of a signal is the root mean square of the parts in which it sounds: it is measured over blocks of `BLOCK`
seconds, leaving out those more than `GATE` dB below the mean of all blocks. Rests therefore do not make a song count as
quieter.

The level belongs to a song, not to a window of it: a solo is quieter than the full mix, and was so in training. A song
therefore has one gain, from beginning to end and for all channels, and windows of a known song use the level of that
song (the `levels` of `gmsdi.tasks`). Only a window without context is measured on its own.

Where a mixture is silent, so are its stems: nothing is sampled there (`Rests`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from statistics import median
from typing import TYPE_CHECKING, Any, TypeAlias

import torch
from torch import Tensor

from gmsdi.errors import UserError

if TYPE_CHECKING:
    from gmsdi.data.windows import WindowSet
    from gmsdi.io.audio import Samples

BLOCK = 0.4
"""Length in seconds of the blocks that are measured, as in ITU-R BS.1770."""
GATE = -20.0
"""A block this far below the mean power of all blocks does not count, in dB."""
SILENCE = -90.0
"""An item below this level, in dB relative to full scale, is silent, and so are its stems."""
REST = -70.0
"""A stretch of `LEAST_REST` that stays this far below an item's level is a rest, in dB."""
LEAST_REST = 0.1
"""Length of the shortest rest, in seconds."""
HEADROOM = 20.0
"""The peak of a stem may exceed that of its mixture by this many dB; above that, the sampling has diverged."""
CREST = 20.0
"""Most dB by which the peaks of music exceed its level; 5 to 20, depending on the music."""
TRACKS = 500
"""Most tracks that are measured for the level of a data set."""

_DIVERGED = "the sampling diverged; take more steps, less guidance (w), or another solver"

Sample: TypeAlias = Callable[[Tensor, "list[int]", "Rests | None"], Tensor]


def known_level(config: Mapping[str, Any]) -> float | None:
    """The level of the mixtures that a model was trained on, in dB relative to full scale; None if it is not known.

    Raises:
        UserError: if the level in the model's configuration is not a sensible number.
    """
    level = config.get("level")
    if level is None:
        return None
    if isinstance(level, bool) or not isinstance(level, int | float) or not SILENCE <= level <= 20:
        raise UserError(
            f"model level is {level!r}; it must be the level of the training mixtures in dB relative to full scale, "
            f"{SILENCE:g} to 20, or be left out"
        )
    return float(level)


def levels_of(signals: Tensor, sample_rate: int) -> list[float]:
    """The level of each signal `[B, ..., T]`, in dB relative to full scale; −inf if all samples are zero.

    Channels are measured together, so a channel that rests does not count either.
    """
    length = signals.shape[-1]
    size = max(1, min(length, round(BLOCK * sample_rate)))
    flat = signals.detach().cpu().reshape(len(signals), -1, length)
    parts = [flat.unfold(-1, size, size)]
    if rest := length % size:
        parts.append(flat[..., length - rest :].unsqueeze(-2))
    norms = [_norms(part) for part in parts]
    energy = torch.cat(norms, dim=-1).square()
    samples = torch.cat([torch.full_like(norm, part.shape[-1]) for norm, part in zip(norms, parts, strict=True)], -1)
    return _gated(energy.flatten(1), samples.flatten(1))


def _gated(energy: Tensor, samples: Tensor) -> list[float]:
    """Levels of signals with these energies in blocks of so many samples, `[B, N]` each."""
    mean = (energy.sum(dim=1) / samples.sum(dim=1)).unsqueeze(1)
    counts = energy / samples > 10 ** (GATE / 10) * mean
    power = (energy * counts).sum(dim=1) / (samples * counts).sum(dim=1).clamp_min(1)
    return (10 * power.log10()).tolist()


class Meter:
    """Measures the level of a signal that arrives in parts; it equals that of `levels_of` for the whole signal.

    Args:
        sample_rate: in Hz.
    """

    def __init__(self, sample_rate: int) -> None:
        self._size = max(1, round(BLOCK * sample_rate))
        self._left: Tensor | None = None
        self._norms: list[Tensor] = []
        self.length = 0

    def add(self, piece: Tensor) -> None:
        """Add the next part of the signal, `[C, n]`."""
        self.length += piece.shape[-1]
        whole = piece if self._left is None else torch.cat([self._left, piece], dim=-1)
        blocks, rest = divmod(whole.shape[-1], self._size)
        if blocks:
            self._norms.append(_norms(whole[:, : blocks * self._size].unflatten(-1, (blocks, self._size))))
        self._left = whole[:, whole.shape[-1] - rest :].clone()

    def level(self) -> float:
        """In dB relative to full scale, of all that has come; −inf if it was zero throughout."""
        norms, left = self._norms, self._left
        samples = [self._size] * sum(part.shape[-1] for part in norms)
        if left is not None and left.shape[-1]:
            norms, samples = [*norms, _norms(left.unsqueeze(-2))], [*samples, left.shape[-1]]
        energy = torch.cat(norms, dim=-1).square()
        (found,) = _gated(energy.flatten().unsqueeze(0), energy.new_tensor(samples).repeat(len(energy)).unsqueeze(0))
        return found


def _norms(blocks: Tensor) -> Tensor:
    return torch.linalg.vector_norm(blocks, dim=-1, dtype=torch.float64)


def track_levels(windows: WindowSet, tracks: Iterable[str]) -> dict[str, float]:
    """The level of each of these tracks of a windows folder, measured over all windows of the track."""
    wanted = list(dict.fromkeys(tracks))
    found = windows.table.groupby("track").groups
    return {
        track: levels_of(
            torch.from_numpy(windows.mixture(found[track].tolist())).flatten().unsqueeze(0), windows.sample_rate
        )[0]
        for track in wanted
    }


def level_of_windows(windows: WindowSet) -> float | None:
    """The level of the mixtures of a windows folder: the median over its tracks that are not silent.

    If there are more than `TRACKS` tracks, `TRACKS` evenly spaced ones are measured.

    Returns:
        The level in dB relative to full scale, rounded to 0.01; None if all tracks are silent.
    """
    tracks = windows.table["track"].drop_duplicates().tolist()
    chosen = [tracks[k * len(tracks) // TRACKS] for k in range(TRACKS)] if len(tracks) > TRACKS else tracks
    sounding = [level for level in track_levels(windows, chosen).values() if level >= SILENCE]
    return round(median(sounding), 2) if sounding else None


class Rests:
    """Where the mixtures of a batch, and so all their stems, are silent.

    Args:
        mask: bool `[B, 1, T]`, true in rests.
    """

    def __init__(self, mask: Tensor) -> None:
        self.mask = mask
        self._awake: dict[tuple[int, int, int], tuple[list[int], Tensor]] = {}

    @staticmethod
    def of(mixture: Tensor, levels: Sequence[float], sample_rate: int) -> Rests | None:
        """Find the rests of mixtures `[B, C, T]` with these levels; None if there are none.

        A rest lasts at least `LEAST_REST`, and no sample of any channel in it exceeds `REST`.
        """
        least = round(LEAST_REST * sample_rate)
        limits = mixture.new_tensor([10 ** ((level + REST) / 20) for level in levels]).reshape(-1, 1)
        loud = mixture.abs().amax(dim=1) > limits
        if loud.shape[-1] < least:
            return None
        quiet = torch.nn.functional.pad(_sums(loud, least) == 0, (least - 1, least - 1))  # by start of stretch
        mask = _sums(quiet, least) > 0
        return Rests(mask.unsqueeze(1)) if mask.any() else None

    def repeated(self, times: int) -> Rests:
        """The rests of a batch in which every item is repeated, its copies side by side."""
        return Rests(self.mask.repeat_interleave(times, dim=0))

    def awake(self, rows: int, window: int, hop: int) -> tuple[list[int], Tensor]:
        """Find the windows of `rows` signals, equally many per item, that are not rests throughout.

        Returns:
            Their indices among the windows of all signals, signal by signal: as a list, and as a tensor on the device.
        """
        key = (rows, window, hop)
        if key not in self._awake:
            sounds = (~self.mask).unfold(-1, window, hop).any(dim=-1).flatten(1)
            places = sounds.repeat_interleave(rows // len(sounds), dim=0).flatten().nonzero()[:, 0]
            self._awake[key] = places.tolist(), places
        return self._awake[key]


def separated(
    sample: Sample,
    mixture: Tensor,
    *,
    seeds: Sequence[int],
    stems: int,
    known: float | None,
    levels: Sequence[float] | None,
    sample_rate: int,
) -> Tensor:
    """Separate mixtures at the level that a model knows.

    Silent items are not separated at all. In rests, every stem is 1/K of the mixture (zero in digital silence), so that
    stems that sum to the mixture also do so there.

    Args:
        sample: `sample(y [N, C, T], seeds, rests) -> [N, K, C, T]`, on any device, for the N items that are not silent.
        mixture: `[B, C, T]`, finite.
        seeds: one per item.
        stems: K, the number of stems in the mixture.
        known: the model's level; None leaves the signals as they are.
        levels: the level of the song that each item is from, in dB relative to full scale; None measures each item on
            its own.
        sample_rate: in Hz.

    Returns:
        `[B, K, C, T]` float32 on the CPU.

    Raises:
        UserError: if there is not one seed and one level for each item, or a stem is not finite.
    """
    items = len(mixture)
    if len(seeds) != items:
        raise UserError(f"{len(seeds)} seeds for {items} items; give one each")
    own = levels_of(mixture, sample_rate)
    of_songs = own if levels is None else [float(level) for level in levels]
    if len(of_songs) != items:
        raise UserError(f"{len(of_songs)} levels for {items} items; give one each")
    # A song may count as silent although one of its items, cut differently, does not.
    of_songs = [song if song > SILENCE else mine for song, mine in zip(of_songs, own, strict=True)]
    share = (mixture / stems).float().cpu().unsqueeze(1)
    result = share.expand(-1, stems, -1, -1).clone()
    result[[k for k in range(items) if own[k] < SILENCE]] = 0
    rests = Rests.of(mixture, of_songs, sample_rate)
    resting = [False] * items if rests is None else rests.mask.all(dim=-1).flatten().tolist()
    chosen = [k for k in range(items) if own[k] >= SILENCE and not resting[k]]
    if not chosen:
        return result
    gain = _gains([of_songs[k] for k in chosen], known, mixture)
    if rests is not None:
        mask = rests.mask[chosen]
        rests = Rests(mask) if mask.any() else None
    found = sample(mixture[chosen] * gain, [seeds[k] for k in chosen], rests)
    found = _finite(found.float().cpu() / gain.cpu().unsqueeze(1))
    if rests is not None:
        found = torch.where(rests.mask.cpu().unsqueeze(1), result[chosen], found)
    result[chosen] = found
    return result


def accompanied(
    sample: Callable[[Tensor], tuple[Tensor, ...]],
    given: Tensor,
    *,
    stems: int,
    others: int,
    known: float | None,
    levels: Sequence[float] | None,
    sample_rate: int,
) -> tuple[Tensor, ...]:
    """Generate stems with given ones at the level that a model knows.

    The given stems are quieter than the mixture that they will be part of, whose level is not known yet. The powers of
    independent stems add up, so `stems` of `stems + others` equally loud ones are 10·log₁₀(1 + others/stems) dB below
    the whole; the given stems are scaled to that level. Given silence says nothing about the level: it stays silent,
    and the generated stems get the model's level.

    Args:
        sample: takes `given` at the model's level, returns signals `[B, ..., C, T]` at that level.
        given: `[B, I, C, T]`, finite.
        stems: number of given sources.
        others: number of generated sources.
        known: see `separated`.
        levels: the level of the mixture that each item's stems are part of, in dB relative to full scale; None derives
            it from the given stems.
        sample_rate: in Hz.

    Returns:
        The results of `sample`, at the level of the given stems: float32 on the CPU.

    Raises:
        UserError: if there is not one level for each item, or a signal is not finite.
    """
    own = levels_of(given.sum(dim=1), sample_rate)
    whole = [level + 10 * math.log10(1 + others / stems) for level in own] if levels is None else list(levels)
    if len(whole) != len(given):
        raise UserError(f"{len(whole)} levels for {len(given)} items; give one each")
    if known is not None:
        whole = [level if mine >= SILENCE else known for level, mine in zip(whole, own, strict=True)]
    gain = _gains(whole, known, given).unsqueeze(1)
    results = sample(given * gain)
    back = gain.flatten().cpu()
    return tuple(_finite(x.float().cpu() / back.reshape(-1, *[1] * (x.ndim - 1))) for x in results)


def require_plausible(parts: Mapping[str, Samples], *, peak: float, what: str) -> None:
    """Refuse stems from a sampling that diverged, before they are written.

    Args:
        parts: label to `[C, T]`.
        peak: the highest peak to be expected; stems may exceed it by `HEADROOM`.
        what: what has this peak, for the message.

    Raises:
        UserError: if a stem is not finite or far louder.
    """
    for label, samples in parts.items():
        highest = float(abs(samples).max())
        if not math.isfinite(highest) or highest > 10 ** (HEADROOM / 20) * peak:
            why = f"has a peak of {highest:.3g}, {what} {peak:.3g}" if math.isfinite(highest) else "is not finite"
            raise UserError(f"{label} {why}: {_DIVERGED}")


def _sums(x: Tensor, width: int) -> Tensor:
    """The number of true values in each stretch of `width` of `[..., T]`: `[..., T − width + 1]`."""
    total = torch.nn.functional.pad(x.cumsum(dim=-1), (1, 0))
    return total[..., width:] - total[..., :-width]


def _gains(levels: Sequence[float], known: float | None, like: Tensor) -> Tensor:
    """The factors `[B, 1, 1]` that bring signals `[B, C, T]` to the model's level."""
    gains = [1.0 if known is None else 10 ** ((known - level) / 20) for level in levels]
    return torch.tensor(gains, dtype=torch.float32, device=like.device).reshape(-1, 1, 1)


def _finite(x: Tensor) -> Tensor:
    if not torch.isfinite(x).all():
        raise UserError(f"a stem is not finite: {_DIVERGED}")
    return x
