"""How bass, guitar and keyboards play a passage of chords: many styles, each with randomly drawn parameters.

A style is a function of a random generator, a passage and a register; it returns notes as written, on the grid. The
sections of one kind are played alike because they use the same style and random stream.
"""

from __future__ import annotations

from gmsdi.data.songs.playing.chords import arpeggio, chops, chords, held_chords, picking, power_chords, strum
from gmsdi.data.songs.playing.keyboards import fast_runs, locked_hands, montuno, stride, two_hands
from gmsdi.data.songs.playing.lines import (
    bass_arpeggio,
    bass_held,
    bass_octaves,
    bass_pedal,
    bass_random,
    bass_roots,
    bass_slap,
    bass_walking,
    lead,
    riff,
    tremolo,
)
from gmsdi.data.songs.playing.passages import Style

STYLES: dict[str, dict[Style, float]] = {
    "Bass": {
        bass_roots: 0.26, bass_walking: 0.12, riff: 0.14, bass_octaves: 0.07, bass_held: 0.1, bass_pedal: 0.05,
        bass_slap: 0.08, bass_arpeggio: 0.08, bass_random: 0.1,
    },
    "Guitar": {
        strum: 0.2, power_chords: 0.13, arpeggio: 0.12, picking: 0.1, lead: 0.15, riff: 0.1, chops: 0.07,
        held_chords: 0.04, chords: 0.05, tremolo: 0.02, fast_runs: 0.02,
    },
    "Piano": {
        chords: 0.17, held_chords: 0.1, arpeggio: 0.15, two_hands: 0.24, lead: 0.1, montuno: 0.05, locked_hands: 0.05,
        riff: 0.05, tremolo: 0.02, fast_runs: 0.04, stride: 0.03,
    },
}  # fmt: skip

# Lowest and highest pitch of each class. `SINGLE` are the styles of one voice, which may have pitch bends.
REGISTERS = {"Bass": (24, 62), "Guitar": (40, 86), "Piano": (24, 100)}
SINGLE = (lead, riff, bass_roots, bass_walking, bass_octaves, bass_held, bass_pedal, bass_slap, bass_random)
