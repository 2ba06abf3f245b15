"""A file server on loopback that fails in the ways real ones do."""

import http.server
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from tests.helpers.loopback import listening


@dataclass
class Cut:
    """Close the connection after so many bytes of the body."""

    after: int


@dataclass
class Stall:
    """Send nothing more after so many bytes of the body, and keep the connection."""

    after: int


@dataclass
class Status:
    """Answer with this status instead of the file."""

    code: int
    headers: dict[str, str] = field(default_factory=dict)


@dataclass
class Served:
    """A file, and how the next requests for it go wrong; after these, all is well."""

    data: bytes
    ranges: bool = True
    length: bool = True
    headers: dict[str, str] = field(default_factory=dict)
    faults: list[Cut | Stall | Status | None] = field(default_factory=list)
    pace: float = 0.0  # seconds for every 64 KiB


@dataclass
class Request:
    path: str
    range: str | None
    sent: int = 0


class FileServer:
    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self.files: dict[str, Served] = {}
        self.requests: list[Request] = []
        self.stopped = threading.Event()

    def add(self, name: str, data: bytes, **options) -> str:
        self.files["/" + name] = Served(data, **options)
        return f"{self.url}/{name}"


class _Handler(http.server.BaseHTTPRequestHandler):
    site: FileServer

    def do_GET(self):
        request = Request(self.path, self.headers["Range"])
        self.site.requests.append(request)
        served = self.site.files.get(self.path)
        fault = served.faults.pop(0) if served and served.faults else None
        if served is None or isinstance(fault, Status):
            self._answer(fault or Status(404))
            return
        data, start = served.data, 0
        if served.ranges and request.range:
            start = int(re.fullmatch(r"bytes=(\d+)-", request.range)[1])
        headers = dict(served.headers)
        if start >= len(data):
            self._answer(Status(416, {"Content-Range": f"bytes */{len(data)}"}))
            return
        if start:
            headers["Content-Range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
        if served.length:
            headers["Content-Length"] = str(len(data) - start)
        self.send_response(206 if start else 200)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        end = min(len(data), start + fault.after) if isinstance(fault, Cut | Stall) else len(data)
        try:
            for position in range(start, end, 1 << 16):
                block = data[position : min(position + (1 << 16), end)]
                request.sent += len(block)  # before the client has it and can look
                self.wfile.write(block)
                if served.pace and self.site.stopped.wait(served.pace):
                    return
            if isinstance(fault, Stall):
                self.site.stopped.wait()
        except OSError:  # the client has gone
            pass

    def _answer(self, status: Status) -> None:
        self.send_response(status.code)
        for name, value in status.headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *args):
        pass


@contextmanager
def serve() -> Iterator[FileServer]:
    with listening(_Handler) as server:
        site = FileServer(server.server_address[1])
        server.RequestHandlerClass = type("Handler", (_Handler,), {"site": site})
        try:
            yield site
        finally:
            site.stopped.set()
