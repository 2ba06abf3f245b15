"""Slakh2100 and BabySlakh: all of an archive is read, and the wanted tracks and stems are unpacked."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from gmsdi.data.archives import members, staged
from gmsdi.data.download.acquire import Archive, acquire, check_archive
from gmsdi.data.registry import find_entry
from gmsdi.data.slakh import instruments_of
from gmsdi.data.versions import SLAKH
from gmsdi.errors import UserError
from gmsdi.io.files import atomic, claimed
from gmsdi.io.transfer import Entry, Progress, Stream

_log = logging.getLogger(__name__)

# Number of tracks in the folders of Slakh2100 redux; "omitted" holds those that only the other versions use.
_SPLITS = {"train": 1289, "validation": 270, "test": 151, "omitted": 390}
_METADATA = 1 << 22  # largest metadata.yaml in bytes; usual ones have a few thousand


def download_slakh(
    root: str | Path,
    *,
    variant: Literal["redux", "babyslakh"] = "redux",
    splits: Collection[str] | None = None,
    tracks: Collection[int] | None = None,
    classes: Collection[str] | None = None,
    source: str | Path | None = None,
    archive: Archive = "buffer",
    registry: str | Path | None = None,
    mirrors: Sequence[str] = (),
    progress: Progress | None = None,
) -> Path:
    """Download tracks of Slakh2100 to `root`, with the layout of the archive below its first folder.

    The files of a track are scattered over the archive, so all of it has to be read, whatever is wanted. A stem that
    comes before its track's metadata.yaml is written first, and deleted again if the metadata says that its class is
    not wanted. The free space that is required is that of all stems of the wanted tracks. Redux takes 104 GB for the
    archive, unless it is streamed, and about 50 MB per track.

    Args:
        root: Where the folders train, validation, test and omitted end up (redux), or the tracks (BabySlakh).
        variant: "redux" (2 100 tracks, FLAC at 44.1 kHz) or "babyslakh" (20 tracks, WAV at 16 kHz).
        splits: Folders of redux; None means all. The original split depends on the number, over all folders: 1-1500,
            1501-1875 and 1876-2100.
        tracks: Numbers of the tracks; None means all.
        classes: Values of `inst_class` in the metadata; None means all stems. Mixes, MIDI and metadata always come
            along.
        source: An existing folder of the data set, which is used in place, or an existing archive.
        archive: What to do with the archive, see above.
        registry: A table of published files to use instead of the package's, see `read_registry`.
        mirrors: See `find_entry`.
        progress: See `Progress`.

    Returns:
        The folder that holds the data set: `root` or `source`.

    Raises:
        UserError: if there is no such variant, split or track, the archive cannot be downloaded, stored or verified, or
            `source` is incomplete.
    """
    root = Path(root)
    if variant not in SLAKH:
        raise UserError(f"variant {variant!r}: unknown; choose one of {', '.join(SLAKH)}")
    check_archive(archive)
    selection = Selection(variant, splits, tracks, classes)
    if source is not None and Path(source).is_dir():
        return selection.find(Path(source))
    entry = find_entry(SLAKH[variant], registry=registry, mirrors=mirrors)

    def consume(stream: Stream) -> None:
        selection.restart()
        with staged(root, entry.name) as staging:
            for path, file in members(stream, staging, name=entry.name, place=selection.place):
                selection.written(path, file)
            stream.finish()
            files = {path.relative_to(staging).as_posix(): _size(path) for path in staging.rglob("*") if path.is_file()}
            if not files:
                raise UserError(f"{entry.name}: holds none of the wanted tracks; check splits and tracks")
        if lacking := selection.lacking(map(Path, files)):
            _log.warning("%s: lacks %d of the tracks, the first is %d", entry.name, len(lacking), lacking[0])
        _write_receipts(root, entry, [*receipts, {"selection": selection.described, "files": files}])

    with claimed(root / entry.name):
        receipts = _receipts(root, entry)
        if not any(selection.within(receipt) for receipt in receipts):
            reserve = int((entry.unpacked or entry.size or 0) * selection.share)
            acquire(entry, root, consume, source=source, archive=archive, reserve=reserve, progress=progress)
    return root


class Selection:
    """Decides which files of Slakh2100 are wanted while the archive is read."""

    def __init__(
        self,
        variant: str,
        splits: Collection[str] | None,
        tracks: Collection[int] | None,
        classes: Collection[str] | None,
    ) -> None:
        all_tracks = 2100 if variant == "redux" else 20
        for option, value in (("splits", splits), ("classes", classes)):
            if isinstance(value, str):
                raise UserError(f"{option} {value!r}: expected a list of names")
        if splits is not None and variant != "redux":
            raise UserError("splits: BabySlakh has no folders of splits; choose by tracks")
        if unknown := set(splits or ()) - set(_SPLITS):
            raise UserError(f"split {min(unknown)!r}: unknown; choose from {', '.join(_SPLITS)}")
        if outside := [number for number in tracks or () if not 1 <= number <= all_tracks]:
            raise UserError(f"track {outside[0]}: the tracks of this data set are 1 to {all_tracks}; name some of them")
        if any(value is not None and not value for value in (splits, tracks, classes)):
            raise UserError(
                "splits, tracks or classes: empty, so nothing is wanted; name some, or omit the option for all"
            )
        self.splits = None if splits is None else frozenset(splits)
        self.tracks = None if tracks is None else frozenset(tracks)
        self.classes = None if classes is None else frozenset(classes)
        count = sum(_SPLITS[split] for split in self.splits) if self.splits else all_tracks
        self.share = min(count, len(self.tracks or range(all_tracks))) / all_tracks
        self.restart()

    def restart(self) -> None:
        """Forget what was learned from an archive."""
        self._known: dict[PurePosixPath, set[str]] = {}  # the wanted stems of each track
        self._stems: dict[PurePosixPath, list[Path]] = {}  # the written stems of each track

    def place(self, path: PurePosixPath) -> PurePosixPath | None:
        """The path without the archive's first folder, if the file is or may be wanted; otherwise None."""
        parts = path.parts[1:]
        split = parts[0] if parts and parts[0] in _SPLITS else None
        track = parts[1:] if split else parts
        number = _track_number(track[0]) if len(track) > 1 else None
        if number is None or path.name.startswith("."):  # macOS adds hidden files
            return None
        if (self.splits is not None and split not in self.splits) or (
            self.tracks is not None and number not in self.tracks
        ):
            return None
        known = self._known.get(path.parent.parent)
        if path.parent.name == "stems" and known is not None and path.stem not in known:
            return None
        return PurePosixPath(*parts)

    def written(self, path: PurePosixPath, file: Path) -> None:
        """Note that a file was written; if it is metadata, delete stems that turn out not to be wanted."""
        if self.classes is None:
            return
        if path.parent.name == "stems":
            self._stems.setdefault(path.parent.parent, []).append(file)
        elif path.name == "metadata.yaml":
            known = self._known[path.parent] = _stems_of(file, path, self.classes)
            for stem in self._stems.get(path.parent, ()):
                if stem.stem not in known:
                    stem.unlink()

    @property
    def described(self) -> dict[str, Any]:
        """The selection in the form that receipts store."""
        return {
            name: None if value is None else sorted(value)
            for name, value in (("splits", self.splits), ("tracks", self.tracks), ("classes", self.classes))
        }

    def within(self, receipt: dict[str, Any]) -> bool:
        """Whether a receipt's files include everything that is wanted."""
        had = receipt["selection"]
        return all(
            had[name] is None or (wanted is not None and set(wanted) <= set(had[name]))
            for name, wanted in self.described.items()
        )

    def lacking(self, files: Iterable[Path]) -> list[int]:
        """Tracks requested by number that no file belongs to; empty if splits are chosen as well."""
        if self.tracks is None or self.splits is not None:
            return []
        found = {number for file in files for part in file.parts if (number := _track_number(part)) is not None}
        return sorted(self.tracks - found)

    def find(self, source: Path) -> Path:
        """Find the root folder of the user's own data set.

        Raises:
            UserError: if it lacks a wanted split or track.
        """
        roots = [source, *(source / name.partition(".")[0] for name in SLAKH.values())]
        root = next((folder for folder in roots if any(_track_folders(folder, None))), None)
        if root is None:
            raise UserError(
                f"{source}: holds no Track folders of Slakh2100; name the folder above train, or the archive"
            )
        for split in self.splits or ():
            if not any(_track_folders(root, [split])):
                raise UserError(f"{root / split}: holds no tracks; name a complete data set, or choose other splits")
        found = {number for number, _ in _track_folders(root, self.splits)}
        lacking = set() if self.tracks is None or self.splits else self.tracks - found
        if lacking or (self.tracks and not self.tracks & found):
            raise UserError(
                f"{root}: lacks Track{min(lacking or self.tracks or {0}):05d}; complete it, or leave the track out"
            )
        return root


def _track_number(name: str) -> int | None:
    match = re.fullmatch(r"Track(\d{5})", name)
    return int(match[1]) if match else None


def _track_folders(root: Path, splits: Iterable[str] | None) -> Iterator[tuple[int, Path]]:
    """Numbers and folders of the tracks on the disk."""
    folders = [root / split for split in splits] if splits else [root, *(root / split for split in _SPLITS)]
    for folder in folders:
        for path in folder.iterdir() if folder.is_dir() else ():
            number = _track_number(path.name)
            if number is not None and path.is_dir():
                yield number, path


def _stems_of(file: Path, path: PurePosixPath, classes: Collection[str]) -> set[str]:
    """Names of the stems of these classes."""
    try:
        if file.stat().st_size > _METADATA:
            raise UserError("too large")
        return {stem for stem, instrument in instruments_of(file).items() if instrument in classes}
    except UserError as error:
        raise UserError(
            f"{path}: malformed; expected 'stems', each with an 'inst_class'; do not choose classes"
        ) from error


def _receipts(root: Path, entry: Entry) -> list[dict[str, Any]]:
    """Records in `root` of what was unpacked from an archive: selections whose files are all there, with sizes."""
    try:
        noted = json.loads((root / f".{entry.name}.json").read_text(encoding="utf-8"))
        if noted["hash"] != entry.hash:
            return []
        return [
            receipt
            for receipt in noted["receipts"]
            if all(_size(root / file) == size for file, size in receipt["files"].items())
        ]
    except (OSError, ValueError, KeyError, TypeError):
        return []  # missing or unreadable, so nothing is known to be there


def _write_receipts(root: Path, entry: Entry, receipts: list[dict[str, Any]]) -> None:
    with atomic(root / f".{entry.name}.json") as path:
        path.write_text(json.dumps({"hash": entry.hash, "receipts": receipts}), encoding="utf-8")


def _size(file: Path) -> int:
    try:
        return file.stat().st_size
    except OSError:
        return -1
