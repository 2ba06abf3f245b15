"""Files that appear under their final name only when they are complete, made by one process at a time."""

from __future__ import annotations

import glob
import logging
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from gmsdi.errors import UserError

_RESERVE = 64 << 20  # bytes of a disk that are never counted on
_LONGEST = 230  # bytes of a file's name: most file systems take 255, and the temporary one is longer
_log = logging.getLogger(__name__)


@contextmanager
def atomic(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; rename it to `path` on success, remove it on failure.

    The temporary path keeps the suffix of `path`, since many writers choose their format by it. It may be written as
    a file or created as a folder; a folder replaces an existing folder of that name.

    Raises:
        UserError: if the parent folder cannot be created or written to.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.stem}.{os.getpid()}.partial{path.suffix}")
    try:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            _remove(temporary)
        except PermissionError:
            raise
        except OSError as error:  # a file where the folder should be, a name that is too long
            raise UserError(f"{path}: cannot be written ({error.strerror}); choose another place") from error
        yield temporary
        if temporary.is_dir() and path.is_dir():
            shutil.rmtree(path)
        os.replace(temporary, path)
    except PermissionError as error:
        raise UserError(f"{error.filename or path}: no permission to write; choose another folder") from error
    except OSError as error:
        if error.errno in (28, 30, 122):  # ENOSPC, EROFS, EDQUOT
            raise UserError(f"{path}: cannot be written ({error.strerror}); free space or choose another") from error
        raise
    finally:
        with suppress(NotADirectoryError, PermissionError):
            _remove(temporary)


def require_writable(path: Path) -> None:
    """Try whether a file could be written, without leaving anything behind.

    Raises:
        UserError: if a folder on its way is a file or cannot be written to, it is a folder itself, or a name is longer
            than a file system takes.
    """
    for part in path.parts:
        if len(os.fsencode(part)) > _LONGEST:
            raise UserError(f"{path}: a name of more than {_LONGEST} bytes; choose a shorter one")
    if path.is_dir():
        raise UserError(f"{path}: a folder is in its place; choose another name")
    folder = path.parent
    while not os.path.lexists(folder):
        folder = folder.parent
    if not folder.is_dir():
        raise UserError(f"{folder}: a file, where {path} needs a folder; choose another with --out")
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise UserError(f"{folder}: cannot be written to ({error.strerror}); choose another with --out") from error


def remove_partials(path: str | Path) -> None:
    """Remove what killed processes have left of `path`. No process may be writing it."""
    path = Path(path)
    for left in path.parent.glob(f".{glob.escape(path.stem)}.*.partial{glob.escape(path.suffix)}"):
        _remove(left)


@contextmanager
def claimed(target: Path) -> Iterator[None]:
    """Hold a lock on `target`, which another process may be making: then this one waits until that has ended.

    The lock ends with the process that holds it, even if it is killed. Its file, hidden beside `target`, stays.

    Raises:
        UserError: if the folder cannot be written to.
    """
    from filelock import FileLock, Timeout

    lock = FileLock(target.with_name(f".{target.name}.lock"))
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            _log.warning("%s: waiting for another process that is at work on it", target)
            lock.acquire()
    except OSError as error:
        raise UserError(f"{lock.lock_file}: cannot be written ({error.strerror}); choose another folder") from error
    try:
        yield
    finally:
        lock.release()


def require_space(
    folder: Path,
    needed: int,
    name: str,
    *,
    advice: str = "choose another folder or fewer tracks, or do not store the archive",
) -> None:
    """Raise a UserError if the disk that holds `folder` has not this many bytes free."""
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free - _RESERVE
    if free < needed:
        raise UserError(
            f"{folder}: {max(free, 0) / 1e9:.1f} GB are free, and {name} needs {needed / 1e9:.1f} GB here; free space, "
            f"{advice}"
        )


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
