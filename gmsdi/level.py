"""How loud music is: bringing it to the level that a model knows and back, and what is silence.

The network of a model is no linear function: it separates mixtures that are as loud as those that it was trained on,
and others worse or not at all. A model therefore knows their level (`level` in its `config.json`, in dB relative to
full scale), and every mixture is brought to it by one gain, which its stems are divided by. Stems of g·y are then g
times those of y. A model without `level` takes signals as they are.

The level of a signal is its root mean square where it sounds: over blocks of `BLOCK` seconds, without those that are
`GATE` dB under the mean of all. Passages that rest thus make no song quieter.

The level belongs to a piece, not to a window of it: a solo is quieter than the full mix, and in training it was. So a
song has one gain from beginning to end and for all of its channels, and windows of a known piece have that of the piece
(the `levels` of the pipeline's methods); only a window without context is measured by itself.

Where a mixture is silent, so are its stems: they are not sampled there (`Rests`).
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
"""Seconds of the blocks that are measured, as in ITU-R BS.1770."""
GATE = -20.0
"""dB relative to the mean power of all blocks, under which a block does not count."""
SILENCE = -90.0
"""dB relative to full scale: an item of a lower level is silent, and so are its stems."""
REST = -70.0
"""dB relative to an item's level: what stays below for `LEAST_REST` is a rest."""
LEAST_REST = 0.1
"""Seconds of the shortest rest."""
HEADROOM = 20.0
"""dB by which the peak of a stem may exceed that of its mixture before it is no stem but a run that diverged."""
CREST = 20.0
"""dB by which the peaks of music exceed its level at most: 5 to 20, by the kind of music."""
TRACKS = 500
"""Tracks that the level of a data set is taken from, at most."""

_DIVERGED = "the sampling diverged; take more steps, less guidance (w), or another solver"

Sample: TypeAlias = Callable[[Tensor, "list[int]", "Rests | None"], Tensor]


def known_level(config: Mapping[str, Any]) -> float | None:
    """The level of the mixtures that a model was trained on, in dB relative to full scale; None if it is not known.

    Raises:
        UserError: if the model's configuration holds anything but a sensible number.
    """
    level = config.get("level")
    if level is None:
        return None
    if isinstance(level, bool) or not isinstance(level, int | float) or not SILENCE <= level <= 20:
        raise UserError(
            f"model level is {level!r}; it is the level of the training mixtures in dB relative to full scale, "
            f"{SILENCE:g} to 20, or left out"
        )
    return float(level)


def levels_of(signals: Tensor, sample_rate: int) -> list[float]:
    """The level of each signal `[B, ..., T]`, in dB relative to full scale; −inf where it is zero throughout.

    Channels are measured together, so that one that rests does not count either.
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
    """The level of one signal that comes piece by piece, as `levels_of` has it of the whole.

    Args:
        sample_rate: in Hz.
    """

    def __init__(self, sample_rate: int) -> None:
        self._size = max(1, round(BLOCK * sample_rate))
        self._left: Tensor | None = None
        self._norms: list[Tensor] = []
        self.length = 0

    def add(self, piece: Tensor) -> None:
        """The next piece, `[C, n]`."""
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
    """The level of each of these tracks of a windows folder, by all of its windows."""
    wanted = list(dict.fromkeys(tracks))
    found = windows.table.groupby("track").groups
    return {
        track: levels_of(
            torch.from_numpy(windows.mixture(found[track].tolist())).flatten().unsqueeze(0), windows.sample_rate
        )[0]
        for track in wanted
    }


def level_of_windows(windows: WindowSet) -> float | None:
    """The level of the mixtures of a windows folder: the median of its tracks', of those in which something sounds.

    Of more than `TRACKS` tracks, as many that lie evenly among all are measured, one after the other.

    Returns:
        In dB relative to full scale, rounded to 0.01; None if nothing sounds.
    """
    tracks = windows.table["track"].drop_duplicates().tolist()
    chosen = [tracks[k * len(tracks) // TRACKS] for k in range(TRACKS)] if len(tracks) > TRACKS else tracks
    sounding = [level for level in track_levels(windows, chosen).values() if level >= SILENCE]
    return round(median(sounding), 2) if sounding else None


class Rests:
    """Where the mixtures of a batch are silent, and with them their stems.

    Args:
        mask: bool `[B, 1, T]`, true in rests.
    """

    def __init__(self, mask: Tensor) -> None:
        self.mask = mask
        self._awake: dict[tuple[int, int, int], tuple[list[int], Tensor]] = {}

    @staticmethod
    def of(mixture: Tensor, levels: Sequence[float], sample_rate: int) -> Rests | None:
        """The rests of mixtures `[B, C, T]` with these levels; None if there are none.

        A rest is a stretch of at least `LEAST_REST` in which no sample of any channel is above `REST`.
        """
        least = round(LEAST_REST * sample_rate)
        limits = mixture.new_tensor([10 ** ((level + REST) / 20) for level in levels]).reshape(-1, 1)
        loud = mixture.abs().amax(dim=1) > limits
        if loud.shape[-1] < least:
            return None
        quiet = torch.nn.functional.pad(_sums(loud, least) == 0, (least - 1, least - 1))  # by beginnings of stretches
        mask = _sums(quiet, least) > 0
        return Rests(mask.unsqueeze(1)) if mask.any() else None

    def repeated(self, times: int) -> Rests:
        """The rests of a batch in which every item follows itself."""
        return Rests(self.mask.repeat_interleave(times, dim=0))

    def awake(self, rows: int, window: int, hop: int) -> tuple[list[int], Tensor]:
        """Which of the windows of `rows` signals, as many for each item, do not rest throughout.

        Returns:
            Their places, where the windows of a signal follow one another: as a list, and as a tensor on the device.
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

    Silent items are not separated at all. In rests, every stem is the mixture's share 1/K, which in digital silence is
    zero, so that stems that sum to the mixture do so there, too.

    Args:
        sample: `sample(y [N, C, T], seeds, rests) -> [N, K, C, T]`, on any device; N items, as many as sound.
        mixture: `[B, C, T]`, finite.
        seeds: one per item.
        stems: K, of what the mixture consists.
        known: the model's level; None leaves the signals as they are.
        levels: of the piece that each item is from, in dB relative to full scale; None measures each item by itself.
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
    pieces = own if levels is None else [float(level) for level in levels]
    if len(pieces) != items:
        raise UserError(f"{len(pieces)} levels for {items} items; give one each")
    # A piece's level may be that of silence while an item of it sounds, if it is cut otherwise.
    pieces = [piece if piece > SILENCE else mine for piece, mine in zip(pieces, own, strict=True)]
    share = (mixture / stems).float().cpu().unsqueeze(1)
    result = share.expand(-1, stems, -1, -1).clone()
    result[[k for k in range(items) if own[k] < SILENCE]] = 0
    rests = Rests.of(mixture, pieces, sample_rate)
    resting = [False] * items if rests is None else rests.mask.all(dim=-1).flatten().tolist()
    chosen = [k for k in range(items) if own[k] >= SILENCE and not resting[k]]
    if not chosen:
        return result
    gain = _gains([pieces[k] for k in chosen], known, mixture)
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

    The given stems are quieter than the mixture that they will be part of, whose level nobody knows yet. Stems that are
    equally loud and independent add up by their powers: `stems` of `stems + others` are 10·log₁₀(1 + others/stems) dB
    under the whole, which is what the given ones are brought to. Given silence says nothing of the level: it stays, and
    what is generated has the model's level.

    Args:
        sample: from `given` at the model's level to signals `[B, ..., C, T]` at that level.
        given: `[B, I, C, T]`, finite.
        stems: how many sources the given ones are.
        others: how many sources are generated.
        known: see `separated`.
        levels: of the mixture that each item's stems are part of, in dB relative to full scale; None measures the given
            ones.
        sample_rate: in Hz.

    Returns:
        What `sample` gives, at the level of the given stems: float32 on the CPU.

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
    """Refuse stems that a sampling has left behind that diverged, before they are written.

    Args:
        parts: label to `[C, T]`.
        peak: the highest to be expected; `HEADROOM` is left on top.
        what: what it is the peak of.

    Raises:
        UserError: if a stem is not finite or far louder.
    """
    for label, samples in parts.items():
        highest = float(abs(samples).max())
        if not math.isfinite(highest) or highest > 10 ** (HEADROOM / 20) * peak:
            why = f"has a peak of {highest:.3g}, {what} {peak:.3g}" if math.isfinite(highest) else "is not finite"
            raise UserError(f"{label} {why}: {_DIVERGED}")


def _sums(x: Tensor, width: int) -> Tensor:
    """How many are true in each stretch of `width` of `[..., T]`: `[..., T − width + 1]`."""
    total = torch.nn.functional.pad(x.cumsum(dim=-1), (1, 0))
    return total[..., width:] - total[..., :-width]


def _gains(levels: Sequence[float], known: float | None, like: Tensor) -> Tensor:
    """The factors to the model's level, for signals like `[B, C, T]`: `[B, 1, 1]`."""
    gains = [1.0 if known is None else 10 ** ((known - level) / 20) for level in levels]
    return torch.tensor(gains, dtype=torch.float32, device=like.device).reshape(-1, 1, 1)


def _finite(x: Tensor) -> Tensor:
    if not torch.isfinite(x).all():
        raise UserError(f"a stem is not finite: {_DIVERGED}")
    return x
