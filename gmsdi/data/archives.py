"""Members of tar archives, read while the archive arrives and written only where and what is wanted."""

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

_BLOCK = 1 << 20  # bytes read at a time


def members(
    stream: io.RawIOBase, folder: Path, *, name: str, place: Callable[[PurePosixPath], PurePosixPath | None]
) -> Generator[tuple[PurePosixPath, Path], None, None]:
    """Write the wanted members of a tar archive, compressed or not, as they are read.

    Wanted members that are not plain files, or would lie outside of `folder`, are refused (`tarfile`'s filter "data").
    Neither owners nor modes or dates are taken over. Verify the archive, or the members, before they are used.

    Args:
        stream: The archive; it is read once, from start to end.
        folder: Where members are written; it must be the process's own.
        name: Of the archive, for messages.
        place: For the path of a file in the archive its path in `folder`, or None if it is not wanted.

    Yields:
        The path in the archive and the file of every member that was written.

    Raises:
        UserError: if a member is refused, which it names.
        WrongContent: if it is not an archive, or a damaged one.
    """
    if not hasattr(tarfile, "data_filter"):
        raise UserError("this Python cannot unpack archives safely; use 3.11.4 or newer")
    plain = {"mode": None, "mtime": None, "uid": None, "gid": None, "uname": None, "gname": None, "deep": False}
    buffered = io.BufferedReader(stream, _BLOCK)
    try:
        with tarfile.open(fileobj=buffered, mode="r|*", bufsize=_BLOCK) as archive:
            while (member := archive.next()) is not None:
                archive.members = []  # type: ignore[attr-defined]  # or it would keep all headers
                path = PurePosixPath(member.name)
                target = None if member.isdir() else place(path)
                if target is None:
                    continue
                if not member.isreg() or target.is_absolute():
                    raise UserError(
                        f"{name}: {path} is no plain file in it, refused; get the archive from its publisher"
                    )
                archive.extract(member.replace(name=str(target), **plain), folder, filter="data")  # type: ignore[arg-type]
                yield path, folder / target
    except tarfile.FilterError as error:
        raise UserError(f"{name}: {error}, refused; get the archive from its publisher") from error
    except (tarfile.TarError, zlib.error, EOFError) as error:
        raise WrongContent(f"not a tar archive, or a damaged one ({error})") from error
    finally:
        buffered.detach()  # the stream is the caller's, to finish and to close


@contextmanager
def staged(root: Path, name: str) -> Iterator[Path]:
    """Yield an empty folder whose files are moved to `root` when the block ends well, and are gone when it does not.

    Args:
        root: Where the files end up.
        name: Of the archive.

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
