"""Tracks of any data set, cut into windows."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.metadata import version as version_of
from pathlib import Path

import numpy as np

from gmsdi import __version__
from gmsdi.data.decoding import FULL_SCALE, Unreadable
from gmsdi.data.windows.reading import active_labels
from gmsdi.data.windows.store import Heard, Store
from gmsdi.errors import UserError

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Piece:
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
    read: Callable[[], tuple[np.ndarray, Heard]]


def cut_pieces(
    out: Path,
    pieces: Sequence[Piece],
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
    store = Store(
        out.with_name(f".{out.name}.building"),
        {**settings, **layout},
        {"mix.npy": (channels, starts[-1]) if channels > 1 else (starts[-1],)}
        | ({"stems.npy": (len(classes) * channels, starts[-1])} if stems else {}),
    )

    def cut(piece: Piece, start: int) -> str | Heard:
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
            mix = np.clip(summed, -FULL_SCALE, FULL_SCALE - 1).astype(np.int16)
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
            active = active_labels(own, offset / sample_rate, (offset + window) / sample_rate, min_active)
            windows.append((piece.name, split, offset, ", ".join(active)))
    if not tracks:
        raise UserError(f"{out}: no track can be decoded; {told(left_out)}")
    if left_out:
        _log.warning(
            "%s: %d of %d tracks are left out; %s", out, len(left_out), len(tracks) + len(left_out), told(left_out)
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


def told(skipped: Mapping[str, str]) -> str:
    """Describe the first of the tracks that are left out, and the reason."""
    name = min(skipped)
    return f"the first is {name}: {skipped[name]}"


def _fingerprint(piece: Piece) -> str:
    """Digest of the files' names, sizes and modification times."""
    files = [(file, file.stat()) for file in piece.files]
    text = json.dumps([(file.parent.name, file.name, stat.st_size, stat.st_mtime_ns) for file, stat in files])
    return hashlib.sha256(text.encode()).hexdigest()[:16]
