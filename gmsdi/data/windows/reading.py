"""A folder of windows, read on demand."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from gmsdi.data.decoding import FULL_SCALE
from gmsdi.errors import UserError
from gmsdi.io.tables import read_table

if TYPE_CHECKING:
    import pandas as pd

_ATTEMPTS = 10_000  # draws of a crop before giving up on finding one that is not silent


class WindowSet:
    """A folder of windows, read on demand.

    Args:
        folder: the windows folder.

    Attributes:
        sample_rate: in Hz.
        window: T, length of a window in samples.
        channels: C.
        labels: the K labels in the order of the classes; empty for mixtures without labels.
        table: one row per window (track, split, offset, active); the index is the window's id.

    Raises:
        UserError: if the folder is missing or incomplete.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        try:
            info = json.loads((self.folder / "info.json").read_text())
            self.sample_rate = int(info["sample_rate"])
            self.window = int(info["window"])
            self.channels = int(info.get("channels", 1))
            self.labels = list(info["classes"])
            self._min_active = float(info["min_active"])
            self.table: pd.DataFrame = read_table(self.folder / "windows.csv", missing=False)
            tracks = read_table(self.folder / "tracks.csv", missing=False)
            activity = read_table(self.folder / "activity.csv", missing=False)
            self._mix = np.load(self.folder / "mix.npy", mmap_mode="r")
            stems = self.folder / "stems.npy"
            self._stems = np.load(stems, mmap_mode="r") if stems.exists() else None
        except (OSError, ValueError, KeyError) as error:
            raise UserError(f"{folder}: not a complete windows folder; rebuild the windows") from error
        starts = dict(zip(tracks["track"], tracks["start"], strict=True))
        self._position = np.array([starts[track] for track in self.table["track"]]) + self.table["offset"].to_numpy()
        self._starts = tracks["start"].to_numpy()
        # Cumulative number of crops of one window in each track; a flat number below the total selects one of them.
        self._crops_until = np.cumsum(np.maximum(0, tracks["length"].to_numpy() - self.window + 1))
        self._activity: list[dict[str, np.ndarray]] = [{} for _ in range(len(tracks))]
        index = {track: k for k, track in enumerate(tracks["track"])}
        for (track, label), group in activity.groupby(["track", "label"], sort=False):
            self._activity[index[track]][label] = group[["onset", "offset"]].to_numpy(np.float64)

    def __len__(self) -> int:
        return len(self.table)

    def __reduce__(self) -> tuple[type[WindowSet], tuple[Path]]:
        # Memory maps would be pickled as whole arrays, so another process opens the folder again.
        return WindowSet, (self.folder,)

    def mixture(self, ids: Sequence[int]) -> np.ndarray:
        """Mixtures of the windows `ids`, float32 `[N, C, T]`; the sum of the stems if these are stored."""
        if self._stems is not None:
            return self.stems(ids).sum(axis=1)
        return self.mixture_at(self._position[list(ids)])

    def stems(self, ids: Sequence[int]) -> np.ndarray:
        """Stems of the windows `ids`, float32 `[N, K, C, T]`.

        Raises:
            UserError: if the folder was built without stems.
        """
        return self._stems_at(self._position[list(ids)])

    def random_crops(self, rng: np.random.Generator, n: int) -> tuple[np.ndarray, list[tuple[str, ...]]]:
        """Draw `n` random mixtures of one window from all tracks, and the labels that are active in each.

        Crops in which no label is active are redrawn; if mixtures have no labels, any crop is used.

        Returns:
            float32 `[n, C, T]` and n tuples of labels.

        Raises:
            UserError: if there are hardly any crops in which a label is active.
        """
        starts, labels = self._random_starts(rng, n, None)
        return self.mixture_at(starts), labels

    def random_stem_crops(
        self, rng: np.random.Generator, n: int, sounding: str | None = None
    ) -> tuple[np.ndarray, list[tuple[str, ...]]]:
        """Draw the stems of `n` random windows from all tracks, and the labels that are active in each.

        Crops in which no label is active, or `sounding` is not, are redrawn; without `sounding` the crops are those of
        `random_crops`. A stem that a track lacks is zeros.

        Returns:
            float32 `[n, K, C, T]` and n tuples of labels.

        Raises:
            UserError: if the folder was built without stems, or there are hardly any such crops.
        """
        starts, labels = self._random_starts(rng, n, sounding)
        return self._stems_at(starts), labels

    def solo_share(self, crops: int = 2000) -> float | None:
        """The share of random windows in which exactly one label is active; None for mixtures without labels.

        This is how often a model trained on mixtures sees single stems.

        Args:
            crops: number of windows to draw; they are always the same.
        """
        if not self.labels:
            return None
        _, labels = self._random_starts(np.random.default_rng(0), crops, None)
        return sum(len(active) == 1 for active in labels) / crops

    def grid(self, hop: int) -> np.ndarray:
        """Starts, in the stored audio, of windows that are `hop` samples apart, from the beginning of every track.

        Returns:
            int64 `[n]`.

        Raises:
            UserError: if `hop` is not positive.
        """
        if hop < 1:
            raise UserError(f"{self.folder}: windows cannot be {hop} samples apart; choose a positive hop")
        crops = np.diff(self._crops_until, prepend=0)
        return np.concatenate(
            [start + np.arange(0, count, hop, dtype=np.int64) for start, count in zip(self._starts, crops, strict=True)]
        )

    def mixture_at(self, starts: Iterable[int]) -> np.ndarray:
        """Mixtures of windows with these starts in the stored audio (see `grid`), float32 `[N, C, T]`."""
        found = np.stack([self._mix[..., start : start + self.window] for start in starts])
        return _float(found.reshape(-1, self.channels, self.window))

    @property
    def samples(self) -> int:
        """Number of samples of all tracks together."""
        return int(self._mix.shape[-1])

    @property
    def has_stems(self) -> bool:
        """Whether the folder was built with stems."""
        return self._stems is not None

    @property
    def _stored_stems(self) -> np.ndarray:
        if self._stems is None:
            raise UserError(f"{self.folder}: was built without stems; rebuild the windows with stems=True")
        return self._stems

    def _stems_at(self, starts: Iterable[int]) -> np.ndarray:
        """Stems of windows with these starts in the stored audio, float32 `[N, K, C, T]`."""
        found = np.stack([self._stored_stems[:, start : start + self.window] for start in starts])
        return _float(found.reshape(len(found), -1, self.channels, self.window))

    def _random_starts(
        self, rng: np.random.Generator, n: int, sounding: str | None
    ) -> tuple[list[int], list[tuple[str, ...]]]:
        """Starts of `n` random crops in the stored audio, and the labels that are active in each."""
        starts: list[int] = []
        labels: list[tuple[str, ...]] = []
        attempts = 0
        while len(labels) < n:
            for flat in rng.integers(self._crops_until[-1], size=n - len(labels)).tolist():
                track = int(np.searchsorted(self._crops_until, flat, side="right"))
                offset = flat - int(self._crops_until[track - 1] if track else 0)
                onset = offset / self.sample_rate
                active = active_labels(
                    self._activity[track], onset, onset + self.window / self.sample_rate, self._min_active
                )
                if not self.labels or (active and (sounding is None or sounding in active)):
                    starts.append(int(self._starts[track]) + offset)
                    labels.append(tuple(label for label in self.labels if label in active))
            attempts += n
            if attempts > _ATTEMPTS + 100 * n:
                who = "the classes hardly ever sound" if sounding is None else f"{sounding} hardly ever sounds"
                raise UserError(f"{self.folder}: {who}; check data.classes and min_active")
        return starts, labels


def active_labels(activity: Mapping[str, np.ndarray], onset: float, offset: float, least: float) -> list[str]:
    """Labels whose spans overlap [onset, offset] by at least `least` seconds in all."""
    return [
        label
        for label, spans in activity.items()
        if np.maximum(0, np.minimum(spans[:, 1], offset) - np.maximum(spans[:, 0], onset)).sum() >= max(least, 1e-9)
    ]


def _float(samples: np.ndarray) -> np.ndarray:
    return samples.astype(np.float32) / np.float32(FULL_SCALE)
