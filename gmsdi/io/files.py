"""Files that appear under their final name only when they are complete."""

from __future__ import annotations

import glob
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from gmsdi.errors import UserError


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
        path.parent.mkdir(parents=True, exist_ok=True)
        _remove(temporary)
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
        _remove(temporary)


def remove_partials(path: str | Path) -> None:
    """Remove what killed processes have left of `path`. No process may be writing it."""
    path = Path(path)
    for left in path.parent.glob(f".{glob.escape(path.stem)}.*.partial{glob.escape(path.suffix)}"):
        _remove(left)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
