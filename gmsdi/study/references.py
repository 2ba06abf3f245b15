"""What generated clips are compared with: test chunks, held-out ones, white noise, shuffled stems."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import cycle, islice
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from gmsdi.errors import UserError
from gmsdi.study.channels import heard
from gmsdi.study.chunks import draw, item_seed, joined, labels_in, split_tracks, tracks_of_mixtures

if TYPE_CHECKING:
    from gmsdi.data.windows import WindowSet

HELD_OUT = "held-out test chunks"
NOISE = "white noise"
SHUFFLED = "shuffled stems"
"""Names of these references in figures and tables."""


@dataclass(frozen=True)
class Reference:
    """A set of clips that generated clips are compared with.

    Attributes:
        name: name of the set.
        tracks: the track of each clip; "" if it comes from no track or from several.
        clips: the clips [T], of one channel, each read or made when it is needed.
    """

    name: str
    tracks: list[str]
    clips: Iterator[np.ndarray]


def reference_audio(
    windows: WindowSet,
    *,
    clips: int,
    limit: int | None,
    mixtures: str,
    seed: int,
    groups: Sequence[Sequence[str]] | None = None,
) -> Iterator[Reference]:
    """All sets of clips that generated clips are compared with.

    For each label: `stem/<label>`, test chunks in which it is active; `held-out/<label>`, such chunks from other
    tracks; and `noise/<label>`, white noise with the root mean square of the former. Likewise `mixture`,
    `held-out/mixture` and `noise/mixture`. Finally `shuffled`, sums of stems from different tracks.

    If the split has few tracks (see `split_tracks`), references use chunks of all tracks (mixtures of "any" stems those
    of `tracks_of_mixtures`), and held-out chunks those of half of them; leave these tracks out of the reference when
    comparing.

    Args:
        windows: the test split.
        clips: number of noise clips and of shuffled mixtures, and largest number of held-out chunks.
        limit: largest number of chunks in a reference, drawn at random; None takes all.
        mixtures: which chunks are reference mixtures, those with "all" stems active or "any".
        seed: the run's seed.
        groups: groups of labels whose sums are references as well, `stem/<label>, <label>`, from chunks in which all of
            them are active.

    Raises:
        UserError: if a reference has fewer than eight chunks, or all of them are from one track.
    """
    table, K = windows.table, len(windows.labels)
    active = table["active"].map(lambda text: set(labels_in(text)))
    every = set(windows.labels)
    ours, others = split_tracks(table, windows.labels, seed)

    def pick(name: str, sounding: pd.Series) -> tuple[list[int], list[int]]:
        """Chunks of the reference, and held-out ones."""
        among = tracks_of_mixtures(table, windows.labels, seed) if (name, mixtures) == ("mixture", "any") else ours
        ids = table.index[sounding & table["track"].isin(among)]
        chosen = sorted(draw(table, ids, limit, seed, "reference", name))
        if len(chosen) < 8:
            raise UserError(
                f"{windows.folder}: {name} has {len(chosen)} chunks, too few for a distance; use more test tracks"
            )
        apart = others
        if ours == others:
            tracks = sorted(set(table.loc[chosen, "track"]), key=lambda track: item_seed(seed, "held out", name, track))
            if len(tracks) < 2:
                raise UserError(f"{windows.folder}: {name} occurs in only one track; use more test tracks")
            apart = set(tracks[: len(tracks) // 2])
        ids = table.index[sounding & table["track"].isin(apart)]
        return chosen, sorted(draw(table, ids, clips, seed, "held out", name))

    def of(chunks: Sequence[int]) -> list[str]:
        return table.loc[list(chunks), "track"].tolist()

    def stem(k: int, chunks: Iterable[int]) -> Iterator[np.ndarray]:
        return (heard(windows.stems([chunk]))[0, k] for chunk in chunks)

    def together(members: Sequence[int], chunks: Iterable[int]) -> Iterator[np.ndarray]:
        return (heard(windows.stems([chunk]))[0, members].sum(axis=0) for chunk in chunks)

    def mixture(chunks: Iterable[int]) -> Iterator[np.ndarray]:
        return (heard(windows.mixture([chunk]))[0] for chunk in chunks)

    def noise(name: str, like: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        rng = np.random.default_rng(item_seed(seed, "noise", name))
        for signal in like:
            level = np.sqrt(np.mean(signal**2, axis=-1, keepdims=True))
            yield (level * rng.standard_normal(signal.shape)).astype(np.float32)

    def shuffled(chunks: Sequence[int]) -> Iterator[np.ndarray]:
        rng = np.random.default_rng(item_seed(seed, "shuffled"))
        for _ in range(clips):
            # In random order, the first chunks from different tracks; if there are few tracks, they are used twice.
            first: dict[str, int] = {}
            for chunk in rng.permutation(chunks).tolist():
                first.setdefault(table.at[chunk, "track"], chunk)
                if len(first) == K:
                    break
            clip = np.zeros(windows.window, np.float32)
            for k, chunk in zip(range(K), cycle(first.values()), strict=False):
                clip += heard(windows.stems([chunk]))[0, k]
            yield clip

    def sets(name: str, audio: Callable[[Iterable[int]], Iterator[np.ndarray]], sounding: pd.Series) -> Iterator[Any]:
        chosen, held_out = pick(name, sounding)
        short = name.removeprefix("stem/")
        yield Reference(name, of(chosen), audio(chosen))
        yield Reference(f"held-out/{short}", of(held_out), audio(held_out))
        yield Reference(f"noise/{short}", [""] * clips, noise(short, audio(islice(cycle(chosen), clips))))

    for k, label in enumerate(windows.labels):
        yield from sets(f"stem/{label}", partial(stem, k), active.map(lambda s, x=label: x in s))
    for group in groups or []:
        members = [windows.labels.index(label) for label in group]
        if len(group) > 1:
            sounding = active.map(lambda s, x=set(group): x <= s)
            yield from sets(f"stem/{joined(group)}", partial(together, members), sounding)
    full = active.map(lambda s: s == every if mixtures == "all" else len(s & every) > 0)
    yield from sets("mixture", mixture, full)
    yield Reference("shuffled", [""] * clips, shuffled(table.index[full & table["track"].isin(others)].tolist()))
