"""The windows of each kind of data set: Slakh2100, MTG-Jamendo, and folders of multi-tracks."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

import numpy as np

from gmsdi.data import jamendo, multitracks, slakh
from gmsdi.data.decoding import Unreadable
from gmsdi.data.multitracks import Activity, Splits
from gmsdi.data.windows.cutting import Piece, cut_pieces, told
from gmsdi.data.windows.store import Heard
from gmsdi.errors import UserError
from gmsdi.io.files import claimed

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
        channels: number of channels of the windows, see `gmsdi.data.decoding.to_channels`.
        workers: number of threads that read tracks; decoding and resampling release Python's lock.
        progress: called with (tracks done, tracks in all).

    Raises:
        UserError: if the data set is defective (see `read_track`), audio cannot be decoded or is not finite, no track
            is as long as a window, or the disk is too small.
    """
    out = Path(out)
    with claimed(out), _threads(workers) as pool:
        paths = slakh.list_tracks(root, split, version=version, first=first)
        tracks = [track for track in pool.map(lambda path: _labelled(path, classes), paths) if track is not None]
        if len(tracks) < len(paths):
            _log.warning("%s, %s: %d tracks have no stem of any class", root, split, len(paths) - len(tracks))
        pieces = [_piece(track, classes, sample_rate, channels) for track in tracks]
        if max((piece.length for piece in pieces), default=0) < window:
            raise UserError(
                f"{Path(root) / split}: no track is as long as a window ({window} samples at {sample_rate} Hz)"
            )
        cut_pieces(
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
                f"{sample_rate} Hz); {told(skipped)}"
            )
        cut_pieces(
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

    def piece(track: multitracks.Track) -> Piece | str:
        """Make the piece of a track, or return the reason why it cannot be used."""
        try:
            length = track.length(sample_rate)
        except Unreadable as error:
            return str(error)
        if length < window:
            return "shorter than a window"
        files = [file for own in track.stems.values() for file in own]

        def read() -> tuple[np.ndarray, Heard]:
            decoded = multitracks.decode(
                track,
                labels,
                sample_rate=sample_rate,
                length=length,
                activity=activity,
                gain_db=gain_db,
                channels=channels,
            )
            spans = {label: own.tolist() for label, own in decoded.activity.items()}
            return decoded.stems, {"activity": spans, "clipped": decoded.clipped}

        return Piece(track.name, files, length, {}, read)

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
                f"{sample_rate} Hz); {told(skipped)}"
            )
        cut_pieces(
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


@contextmanager
def _threads(workers: int) -> Iterator[ThreadPoolExecutor]:
    """Yield a thread pool; leaving the block finishes running tasks and cancels the others."""
    pool = ThreadPoolExecutor(max(1, workers))
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)


def _labelled(path: Path, classes: Mapping[str, Sequence[str]]) -> slakh.Track | None:
    try:
        return slakh.read_track(path, classes)
    except slakh.Unlabelled:
        return None


def _piece(track: slakh.Track, classes: Mapping[str, Sequence[str]], sample_rate: int, channels: int) -> Piece:
    length = round(track.frames * sample_rate / track.sample_rate)
    files = [file for found in track.stems.values() for file in found]
    return Piece(
        track.path.name,
        files,
        length,
        track.activity,
        lambda: (slakh.decode(track, list(classes), sample_rate, length, channels), {}),
    )


def _described(path: Path) -> jamendo.Track | str:
    """Read a track of MTG-Jamendo, or return the reason why it cannot be read."""
    try:
        return jamendo.read_track(path)
    except Unreadable as error:
        return str(error)


def _mixture_piece(track: jamendo.Track, sample_rate: int) -> Piece:
    return Piece(
        track.name, [track.path], track.length(sample_rate), {}, lambda: (jamendo.decode(track, sample_rate)[None], {})
    )
