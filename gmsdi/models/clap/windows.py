"""E(y), the CLAP embeddings of training windows, computed once and stored in a folder.

Training on E(y) takes its crops from a grid: windows that begin at multiples of `hop` in each track. Every crop thus
has exactly its own embedding, and training never runs CLAP. The folder holds

- `starts.npy` int64 `[n]`, where the windows start in the stored audio, see `WindowSet.grid`,
- `embeddings.npy` float32 `[n, D]`, unit vectors,
- `info.json`, the CLAP and the windows that were used,
- `prompts.safetensors`, only if the CLAP is laion-clap's: embeddings of the labels, for trainings where it is not.

Silent windows are left out. Disk space: 2 KB per window at D = 512.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from gmsdi.data.windows import WindowSet
from gmsdi.errors import UserError
from gmsdi.io.files import atomic, claimed
from gmsdi.models.clap.encoder import Clap
from gmsdi.models.clap.laion import LaionClap

PROMPTS = "prompts.safetensors"
BATCH = 64
"""Windows that are embedded and written at a time."""


def embed_windows(
    clap: Clap | LaionClap,
    windows: WindowSet,
    out: str | Path,
    *,
    hop: int,
    progress: Callable[[int, int], None] | None = None,
    prompts: Callable[[Path], None] | None = None,
) -> None:
    """Embed all windows of a grid and write the folder of their embeddings.

    Partial results are kept in a hidden folder beside `out`; after an interruption, work continues from there.

    Args:
        clap: the encoder.
        windows: windows of mixtures.
        out: the folder to write, which appears once it is complete.
        hop: samples from one window to the next.
        progress: called with (windows done, windows in all).
        prompts: writes the embeddings of the prompts to a file.

    Raises:
        UserError: if the weights are not available, or all windows are silent.
    """
    out = Path(out)
    starts = windows.grid(hop)
    source = {"windows": str(windows.folder), **_described(windows)}
    info = {"encoder": clap.name, "sha256": clap.digest, "hop": hop, **source}
    with claimed(out):
        work = out.with_name(f".{out.name}.embedding")
        rows = _all_rows(clap, windows, starts, work, info, progress)
        sounding = np.concatenate([part.any(axis=1) for part in np.split(rows, range(BATCH, len(rows), BATCH))])
        if not sounding.any():
            raise UserError(f"{windows.folder}: all windows are silent; check the data set")
        with atomic(out) as folder:
            folder.mkdir()
            kept = np.flatnonzero(sounding)
            file = folder / "embeddings.npy"
            stored = np.lib.format.open_memmap(file, "w+", np.float32, (len(kept), rows.shape[1]))
            for first in range(0, len(kept), BATCH):
                stored[first : first + BATCH] = rows[kept[first : first + BATCH]]
            stored.flush()
            np.save(folder / "starts.npy", starts[kept])
            (folder / "info.json").write_text(json.dumps(info, indent=2) + "\n")
            if prompts is not None:
                prompts(folder / PROMPTS)
        shutil.rmtree(work)


def _all_rows(
    clap: Clap | LaionClap,
    windows: WindowSet,
    starts: np.ndarray,
    work: Path,
    info: dict[str, Any],
    progress: Callable[[int, int], None] | None,
) -> np.ndarray:
    """Embeddings of all windows, float32 `[len(starts), D]`, memory-mapped; zeros for silent windows.

    They are appended to a file in whole batches. The file's length says what an earlier call has done, and an
    interruption does not change a bit of the result.
    """
    notes, raw, features = work / "info.json", work / "embeddings.raw", clap.features
    if not notes.is_file() or json.loads(notes.read_text()) != info:
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir(parents=True)
        raw.touch()
        with atomic(notes) as path:
            path.write_text(json.dumps(info))
    size = 4 * features
    done = min(len(starts), raw.stat().st_size // (size * BATCH) * BATCH)
    with raw.open("r+b") as file:
        file.truncate(done * size)
        file.seek(done * size)
        for first in range(done, len(starts), BATCH):
            audio = windows.mixture_at(starts[first : first + BATCH])
            sounding = audio.any(axis=(1, 2))
            vectors = np.zeros((len(audio), features), np.float32)
            if sounding.any():
                vectors[sounding] = clap.embed_audio(audio[sounding], windows.sample_rate)
            file.write(vectors.tobytes())
            file.flush()
            if progress is not None:
                progress(first + len(audio), len(starts))
    return np.memmap(raw, np.float32, "r", shape=(len(starts), features))


class WindowEmbeddings:
    """The embeddings in a folder written by `embed_windows`, read on demand.

    Args:
        folder: the folder.
        windows: the windows that must have been embedded.

    Attributes:
        starts: int64 `[n]`, see `WindowSet.mixture_at`.
        features: D.
        prompts: the file of the prompts' embeddings, if there is one.

    Raises:
        UserError: if the folder is missing, incomplete, or holds embeddings of other windows.
    """

    def __init__(self, folder: str | Path, windows: WindowSet) -> None:
        self.folder, self._windows = Path(folder), windows
        try:
            self.info: dict[str, Any] = json.loads((self.folder / "info.json").read_text())
            self.starts: np.ndarray = np.load(self.folder / "starts.npy")
            self._vectors = np.load(self.folder / "embeddings.npy", mmap_mode="r")
        except (OSError, ValueError) as error:
            raise UserError(f"{folder}: embeddings of windows are incomplete; remove and rebuild them") from error
        of = _described(windows)
        if {key: self.info.get(key) for key in of} != of or len(self._vectors) != len(self.starts):
            raise UserError(f"{folder}: embeddings of windows other than {windows.folder}; embed those")
        self.features = int(self._vectors.shape[1])
        prompts = self.folder / PROMPTS
        self.prompts = prompts if prompts.is_file() else None

    def __len__(self) -> int:
        return len(self.starts)

    def __reduce__(self) -> tuple[type[WindowEmbeddings], tuple[Path, WindowSet]]:
        # Memory maps would be pickled as whole arrays, so another process opens the folder again.
        return WindowEmbeddings, (self.folder, self._windows)

    def __getitem__(self, row: int) -> np.ndarray:
        """The embedding of a window, float32 `[D]`."""
        return np.asarray(self._vectors[row])


def _described(windows: WindowSet) -> dict[str, Any]:
    """What identifies a set of windows: everything that the position of a window depends on."""
    return {"sample_rate": windows.sample_rate, "window": windows.window, "samples": windows.samples}
