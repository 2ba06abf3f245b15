"""What the shards of a method or a task have made, read as one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from gmsdi.errors import UserError
from gmsdi.study.channels import heard


def open_audio(file: str | Path) -> np.ndarray:
    """A shard's audio, memory-mapped: it stays in the file until it is indexed.

    Raises:
        UserError: if the file is missing or no complete array.
    """
    try:
        return np.load(file, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise UserError(f"{file}: not a complete .npy array ({error}); remove it, and its job runs again") from error


class Shards:
    """The audio of shards end to end, [N, R, T], of which only the rows that are asked for are read.

    Of more than one channel it is [N, R, C, T], or with `mono` the mean of the channels.

    Args:
        files: `.npy` files [n, R, T], in order.
        mono: whether one channel is read.

    Raises:
        UserError: if a file is missing or no complete array, or the shards do not fit together.
    """

    def __init__(self, files: Sequence[str | Path], *, mono: bool = False) -> None:
        self._mono = mono
        self._parts = [open_audio(file) for file in files]
        first = self._parts[0]
        for file, part in zip(files, self._parts, strict=True):
            if part.shape[1:] != first.shape[1:] or part.dtype != first.dtype:
                here, there = (f"{array.dtype} {array.shape[1:]}" for array in (part, first))
                raise UserError(
                    f"{file}: an item is {here}, but {there} in {files[0]}; they are of different runs, remove both"
                )
        self._ends = np.cumsum([len(part) for part in self._parts])

    def __len__(self) -> int:
        return int(self._ends[-1])

    def __getitem__(self, rows: Sequence[int]) -> np.ndarray:
        """A copy of these rows, numbered over all shards: [n, R, T]."""
        first = self._parts[0]
        copy = np.empty((len(rows), *first.shape[1:]), first.dtype)
        for place, row in enumerate(rows):
            part = int(np.searchsorted(self._ends, row, side="right"))
            copy[place] = self._parts[part][row - int(self._ends[part])]  # counted from the part's end
        return heard(copy) if self._mono and copy.ndim > 3 else copy


def join_shards(
    tables: Sequence[str | Path], audio: Sequence[str | Path], *, mono: bool = False
) -> tuple[pd.DataFrame, Shards]:
    """What the shards of a method or a task have made: the table of their items, and the audio of its rows.

    Args:
        tables: `.csv` files, one per shard.
        audio: `.npy` files [n, R, T], in the same order.
        mono: see `Shards`.

    Raises:
        UserError: see `Shards`; or if a shard has another number of items in its table than in its audio.
    """
    frames, shards = [pd.read_csv(file) for file in tables], Shards(audio, mono=mono)
    for table, frame, file in zip(tables, frames, audio, strict=True):
        if len(frame) != (items := len(open_audio(file))):
            raise UserError(
                f"{table}: {len(frame)} items, but {items} in {file}; remove both, and their job runs again"
            )
    return pd.concat(frames, ignore_index=True), shards
