"""An archive of a data set: the user's copy, one that is kept, or the published one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Literal, get_args

from gmsdi.errors import UserError
from gmsdi.io.files import require_space
from gmsdi.io.transfer import Entry, Progress, Stream, WrongContent, download, transfer

Archive = Literal["buffer", "keep", "stream"]


def acquire(
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


def check_archive(archive: str) -> None:
    """Refuse an unknown value of `archive`."""
    if archive not in get_args(Archive):
        raise UserError(f"archive {archive!r}: unknown; choose one of {', '.join(get_args(Archive))}")
