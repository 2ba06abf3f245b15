"""MTG-Jamendo: shards, whose tracks are verified one by one."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path, PurePosixPath

from gmsdi.data.archives import members, staged
from gmsdi.data.download.acquire import Archive, acquire, check_archive
from gmsdi.data.registry import find_entry
from gmsdi.data.versions import JAMENDO_SHARDS, JAMENDO_TRACKS, jamendo_shard
from gmsdi.errors import UserError
from gmsdi.io.files import claimed, sha256_of
from gmsdi.io.transfer import Entry, Progress, Stream, WrongContent, fetch


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
    check_archive(archive)
    folder = Path(source) if source is not None else None
    if folder is not None and not folder.is_dir():
        raise UserError(f"{folder}: no such folder; name the one with the tracks or archives of MTG-Jamendo")
    listed = _digests(root, folder, registry, mirrors, progress)
    wanted = _wanted(listed, numbers, tracks, limit)
    if folder is not None and any((folder / f"{number:02d}").is_dir() for number in numbers):
        for path, digest in (item for shard in wanted.values() for item in shard.items()):
            _compare(folder / path, digest)
        return folder
    for number in numbers:
        entry = find_entry(jamendo_shard(number), registry=registry, mirrors=mirrors)
        count = sum(1 for path in listed if path.parts[0] == f"{number:02d}")
        with claimed(root / entry.name):
            _shard(root, entry, wanted[number], listed=count, source=folder, archive=archive, progress=progress)
    return root


def _shard(
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
                if sha256_of(file) != left.pop(path):
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
    acquire(entry, root, consume, source=stored, archive=archive, reserve=reserve, progress=progress)


def _digests(
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


def _wanted(
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


def _compare(file: Path, digest: str) -> None:
    try:
        found = sha256_of(file)
    except OSError as error:
        raise UserError(f"{file}: cannot be read ({error.strerror}); complete the folder, or omit source") from error
    if found != digest:
        raise UserError(f"{file}: its SHA-256 is {found}, not {digest}; replace it, or omit source")
