"""Published files over unreliable connections: resumed, retried, taken from mirrors, and verified before use.

A transfer is a stream of bytes that is read once, from start to end. What arrives is kept in a partial file, so that a
cut connection, or a process that was killed, costs only the bytes that were on their way: the next reader gets the
stored bytes first and the rest from the server. Bytes of two versions of a file are not glued together: a range is
asked for with the version's ETag or date (If-Range, RFC 9110), and the digest is computed over everything.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import logging
import os
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, TypeVar

from gmsdi.errors import UserError
from gmsdi.io.files import atomic, claimed, require_space

if TYPE_CHECKING:
    import requests

Progress = Callable[[str, int, int | None], None]
"""Called with a file's name, the bytes read so far, and the bytes in all or None."""

_BLOCK = 1 << 18  # bytes read at a time; what a cut connection can lose
_TIMEOUT = (30.0, 60.0)  # seconds to connect, and without any byte
_ATTEMPTS = 8  # in a row without a byte gained, before a server is given up
_BACKOFF = 1.0  # seconds; the n-th pause is at most 2^n times as long, and what Retry-After asks for goes first
_BUSY = frozenset({408, 425, 429, 500, 502, 503, 504})  # HTTP statuses worth another attempt

_log = logging.getLogger(__name__)
_T = TypeVar("_T")


class WrongContent(Exception):
    """The bytes are not those that were published; other bytes, or another server, may do."""


class Rejected(UserError):
    """The bytes must not be used, and others like them will not do."""


class _Refused(Exception):
    """This server will not give the file."""


@dataclass(frozen=True)
class Entry:
    """A published file.

    Attributes:
        name: File name.
        url: Where it is published.
        hash: "md5:…" or "sha256:…" with hexadecimal digits; None if nobody has published one.
        mirrors: Other URLs of the same content.
        size: In bytes, if known.
        unpacked: About how many bytes its members take, if known.
        version: Of the data set.
        licence: Of the content.
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


def read_registry(path: str | Path | None = None) -> dict[str, Entry]:
    """Read a table of published files, by name.

    Args:
        path: A CSV file with the columns name, version, url, mirrors (URLs apart by spaces), hash, size, unpacked and
            licence, of which name and url must be filled; None takes the table of the package. A table of one's own
            serves a site with its own copies.

    Raises:
        UserError: if the file cannot be read or lacks a column.
    """
    file = Path(path) if path is not None else Path(__file__).with_name("registry.csv")
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


class ProgressBar:
    """A `Progress` that draws a bar on standard error, or a line a minute where that is a file."""

    def __init__(self) -> None:
        self._name = ""
        self._bar: Any = None

    def __call__(self, name: str, done: int, total: int | None) -> None:
        """Show how far a file is."""
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


class VerifiedStream(io.RawIOBase):
    """Bytes that are read once, in order, and compared with a published digest at the end.

    Subclasses supply the bytes by `_next(n)`: at most n, none at the end.
    """

    def __init__(self, entry: Entry, progress: Progress | None = None) -> None:
        self.entry = entry
        self._progress = progress
        self._position = 0
        self._total = entry.size
        self._digest: Any = None
        if entry.hash:
            self._digest = hashlib.new(entry.hash.partition(":")[0], usedforsecurity=False)

    def _next(self, n: int) -> bytes:
        raise NotImplementedError

    @property
    def total(self) -> int | None:
        """Bytes in all, if known."""
        return self._total

    def readable(self) -> bool:
        """Yes: `read` and `readinto` work, seeking does not."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Read the next bytes into a buffer and return their number, 0 at the end."""
        view = memoryview(buffer).cast("B")
        data = self._next(min(len(view), _BLOCK))
        view[: len(data)] = data
        if self._digest is not None:
            self._digest.update(data)
        self._position += len(data)
        if self._progress and data:
            self._progress(self.entry.name, self._position, self._total)
        return len(data)

    def finish(self) -> None:
        """Read what is left and compare.

        Raises:
            WrongContent: if length or digest differ.
        """
        buffer = bytearray(_BLOCK)
        while self.readinto(buffer):
            pass
        if self.entry.size not in (None, self._position):
            raise WrongContent(f"has {self._position} bytes, not {self.entry.size}")
        algorithm, _, expected = (self.entry.hash or "").partition(":")
        if self._digest is not None and self._digest.hexdigest() != expected:
            raise WrongContent(f"has the {algorithm} {self._digest.hexdigest()}, not {expected}")


class StoredFile(VerifiedStream):
    """A published file of which the user has a copy.

    Raises:
        UserError: if there is no such file.
    """

    def __init__(self, entry: Entry, path: Path, progress: Progress | None = None) -> None:
        super().__init__(entry, progress)
        self._file: IO[bytes] | None = None
        try:
            self._file = path.open("rb", buffering=0)
        except OSError as error:
            raise UserError(f"{path}: cannot be read ({error.strerror}); name a copy of {entry.name}") from error
        self._total = os.fstat(self._file.fileno()).st_size

    def _next(self, n: int) -> bytes:
        assert self._file is not None
        return self._file.read(n)

    def close(self) -> None:
        """Close the file, which stays as it is."""
        if self._file is not None:
            self._file.close()
        super().close()


@dataclass(frozen=True)
class _Version:
    """What identifies the version of a file that a server gave."""

    url: str
    etag: str | None
    modified: str | None
    total: int | None

    @property
    def condition(self) -> str | None:
        """Value of If-Range, for which weak ETags do not serve."""
        return self.modified if self.etag is None or self.etag.startswith("W/") else self.etag


class Transfer(VerifiedStream):
    """A published file as it comes from its servers, by way of a partial file.

    Args:
        entry: The file.
        urls: Where to ask, in this order; entries are removed as servers fail.
        partial: What has arrived is kept here, its version beside it; None keeps nothing, which survives cut
            connections but not the end of the process.
        folder: Where the space is needed.
        failures: Takes a line on every server that has failed.
        reserve: From the size of the file, if known, the bytes that whatever reads the stream will write.
        progress: See `Progress`.

    Raises:
        UserError: if the disk is too small; while it is read, if no server gives the file or the disk is full.
        WrongContent: while it is read, if the file has changed on the server since its first bytes came.
    """

    def __init__(
        self,
        entry: Entry,
        urls: list[str],
        partial: Path | None,
        *,
        folder: Path,
        failures: list[str],
        reserve: Callable[[int | None], int] | None = None,
        progress: Progress | None = None,
    ) -> None:
        super().__init__(entry, progress)
        self._urls = urls
        self._partial = partial
        self._folder = folder
        self._failures = failures
        self._reserve = reserve or (lambda total: 0)
        self._version: _Version | None = None
        self._response: requests.Response | None = None
        self._session: requests.Session | None = None
        self._retry = _retry()
        self._file: IO[bytes] | None = None
        self._stored = 0  # bytes of the partial file that have not been read
        self.pieces = 0  # that the bytes came in
        if partial is not None:
            self._open(partial)
        if self._total is not None:
            self._require_space(self._total)

    @property
    def url(self) -> str:
        """Of the server that is asked now."""
        return self._urls[0]

    def discard(self) -> None:
        """Forget the bytes that were stored."""
        if self._partial is not None:
            discard(self._partial)

    def keep(self, path: Path) -> None:
        """Give the partial file its final name; for after `finish`."""
        if self._partial is not None:
            os.replace(self._partial, path)
            discard(self._partial)

    def close(self) -> None:
        """Close connection and partial file, which stays for the next transfer."""
        self._hang_up()
        for resource in (self._session, self._file):
            if resource is not None:
                resource.close()
        super().close()

    def _open(self, partial: Path) -> None:
        """Open the partial file and learn of which version it is."""
        try:
            partial.parent.mkdir(parents=True, exist_ok=True)
            self._file = os.fdopen(os.open(partial, os.O_RDWR | os.O_CREAT, 0o644), "r+b", buffering=0)
        except OSError as error:
            raise UserError(f"{partial}: cannot be written ({error.strerror}); choose another folder") from error
        try:
            self._version = _Version(**json.loads(_version_file(partial).read_text()))
            self._stored = os.fstat(self._file.fileno()).st_size
        except (OSError, ValueError, TypeError):  # nothing stored, or of unknown origin
            self._file.truncate(0)
        if self._version is not None:
            self._total = self._total if self._version.total is None else self._version.total
        if self._stored:
            self.pieces += 2  # these may be several, and none need be from the server that is asked now
        if self._total is not None and self._stored > self._total:
            self._file.truncate(0)
            self._stored, self._version = 0, None

    def _require_space(self, total: int) -> None:
        left = max(0, total - self._stored - self._position) if self._partial is not None else 0
        require_space(self._folder, left + self._reserve(total), self.entry.name)

    def _next(self, n: int) -> bytes:
        if self._stored and self._file is not None:
            data = self._file.read(min(n, self._stored))
            self._stored -= len(data)
            if data:
                return data
        data = self._receive(n)
        if data and self._file is not None:
            self._store(data)
        return data

    def _store(self, data: bytes) -> None:
        assert self._file is not None
        view = memoryview(data)
        try:
            while view:
                view = view[self._file.write(view) :]
        except OSError as error:
            raise UserError(
                f"{self._partial}: cannot be written ({error.strerror}); free space, and the download goes on from here"
            ) from error

    def _receive(self, n: int) -> bytes:
        """Bytes from a server, by as many connections as it takes."""
        from urllib3.exceptions import HTTPError

        while self._total is None or self._position < self._total:
            try:
                if self._response is None:
                    self._connect()
                assert self._response is not None
                data: bytes = self._response.raw.read(n, decode_content=False)
            except _Refused as error:
                self._give_up(str(error))
                continue
            except _Busy as error:
                self._pause(f"HTTP {error.response.status_code}", error.response)
                continue
            except (OSError, HTTPError) as error:
                self._pause(_reason(error))
                continue
            if data:
                self._retry = _retry()
                return data if self._total is None else data[: self._total - self._position]
            if self._total is None:  # the server did not say, and has closed the connection in good order
                self._total = self._position
                break
            self._pause("connection closed early")
        return b""

    def _connect(self) -> None:
        """Ask for the bytes from the present position on."""
        import requests

        from gmsdi import __version__

        if self._session is None:
            self._session = requests.Session()
            self._session.headers["User-Agent"] = f"gmsdi/{__version__}"
        # Transparent compression would change the bytes that ranges and digests count.
        headers = {"Accept-Encoding": "identity"}
        if self._position:
            headers["Range"] = f"bytes={self._position}-"
            if self._version and self._version.url == self.url and self._version.condition:
                headers["If-Range"] = self._version.condition
        try:
            response = self._session.get(self.url, headers=headers, stream=True, timeout=_TIMEOUT)
        except (
            requests.exceptions.InvalidURL,
            requests.exceptions.InvalidSchema,
            requests.exceptions.MissingSchema,
        ) as error:
            raise _Refused(f"not a URL of a file ({error})") from error
        try:
            self._accept(response)
        except BaseException:
            response.close()
            raise
        self._response = response

    def _accept(self, response: requests.Response) -> None:
        """Take over a response if it continues the stream."""
        status, headers = response.status_code, response.headers
        if status in _BUSY:
            raise _Busy(response)
        if status not in (200, 206, 416):
            raise _Refused(f"HTTP {status} {response.reason}")
        start, total = 0, int(headers["Content-Length"]) if headers.get("Content-Length", "").isdigit() else None
        if status != 200:
            match = re.fullmatch(r"bytes (?:(\d+)-\d+|\*)/(\d+|\*)", headers.get("Content-Range", "").strip())
            start = int(match[1] or -1) if match else -1
            total = int(match[2]) if match and match[2] != "*" else None
        if None not in (total, self.entry.size) and total != self.entry.size:
            raise _Refused(f"has {total} bytes, not {self.entry.size}")
        self.pieces += 1
        found = _Version(self.url, headers.get("ETag"), headers.get("Last-Modified"), total)
        if not self._position:
            if status != 200:
                raise _Refused(f"HTTP {status} where the whole file was asked for")
            self._begin(found)
            return
        if status == 416 or not self._continues(found):
            raise WrongContent("has changed since its first bytes were downloaded")
        if status == 206 and start != self._position:
            raise _Refused("gives other bytes than were asked for")
        left = self._position if status == 200 else 0  # a server without ranges
        while left:
            skipped = response.raw.read(min(left, _BLOCK), decode_content=False)
            if not skipped:
                raise ConnectionError("connection closed early")
            left -= len(skipped)
        if self._total is None:
            self._total = total

    def _begin(self, found: _Version) -> None:
        self._version = found
        self._total = found.total if self.entry.size is None else self.entry.size
        if self.entry.size is None and self._total is not None:
            self._require_space(self._total)
        if self._partial is not None:
            with atomic(_version_file(self._partial)) as path:
                path.write_text(json.dumps(asdict(found)))

    def _continues(self, found: _Version) -> bool:
        """Whether bytes of this version may follow those that were read."""
        known = self._version
        if known is None:
            return False
        if None not in (known.total, found.total) and known.total != found.total:
            return False
        if known.url == found.url and (known.etag or known.modified):
            return (known.etag, known.modified) == (found.etag, found.modified)
        return self.entry.hash is not None  # which will tell

    def _pause(self, reason: str, response: requests.Response | None = None) -> None:
        """Wait before the next attempt, or turn to the next server."""
        from urllib3.exceptions import InvalidHeader, MaxRetryError

        self._hang_up()
        raw = response.raw if response is not None else None
        try:
            self._retry = self._retry.increment("GET", self.url, response=raw, error=None if raw else OSError(reason))
        except MaxRetryError:
            self._give_up(reason)
            return
        try:
            asked = self._retry.get_retry_after(raw) if raw is not None else None
        except InvalidHeader:  # a Retry-After that says nothing
            asked = raw = None
        when = f" in {asked:.0f} s, as the server asks" if asked else ""
        _log.warning("%s: %s at byte %d; trying again%s", self.url, reason, self._position, when)
        self._retry.sleep(raw)

    def _give_up(self, reason: str) -> None:
        """Turn to the next server."""
        self._hang_up()
        self._failures.append(f"{self.url}: {reason}")
        self._urls.pop(0)
        self._retry = _retry()
        if not self._urls:
            raise _unavailable(self.entry, self._failures)

    def _hang_up(self) -> None:
        if self._response is not None:
            self._response.close()
        self._response = None


class _Busy(Exception):
    """The server asks for another attempt."""

    def __init__(self, response: requests.Response) -> None:
        self.response = response


def transfer(
    entry: Entry,
    partial: Path | None,
    consume: Callable[[Transfer], _T],
    *,
    folder: Path,
    reserve: Callable[[int | None], int] | None = None,
    progress: Progress | None = None,
) -> _T:
    """Hand the bytes of a published file to `consume`, again from the start while they turn out wrong.

    Bytes that came in pieces (a partial file, several connections) get a second chance from the same server, since
    a piece may have been damaged here; after that the next mirror is asked.

    Args:
        entry: The file.
        partial: See `Transfer`; it is left for the caller to rename or discard.
        consume: Reads the stream, calls its `finish` before anything it made gets a final name, and returns the result.
            It leaves nothing behind when it raises WrongContent.
        folder: Where the space is needed.
        reserve: See `Transfer`.
        progress: See `Progress`.

    Raises:
        UserError: as of `Transfer`, or if no server has the published content.
    """
    urls = [entry.url, *entry.mirrors]
    failures: list[str] = []
    repeated = False
    while True:
        with Transfer(
            entry, urls, partial, folder=folder, failures=failures, reserve=reserve, progress=progress
        ) as stream:
            try:
                return consume(stream)
            except Rejected:
                stream.discard()
                raise
            except WrongContent as error:
                stream.discard()
                _log.warning("%s: %s; starting again", stream.url, error)
                if stream.pieces > 1 and not repeated:
                    repeated = True
                    continue
                repeated = False
                failures.append(f"{urls.pop(0)}: {error}")
        if not urls:
            raise _unavailable(entry, failures)


def fetch(
    source: Entry | str,
    target: str | Path,
    *,
    sha256: str | None = None,
    md5: str | None = None,
    mirrors: Sequence[str] = (),
    progress: Progress | None = None,
) -> Path:
    """Download a file to `target`, unless it is there; a download that was interrupted goes on where it stopped.

    Args:
        source: An entry of a registry, or a URL.
        target: Its path here, which appears when the content is complete and verified.
        sha256: Digest of the content behind a URL, hexadecimal.
        md5: The same, where only this one is published.
        mirrors: Other URLs of the same content, asked in this order when those before have failed.
        progress: See `Progress`.

    Returns:
        `target`.

    Raises:
        UserError: if `target` has another content, no server has the file, or it cannot be stored.
    """
    target = Path(target)
    if isinstance(source, str):
        digest = f"sha256:{sha256.lower()}" if sha256 else f"md5:{md5.lower()}" if md5 else None
        source = Entry(target.name, source, digest, tuple(mirrors))

    def store(stream: Transfer) -> None:
        stream.finish()
        stream.keep(target)

    with claimed(target):
        if not target.exists():
            transfer(source, partial_path(target), store, folder=target.parent, progress=progress)
            return target
        with StoredFile(source, target) as stored:
            try:
                stored.finish()
            except WrongContent as error:
                raise UserError(f"{target}: {error}; remove it, and it will be downloaded again") from error
    return target


def partial_path(target: Path) -> Path:
    """Where the bytes of `target` are kept until they are complete."""
    return target.with_name(f".{target.name}.partial")


def discard(partial: Path) -> None:
    """Remove a partial file and the note of its version."""
    partial.unlink(missing_ok=True)
    _version_file(partial).unlink(missing_ok=True)


def _version_file(partial: Path) -> Path:
    return partial.with_name(partial.name + ".json")


def _retry() -> Any:
    """Fresh patience: urllib3 counts the attempts and reads Retry-After."""
    from urllib3.util import Retry

    return Retry(total=_ATTEMPTS, backoff_factor=_BACKOFF, backoff_max=120 * _BACKOFF, backoff_jitter=_BACKOFF)


def _reason(error: BaseException) -> str:
    """The innermost of the exceptions that HTTP libraries wrap around each other."""
    while (inner := error.__cause__ or error.__context__) is not None:
        error = inner
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


def _unavailable(entry: Entry, failures: list[str]) -> UserError:
    reasons = "; ".join(failures)
    return UserError(
        f"{entry.name}: cannot be downloaded ({reasons}); try again later, or fetch it elsewhere and name it as source"
    )
