"""Reads the shards of a row or a task as one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from gmsdi.errors import UserError
from gmsdi.io.tables import read_table
from gmsdi.study.channels import heard


def open_audio(file: str | Path) -> np.ndarray:
    """Open a shard's audio, memory-mapped: data are read when they are indexed.

    Raises:
        UserError: if the file is missing or incomplete.
    """
    try:
        return np.load(file, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise UserError(
            f"{file}: not a complete .npy array ({error}); remove it, so that its job runs again"
        ) from error


class Shards:
    """The audio of all shards, concatenated to [N, R, T]; only rows that are indexed are read.

    Of more than one channel it is [N, R, C, T], or with `mono` the mean of the channels.

    Args:
        files: `.npy` files [n, R, T], in order.
        mono: whether one channel is read.

    Raises:
        UserError: if a file is missing or incomplete, or the shards do not fit together.
    """

    def __init__(self, files: Sequence[str | Path], *, mono: bool = False) -> None:
        self._mono = mono
        self._parts = [open_audio(file) for file in files]
        first = self._parts[0]
        for file, part in zip(files, self._parts, strict=True):
            if part.shape[1:] != first.shape[1:] or part.dtype != first.dtype:
                here, there = (f"{array.dtype} {array.shape[1:]}" for array in (part, first))
                raise UserError(
                    f"{file}: items are {here}, but {there} in {files[0]}; they are from different runs, remove both"
                )
        self._ends = np.cumsum([len(part) for part in self._parts])

    def __len__(self) -> int:
        return int(self._ends[-1])

    def __getitem__(self, rows: Sequence[int]) -> np.ndarray:
        """A copy [n, R, T] of these rows, numbered across all shards."""
        first = self._parts[0]
        copy = np.empty((len(rows), *first.shape[1:]), first.dtype)
        for place, row in enumerate(rows):
            part = int(np.searchsorted(self._ends, row, side="right"))
            copy[place] = self._parts[part][row - int(self._ends[part])]  # negative: counted from the part's end
        return heard(copy) if self._mono and copy.ndim > 3 else copy


def join_shards(
    tables: Sequence[str | Path], audio: Sequence[str | Path], *, mono: bool = False
) -> tuple[pd.DataFrame, Shards]:
    """Join the shards of a row or a task: the table of their items, and their audio.

    Args:
        tables: `.csv` files, one per shard.
        audio: `.npy` files [n, R, T], in the same order.
        mono: see `Shards`.

    Raises:
        UserError: see `Shards`; also if a shard's table and audio have different numbers of items.
    """
    frames, shards = [read_table(file) for file in tables], Shards(audio, mono=mono)
    for table, frame, file in zip(tables, frames, audio, strict=True):
        if len(frame) != (items := len(open_audio(file))):
            raise UserError(
                f"{table}: {len(frame)} items, but {items} in {file}; remove both, so that their job runs again"
            )
    return pd.concat(frames, ignore_index=True), shards
