"""Files that appear under their final name only when they are complete, made by one process at a time."""

from __future__ import annotations

import errno
import glob
import hashlib
import logging
import os
import shutil
import tempfile
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from gmsdi.errors import UserError

_RESERVE = 64 << 20  # most bytes of a disk that are kept in reserve
_LONGEST = 230  # bytes of a file's name: most file systems allow 255, and the temporary name is longer
_log = logging.getLogger(__name__)
_lock = threading.Lock()
_made: set[Path] = set()  # folders that this process has created
_users: Counter[Path] = Counter()  # how many writers need a folder


@contextmanager
def atomic(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; rename it to `path` on success, remove it on failure.

    The temporary path keeps the suffix of `path`, since many writers choose their format by it. It may be written as
    a file or created as a folder; a folder replaces an existing folder of that name.

    Raises:
        UserError: if the parent folder cannot be created or written to.
    """
    with together([path]) as (temporary,):
        yield temporary


@contextmanager
def together(paths: Sequence[str | Path]) -> Iterator[list[Path]]:
    """Like `atomic`, for several files: all of them get their final names, or none does.

    On failure, files that were replaced are restored, and folders that were created are removed.

    Raises:
        UserError: see `atomic`.
    """
    finals = [Path(path) for path in paths]
    temporaries = [_beside(path, "partial") for path in finals]
    used: list[Path] = []
    complete = False
    try:
        for path, temporary in zip(finals, temporaries, strict=True):
            with _told(path):
                used.append(path.parent.absolute())
                _enter(used[-1])
                _remove(temporary)
        with _told(finals[0], begun=True):
            yield temporaries
        _rename(temporaries, finals)
        complete = True
    finally:
        for temporary in temporaries:
            with suppress(OSError):  # what has kept the file from being written is told instead
                _remove(temporary)
        for folder in used:
            _leave(folder, complete)


def _rename(temporaries: Sequence[Path], finals: Sequence[Path]) -> None:
    """Give files their final names; if one of them fails, restore the files that the others have replaced."""
    kept: list[tuple[Path, Path]] = []
    new: list[Path] = []
    try:
        for k, (temporary, path) in enumerate(zip(temporaries, finals, strict=True)):
            with _told(path):
                if path.is_file() and k + 1 < len(finals):  # after the last, nothing can fail
                    kept.append((_kept(path), path))
                elif temporary.is_dir() and path.is_dir():
                    shutil.rmtree(path)
                elif not path.exists():
                    new.append(path)
                os.replace(temporary, path)
    except BaseException:
        for path in new:
            _remove(path)
        for before, path in kept:
            os.replace(before, path)
        raise
    for before, _ in kept:
        before.unlink(missing_ok=True)


def _kept(path: Path) -> Path:
    """Give a file a second name, so that its content survives when the first is replaced."""
    before = _beside(path, "before.partial")
    _remove(before)
    try:
        os.link(path, before)
    except OSError:  # a file system without links
        os.replace(path, before)
    return before


def _beside(path: Path, what: str) -> Path:
    return path.with_name(f".{path.stem}.{os.getpid()}.{what}{path.suffix}")


def _enter(folder: Path) -> None:
    """Create a folder if it does not exist, and keep it until `_leave`."""
    with _lock:
        _users[folder] += 1
        place = folder
        while not place.exists():
            _made.add(place)
            place = place.parent
        folder.mkdir(parents=True, exist_ok=True)


def _leave(folder: Path, complete: bool) -> None:
    """Unless a file was completed, remove a folder that this process created, if it is empty and no longer needed."""
    with _lock:
        _users[folder] -= 1
        for place in () if complete else (folder, *folder.parents):
            if place not in _made or _users[place]:
                break
            try:
                place.rmdir()
            except OSError:  # it is not empty
                break
            _made.discard(place)


@contextmanager
def _told(path: Path, *, begun: bool = False) -> Iterator[None]:
    """Turn file system errors into UserErrors; once writing has begun, only those that the user can mend."""
    try:
        yield
    except PermissionError as error:
        raise UserError(f"{error.filename or path}: no permission to write; choose another folder") from error
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EROFS, errno.EDQUOT):
            raise UserError(f"{path}: cannot be written ({error.strerror}); free space or choose another") from error
        if begun:
            raise
        # A file in place of the folder, a folder in place of the file, or a name that is too long.
        raise UserError(f"{path}: cannot be written ({error.strerror}); choose another place") from error


def require_writable(*paths: Path) -> None:
    """Check that files can be written, without leaving anything behind.

    Raises:
        UserError: if one of the parent folders is a file or cannot be written to, if there is already something at the
            path that cannot be replaced, or if a name is longer than file systems allow.
    """
    tried = set()
    for path in paths:
        for part in path.parts:
            if len(os.fsencode(part)) > _LONGEST:
                raise UserError(f"{path}: a name of more than {_LONGEST} bytes; choose a shorter one")
        if os.path.isdir(path):
            raise UserError(f"{path}: is a folder; choose another name")
        if path.exists():
            _require_replaceable(path)
        folder = path.parent
        while not os.path.lexists(folder):
            folder = folder.parent
        if not folder.is_dir():
            raise UserError(f"{folder}: is a file, but {path} needs a folder there; choose another with --out")
        if folder in tried:
            continue
        tried.add(folder)
        try:
            with tempfile.TemporaryFile(dir=folder):
                pass
        except OSError as error:
            raise UserError(f"{folder}: cannot be written to ({error.strerror}); choose another with --out") from error


def _require_replaceable(path: Path) -> None:
    """Check that a file may replace what is at a path.

    Raises:
        UserError: if that is not a file, or is immutable. A file without write permission can be replaced.
    """
    if not path.is_file():
        raise UserError(f"{path}: exists and is not a file; choose another name")
    try:
        os.close(os.open(path, os.O_WRONLY))
    except OSError as error:
        if error.errno in (errno.EPERM, errno.EROFS):
            raise UserError(f"{path}: exists and cannot be replaced ({error.strerror}); choose another") from error


def remove_partials(path: str | Path) -> None:
    """Remove partial files that killed processes left beside `path`. No process may be writing it meanwhile."""
    path = Path(path)
    for left in path.parent.glob(f".{glob.escape(path.stem)}.*.partial{glob.escape(path.suffix)}"):
        _remove(left)


@contextmanager
def claimed(target: Path) -> Iterator[None]:
    """Hold a lock on `target`; if another process is making it, wait until that process has finished.

    The lock is released when the process that holds it ends, even if it is killed. The lock file, hidden beside
    `target`, remains.

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
    """Raise a UserError unless the disk of `folder` has this many bytes free and a tenth more (at most 64 MB more)."""
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    if free < needed + min(needed // 10, _RESERVE):
        raise UserError(
            f"{folder}: {sized(free)} are free, and {name} needs {sized(needed)} here; free space, {advice}"
        )


def sha256_of(file: Path) -> str:
    """The SHA-256 of a file, in hexadecimal digits."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def sized(count: float) -> str:
    """A number of bytes in readable form, such as 1.5 GB."""
    for unit in ("bytes", "kB", "MB"):
        if count < 999.5:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.1f} GB"


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
