"""Short pieces to try the page with: made by our own composer, played when they are asked for."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import numpy as np

from gmsdi.data.mini import compose_track, master, render
from gmsdi.data.settings import MiniConfig
from gmsdi.io.audio import Audio, write
from gmsdi.types import total_of

# Pieces of one section, in which all instruments play. No model that comes with the package has seen any of this seed.
SEED, COUNT = 1901, 6


def titles() -> list[str]:
    """What the pieces are called, by key and tempo."""
    pieces = [compose_track(_config(8000), seed=SEED, split="test", index=index) for index in range(COUNT)]
    return [f"{piece.key}, {piece.tempo} bpm" for piece in pieces]


@lru_cache(maxsize=64)
def example(index: int, sample_rate: int, folder: Path) -> dict[str, Path]:
    """The files of a piece: "mixture" and each of its stems by label.

    Args:
        index: of its title.
        sample_rate: in Hz; above 44.1 kHz the files have that.
        folder: for the files.

    Raises:
        UserError: if they cannot be written, or there is no SoundFont to play them with.
    """
    config = _config(min(sample_rate, 44_100))
    piece = compose_track(config, seed=SEED, split="test", index=index)
    stems, _, _ = master(render(piece, config), config)
    signals = {label: stem[None].astype(np.float32) / np.float32(32768) for label, stem in stems.items()}
    signals["mixture"] = total_of(signals.values())
    name = f"example-{index + 1}-{piece.key.replace(' ', '-').lower()}"
    return {
        label: write(folder / str(config.sample_rate) / f"{name}-{label.lower()}.wav", Audio(x, config.sample_rate))
        for label, x in signals.items()
    }


def _config(sample_rate: int) -> MiniConfig:
    return MiniConfig(sample_rate=sample_rate, sections=(1, 1), section_sizes={4: 1.0})
