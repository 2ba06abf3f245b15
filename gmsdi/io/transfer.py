"""Published files over unreliable connections: resumed, retried, taken from mirrors, and verified before use.

Bytes are kept in a partial file as they arrive, so that a broken connection or a killed process loses only those in
transit. The published digest is computed over all bytes, whenever and from whichever server they came, and shows
whether they belong together; a file without a known digest is not resumed.
"""

from __future__ import annotations

import hashlib
import io
import logging
import os
import re
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, TypeVar

from gmsdi.errors import UserError
from gmsdi.io.files import claimed, require_space

if TYPE_CHECKING:
    import requests

Progress = Callable[[str, int, int | None], None]
"""Called with a file's name, the bytes read so far, and the total or None."""

_BLOCK = 1 << 18  # bytes read at a time; the most that a broken connection can lose
_TIMEOUT = (30.0, 60.0)  # seconds to connect, and to wait for data
_ATTEMPTS = 8  # attempts in a row without progress before a server is given up
_BACKOFF = 1.0  # seconds; the n-th pause is 2^n times as long, unless the server sends Retry-After
_BUSY = frozenset({408, 425, 429, 500, 502, 503, 504})  # HTTP statuses worth another attempt

_log = logging.getLogger(__name__)
_T = TypeVar("_T")


class WrongContent(Exception):
    """The bytes are not those that were published; another attempt or another server may help."""


class _Refused(Exception):
    """This server does not provide the file."""


@dataclass(frozen=True)
class Entry:
    """A published file.

    Attributes:
        name: File name.
        url: Where it is published.
        hash: "md5:…" or "sha256:…" with hexadecimal digits; None if nobody has published one.
        mirrors: Other URLs of the same content.
        size: Size in bytes, if known.
        unpacked: Approximate size of its unpacked members in bytes, if known.
        version: Version of the data set.
        licence: Licence of the content.
    """

    name: str
    url: str
    hash: str | None = None
    mirrors: Sequence[str] = ()
    size: int | None = None
    unpacked: int | None = None
    version: str = ""
    licence: str = ""

    def __post_init__(self) -> None:
        lengths = {"md5": 32, "sha256": 64}
        algorithm, _, digits = (self.hash or "").partition(":")
        if self.hash and not re.fullmatch(rf"[0-9a-f]{{{lengths.get(algorithm, 0)}}}", digits or "?"):
            raise UserError(f"{self.name}: malformed hash {self.hash!r}; expected md5: or sha256: and its digits")


class ProgressBar:
    """A `Progress` that draws a bar on standard error, or writes a line per minute if that is a file."""

    def __init__(self) -> None:
        self._name = ""
        self._bar: Any = None

    def __call__(self, name: str, done: int, total: int | None) -> None:
        """Show the progress of a file."""
        from tqdm import tqdm

        if name != self._name:
            self.close()
            interval = 0.2 if sys.stderr.isatty() else 60.0
            self._bar = tqdm(desc=name, unit="B", unit_scale=True, mininterval=interval, maxinterval=interval)
            self._name = name
        self._bar.total = total
        self._bar.update(done - self._bar.n)

    def close(self) -> None:
        """End the last bar."""
        if self._bar is not None:
            self._bar.close()
        self._bar, self._name = None, ""


class Stream(io.RawIOBase):
    """The bytes of a published file, read once and in order, and compared with its digest by `finish`.

    Args:
        entry: The file.
        path: A complete or partial copy, which is read first; None if there is none.
        urls: Servers to ask, in this order, for what the copy lacks, which is then appended to it; servers that fail
            are removed from the list. None: only the copy is read, and not changed.
        failures: A list to which a line is added for every server that fails.
        progress: See `Progress`.

    Attributes:
        total: Total number of bytes, if known.
        pieces: Number of pieces that the bytes came in, from the copy or a server.

    Raises:
        UserError: if the copy cannot be read or appended to; while reading, if no server provides the file.
        WrongContent: while reading, if the new bytes do not continue the earlier ones.
    """

    def __init__(
        self,
        entry: Entry,
        path: Path | None = None,
        urls: list[str] | None = None,
        *,
        failures: list[str] | None = None,
        progress: Progress | None = None,
    ) -> None:
        self.entry, self._path, self._urls, self._progress = entry, path, urls, progress
        self._failures = [] if failures is None else failures
        self._file: IO[bytes] | None = None
        self._response: requests.Response | None = None
        self._session: requests.Session | None = None
        self._digest = hashlib.new((entry.hash or "md5").partition(":")[0], usedforsecurity=False)
        self._position = self._stored = self._cuts = 0
        if path is not None:
            try:
                if urls is not None:
                    path.parent.mkdir(parents=True, exist_ok=True)
                self._file = path.open("rb" if urls is None else "a+b", buffering=0)
            except OSError as error:
                raise UserError(f"{path}: cannot be opened ({error.strerror}); name or choose another") from error
            if urls is not None and not entry.hash:
                self._file.truncate(0)
            self._stored = os.fstat(self._file.fileno()).st_size
            self._file.seek(0)
        self.pieces = int(self._stored > 0)
        self.total = self._stored if urls is None else entry.size

    def readable(self) -> bool:
        """True: `read` and `readinto` work, seeking does not."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Read the next bytes into a buffer and return their number, 0 at the end."""
        view = memoryview(buffer).cast("B")[:_BLOCK]
        if self._file is not None and self._position < self._stored:
            data = self._file.read(len(view))
        else:
            data = self._receive(len(view)) if self._urls is not None else b""
            if self._file is not None and data:
                self._store(data)
        view[: len(data)] = data
        self._digest.update(data)
        self._position += len(data)
        if self._progress and data:
            self._progress(self.entry.name, self._position, self.total)
        return len(data)

    def finish(self) -> None:
        """Read the remaining bytes and verify the content.

        Raises:
            WrongContent: if the length or the digest differs.
        """
        buffer = bytearray(_BLOCK)
        while self.readinto(buffer):
            pass
        if self.entry.size not in (None, self._position):
            raise WrongContent(f"has {self._position} bytes, not {self.entry.size}")
        algorithm, _, expected = (self.entry.hash or "").partition(":")
        if expected and self._digest.hexdigest() != expected:
            raise WrongContent(f"has the {algorithm} {self._digest.hexdigest()}, not {expected}")

    def close(self) -> None:
        """Close the connection and the copy, without removing the copy."""
        for resource in (self._response, self._session, self._file):
            if resource is not None:
                resource.close()
        super().close()

    def _store(self, data: bytes) -> None:
        assert self._file is not None
        view = memoryview(data)
        try:
            while view:
                view = view[self._file.write(view) :]
        except OSError as error:
            raise UserError(
                f"{self._path}: cannot be written ({error.strerror}); free space, and the download will be resumed"
            ) from error

    def _receive(self, n: int) -> bytes:
        """Read from a server, with as many connections as necessary."""
        from urllib3.exceptions import HTTPError

        assert self._urls is not None
        while self.total is None or self._position < self.total:
            if not self._urls:
                raise _unavailable(self.entry, self._failures, self._path)
            try:
                if self._response is None:
                    self._connect()
            except (OSError, HTTPError, _Refused) as error:  # the library has already retried where that could help
                self._give_up(error)
                continue
            if self._position == self.total:
                break
            assert self._response is not None
            try:
                data: bytes = self._response.raw.read(n, decode_content=False)
                if not data and self.total is not None:
                    raise ConnectionError("connection closed early")
            except (OSError, HTTPError) as error:
                self._cut(error)
                continue
            if not data:  # the server did not send a length, and has closed the connection properly
                break
            self._cuts = 0
            return data if self.total is None else data[: self.total - self._position]
        return b""

    def _connect(self) -> None:
        """Request the bytes from the current position on."""
        assert self._urls is not None
        self._session = self._session or _session()
        # Transparent compression would change the bytes that ranges and digests refer to.
        headers = {"Accept-Encoding": "identity"}
        if self._position:
            headers["Range"] = f"bytes={self._position}-"
        response = self._response = self._session.get(self._urls[0], headers=headers, stream=True, timeout=_TIMEOUT)
        given = re.fullmatch(r"bytes (?:(\d+)-\d+|\*)/(\d+)", response.headers.get("Content-Range", "").strip())
        length = response.headers.get("Content-Length", "")
        total = int(given[2]) if given else int(length) if response.status_code == 200 and length.isdigit() else None
        if response.status_code not in (200, 206, 416):
            raise _Refused(f"HTTP {response.status_code} {response.reason}")
        if self.entry.size and total not in (None, self.entry.size):
            raise _Refused(f"has {total} bytes, not {self.entry.size}")
        self.pieces += 1
        if self._position and None not in (self.total, total) and total != self.total:
            raise WrongContent("has changed since its first bytes were downloaded")
        self.total = self.total if total is None else total
        if response.status_code == 416:
            if self._position != self.total:
                raise WrongContent(f"has no byte {self._position}, which should come next")
        elif response.status_code == 206 and not (given and int(given[1] or -1) == self._position):
            raise _Refused("sends other bytes than were requested")
        elif response.status_code == 200:  # perhaps from a server without range requests
            left = self._position
            while left and (skipped := response.raw.read(min(left, _BLOCK), decode_content=False)):
                left -= len(skipped)

    def _cut(self, error: Exception) -> None:
        """Wait before the next attempt, or turn to the next server."""
        if not self.entry.hash:
            raise WrongContent(_reason(error)) from error
        self._cuts += 1
        if self._cuts > _ATTEMPTS:
            self._give_up(error)
            return
        assert self._urls is not None
        _log.warning("%s: %s at byte %d; trying again", self._urls[0], _reason(error), self._position)
        self._hang_up()
        time.sleep(min(120, _BACKOFF * 2 ** (self._cuts - 1)) if self._cuts > 1 else 0)

    def _give_up(self, error: Exception) -> None:
        """Turn to the next server."""
        assert self._urls is not None
        self._hang_up()
        self._failures.append(f"{self._urls.pop(0)}: {_reason(error)}")
        self._cuts = 0

    def _hang_up(self) -> None:
        if self._response is not None:
            self._response.close()
        self._response = None


def transfer(
    entry: Entry,
    partial: Path | None,
    consume: Callable[[Stream], _T],
    *,
    folder: Path,
    reserve: int = 0,
    progress: Progress | None = None,
) -> _T:
    """Pass the bytes of a published file to `consume`, and start again if they turn out to be wrong.

    If the bytes came in pieces (a partial file, several connections), the same server gets a second chance, since the
    pieces may be of different versions; after that the next mirror is used.

    Args:
        entry: The file.
        partial: Where the bytes are kept as they arrive; the caller renames it. None keeps nothing, so that a download
            survives broken connections but not the end of the process.
        consume: Reads the stream, calls its `finish` before any of its output gets a final name, and returns the
            result. If it raises WrongContent, it leaves nothing behind.
        folder: The folder whose disk needs the space.
        reserve: Bytes that `consume` will write there.
        progress: See `Progress`.

    Raises:
        UserError: if the disk is too small, or no server has the published content.
    """
    there = partial.stat().st_size if partial is not None and partial.exists() else 0
    require_space(folder, (max(0, (entry.size or 0) - there) if partial is not None else 0) + reserve, entry.name)
    urls, failures = [entry.url, *entry.mirrors], list[str]()
    repeated = False
    while True:
        with Stream(entry, partial, urls, failures=failures, progress=progress) as stream:
            try:
                return consume(stream)
            except WrongContent as error:
                if partial is not None:
                    partial.unlink()
                repeated = (stream.pieces > 1 or not entry.hash) and not repeated
                if repeated:
                    _log.warning("%s: %s; starting again", entry.name, error)
                elif urls:
                    failures.append(f"{urls.pop(0)}: {error}")
        if not urls:
            raise _unavailable(entry, failures, partial)


def fetch(entry: Entry, target: str | Path, *, progress: Progress | None = None) -> Path:
    """Download a file to `target` unless it exists; an interrupted download is resumed.

    Args:
        entry: The file.
        target: Its local path; the file appears there when it is complete and verified.
        progress: See `Progress`.

    Returns:
        `target`.

    Raises:
        UserError: if `target` has different content, no server has the file, or it cannot be stored.
    """
    target = Path(target)
    with claimed(target):
        if target.exists():
            check(entry, target, "remove it, and it will be downloaded again", progress=progress)
        else:
            download(entry, target, progress=progress)
    return target


def download(entry: Entry, target: Path, *, reserve: int = 0, progress: Progress | None = None) -> None:
    """Download a file that does not exist yet; the caller holds the lock on `target` (see `claimed`)."""
    partial = target.with_name(f".{entry.name}.partial")
    try:
        transfer(entry, partial, Stream.finish, folder=target.parent, reserve=reserve, progress=progress)
        os.replace(partial, target)
    finally:
        if partial.exists() and not partial.stat().st_size:
            partial.unlink()


def check(entry: Entry, path: Path, remedy: str, *, progress: Progress | None = None) -> None:
    """Compare a copy of a file with the published content.

    Raises:
        UserError: if it cannot be read or differs; the message ends with `remedy`.
    """
    with Stream(entry, path, progress=progress) as stream:
        try:
            stream.finish()
        except WrongContent as error:
            raise UserError(f"{path}: {error}; {remedy}") from error


def _session() -> requests.Session:
    """A session that retries failed connections, and requests while the server says that it is busy."""
    import requests
    from requests.adapters import HTTPAdapter
    from urllib3.util import Retry

    from gmsdi import __version__

    session = requests.Session()
    session.headers["User-Agent"] = f"gmsdi/{__version__}"
    retry = Retry(_ATTEMPTS, status_forcelist=_BUSY, backoff_factor=_BACKOFF)
    for scheme in ("http://", "https://"):
        session.mount(scheme, HTTPAdapter(max_retries=retry))
    return session


def _reason(error: BaseException) -> str:
    """The message of the innermost exception, since HTTP libraries wrap one exception in another."""
    while (inner := error.__cause__ or error.__context__) is not None:
        error = inner
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


def _unavailable(entry: Entry, failures: list[str], partial: Path | None) -> UserError:
    reasons = "; ".join(failures)
    place = "name it as source" if partial is None else f"put it at {partial.with_name(entry.name)}"
    return UserError(
        f"{entry.name}: cannot be downloaded ({reasons}); try again later, or fetch it elsewhere and {place}"
    )
