"""Unpacking tar archives while they are downloaded: only wanted members, and only into the given folder."""

from __future__ import annotations

import io
import os
import shutil
import tarfile
import zlib
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from gmsdi.errors import UserError
from gmsdi.io.transfer import WrongContent

if not hasattr(tarfile, "data_filter"):  # before Python 3.11.4, such as Debian 12's
    from backports import tarfile  # type: ignore[no-redef,unused-ignore]

_BLOCK = 1 << 20  # bytes read at a time


def members(
    stream: io.RawIOBase, folder: Path, *, name: str, place: Callable[[PurePosixPath], PurePosixPath | None]
) -> Generator[tuple[PurePosixPath, Path], None, None]:
    """Write the wanted members of a tar archive, compressed or not, as they are read.

    Wanted members that are not plain files, or would end up outside `folder`, are refused (`tarfile`'s filter "data").
    Owners, modes and dates are ignored. Verify the archive or the members before using them.

    Args:
        stream: The archive; it is read once, from start to end.
        folder: Folder to write to; no other process may use it.
        name: Name of the archive, for messages.
        place: Maps the path of a file in the archive to its path in `folder`, or to None if it is not wanted.

    Yields:
        The path in the archive and the file of every member that was written.

    Raises:
        UserError: if a member is refused; the message names it.
        WrongContent: if the stream is not an archive, or a damaged one.
    """
    plain = {"mode": None, "mtime": None, "uid": None, "gid": None, "uname": None, "gname": None, "deep": False}
    buffered = io.BufferedReader(stream, _BLOCK)
    try:
        with tarfile.open(fileobj=buffered, mode="r|*", bufsize=_BLOCK) as archive:
            while (member := archive.next()) is not None:
                archive.members = []  # type: ignore[attr-defined]  # otherwise it would keep all headers
                path = PurePosixPath(member.name)
                target = None if member.isdir() else place(path)
                if target is None:
                    continue
                if not member.isreg() or target.is_absolute():
                    raise UserError(
                        f"{name}: refused, since {path} in it is not a plain file; get the archive from its publisher"
                    )
                archive.extract(member.replace(name=str(target), **plain), folder, filter="data")  # type: ignore[arg-type]
                yield path, folder / target
    except tarfile.FilterError as error:
        raise UserError(f"{name}: refused, since {error}; get the archive from its publisher") from error
    except (tarfile.TarError, zlib.error, EOFError) as error:
        raise WrongContent(f"not a tar archive, or a damaged one ({error})") from error
    finally:
        buffered.detach()  # the caller finishes and closes the stream


@contextmanager
def staged(root: Path, name: str) -> Iterator[Path]:
    """Yield an empty folder; its files are moved to `root` if the block succeeds, and deleted if it fails.

    Args:
        root: Where the files end up.
        name: Name of the archive.

    Raises:
        UserError: if a file cannot be written.
    """
    staging = root / f".{name}.unpacking"
    shutil.rmtree(staging, ignore_errors=True)
    try:
        staging.mkdir(parents=True)
        yield staging
        for file in sorted(path for path in staging.rglob("*") if path.is_file()):
            target = root / file.relative_to(staging)
            target.parent.mkdir(parents=True, exist_ok=True)
            os.replace(file, target)
    except OSError as error:
        raise UserError(f"{root}: cannot be written ({error}); free space or choose another folder") from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)
