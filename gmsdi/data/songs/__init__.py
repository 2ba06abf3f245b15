"""Songs to train on, as MIDI: arranged by MMA, drawn at random, or written by this package's own composer."""

from gmsdi.data.songs.composed import ComposedSettings
from gmsdi.data.songs.drawn import DrawnSettings
from gmsdi.data.songs.mma import ArrangedSettings
from gmsdi.data.songs.writing import KINDS, SPLITS, VERSION, Written, make_song, write_songs

__all__ = [
    "KINDS",
    "SPLITS",
    "VERSION",
    "ArrangedSettings",
    "ComposedSettings",
    "DrawnSettings",
    "Written",
    "make_song",
    "write_songs",
]
