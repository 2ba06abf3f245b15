"""Reader of MTG-Jamendo (`raw_30s`, `audio-low`): tracks of recorded music as MP3 files, mixtures without labels.

Layout: `<root>/NN/ID.low.mp3`, where the folder NN is a shard of the data set, the last two digits of the track's
identifier ID. The paper trains on the first 98 shards and validates on the last 2, so the split depends on the
identifier: 98 % and 2 % of the tracks. The splits published with the data set are for tagging and are not used.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from gmsdi.data.decoding import header, stream
from gmsdi.errors import UserError
from gmsdi.io.audio import to_int16

_FILE = re.compile(r"(\d+)\.low\.mp3")


@dataclass(frozen=True)
class Track:
    """A track of MTG-Jamendo.

    Attributes:
        path: the file.
        name: shard and identifier, "NN/ID".
        sample_rate: in Hz.
        frames: number of samples, according to its header.
    """

    path: Path
    name: str
    sample_rate: int
    frames: int

    def length(self, sample_rate: int) -> int:
        """Number of samples at another rate."""
        return round(self.frames * sample_rate / self.sample_rate)


def list_tracks(root: str | Path, shards: Iterable[int], *, limit: int | None = None) -> list[Path]:
    """List the files of shards, ordered by shard and identifier.

    Args:
        root: the folder that holds the folders 00 to 99.
        shards: their numbers.
        limit: largest number of tracks per shard, those with the lowest identifiers; None means all.

    Raises:
        UserError: if a shard is missing or holds no tracks.
    """
    found: list[Path] = []
    for shard in sorted(set(shards)):
        folder = Path(root) / f"{shard:02d}"
        if not folder.is_dir():
            raise UserError(f"{folder}: no such folder; download shard {shard} of MTG-Jamendo, or leave it out")
        numbers = {int(match[1]): path for path in folder.iterdir() if (match := _FILE.fullmatch(path.name))}
        if not numbers:
            raise UserError(f"{folder}: holds no tracks (ID.low.mp3); download shard {shard} of MTG-Jamendo again")
        found += [numbers[number] for number in sorted(numbers)[:limit]]
    return found


def name_of(path: Path) -> str:
    """The name of a file's track, "NN/ID"."""
    return f"{path.parent.name}/{path.name.partition('.')[0]}"


def read_track(path: Path) -> Track:
    """Read a track's description from the header of its file.

    Raises:
        Unreadable: if the file has no valid header.
    """
    return Track(path, name_of(path), *header(path))


def decode(track: Track, sample_rate: int) -> np.ndarray:
    """Decode a track block by block, average its channels, and resample it.

    Memory: the result, 2 bytes per sample, and a few blocks, however long the track is.

    Args:
        track: see `read_track`.
        sample_rate: sample rate of the result, in Hz.

    Returns:
        int16 `[T]` with T = `track.length(sample_rate)`, clipped to the range of int16.

    Raises:
        Unreadable: see `gmsdi.data.decoding.stream`.
    """
    result = np.zeros(track.length(sample_rate), np.int16)
    written = 0
    for block in stream(track.path, track.frames, track.sample_rate, sample_rate):
        samples = block[:, 0]
        part = to_int16(samples[: len(result) - written])
        result[written : written + len(part)] = part
        written += len(part)
    return result
