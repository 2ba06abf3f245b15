"""Pieces by this package's own composer as MIDI, with programs from all of each class."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from gmsdi.data.composer import compose
from gmsdi.data.songs.score import KITS, PAN, PROGRAMS, Part, Song


@dataclass(frozen=True)
class ComposedSettings:
    """Settings of composed pieces.

    Attributes:
        sections: smallest and largest number of sections of four bars.
        section_sizes: probability of each number of instruments in a section.
    """

    sections: tuple[int, int] = (5, 8)
    section_sizes: dict[int, float] = field(default_factory=lambda: {1: 0.1, 2: 0.15, 3: 0.25, 4: 0.5})


def write_piece(rng: np.random.Generator, settings: ComposedSettings) -> Song:
    """Compose a piece."""
    piece = compose(
        rng,
        sections=settings.sections,
        section_sizes=settings.section_sizes,
        programs={name: tuple(programs) for name, programs in PROGRAMS.items()},
        kits=KITS,
    )
    parts = []
    for name, notes in piece.notes.items():
        part = Part(name, piece.programs[name], list(notes), name == "Drums")
        if not part.drums and rng.random() < 0.5:
            part.controls.append((0, PAN, int(np.clip(rng.normal(64, 20), 0, 127))))
        parts.append(part)
    return Song([(0, float(piece.tempo))], (4, 4), parts, f"composed, {piece.key}")
