"""The published versions of Slakh2100, with their archives and splits, and MTG-Jamendo's shards.

This module imports nothing heavy, because the workflow's graph is built from it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

SLAKH = {"redux": "slakh2100_flac_redux.tar.gz", "babyslakh": "babyslakh_16k.tar.gz"}
"""File names of the archives, as in the registry."""

JAMENDO_SHARDS = 100
"""Number of shards of MTG-Jamendo. The last two digits of a track's identifier are its shard."""
JAMENDO_TRACKS = "raw_30s_audio-low_sha256_tracks.txt"
"""File name of the list of MTG-Jamendo's tracks, as in the registry."""


def jamendo_shard(number: int) -> str:
    """File name of a shard's archive, as in the registry."""
    return f"raw_30s_audio-low-{number:02d}.tar"


@dataclass(frozen=True)
class Version:
    """A published data set, and one way to split it.

    Attributes:
        variant: its archive, see `SLAKH`.
        numbers: for each split, the range of its track numbers.
        tracks: for each split, the number of tracks.
        folders: whether the archive's folders are the splits; otherwise the ranges of numbers are, over all folders.
    """

    variant: str
    numbers: Mapping[str, range]
    tracks: Mapping[str, int]
    folders: bool = False

    @property
    def archive(self) -> str:
        """File name of the archive."""
        return SLAKH[self.variant]

    @property
    def folder(self) -> str:
        """Name of the folder that it unpacks to."""
        return self.archive.partition(".")[0]


_NUMBERS = {"train": range(1, 1501), "validation": range(1501, 1876), "test": range(1876, 2101)}
_BABY = {"train": range(1, 17), "validation": range(17, 19), "test": range(19, 21)}
VERSIONS = {
    # Manilow et al. 2019: all tracks, some of which share their MIDI file with a track of another split.
    "slakh2100": Version("redux", _NUMBERS, {split: len(found) for split, found in _NUMBERS.items()}),
    # Without the second of any two tracks with the same MIDI file; these are in the folder "omitted".
    "slakh2100_redux": Version("redux", _NUMBERS, {"train": 1289, "validation": 270, "test": 151}, folders=True),
    # Published without a split; this one is ours, for trying things out.
    "babyslakh": Version("babyslakh", _BABY, {split: len(found) for split, found in _BABY.items()}),
}
"""The data sets that `data.source` can name. A composed data set has the layout of "slakh2100_redux"."""


def numbers_of(version: str, split: str, first: int | None = None) -> range:
    """The range of track numbers of a split, or its first `first` numbers.

    In Slakh2100 redux some numbers of a range are omitted, so that fewer than `first` tracks are found.
    """
    return VERSIONS[version].numbers[split][:first]
