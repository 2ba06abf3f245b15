"""Downloads of the public data sets: Slakh2100, BabySlakh and MTG-Jamendo.

`registry.csv` lists the files, with hashes, sizes and licences. Only the wanted members of an archive are unpacked,
into a hidden folder; they are moved into place once they are verified. `archive` says what to do with the archive:

- "buffer": download it first, and delete it when its members are in place. A killed download resumes where it stopped.
- "keep": the same, but keep the archive. Later calls unpack other members from it.
- "stream": unpack members while the archive arrives, without storing it. Lost connections are resumed, but if the
  process is killed, the download starts over.
"""

from __future__ import annotations

import csv
import hashlib
import json
import logging
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any, Literal, get_args

from gmsdi.data.archives import members, staged
from gmsdi.data.versions import JAMENDO_SHARDS, JAMENDO_TRACKS, SLAKH, jamendo_shard
from gmsdi.errors import UserError
from gmsdi.io.files import atomic, claimed, require_space
from gmsdi.io.transfer import Entry, Progress, ProgressBar, Stream, WrongContent, download, fetch, transfer

__all__ = ["ProgressBar", "download_jamendo", "download_slakh", "fetch", "find_entry", "read_registry"]

_log = logging.getLogger(__name__)

Archive = Literal["buffer", "keep", "stream"]

# Number of tracks in the folders of Slakh2100 redux; "omitted" holds those that only the other versions use.
_SPLITS = {"train": 1289, "validation": 270, "test": 151, "omitted": 390}
REGISTRY = Path(__file__).with_name("registry.csv")
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
    _check_archive(archive)
    selection = _SlakhSelection(variant, splits, tracks, classes)
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
            _acquire(entry, root, consume, source=source, archive=archive, reserve=reserve, progress=progress)
    return root


def download_jamendo(
    root: str | Path,
    shards: Iterable[int],
    *,
    tracks: Collection[int] | None = None,
    limit: int | None = None,
    source: str | Path | None = None,
    archive: Archive = "buffer",
    registry: str | Path | None = None,
    mirrors: Sequence[str] = (),
    progress: Progress | None = None,
) -> Path:
    """Download shards of MTG-Jamendo (raw_30s, audio-low: mono MP3) to `root`, as NN/ID.low.mp3.

    Every track is verified by the SHA-256 that the data set's repository lists for it; a shard that is wanted as a
    whole is also verified by its own. A shard that is wanted in part is downloaded only up to the last wanted track.
    Disk space: 1.6 GB per shard, and the same again during the download, unless it is streamed.

    Args:
        root: Where the folders 00 to 99 and the list of digests end up.
        shards: Numbers, 0 to 99.
        tracks: Identifiers of the wanted tracks; None means all.
        limit: Largest number of tracks per shard, those with the lowest identifiers; None means all.
        source: An existing folder with the tracks, which is used in place once they are verified, or with the
            archives. If it also has the list of digests, nothing is downloaded.
        archive: What to do with the archives, see above.
        registry: A table of published files to use instead of the package's, see `read_registry`.
        mirrors: See `find_entry`.
        progress: See `Progress`.

    Returns:
        The folder that holds the tracks: `root` or `source`.

    Raises:
        UserError: if there is no such shard or track, an archive cannot be downloaded, stored or verified, or `source`
            is incomplete.
    """
    root = Path(root)
    numbers = sorted(set(shards))
    if not numbers or not all(0 <= number < JAMENDO_SHARDS for number in numbers):
        raise UserError(f"shards {numbers}: MTG-Jamendo has the shards 0 to {JAMENDO_SHARDS - 1}; name some of them")
    if limit is not None and limit < 1:
        raise UserError(f"limit {limit}: no track would be left; give a positive number or none")
    _check_archive(archive)
    folder = Path(source) if source is not None else None
    if folder is not None and not folder.is_dir():
        raise UserError(f"{folder}: no such folder; name the one with the tracks or archives of MTG-Jamendo")
    listed = _jamendo_list(root, folder, registry, mirrors, progress)
    wanted = _jamendo_wanted(listed, numbers, tracks, limit)
    if folder is not None and any((folder / f"{number:02d}").is_dir() for number in numbers):
        for path, digest in (item for shard in wanted.values() for item in shard.items()):
            _compare(folder / path, digest)
        return folder
    for number in numbers:
        entry = find_entry(jamendo_shard(number), registry=registry, mirrors=mirrors)
        count = sum(1 for path in listed if path.parts[0] == f"{number:02d}")
        with claimed(root / entry.name):
            _jamendo_shard(root, entry, wanted[number], listed=count, source=folder, archive=archive, progress=progress)
    return root


def read_registry(path: str | Path | None = None) -> dict[str, Entry]:
    """Read a table of published files, by name.

    Args:
        path: A CSV file with the columns name, version, url, mirrors (URLs separated by spaces), hash, size, unpacked
            and licence, of which name and url must be filled in; None means the package's table. A table of your own is
            useful for a site with its own copies.

    Raises:
        UserError: if the file cannot be read or lacks a column.
    """
    file = Path(path) if path is not None else REGISTRY
    entries = {}
    try:
        with file.open(newline="", encoding="utf-8") as stream:
            for row in csv.DictReader(stream):
                entries[row["name"]] = Entry(
                    name=row["name"],
                    url=row["url"],
                    hash=row["hash"] or None,
                    mirrors=tuple(row["mirrors"].split()),
                    size=int(row["size"]) if row["size"] else None,
                    unpacked=int(row["unpacked"]) if row["unpacked"] else None,
                    version=row["version"],
                    licence=row["licence"],
                )
    except OSError as error:
        raise UserError(f"{file}: cannot be read ({error.strerror}); name a table of published files") from error
    except (KeyError, ValueError, AttributeError, TypeError) as error:
        raise UserError(f"{file}: malformed table of published files ({error!r}); compare the package's") from error
    return entries


def find_entry(name: str, *, registry: str | Path | None = None, mirrors: Sequence[str] = ()) -> Entry:
    """Find a file in a registry.

    Args:
        name: Name of the file.
        registry: A table of published files to use instead of the package's, see `read_registry`.
        mirrors: URLs of folders that have a file of this name; they are tried first.

    Raises:
        UserError: if the table has no such file.
    """
    entries = read_registry(registry)
    if name not in entries:
        raise UserError(f"{registry or REGISTRY}: has no row {name}; add one with the URL and hash of your copy")
    entry = entries[name]
    urls = [*(f"{mirror.rstrip('/')}/{name}" for mirror in mirrors), entry.url, *entry.mirrors]
    return replace(entry, url=urls[0], mirrors=tuple(urls[1:]))


def _jamendo_shard(
    root: Path,
    entry: Entry,
    wanted: dict[PurePosixPath, str],
    *,
    listed: int,
    source: Path | None,
    archive: Archive,
    progress: Progress | None,
) -> None:
    missing = {path: digest for path, digest in wanted.items() if not (root / path).is_file()}
    if not missing:
        return

    def consume(stream: Stream) -> None:
        left = dict(missing)
        with staged(root, entry.name) as staging:
            for path, file in members(
                stream, staging, name=entry.name, place=lambda path: path if path in left else None
            ):
                if _sha256(file) != left.pop(path):
                    raise WrongContent(f"the SHA-256 of {path} differs from the data set's list")
                if not left and len(missing) < listed:
                    return
            stream.finish()
            if left:
                raise UserError(
                    f"{entry.name}: lacks {next(iter(left))}, which is in the list of tracks; renew {JAMENDO_TRACKS}"
                )

    stored = source / entry.name if source is not None else None
    reserve = int((entry.size or 0) * len(missing) / listed)
    if len(missing) < listed and archive == "buffer":
        archive = "stream"  # up to the last wanted track
    _acquire(entry, root, consume, source=stored, archive=archive, reserve=reserve, progress=progress)


def _jamendo_list(
    root: Path,
    source: Path | None,
    registry: str | Path | None,
    mirrors: Sequence[str],
    progress: Progress | None,
) -> dict[PurePosixPath, str]:
    """The SHA-256 of every track of the data set."""
    file = source / JAMENDO_TRACKS if source is not None else root / JAMENDO_TRACKS
    if not file.is_file():
        file = fetch(
            find_entry(JAMENDO_TRACKS, registry=registry, mirrors=mirrors), root / JAMENDO_TRACKS, progress=progress
        )
    listed = {}
    for number, line in enumerate(file.read_text(encoding="utf-8", errors="replace").splitlines(), 1):
        match = re.fullmatch(r"([0-9a-f]{64}) +((\d\d)/\d+\.low\.mp3)", line)
        if not match:
            raise UserError(f"{file}: line {number} is not a SHA-256 and a track; remove the file to download it again")
        listed[PurePosixPath(match[2])] = match[1]
    return listed


def _jamendo_wanted(
    listed: dict[PurePosixPath, str], shards: list[int], tracks: Collection[int] | None, limit: int | None
) -> dict[int, dict[PurePosixPath, str]]:
    """The wanted tracks of each shard, sorted by identifier, with their digests."""
    identifiers = {path: int(path.name.partition(".")[0]) for path in listed}
    wanted: dict[int, dict[PurePosixPath, str]] = {number: {} for number in shards}
    if absent := set(shards) - {int(path.parts[0]) for path in listed}:
        raise UserError(f"shard {min(absent)}: not in {JAMENDO_TRACKS}; remove that file to download it again")
    chosen = None if tracks is None else set(tracks)
    for path in sorted(listed, key=identifiers.__getitem__):
        shard = wanted.get(int(path.parts[0]))
        if shard is not None and (chosen is None or identifiers[path] in chosen) and len(shard) != limit:
            shard[path] = listed[path]
    if chosen is not None and limit is None:
        found = {identifiers[path] for shard in wanted.values() for path in shard}
        if chosen - found:
            raise UserError(f"track {min(chosen - found)}: not in the shards {shards}; add its shard or leave it out")
    if not any(wanted.values()):
        raise UserError(f"shards {shards}: hold none of the wanted tracks; choose other shards or tracks")
    return wanted


class _SlakhSelection:
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
            raise UserError(f"split {min(unknown)!r}: unknown; choose of {', '.join(_SPLITS)}")
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
    import yaml

    try:
        if file.stat().st_size > _METADATA:
            raise ValueError("too large")
        stems = yaml.load(file.read_text(encoding="utf-8"), getattr(yaml, "CSafeLoader", yaml.SafeLoader))["stems"]
        return {str(stem) for stem, entry in stems.items() if str(entry.get("inst_class", "")) in classes}
    except (yaml.YAMLError, ValueError, AttributeError, KeyError, TypeError) as error:
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


def _acquire(
    entry: Entry,
    root: Path,
    consume: Callable[[Stream], None],
    *,
    source: str | Path | None,
    archive: Archive,
    reserve: int,
    progress: Progress | None,
) -> None:
    """Pass an archive to `consume`: the user's copy, a kept one, or the published one."""
    if entry.hash is None:
        raise UserError(f"{entry.name}: its row in the registry has no hash; add one, so that the file can be verified")
    kept, buffered = root / entry.name, root / f".{entry.name}.buffer"
    if source is not None:
        stored, remedy = Path(source), "name another copy, or none"
    else:
        stored = kept if kept.is_file() or archive == "keep" else buffered
        remedy = "remove it, and it will be downloaded again"
        if archive == "stream" and not stored.is_file():
            transfer(entry, None, consume, folder=root, reserve=reserve, progress=progress)
            return
        if not stored.is_file():
            download(entry, stored, reserve=reserve, progress=progress)
    with Stream(entry, stored, progress=progress) as stream:
        require_space(root, reserve, entry.name)
        try:
            consume(stream)
        except WrongContent as error:
            raise UserError(f"{stored}: {error}; {remedy}") from error
    buffered.unlink(missing_ok=True)


def _check_archive(archive: str) -> None:
    if archive not in get_args(Archive):
        raise UserError(f"archive {archive!r}: unknown; choose one of {', '.join(get_args(Archive))}")


def _size(file: Path) -> int:
    try:
        return file.stat().st_size
    except OSError:
        return -1


def _sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _compare(file: Path, digest: str) -> None:
    try:
        found = _sha256(file)
    except OSError as error:
        raise UserError(f"{file}: cannot be read ({error.strerror}); complete the folder, or omit source") from error
    if found != digest:
        raise UserError(f"{file}: its SHA-256 is {found}, not {digest}; replace it, or omit source")
