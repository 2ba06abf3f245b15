"""Windows of a data set's split at a model's sample rate: a folder of memory-mapped audio and small tables.

Building resamples every track once. The folder holds

- `mix.npy` int16 `[total]`, all tracks end to end; in Slakh2100 a mixture is the sum of the stems of the classes,
- `stems.npy` int16 `[K, total]`, only on request (evaluation, models of stems); zeros for classes that a track lacks;
  of C channels the two are `[C, total]` and `[K · C, total]`,
- `tracks.csv` (track, start, length), in samples of `mix.npy`,
- `activity.csv` (track, label, onset, offset), in seconds,
- `windows.csv` (track, split, offset, active): windows without overlap, `offset` in samples within the track, `active`
  the labels that sound in the window,
- `info.json`, the settings, and the tracks that were left out, with the reasons.

Mixtures without labels, as in MTG-Jamendo, have neither classes nor stems nor activity.

Disk space: 2 bytes per sample, and 2 K more with stems. At 22 050 Hz, the 1500 training tracks of Slakh2100 (104 hours)
take 16.5 GB, and 66 GB more for their four stems; the 225 test tracks take 2.5 and 9.9 GB; MTG-Jamendo (3 777 hours)
takes 600 GB, 6 GB per shard.

Memory: one track per worker. Slakh2100 takes 14 bytes per sample of the files (250 MB for seven minutes at 44.1 kHz);
multi-tracks take 2 K + 22 bytes per sample of the windows (280 MB for seven minutes of four classes at 22 050 Hz);
MTG-Jamendo takes 2 bytes per sample of the windows (160 MB per hour at 22 050 Hz).
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
import os
import shutil
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from importlib.metadata import version as version_of
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from gmsdi import __version__
from gmsdi.data import jamendo, multitracks
from gmsdi.data.decoding import Unreadable, to_channels
from gmsdi.data.multitracks import Activity, Splits
from gmsdi.data.slakh import Track, Unlabelled, list_tracks, read_track
from gmsdi.errors import UserError
from gmsdi.io.files import atomic, claimed, require_space

if TYPE_CHECKING:
    import pandas as pd

_SCALE = 32768  # int16 full scale
_ATTEMPTS = 10_000  # draws of a crop before giving up on finding one that is not silent

_log = logging.getLogger(__name__)


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
    version: str = "slakh2100_redux",
    first: int | None = None,
    channels: int = 1,
    workers: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Write the windows folder `out` of a split.

    Finished tracks are kept in a hidden folder beside `out` until all are done. A build that was interrupted, even by a
    crash of the process or the machine, continues with the tracks that are missing or whose stems have changed. Neither
    the number of workers nor an interruption changes a byte of the result.

    Args:
        root: a data set in the layout of Slakh2100.
        split: the name of the split.
        out: the folder to write, which appears once it is complete.
        sample_rate: sample rate of the windows, in Hz.
        window: length of a window in samples; the remainder of a track that does not fill one is not in the table.
        classes: for each label, the `inst_class` values that belong to it; tracks without any are left out.
        min_active: how many seconds a label must play in a window to count as active.
        stems: also store the stems.
        version: the version that defines the split's tracks, see `gmsdi.data.versions`.
        first: see `gmsdi.data.slakh.list_tracks`.
        channels: of the windows; see `gmsdi.data.decoding.to_channels`.
        workers: number of threads that read tracks; decoding and resampling release Python's lock.
        progress: called with (tracks done, tracks in all).

    Raises:
        UserError: if the data set is defective (see `read_track`), audio cannot be decoded or is not finite, no track
            is as long as a window, or the disk is too small.
    """
    out = Path(out)
    with claimed(out), _threads(workers) as pool:
        paths = list_tracks(root, split, version=version, first=first)
        tracks = [track for track in pool.map(lambda path: _labelled(path, classes), paths) if track is not None]
        if len(tracks) < len(paths):
            _log.warning("%s, %s: %d tracks have no stem of any class", root, split, len(paths) - len(tracks))
        pieces = [_piece(track, classes, sample_rate, channels) for track in tracks]
        if max((piece.length for piece in pieces), default=0) < window:
            raise UserError(
                f"{Path(root) / split}: no track is as long as a window ({window} samples at {sample_rate} Hz)"
            )
        _build(
            out,
            pieces,
            pool,
            split=split,
            sample_rate=sample_rate,
            window=window,
            classes=classes,
            min_active=min_active,
            stems=stems,
            channels=channels,
            source={"dataset": Path(root).name},
            progress=progress,
        )


def build_mixture_windows(
    root: str | Path,
    split: str,
    out: str | Path,
    *,
    shards: Sequence[int],
    sample_rate: int,
    window: int,
    limit: int | None = None,
    workers: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Write the windows folder `out` of shards of MTG-Jamendo: mixtures without labels.

    Like `build_windows`, but tracks that are shorter than a window or cannot be decoded are left out; they are logged,
    and listed in `info.json`. The part of `mix.npy` for a track that turns out to be damaged holds zeros, and has no
    windows.

    Args:
        root: the folder that holds the folders 00 to 99.
        split: name of the split that the shards form, for the table of windows.
        out: the folder to write, which appears once it is complete.
        shards: numbers of the shards.
        sample_rate: sample rate of the windows, in Hz.
        window: length of a window in samples.
        limit: see `gmsdi.data.jamendo.list_tracks`.
        workers: see `build_windows`.
        progress: see `build_windows`.

    Raises:
        UserError: if a shard is missing, no track is left, or the disk is too small.
    """
    out = Path(out)
    with claimed(out), _threads(workers) as pool:
        paths = jamendo.list_tracks(root, shards, limit=limit)
        pieces, skipped = [], {}
        for path, found in zip(paths, pool.map(_described, paths), strict=True):
            if isinstance(found, str):
                skipped[jamendo.name_of(path)] = found
            elif found.length(sample_rate) < window:
                skipped[found.name] = "shorter than a window"
            else:
                pieces.append(_mixture_piece(found, sample_rate))
        if not pieces:
            raise UserError(
                f"{root}: the shards have no readable track that is as long as a window ({window} samples at "
                f"{sample_rate} Hz); {_told(skipped)}"
            )
        _build(
            out,
            pieces,
            pool,
            split=split,
            sample_rate=sample_rate,
            window=window,
            classes={},
            min_active=0.0,
            stems=False,
            source={"dataset": "mtg-jamendo", "shards": sorted(set(shards))},
            skipped=skipped,
            progress=progress,
        )


def build_multitrack_windows(
    root: str | Path,
    split: str,
    out: str | Path,
    *,
    sample_rate: int,
    window: int,
    classes: Mapping[str, Sequence[str]],
    min_active: float = 0.5,
    stems: bool = False,
    splits: Splits | None = None,
    activity: Activity | None = None,
    gain_db: float = 0.0,
    first: int | None = None,
    channels: int = 1,
    workers: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Write the windows folder `out` of a split of any folder of multi-tracks, such as MUSDB18-HQ or MoisesDB.

    Like `build_windows`, but activity is measured on the audio, and tracks that are shorter than a window or cannot be
    decoded are left out; they are logged, and listed in `info.json`. That file also counts the files that belong to no
    class, and the clipped samples (stems are summed without scaling). The part of `mix.npy` for a track that turns out
    to be damaged holds zeros, and has no windows.

    Args:
        root: the folder of the tracks.
        split: "train", "validation" or "test".
        out: the folder to write, which appears once it is complete.
        sample_rate: sample rate of the windows, in Hz.
        window: length of a window in samples.
        classes: for each label, the patterns of its files, see `gmsdi.data.multitracks`.
        min_active: how many seconds a label must sound in a window to count as active.
        stems: also store the stems.
        splits: which tracks belong to which split.
        activity: how activity is measured.
        gain_db: gain of all files, to keep their sum below full scale.
        first: use only this many tracks of the split, the first in order of name.
        channels: see `build_windows`.
        workers: see `build_windows`.
        progress: see `build_windows`.

    Raises:
        UserError: see `gmsdi.data.multitracks.list_tracks` and `split_tracks`; if no track is left, or the disk is too
            small.
    """
    out, labels, activity = Path(out), list(classes), activity or Activity()
    found = multitracks.split_tracks(
        multitracks.list_tracks(root, classes), splits or Splits(), needed=[split], root=root
    )
    tracks = found[split][:first]

    def piece(track: multitracks.Track) -> _Piece | str:
        """Make the piece of a track, or return the reason why it cannot be used."""
        try:
            length = track.length(sample_rate)
        except Unreadable as error:
            return str(error)
        if length < window:
            return "shorter than a window"
        files = [file for own in track.stems.values() for file in own]

        def read() -> tuple[np.ndarray, _Heard]:
            decoded = multitracks.decode(
                track, labels, sample_rate=sample_rate, length=length, activity=activity, gain_db=gain_db,
                channels=channels,
            )  # fmt: skip
            spans = {label: own.tolist() for label, own in decoded.activity.items()}
            return decoded.stems, {"activity": spans, "clipped": decoded.clipped}

        return _Piece(track.name, files, length, {}, read)

    with claimed(out), _threads(workers) as pool:
        pieces, skipped = [], {}
        for track, made in zip(tracks, pool.map(piece, tracks), strict=True):
            if isinstance(made, str):
                skipped[track.name] = made
            else:
                pieces.append(made)
        if not pieces:
            raise UserError(
                f"{root}: the {split} split has no readable track that is as long as a window ({window} samples at "
                f"{sample_rate} Hz); {_told(skipped)}"
            )
        _build(
            out,
            pieces,
            pool,
            split=split,
            sample_rate=sample_rate,
            window=window,
            classes=classes,
            min_active=min_active,
            stems=stems,
            channels=channels,
            source={"dataset": Path(root).name, "files_of_no_class": sum(track.unmatched for track in tracks)},
            heard={**asdict(activity), "gain_db": gain_db},
            skipped=skipped,
            progress=progress,
        )


_Heard = dict[str, Any]
"""What decoding a track reveals: `activity`, the spans of each label, and `clipped`, a number of samples."""


@dataclass(frozen=True)
class _Piece:
    """A track that is to be cut into windows.

    Attributes:
        name: unique name.
        files: the files that it is read from.
        length: number of samples at the windows' rate.
        activity: see `gmsdi.data.slakh.Track`; empty if it is measured on the audio.
        read: returns the stems, or only the mixture, int16 `[K · C, length]` or `[1, length]`, and what decoding
            revealed.
    """

    name: str
    files: Sequence[Path]
    length: int
    activity: Mapping[str, np.ndarray]
    read: Callable[[], tuple[np.ndarray, _Heard]]


def _build(
    out: Path,
    pieces: Sequence[_Piece],
    pool: ThreadPoolExecutor,
    *,
    split: str,
    sample_rate: int,
    window: int,
    classes: Mapping[str, Sequence[str]],
    min_active: float,
    stems: bool,
    source: Mapping[str, object],
    channels: int = 1,
    heard: Mapping[str, object] | None = None,
    skipped: Mapping[str, str] | None = None,
    progress: Callable[[int, int], None] | None,
) -> None:
    """Cut the pieces into windows and write the folder `out`.

    `heard` has the settings for measuring activity, if it is measured; `skipped` lists tracks that are already left
    out.
    """
    import pandas as pd

    starts = [0, *np.cumsum([piece.length for piece in pieces]).tolist()]
    settings = {
        "sample_rate": sample_rate,
        "classes": {label: list(members) for label, members in classes.items()},
        **({"heard": dict(heard)} if heard else {}),
        **({"channels": channels} if channels > 1 else {}),
        "versions": {"gmsdi": __version__, "soundfile": version_of("soundfile"), "soxr": version_of("soxr")},
    }
    layout = {"tracks": [piece.name for piece in pieces], "lengths": [piece.length for piece in pieces]}
    store = _Store(
        out.with_name(f".{out.name}.building"),
        {**settings, **layout},
        {"mix.npy": (channels, starts[-1]) if channels > 1 else (starts[-1],)}
        | ({"stems.npy": (len(classes) * channels, starts[-1])} if stems else {}),
    )

    def cut(piece: _Piece, start: int) -> str | _Heard:
        """Cut a piece and return what decoding revealed, or the reason why it cannot be cut."""
        content = _fingerprint(piece)
        if (known := store.found(piece.name, content)) is not None:
            return known
        try:
            audio, heard = piece.read()
        except Unreadable as error:
            return str(error)
        mix = audio[:channels]
        if len(audio) > channels:
            summed = audio.reshape(-1, channels, audio.shape[-1]).sum(axis=0, dtype=np.int32)
            mix = np.clip(summed, -_SCALE, _SCALE - 1).astype(np.int16)
        store.write(start, {"mix.npy": mix} | ({"stems.npy": audio} if stems else {}))
        store.note(piece.name, content, heard)
        return heard

    tracks, spans, windows = [], [], []
    left_out, clipped = dict(skipped or {}), {}
    for done, (piece, start, result) in enumerate(zip(pieces, starts, pool.map(cut, pieces, starts), strict=False), 1):
        if progress:
            progress(done, len(pieces))
        if isinstance(result, str):
            left_out[piece.name] = result
            continue
        own = {label: np.reshape(found, (-1, 2)) for label, found in result.get("activity", piece.activity).items()}
        tracks.append((piece.name, start, piece.length))
        spans += [(piece.name, label, *span) for label, found in own.items() for span in found.tolist()]
        if result.get("clipped"):
            clipped[piece.name] = result["clipped"]
        for offset in range(0, piece.length - window + 1, window):
            active = _active(own, offset / sample_rate, (offset + window) / sample_rate, min_active)
            windows.append((piece.name, split, offset, ", ".join(active)))
    if not tracks:
        raise UserError(f"{out}: no track can be decoded; {_told(left_out)}")
    if left_out:
        _log.warning(
            "%s: %d of %d tracks are left out; %s", out, len(left_out), len(tracks) + len(left_out), _told(left_out)
        )
    if clipped:
        worst = max(clipped, key=lambda name: clipped[name])
        _log.warning(
            "%s: the stems of %d tracks exceed full scale and are clipped, most of all %s (%d samples); a "
            "negative data.stems.gain_db avoids this",
            out,
            len(clipped),
            worst,
            clipped[worst],
        )
    table = pd.DataFrame(tracks, columns=["track", "start", "length"])
    table.to_csv(store.folder / "tracks.csv", index=False)
    activity = pd.DataFrame(spans, columns=["track", "label", "onset", "offset"])
    activity.to_csv(store.folder / "activity.csv", index=False, float_format="%.4f")
    pd.DataFrame(windows, columns=["track", "split", "offset", "active"]).to_csv(
        store.folder / "windows.csv", index=False
    )
    described = {**source, "split": split, "tracks": len(tracks)}
    if clipped:
        described["clipped"] = clipped
    if left_out:
        described["skipped"] = dict(sorted(left_out.items()))
    info = {"window": window, "min_active": min_active, **settings, "source": described}
    (store.folder / "info.json").write_text(json.dumps(info, indent=1) + "\n")
    store.publish(out)


def _told(skipped: Mapping[str, str]) -> str:
    """Describe the first of the tracks that are left out, and the reason."""
    name = min(skipped)
    return f"the first is {name}: {skipped[name]}"


@contextmanager
def _threads(workers: int) -> Iterator[ThreadPoolExecutor]:
    """Yield a thread pool; leaving the block finishes running tasks and cancels the others."""
    pool = ThreadPoolExecutor(max(1, workers))
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)


def _labelled(path: Path, classes: Mapping[str, Sequence[str]]) -> Track | None:
    try:
        return read_track(path, classes)
    except Unlabelled:
        return None


def _piece(track: Track, classes: Mapping[str, Sequence[str]], sample_rate: int, channels: int) -> _Piece:
    length = round(track.frames * sample_rate / track.sample_rate)
    files = [file for found in track.stems.values() for file in found]

    def read() -> tuple[np.ndarray, _Heard]:
        return _stems(track, list(classes), sample_rate, length, channels), {}

    return _Piece(track.path.name, files, length, track.activity, read)


def _described(path: Path) -> jamendo.Track | str:
    """Read a track of MTG-Jamendo, or return the reason why it cannot be read."""
    try:
        return jamendo.read_track(path)
    except Unreadable as error:
        return str(error)


def _mixture_piece(track: jamendo.Track, sample_rate: int) -> _Piece:
    return _Piece(
        track.name, [track.path], track.length(sample_rate), {}, lambda: (jamendo.decode(track, sample_rate)[None], {})
    )


def _fingerprint(piece: _Piece) -> str:
    """Digest of the files' names, sizes and modification times."""
    files = [(file, file.stat()) for file in piece.files]
    text = json.dumps([(file.parent.name, file.name, stat.st_size, stat.st_mtime_ns) for file, stat in files])
    return hashlib.sha256(text.encode()).hexdigest()[:16]


class _Store:
    """Arrays that several threads fill track by track, and that survive the end of the process.

    A track is noted only when its samples are on the disk, so that noted tracks are complete even after a power cut.

    Args:
        work: folder that holds the arrays' folder, the layout and the notes; it is emptied if its layout differs.
        layout: everything that determines the arrays, apart from the content of the files.
        shapes: the shape of each int16 array, `[T]` or `[rows, T]`.
    """

    def __init__(self, work: Path, layout: Mapping[str, object], shapes: Mapping[str, tuple[int, ...]]) -> None:
        self.folder = work / "windows"
        self._work = work
        self._shapes = shapes
        self._lock = threading.Lock()
        self._notes = work / "done.txt"
        mark = work / "layout.json"
        text = json.dumps({**layout, "shapes": shapes})
        try:
            known = mark.exists() and mark.read_text() == text
            if not known or not all((self.folder / name).exists() for name in shapes):
                shutil.rmtree(work, ignore_errors=True)
                self.folder.mkdir(parents=True)
                needed = sum(2 * math.prod(shape) for shape in shapes.values())
                require_space(self.folder, needed, "cutting windows", advice="or cut fewer tracks")
                for name, shape in shapes.items():
                    np.lib.format.open_memmap(self.folder / name, mode="w+", dtype=np.int16, shape=shape)
                self._notes.touch()
                with atomic(mark) as file:
                    file.write_text(text)
            lines = self._notes.read_text(encoding="utf-8").splitlines(keepends=True)
        except OSError as error:
            raise UserError(f"{work}: cannot be written ({error.strerror}); choose another folder") from error
        # The last line may be incomplete.
        notes = (line.rstrip("\n").partition("\t") for line in lines if line.endswith("\n"))
        self._done: dict[str, _Heard] = {what: json.loads(heard or "{}") for what, _, heard in notes}
        self._offsets = {name: int(np.load(self.folder / name, mmap_mode="r").offset) for name in shapes}

    def found(self, track: str, fingerprint: str) -> _Heard | None:
        """What decoding a track with these files revealed; None if it is not stored."""
        return self._done.get(f"{track} {fingerprint}")

    def write(self, start: int, parts: Mapping[str, np.ndarray]) -> None:
        """Store int16 `[T]` or `[rows, T]` in each array, beginning at sample `start`."""
        try:
            for name, samples in parts.items():
                with (self.folder / name).open("r+b", buffering=0) as file:
                    for row, values in enumerate(np.atleast_2d(samples)):
                        file.seek(self._offsets[name] + 2 * (row * self._shapes[name][-1] + start))
                        view = np.ascontiguousarray(values).data.cast("B")
                        while view:
                            view = view[file.write(view) :]
                    os.fsync(file.fileno())
        except OSError as error:
            raise UserError(
                f"{self.folder}: cannot be written ({error.strerror}); free space and run again to continue"
            ) from error

    def note(self, track: str, fingerprint: str, heard: _Heard) -> None:
        """Note that a track has been written."""
        more = f"\t{json.dumps(heard)}" if heard else ""
        with self._lock, self._notes.open("a", encoding="utf-8") as file:
            file.write(f"{track} {fingerprint}{more}\n")
            file.flush()
            os.fsync(file.fileno())

    def publish(self, out: Path) -> None:
        """Move the folder of arrays to its final name, replacing what is there."""
        if out.is_dir():
            shutil.rmtree(out)
        os.replace(self.folder, out)
        shutil.rmtree(self._work)


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
        import pandas as pd

        self.folder = Path(folder)
        try:
            info = json.loads((self.folder / "info.json").read_text())
            self.sample_rate = int(info["sample_rate"])
            self.window = int(info["window"])
            self.channels = int(info.get("channels", 1))
            self.labels = list(info["classes"])
            self._min_active = float(info["min_active"])
            # A track may be called "001" or "NA".
            names: dict[str, Any] = {"dtype": {"track": str, "label": str}, "keep_default_na": False}
            self.table: pd.DataFrame = pd.read_csv(self.folder / "windows.csv", **names)
            tracks = pd.read_csv(self.folder / "tracks.csv", **names)
            activity = pd.read_csv(self.folder / "activity.csv", **names)
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
                active = _active(self._activity[track], onset, onset + self.window / self.sample_rate, self._min_active)
                if not self.labels or (active and (sounding is None or sounding in active)):
                    starts.append(int(self._starts[track]) + offset)
                    labels.append(tuple(label for label in self.labels if label in active))
            attempts += n
            if attempts > _ATTEMPTS + 100 * n:
                who = "the classes hardly ever sound" if sounding is None else f"{sounding} hardly ever sounds"
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


def _stems(track: Track, labels: Sequence[str], sample_rate: int, length: int, channels: int = 1) -> np.ndarray:
    """The stems of a track, int16 `[K · C, length]`: the sum over each label's files, clipped to the range of int16."""
    import soxr

    result = np.zeros((len(labels), channels, length), np.int16)
    for row, label in zip(result, labels, strict=True):
        files = track.stems.get(label, [])
        if not files:
            continue
        audio = _decode(files[0], track.frames, channels)
        for file in files[1:]:
            audio += _decode(file, track.frames, channels)
        if track.sample_rate != sample_rate:
            audio = soxr.resample(audio, track.sample_rate, sample_rate)[:length]
            audio = np.pad(audio, ((0, length - len(audio)), (0, 0)))
        row[:] = np.clip(np.round(audio.T * _SCALE), -_SCALE, _SCALE - 1)
    return result.reshape(-1, length)


def _decode(file: Path, frames: int, channels: int) -> np.ndarray:
    """The first samples of a file, float32 `[frames, C]`."""
    import soundfile

    try:
        audio, _ = soundfile.read(file, frames=frames, dtype="float32", always_2d=True)
    except (soundfile.LibsndfileError, RuntimeError) as error:
        raise UserError(f"{file}: cannot be decoded, the file is corrupt; replace it") from error
    if len(audio) != frames:
        raise UserError(f"{file}: ends after {len(audio)} of {frames} samples, the file is corrupt; replace it")
    if not np.isfinite(audio).all():
        raise UserError(f"{file}: holds samples that are not finite (NaN or infinite); replace it")
    return to_channels(audio, channels)
