"""Windows of a Slakh-layout split at a model's sample rate: a folder of memory-mapped audio and small tables.

Building resamples every track once. The folder holds

- `mix.npy` int16 [total], all tracks end to end; a mixture is the sum of the stems of the classes,
- `stems.npy` int16 [K, total], only on request (evaluation, models of stems); a class that a track lacks is zeros,
- `tracks.csv` (track, start, length), in samples of `mix.npy`,
- `activity.csv` (track, label, onset, offset), in seconds,
- `windows.csv` (track, split, offset, active): windows that do not overlap, `offset` in samples within the track,
  `active` the labels that sound in it,
- `info.json`, the settings.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from gmsdi import __version__
from gmsdi.data.slakh import Track, list_tracks, read_track
from gmsdi.errors import UserError
from gmsdi.files import atomic

if TYPE_CHECKING:
    import pandas as pd

_SCALE = 32768  # int16 full scale
_ATTEMPTS = 10_000  # draws of a crop before giving up on finding one in which something sounds


def build_windows(
    root: str | Path,
    split: str,
    out: str | Path,
    *,
    sample_rate: int,
    window: int,
    classes: Mapping[str, Sequence[str]],
    min_active: float = 0.5,
    stems: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Write the windows folder `out` of a split.

    Args:
        root: a dataset in the layout of Slakh2100.
        split: its sub-folder.
        out: the folder to write; it appears when complete.
        sample_rate: of the windows, in Hz.
        window: length of a window in samples; the end of a track that does not fill one is left out of the table.
        classes: for each label the `inst_class` values that belong to it.
        min_active: how many seconds a label must play in a window to count as active.
        stems: also store the stems.
        progress: called with (tracks done, tracks in all).

    Raises:
        UserError: on any defect of the dataset, see `read_track`; on undecodable or not finite audio; if no track is
            as long as a window.
    """
    import pandas as pd

    paths = list_tracks(root, split)
    tracks = [read_track(path, classes) for path in paths]
    lengths = [_resampled_length(track, sample_rate) for track in tracks]
    if max(lengths) < window:
        raise UserError(f"{Path(root) / split}: no track is as long as a window ({window} samples at {sample_rate} Hz)")
    starts = np.concatenate([[0], np.cumsum(lengths)])
    spans, rows = [], []
    for track, length in zip(tracks, lengths, strict=True):
        name = track.path.name
        spans += [(name, label, *span) for label, found in track.activity.items() for span in found.tolist()]
        for offset in range(0, length - window + 1, window):
            active = _active(track.activity, offset / sample_rate, (offset + window) / sample_rate, min_active)
            rows.append((name, split, offset, ", ".join(active)))
    info = {
        "sample_rate": sample_rate,
        "window": window,
        "min_active": min_active,
        "classes": {label: list(members) for label, members in classes.items()},
        "source": {"dataset": Path(root).name, "split": split, "tracks": len(tracks)},
        "versions": {"gmsdi": __version__, "soundfile": version("soundfile"), "soxr": version("soxr")},
    }
    with atomic(out) as folder:
        folder.mkdir()
        total = int(starts[-1])
        mix = np.lib.format.open_memmap(folder / "mix.npy", mode="w+", dtype=np.int16, shape=(total,))
        parts = None
        if stems:
            shape = (len(classes), total)
            parts = np.lib.format.open_memmap(folder / "stems.npy", mode="w+", dtype=np.int16, shape=shape)
        if progress:
            progress(0, len(tracks))
        for index, (track, start, length) in enumerate(zip(tracks, starts[:-1].tolist(), lengths, strict=True)):
            where = slice(start, start + length)
            audio = _stems(track, list(classes), sample_rate, length)
            mix[where] = np.clip(audio.sum(axis=0, dtype=np.int32), -_SCALE, _SCALE - 1)
            if parts is not None:
                parts[:, where] = audio
            if progress:
                progress(index + 1, len(tracks))
        mix.flush()
        if parts is not None:
            parts.flush()
        table = pd.DataFrame({"track": [track.path.name for track in tracks], "start": starts[:-1], "length": lengths})
        table.to_csv(folder / "tracks.csv", index=False)
        activity = pd.DataFrame(spans, columns=["track", "label", "onset", "offset"])
        activity.to_csv(folder / "activity.csv", index=False, float_format="%.4f")
        windows = pd.DataFrame(rows, columns=["track", "split", "offset", "active"])
        windows.to_csv(folder / "windows.csv", index=False)
        (folder / "info.json").write_text(json.dumps(info, indent=1) + "\n")


class WindowSet:
    """A folder written by `build_windows`, read on demand.

    Args:
        folder: the windows folder.

    Attributes:
        sample_rate: in Hz.
        window: T, length of a window in samples.
        labels: the K labels in the order of the classes.
        table: one row per window (track, split, offset, active); the index is the window's id.

    Raises:
        UserError: if the folder is missing or incomplete.
    """

    def __init__(self, folder: str | Path) -> None:
        import pandas as pd

        self.folder = Path(folder)
        try:
            info = json.loads((self.folder / "info.json").read_text())
            self.sample_rate = int(info["sample_rate"])
            self.window = int(info["window"])
            self.labels = list(info["classes"])
            self._min_active = float(info["min_active"])
            self.table: pd.DataFrame = pd.read_csv(self.folder / "windows.csv", keep_default_na=False)
            tracks = pd.read_csv(self.folder / "tracks.csv")
            activity = pd.read_csv(self.folder / "activity.csv")
            self._mix = np.load(self.folder / "mix.npy", mmap_mode="r")
            stems = self.folder / "stems.npy"
            self._stems = np.load(stems, mmap_mode="r") if stems.exists() else None
        except (OSError, ValueError, KeyError) as error:
            raise UserError(f"{folder}: not a complete windows folder; build the windows again") from error
        starts = dict(zip(tracks["track"], tracks["start"], strict=True))
        self._position = np.array([starts[track] for track in self.table["track"]]) + self.table["offset"].to_numpy()
        self._starts = tracks["start"].to_numpy()
        # How many crops of one window there are in each track; a flat number below the sum names one of them.
        self._crops_until = np.cumsum(np.maximum(0, tracks["length"].to_numpy() - self.window + 1))
        self._activity: list[dict[str, np.ndarray]] = [{} for _ in range(len(tracks))]
        index = {track: k for k, track in enumerate(tracks["track"])}
        for (track, label), group in activity.groupby(["track", "label"], sort=False):
            self._activity[index[track]][label] = group[["onset", "offset"]].to_numpy(np.float64)

    def __len__(self) -> int:
        return len(self.table)

    def __reduce__(self) -> tuple[type[WindowSet], tuple[Path]]:
        # Memory maps would be pickled as whole arrays; another process opens the folder anew.
        return WindowSet, (self.folder,)

    def mixture(self, ids: Sequence[int]) -> np.ndarray:
        """Mixtures of the windows `ids`, float32 [N, 1, T]: the sum of the stems where they are stored."""
        if self._stems is not None:
            return self.stems(ids).sum(axis=1)
        return _float(np.stack([self._mix[p : p + self.window] for p in self._position[list(ids)]])[:, None])

    def stems(self, ids: Sequence[int]) -> np.ndarray:
        """Stems of the windows `ids`, float32 [N, K, 1, T].

        Raises:
            UserError: if the folder was built without stems.
        """
        return _float(
            np.stack([self._stored_stems[:, p : p + self.window] for p in self._position[list(ids)]])[:, :, None]
        )

    def random_crops(self, rng: np.random.Generator, n: int) -> tuple[np.ndarray, list[tuple[str, ...]]]:
        """`n` mixtures of one window, cropped at random from all tracks, and the labels that are active in each.

        Crops in which no label is active are drawn again.

        Returns:
            float32 [n, 1, T] and n tuples of labels.

        Raises:
            UserError: if there is practically no crop in which a label is active.
        """
        starts, labels = self._random_starts(rng, n, None)
        return _float(np.stack([self._mix[start : start + self.window] for start in starts])[:, None]), labels

    def random_stem_crops(
        self, rng: np.random.Generator, n: int, sounding: str | None = None
    ) -> tuple[np.ndarray, list[tuple[str, ...]]]:
        """The stems of `n` windows, cropped at random from all tracks, and the labels that are active in each.

        Crops in which no label is active, or `sounding` is not, are drawn again; without `sounding` the crops are those
        of `random_crops`. A stem that a track lacks is zeros.

        Returns:
            float32 [n, K, 1, T] and n tuples of labels.

        Raises:
            UserError: if the folder was built without stems, or there is practically no such crop.
        """
        stems = self._stored_stems
        starts, labels = self._random_starts(rng, n, sounding)
        return _float(np.stack([stems[:, start : start + self.window] for start in starts])[:, :, None]), labels

    @property
    def has_stems(self) -> bool:
        """Whether the folder was built with stems."""
        return self._stems is not None

    @property
    def _stored_stems(self) -> np.ndarray:
        if self._stems is None:
            raise UserError(f"{self.folder}: was built without stems; build the windows again with stems=True")
        return self._stems

    def _random_starts(
        self, rng: np.random.Generator, n: int, sounding: str | None
    ) -> tuple[list[int], list[tuple[str, ...]]]:
        """Where `n` random crops start in the stored audio, and the labels that are active in each."""
        starts: list[int] = []
        labels: list[tuple[str, ...]] = []
        attempts = 0
        while len(labels) < n:
            for flat in rng.integers(self._crops_until[-1], size=n - len(labels)).tolist():
                track = int(np.searchsorted(self._crops_until, flat, side="right"))
                offset = flat - int(self._crops_until[track - 1] if track else 0)
                onset = offset / self.sample_rate
                active = _active(self._activity[track], onset, onset + self.window / self.sample_rate, self._min_active)
                if active and (sounding is None or sounding in active):
                    starts.append(int(self._starts[track]) + offset)
                    labels.append(tuple(label for label in self.labels if label in active))
            attempts += n
            if attempts > _ATTEMPTS + 100 * n:
                who = "its classes hardly ever sound" if sounding is None else f"{sounding} hardly ever sounds"
                raise UserError(f"{self.folder}: {who}; check data.classes and min_active")
        return starts, labels


def _active(activity: Mapping[str, np.ndarray], onset: float, offset: float, least: float) -> list[str]:
    """Labels whose spans overlap [onset, offset] by at least `least` seconds in all."""
    return [
        label
        for label, spans in activity.items()
        if np.maximum(0, np.minimum(spans[:, 1], offset) - np.maximum(spans[:, 0], onset)).sum() >= max(least, 1e-9)
    ]


def _float(samples: np.ndarray) -> np.ndarray:
    return samples.astype(np.float32) / np.float32(_SCALE)


def _resampled_length(track: Track, sample_rate: int) -> int:
    return round(track.frames * sample_rate / track.sample_rate)


def _stems(track: Track, labels: Sequence[str], sample_rate: int, length: int) -> np.ndarray:
    """The stems of a track, int16 [K, length], stems of one label summed, clipped to the range of int16."""
    import soxr

    result = np.zeros((len(labels), length), np.int16)
    for row, label in zip(result, labels, strict=True):
        files = track.stems.get(label, [])
        if not files:
            continue
        audio = np.sum([_decode(file, track.frames) for file in files], axis=0, dtype=np.float32)
        if track.sample_rate != sample_rate:
            audio = soxr.resample(audio, track.sample_rate, sample_rate)[:length]
            audio = np.pad(audio, (0, length - len(audio)))
        row[:] = np.clip(np.round(audio * _SCALE), -_SCALE, _SCALE - 1)
    return result


def _decode(file: Path, frames: int) -> np.ndarray:
    """A file's audio, mono float32 [frames]."""
    import soundfile

    try:
        audio, _ = soundfile.read(file, dtype="float32", always_2d=True)
    except (soundfile.LibsndfileError, RuntimeError) as error:
        raise UserError(f"{file}: cannot be decoded; the file is corrupt, replace it") from error
    if len(audio) != frames:
        raise UserError(f"{file}: ends after {len(audio)} of {frames} samples; the file is corrupt, replace it")
    if not np.isfinite(audio).all():
        raise UserError(f"{file}: holds samples that are not finite (NaN or infinite); replace it")
    return audio.mean(axis=1) if audio.shape[1] > 1 else audio[:, 0]
