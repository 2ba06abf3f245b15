"""A song of any length, separated block by block."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from gmsdi import level, tasks
from gmsdi.inference import ShareOut, Wiener
from gmsdi.io.audio import Samples, Source, fit, resampled
from gmsdi.presets import Preset
from gmsdi.sampling.session import Session
from gmsdi.sampling.windows import overlap_of
from gmsdi.song.signals import as_channels, require_room
from gmsdi.tasks import Average
from gmsdi.tasks.signals import part_of
from gmsdi.types import Progress, Stems

BLOCK = 30.0
"""Seconds of a song that are separated at a time, at least."""


@dataclass(frozen=True)
class Separation:
    """How songs are separated: everything that is decided before the first song is read.

    Made by `separation`. Called with a song, it yields its stems `[K, C, n]`, block by block, in
    the order of `labels`.

    Attributes:
        session: the model and how it is sampled.
        prompts: of everything that the song consists of, the stems first.
        labels: of the stems, in order.
        preset: the method and its settings.
        seed: of the noise.
        negatives: label to negative text.
        consistent: how the stems of the consistent Extractor are made to sum to the song.
        average: how many runs are averaged.
        wiener: filters the song with the result; None does not.
        block: length of a block in seconds.
    """

    session: Session
    prompts: Sequence[str]
    labels: Sequence[str]
    preset: Preset
    seed: int = 0
    negatives: Mapping[str, str] = field(default_factory=dict)
    consistent: bool | ShareOut = False
    average: Average = field(default_factory=Average)
    wiener: Wiener | None = None
    block: float = BLOCK

    def __call__(self, source: Source, progress: Progress | None = None) -> Iterator[Samples]:
        """Separate a song.

        Args:
            source: the song.
            progress: called with (step, steps), over all of its blocks.

        Yields:
            The stems, float32 `[K, C, n]` at the song's rate; together they are as long as the song.

        Raises:
            UserError: if the song is damaged, or the sampling diverged.
        """
        model = self.session.model
        meter, peak, frames = level.Meter(model.sample_rate), 0.0, 0
        at_once = round(min(source.seconds, self.block) * model.sample_rate)
        signals = len(self.prompts) * self.average.runs * (source.channels if model.channels == 1 else 1)
        require_room(self.session.model, signals, at_once, f"{source.name}, {self.block:g} s of it at once,")

        def watched() -> Iterator[Samples]:
            nonlocal peak, frames
            for block in source.blocks():
                peak, frames = max(peak, float(np.abs(block).max())), frames + block.shape[1]
                yield block

        for block in self._heard(source, watched()):
            meter.add(torch.from_numpy(block))
        if not meter.length:  # shorter than one sample at the model's rate
            yield np.zeros((len(self.labels), self.channels(source), frames), np.float32)
            return
        found = self._blocks(self._heard(source, source.blocks()), meter.length, meter.level(), progress)
        channels, left = self.channels(source), frames
        flat = (part.reshape(-1, part.shape[-1]) for part in found)
        rows = len(self.labels) * channels
        for part in resampled(flat, model.sample_rate, source.sample_rate, rows):
            if not left or not part.size:
                continue
            stems = part.reshape(len(self.labels), channels, -1)[..., :left]
            left -= stems.shape[-1]
            level.require_plausible(dict(zip(self.labels, stems, strict=True)), peak=peak, what="its mixture has")
            yield stems
        if left:
            yield np.zeros((len(self.labels), channels, left), np.float32)

    def channels(self, source: Source) -> int:
        """Number of channels of a song's stems: the song's for a model of one channel, otherwise the model's."""
        return source.channels if self.session.model.channels == 1 else self.session.model.channels

    def mixture(self, source: Source) -> Iterator[Samples]:
        """A song, with as many channels as its stems, block by block."""
        return (as_channels(block, self.channels(source)) for block in source.blocks())

    def collected(self, source: Source, progress: Progress | None = None) -> Stems:
        """All stems of a song, as a whole."""
        parts = np.concatenate(list(self(source, progress)), axis=-1)
        mixture = as_channels(source.whole().samples, self.channels(source))
        return Stems(dict(zip(self.labels, parts, strict=True)), mixture, source.sample_rate)

    def _heard(self, source: Source, blocks: Iterable[Samples]) -> Iterator[Samples]:
        """A song at the rate, and with the channels, that the model takes."""
        channels = self.channels(source)
        heard = (as_channels(block, channels) for block in blocks)
        return resampled(heard, source.sample_rate, self.session.model.sample_rate, channels)

    def _blocks(
        self, heard: Iterator[Samples], length: int, song_level: float, progress: Progress | None
    ) -> Iterator[Samples]:
        """The stems `[K, C, n]` at the model's rate, block by block, cross-faded."""
        session = self.session
        rate, overlap = session.model.sample_rate, overlap_of(session.model.window)
        size = session.padded(max(1, round(self.block * rate)))
        hop = size - overlap
        number = 1 if length <= size else math.ceil((length - overlap) / hop)
        steps, fade = number * session.solver.steps, (np.arange(overlap, dtype=np.float32) + 0.5) / overlap
        waiting, tail = np.zeros((0, 0), np.float32), None
        for k in range(number):
            wanted = length - k * hop if k == number - 1 else size
            pieces = [waiting]
            while sum(piece.shape[1] for piece in pieces) < wanted:
                pieces.append(next(heard))
            whole = np.concatenate([piece for piece in pieces if piece.size], axis=1)
            block, waiting = whole[:, :wanted], whole[:, hop:]
            found = self._separated(block, song_level, k, part_of(progress, k * session.solver.steps, steps))
            if tail is not None:
                found[..., :overlap] = tail * (1 - fade) + found[..., :overlap] * fade
            tail = found[..., hop:].copy()
            yield found if k == number - 1 else found[..., :hop]

    def _separated(self, block: Samples, song_level: float, number: int, progress: Progress | None) -> Samples:
        """The stems `[K, C, n]` of one block `[C, n]`."""
        session, mono = self.session, self.session.model.channels == 1
        items = torch.from_numpy(fit(block, session.padded(block.shape[1]))).unsqueeze(1 if mono else 0)
        seed = self.seed if number == 0 else int(np.random.SeedSequence([self.seed, number, 1]).generate_state(1)[0])
        common: dict[str, Any] = {
            "average": self.average,
            "wiener": self.wiener,
            "seeds": [seed] * len(items),
            "levels": [song_level] * len(items),
            "negatives": self.negatives,
            "progress": progress,
        }
        if self.preset.method in ("separator", "projected"):
            constrained = self.preset.constrained if self.preset.method == "separator" else None
            found = tasks.separate(session, items, self.prompts, constrained=constrained, **common)
        else:
            found = tasks.extract(session, items, self.prompts, consistent=self.consistent, **common)
        kept = found[:, : len(self.labels)].transpose(0, 1).flatten(1, 2)  # [K, B * C, T]: one of B and C is 1
        return kept[..., : block.shape[1]].numpy().copy()
