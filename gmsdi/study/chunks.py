"""Which items the workflow's jobs handle: seeds, shares, draws of chunks, and the tracks that are kept apart.

A job handles a share of the items (chunks or clips). An item's noise depends on its own seed alone, so that neither the
number of jobs nor the batch size changes a result by more than the rounding of its last bits; and with network calls of
one fixed size (`gmsdi.study.counting.CALL`), not even by that.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from gmsdi.errors import UserError

if TYPE_CHECKING:
    import pandas as pd

Progress = Callable[[float], None]
"""Called with the number of items done so far, fractions included."""

ALL = "All"
"""The bar of clips without given stems."""


def joined(labels: Iterable[str]) -> str:
    """Labels as tables have them: the active stems of a chunk, the given ones of a bar, a joint stem."""
    return ", ".join(labels)


def labels_in(text: str) -> list[str]:
    """The labels that `joined` has joined."""
    return text.split(", ") if text else []


def given_in(bar: str) -> list[str]:
    """The given stems of a bar."""
    return [] if bar == ALL else labels_in(bar)


def item_seed(*parts: object) -> int:
    """A seed from what identifies an item, such as (run's seed, task, track, offset); stable over machines."""
    return int.from_bytes(hashlib.sha256("\x1f".join(map(str, parts)).encode()).digest()[:7], "big")


def draw(table: pd.DataFrame, ids: Iterable[int], count: int | None, *purpose: object) -> list[int]:
    """Draw `count` of the chunks `ids`, spread evenly over their tracks: one of each before a second of any.

    Chunks of a track, and tracks among themselves, are in the order of a hash of `purpose` (which begins with the run's
    seed), track and offset. Hence fewer chunks are a part of more, and no part of the music (its beginning) is
    preferred.

    Args:
        table: `WindowSet.table`.
        ids: chunks to draw from.
        count: how many; None, or more than there are, takes all.
        *purpose: what the draw is for; other purposes, other chunks.

    Returns:
        Ids in the order of the draw.
    """
    places: dict[str, list[tuple[int, int]]] = {}
    for chunk in ids:
        track, offset = table.at[chunk, "track"], int(table.at[chunk, "offset"])
        places.setdefault(track, []).append((item_seed(*purpose, track, offset), chunk))
    ranked = [
        (rank, item_seed(*purpose, track), chunk)
        for track, found in places.items()
        for rank, (_, chunk) in enumerate(sorted(found))
    ]
    return [chunk for *_, chunk in sorted(ranked)][:count]


def select_chunks(table: pd.DataFrame, count: int | None, *, seed: int, least_active: int = 2) -> list[int]:
    """Ids, in order, of `count` chunks in which at least `least_active` stems are active, drawn evenly from the tracks.

    Args:
        table: `WindowSet.table`.
        count: None takes the whole split, whatever is active.
        seed: the run's seed, see `draw`.
        least_active: number of stems.

    Raises:
        UserError: if there are fewer such chunks.
    """
    if count is None:
        return table.index.tolist()
    number = table["active"].map(lambda active: len(labels_in(active)))
    eligible = table.index[number >= least_active]
    if len(eligible) < count:
        raise UserError(
            f"{count} chunks with at least {least_active} active stems are wanted, but the test split has "
            f"{len(eligible)}; ask for fewer or compose more tracks"
        )
    return sorted(draw(table, eligible, count, seed, "chunks"))


APART = 20
"""Tracks of a test split from which on what is generated from or compared is kept apart from the references' tracks."""


def split_tracks(table: pd.DataFrame, labels: Sequence[str], seed: int) -> tuple[set[str], set[str]]:
    """The tracks that references are drawn from, and those of given stems, held-out chunks and shuffled stems.

    A reference would otherwise be nearer to what was made of its own music. They are two halves of the tracks if at
    least `APART` of them have a chunk with all stems active, such chunks shared out evenly; else all tracks twice.

    Args:
        table: `WindowSet.table` of the test split.
        labels: the K labels.
        seed: the run's seed.
    """
    full = set(table.loc[table["active"] == joined(labels), "track"])
    tracks = sorted(set(table["track"]), key=lambda track: (track not in full, item_seed(seed, "halves", track)))
    return (set(tracks), set(tracks)) if len(full) < APART else (set(tracks[::2]), set(tracks[1::2]))


def in_batches(
    items: Sequence[int], size: int, progress: Progress | None, done: int = 0
) -> Iterator[tuple[list[int], Callable[[int, int], None]]]:
    """Batches of items, each with a sampler's callback that reports to `progress`."""
    for start in range(0, len(items), size):
        part = list(items[start : start + size])

        def callback(step: int, steps: int, before: int = done + start, length: int = len(part)) -> None:
            if progress is not None:
                progress(before + length * step / steps)

        yield part, callback
        if progress is not None:
            progress(done + start + len(part))
