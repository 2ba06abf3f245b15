"""Which items the workflow's jobs handle: labels, seeds, draws of chunks, and tracks that are kept apart.

A job handles a shard of the items (chunks or clips). An item's noise depends only on its own seed. Therefore neither
the number of jobs nor the batch size changes a result by more than rounding, and with network calls of one fixed size
(`gmsdi.study.counting.CALL`) not at all.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from gmsdi.errors import UserError

if TYPE_CHECKING:
    import pandas as pd

Progress = Callable[[float], None]
"""Called with the number of items done so far, which may be fractional."""

ALL = "All"
"""The bar of clips without given stems; in scores, all stems together."""


def joined(labels: Iterable[str]) -> str:
    """Join labels as in tables: the active stems of a chunk, the given stems of a bar, the stems of a group."""
    return ", ".join(labels)


def labels_in(text: str) -> list[str]:
    """Split a text from `joined` into its labels."""
    return text.split(", ") if text else []


def given_in(bar: str) -> list[str]:
    """The given stems of a bar."""
    return [] if bar == ALL else labels_in(bar)


def item_seed(*parts: object) -> int:
    """A seed derived from what identifies an item, such as (run's seed, task, track, offset); equal on all machines."""
    return int.from_bytes(hashlib.sha256("\x1f".join(map(str, parts)).encode()).digest()[:7], "big")


def draw(table: pd.DataFrame, ids: Iterable[int], count: int | None, *purpose: object) -> list[int]:
    """Draw `count` of the chunks `ids`, spread evenly over their tracks: one from each before a second from any.

    Tracks, and the chunks of a track, are ordered by a hash of `purpose` (which begins with the run's seed), track and
    offset. A smaller draw is therefore part of a larger one, and no part of the music, such as its beginning, is
    preferred.

    Args:
        table: `WindowSet.table`.
        ids: chunks to draw from.
        count: number of chunks; None, or more than there are, takes all.
        *purpose: what the draw is for; it determines which chunks are drawn.

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


def select_chunks(table: pd.DataFrame, count: int | None, *, seed: int) -> list[int]:
    """Ids, in order, of `count` chunks in which two or more stems are active, drawn evenly from the tracks.

    Args:
        table: `WindowSet.table`.
        count: number of chunks; None takes the whole split, whatever is active.
        seed: the run's seed, see `draw`.

    Raises:
        UserError: if there are fewer such chunks.
    """
    if count is None:
        return table.index.tolist()
    number = table["active"].map(lambda active: len(labels_in(active)))
    eligible = table.index[number >= 2]
    if len(eligible) < count:
        raise UserError(
            f"the configuration asks for {count} chunks with at least 2 active stems, but the split has "
            f"{len(eligible)}; ask for fewer, or use more tracks"
        )
    return sorted(draw(table, eligible, count, seed, "chunks"))


APART = 20
"""Number of test tracks from which on references use other tracks than given stems and held-out chunks."""


def split_tracks(table: pd.DataFrame, labels: Sequence[str], seed: int) -> tuple[set[str], set[str]]:
    """The tracks of references, and the tracks of given stems, held-out chunks and shuffled stems.

    They are kept apart because a reference is nearer to clips made from its own music. If at least `APART` tracks have
    a chunk with all stems active, each side gets half of the tracks, such tracks divided evenly; otherwise both sides
    get all tracks.

    Args:
        table: `WindowSet.table` of the test split.
        labels: the K labels.
        seed: the run's seed.
    """
    full = set(table.loc[table["active"] == joined(labels), "track"])
    tracks = sorted(set(table["track"]), key=lambda track: (track not in full, item_seed(seed, "halves", track)))
    return (set(tracks), set(tracks)) if len(full) < APART else (set(tracks[::2]), set(tracks[1::2]))


def tracks_of_mixtures(table: pd.DataFrame, labels: Sequence[str], seed: int) -> set[str]:
    """The tracks of reference mixtures, where these may have any stems.

    Those of `split_tracks`. If it cannot keep tracks apart because few have a chunk with all stems active, but at least
    half of `APART` others have none, it is these others: given stems come only from chunks with all stems active.

    Args:
        table: `WindowSet.table` of the test split.
        labels: the K labels.
        seed: the run's seed.
    """
    ours, others = split_tracks(table, labels, seed)
    if ours != others:
        return ours
    rest = ours - set(table.loc[table["active"] == joined(labels), "track"])
    return rest if len(rest) >= APART // 2 else ours


def in_batches(
    items: Sequence[int], size: int, progress: Progress | None, done: int = 0
) -> Iterator[tuple[list[int], Callable[[int, int], None]]]:
    """Batches of items, each with a callback for the sampler that reports to `progress`."""
    for start in range(0, len(items), size):
        part = list(items[start : start + size])

        def callback(step: int, steps: int, before: int = done + start, length: int = len(part)) -> None:
            if progress is not None:
                progress(before + length * step / steps)

        yield part, callback
        if progress is not None:
            progress(done + start + len(part))
