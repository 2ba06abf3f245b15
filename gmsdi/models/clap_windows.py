"""E(y), the CLAP embeddings of training windows, computed once and kept in a folder.

Training on E(y) takes its crops from a grid: windows that begin at multiples of `hop` in each track. A crop and its
embedding thus belong together exactly, and no step runs CLAP. The folder holds

- `starts.npy` int64 `[n]`, where the windows start in the stored audio, see `WindowSet.grid`,
- `embeddings.npy` float32 `[n, D]`, unit vectors,
- `info.json`, which CLAP, and of which windows.

Windows in which nothing sounds are left out. Disk: 2 KB a window at D = 512.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from gmsdi.data.windows import WindowSet
from gmsdi.errors import UserError
from gmsdi.files import atomic
from gmsdi.models.clap import Clap

BATCH = 64
"""Windows that are read at a time."""


def embed_windows(
    clap: Clap,
    windows: WindowSet,
    out: str | Path,
    *,
    hop: int,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Write the folder of the embeddings of all windows of a grid.

    Args:
        clap: the encoder.
        windows: of mixtures.
        out: the folder, which appears when it is complete.
        hop: samples from one window to the next.
        progress: called with (windows done, windows in all).

    Raises:
        UserError: if the weights cannot be had, or nothing sounds in any window.
    """
    starts = windows.grid(hop)
    kept: list[np.ndarray] = []
    with atomic(out) as folder:
        folder.mkdir()
        rows = 0
        # Written as it grows, since hundreds of thousands of vectors need not be in memory.
        raw = folder / "embeddings.raw"
        with raw.open("wb") as file:
            for first in range(0, len(starts), BATCH):
                part = starts[first : first + BATCH]
                audio = windows.mixture_at(part)
                sounding = audio.any(axis=(1, 2))
                if sounding.any():
                    file.write(clap.embed_audio(audio[sounding], windows.sample_rate).astype(np.float32).tobytes())
                    kept.append(part[sounding])
                    rows += int(sounding.sum())
                if progress is not None:
                    progress(min(first + BATCH, len(starts)), len(starts))
        if not rows:
            raise UserError(f"{windows.folder}: nothing sounds in any window; check the data set")
        vectors = np.memmap(raw, np.float32, "r", shape=(rows, clap.features))
        np.save(folder / "embeddings.npy", vectors)
        del vectors
        raw.unlink()
        np.save(folder / "starts.npy", np.concatenate(kept))
        info = {"encoder": clap.name, "hop": hop, **_described(windows)}
        (folder / "info.json").write_text(json.dumps(info, indent=2) + "\n")


class WindowEmbeddings:
    """A folder that `embed_windows` has written, read on demand.

    Args:
        folder: it.
        windows: the windows that it must be of.

    Attributes:
        starts: int64 `[n]`, see `WindowSet.mixture_at`.
        features: D.

    Raises:
        UserError: if it is missing, incomplete, or of other windows.
    """

    def __init__(self, folder: str | Path, windows: WindowSet) -> None:
        self.folder, self._windows = Path(folder), windows
        try:
            self.info: dict[str, Any] = json.loads((self.folder / "info.json").read_text())
            self.starts: np.ndarray = np.load(self.folder / "starts.npy")
            self._vectors = np.load(self.folder / "embeddings.npy", mmap_mode="r")
        except (OSError, ValueError) as error:
            raise UserError(f"{folder}: not complete embeddings of windows; remove it, and embed them again") from error
        of = _described(windows)
        if {key: self.info.get(key) for key in of} != of or len(self._vectors) != len(self.starts):
            raise UserError(f"{folder}: embeddings of other windows than {windows.folder}; embed these")
        self.features = int(self._vectors.shape[1])

    def __len__(self) -> int:
        return len(self.starts)

    def __reduce__(self) -> tuple[type[WindowEmbeddings], tuple[Path, WindowSet]]:
        # Memory maps would be pickled as whole arrays; another process opens the folder anew.
        return WindowEmbeddings, (self.folder, self._windows)

    def __getitem__(self, row: int) -> np.ndarray:
        """The embedding of a window, float32 `[D]`."""
        return np.asarray(self._vectors[row])


def _described(windows: WindowSet) -> dict[str, Any]:
    """What tells windows from others: all that the place of a window depends on."""
    return {"sample_rate": windows.sample_rate, "window": windows.window, "samples": windows.samples}
