"""Reader of MTG-Jamendo (`raw_30s`, `audio-low`): tracks of recorded music as MP3 files, mixtures without labels.

Layout: `<root>/NN/ID.low.mp3`. The folder NN is the data set's shard, the last two digits of the track's identifier ID.
The paper trains on the first 98 shards and validates on the last 2, so its split goes by the identifier: 98 % and 2 %
of the tracks. The splits that are published with the data set are for tagging, and not used.
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
        path: its file.
        name: its shard and identifier, "NN/ID".
        sample_rate: in Hz.
        frames: samples, as its header says.
    """

    path: Path
    name: str
    sample_rate: int
    frames: int

    def length(self, sample_rate: int) -> int:
        """Samples at another rate."""
        return round(self.frames * sample_rate / self.sample_rate)


def list_tracks(root: str | Path, shards: Iterable[int], *, limit: int | None = None) -> list[Path]:
    """Files of shards, in the order of shard and identifier.

    Args:
        root: the folder that holds the folders 00 to 99.
        shards: their numbers.
        limit: of each shard at most so many tracks, those of the lowest identifiers; None takes all.

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
    """Name of the track in a file, "NN/ID"."""
    return f"{path.parent.name}/{path.name.partition('.')[0]}"


def read_track(path: Path) -> Track:
    """Describe a track by the header of its file.

    Raises:
        Unreadable: if it has none.
    """
    return Track(path, name_of(path), *header(path))


def decode(track: Track, sample_rate: int) -> np.ndarray:
    """Decode a track block by block, channels averaged, and resample it.

    Memory: the result, 2 bytes a sample, and a few blocks, however long the track is.

    Args:
        track: see `read_track`.
        sample_rate: of the result, in Hz.

    Returns:
        int16 `[T]` with T = `track.length(sample_rate)`, clipped to the range of int16.

    Raises:
        Unreadable: if the file is damaged, ends more than a tenth of a second before its header says, or holds samples
            that are not finite.
    """
    result = np.zeros(track.length(sample_rate), np.int16)
    written = 0
    for samples in stream(track.path, track.frames, track.sample_rate, sample_rate):
        part = to_int16(samples[: len(result) - written])
        result[written : written + len(part)] = part
        written += len(part)
    return result
