"""Members of tar archives, read while the archive arrives and written only where and what is wanted.

An archive is material from outside: a member cannot leave its folder, be anything but a plain file, or be larger than
is allowed, and none gets its final name before the whole archive, or the member's own digest, has been verified.
"""

from __future__ import annotations

import gzip
import io
import os
import shutil
import tarfile
import zlib
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any

from gmsdi.data.transfer import Entry, Progress, Rejected, StoredFile, WrongContent, discard, partial_path
from gmsdi.errors import UserError
from gmsdi.io.files import claimed

_BLOCK = 1 << 20  # bytes copied at a time
_HEADER = 1 << 16  # bytes of an extended header; long names need a few thousand
_HEADERS = frozenset(
    {tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK}
)


@dataclass(frozen=True)
class Limits:
    """What an archive may hold at most.

    Attributes:
        member: Bytes of a member that is written.
        total: Bytes of all members, written or not.
        members: Number of members, written or not.
    """

    member: int = 1 << 30
    total: int = 1 << 39
    members: int = 1 << 20


class _Hostile(Exception):
    """A header that no archive needs."""


class _Member(tarfile.TarInfo):
    """Headers as tarfile reads them, but for those that would fill the memory or end the archive unnoticed."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> _Member:
        """Parse a header block; tarfile takes a damaged one for the end, and reads extended headers as a whole."""
        try:
            member = super().frombuf(buf, encoding, errors)
        except tarfile.EOFHeaderError:  # type: ignore[attr-defined]
            raise
        except tarfile.HeaderError as error:
            raise WrongContent(f"damaged archive ({error})") from error
        if member.size < 0:
            raise _Hostile(f"member {member.name!r} has {member.size} bytes")
        if member.type in _HEADERS and member.size > _HEADER:
            raise _Hostile(f"member {member.name!r} has an extended header of {member.size} bytes")
        return member

    def _proc_sparse(self, *_: Any) -> Any:
        raise _Hostile(f"member {self.name!r} is a sparse file")

    # The three forms in which extended headers describe sparse files.
    def _sparse(self, *_: Any) -> Any:
        raise _Hostile("a member is a sparse file")

    _proc_gnusparse_00 = _proc_gnusparse_01 = _proc_gnusparse_10 = _sparse


def members(
    stream: io.RawIOBase,
    folder: Path,
    *,
    name: str,
    place: Callable[[PurePosixPath], PurePosixPath | None],
    limits: Limits | None = None,
) -> Generator[tuple[PurePosixPath, Path], None, None]:
    """Write the wanted members of a tar archive, compressed by gzip or not, as they are read.

    Members with an absolute path or a path through "..", wanted or not, and wanted ones that are links, devices,
    pipes or sparse, are too large or come twice, are refused. Neither owners nor modes or dates are taken over.

    Args:
        stream: The archive; it is read once, from start to end, and by blocks.
        folder: Where members are written; it must be empty and the process's own.
        name: Of the archive, for messages.
        place: For the path of a file in the archive its path in `folder`, or None if it is not wanted.
        limits: See `Limits`.

    Yields:
        The path in the archive and the file of every member that was written.

    Raises:
        Rejected: if a member is refused, which it names.
        UserError: if a file cannot be written.
        WrongContent: if it is not an archive, or a damaged one.
    """
    bounds = limits or Limits()
    buffered = io.BufferedReader(stream, _BLOCK)
    try:
        for member, content in _read(buffered, bounds):
            path = PurePosixPath(member.name)
            if path.is_absolute() or ".." in path.parts:
                raise _Hostile(f"member {member.name!r} lies outside of the archive's folder")
            target = None if member.isdir() else place(path)
            if target is None:
                continue
            if not member.name.isprintable() or "\\" in member.name or ":" in path.parts[0]:
                raise _Hostile(f"member {member.name!r} has a name that not every system takes for a relative path")
            if not member.isreg() or member.issparse():
                raise _Hostile(f"member {member.name!r} is {_KINDS.get(member.type, 'not a plain file')}")
            if member.size > bounds.member:
                raise _Hostile(f"member {member.name!r} has {member.size} bytes, more than {bounds.member}")
            file = folder / target
            if file.exists():
                raise _Hostile(f"member {member.name!r} comes twice")
            _write(content, member.size, file)
            yield path, file
    except _Hostile as error:
        raise Rejected(f"{name}: {error}, refused; do not use this archive, get it from its publisher") from error
    except (tarfile.TarError, zlib.error, gzip.BadGzipFile, EOFError) as error:
        raise WrongContent(f"not a tar archive, or a damaged one ({error})") from error
    finally:
        buffered.detach()  # the stream is the caller's, to finish and to close


_KINDS = {
    tarfile.SYMTYPE: "a symbolic link",
    tarfile.LNKTYPE: "a hard link",
    tarfile.CHRTYPE: "a device",
    tarfile.BLKTYPE: "a device",
    tarfile.FIFOTYPE: "a pipe",
    tarfile.GNUTYPE_SPARSE: "a sparse file",
}


def _read(stream: Any, limits: Limits) -> Iterator[tuple[tarfile.TarInfo, IO[bytes] | None]]:
    """Headers and contents, within the limits on the whole."""
    compressed = stream.peek(2)[:2] == b"\x1f\x8b"
    source: Any = gzip.GzipFile(fileobj=stream) if compressed else stream
    count = total = 0
    with tarfile.open(fileobj=source, mode="r|", bufsize=_BLOCK, tarinfo=_Member) as archive:
        while (member := archive.next()) is not None:
            archive.members = []  # type: ignore[attr-defined]  # or it would keep all headers
            count += 1
            total += member.size
            if member.size < 0 or total > limits.total:
                raise _Hostile(f"member {member.name!r} brings the archive to more than {limits.total} bytes")
            if count > limits.members:
                raise _Hostile(f"member {member.name!r} is one of more than {limits.members}")
            yield member, archive.extractfile(member) if member.isreg() else None


def _write(content: IO[bytes] | None, size: int, file: Path) -> None:
    assert content is not None
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        output = file.open("xb", buffering=0)
    except (FileExistsError, NotADirectoryError) as error:
        raise _Hostile(f"member {file.name!r} lies below a file") from error
    except OSError as error:
        raise _unwritable(file, error) from error
    with output:
        while size:
            block = content.read(min(size, _BLOCK))
            if not block:
                raise WrongContent(f"ends within {file.name}")
            size -= len(block)
            view = memoryview(block)
            try:
                while view:
                    view = view[output.write(view) :]
            except OSError as error:
                raise _unwritable(file, error) from error


def _unwritable(file: Path, error: OSError) -> UserError:
    return UserError(f"{file}: cannot be written ({error.strerror}); free space or choose another folder")


@contextmanager
def staged(root: Path, name: str) -> Iterator[Path]:
    """Yield an empty folder whose files are moved to `root` when the block ends well, and are gone when it does not.

    The move survives the end of the process: `settle` completes it. It also removes the partial file of `name` in
    `root`, which has served its purpose then, and not before.

    Args:
        root: Where the files end up.
        name: Of the archive.
    """
    settle(root, name)
    staging, ready = _staging(root, name)
    try:
        staging.mkdir(parents=True)
    except OSError as error:
        raise _unwritable(staging, error) from error
    try:
        yield staging
    except BaseException:
        shutil.rmtree(staging, ignore_errors=True)
        raise
    os.rename(staging, ready)
    settle(root, name)


def settle(root: Path, name: str) -> None:
    """Complete or undo what `staged` did before the process ended."""
    staging, ready = _staging(root, name)
    shutil.rmtree(staging, ignore_errors=True)
    if not ready.is_dir():
        return
    for folder, _, files in os.walk(ready, topdown=False):  # the notes at the top come last
        for file in sorted(files):
            path = Path(folder, file)
            target = root / path.relative_to(ready)
            try:
                target.parent.mkdir(parents=True, exist_ok=True)
                os.replace(path, target)
            except OSError as error:
                raise _unwritable(target, error) from error
    discard(partial_path(root / name))
    shutil.rmtree(ready)


def _staging(root: Path, name: str) -> tuple[Path, Path]:
    return root / f".{name}.unpacking", root / f".{name}.verified"


def unpack(
    archive: str | Path,
    folder: str | Path,
    *,
    wanted: Callable[[PurePosixPath], bool] | None = None,
    hash: str | None = None,
    limits: Limits | None = None,
    progress: Progress | None = None,
) -> list[Path]:
    """Unpack a tar archive that lies on the disk: all wanted members, or none and an error.

    Args:
        archive: A tar file, compressed by gzip or not.
        folder: Where the members go, under their paths in the archive.
        wanted: Whether a file of the archive is wanted, by its path there; None takes all.
        hash: "md5:…" or "sha256:…" that the archive must have.
        limits: See `Limits`.
        progress: Called with the bytes of the archive that were read.

    Returns:
        The files written, in the order of the archive.

    Raises:
        UserError: if the archive is not readable, has another digest, or a member that `members` refuses.
    """
    archive, folder = Path(archive), Path(folder)
    entry = Entry(archive.name, archive.as_uri() if archive.is_absolute() else str(archive), hash)

    def place(path: PurePosixPath) -> PurePosixPath | None:
        return path if wanted is None or wanted(path) else None

    with claimed(folder / archive.name), StoredFile(entry, archive, progress) as stream:
        try:
            with staged(folder, archive.name) as staging:
                found = [
                    file.relative_to(staging)
                    for _, file in members(stream, staging, name=archive.name, place=place, limits=limits)
                ]
                stream.finish()
        except WrongContent as error:
            raise UserError(f"{archive}: {error}; get it from its publisher again") from error
    return [folder / file for file in found]
