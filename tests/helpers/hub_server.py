"""A stand-in for the API of the Hugging Face Hub on loopback: repositories of models, read and written over HTTP."""

import base64
import hashlib
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler

from tests.helpers.loopback import listening


@dataclass
class Repository:
    files: dict[str, bytes] = field(default_factory=dict)
    large: set[str] = field(default_factory=set)
    gated: bool = False
    private: bool = False
    messages: list[str] = field(default_factory=list)

    @property
    def commit(self) -> str:
        return hashlib.sha1(b"".join(name.encode() + data for name, data in sorted(self.files.items()))).hexdigest()


class Hub:
    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self.repositories: dict[str, Repository] = {}
        self.uploads: dict[str, bytes] = {}  # by digest
        self.requests: list[str] = []
        self.token = "hf_secret"


class _Handler(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        parts = []
        while size := int(self.rfile.readline(), 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)

    def _answer(self, status: int, body: object = b"", **headers: str) -> None:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        for name, value in {"Content-Length": str(len(data)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def _may_write(self) -> bool:
        return self.headers["Authorization"] == f"Bearer {self.hub.token}"

    def _refuse(self, status: int, code: str) -> None:
        self._answer(status, {"error": code}, X_Error_Code=code, X_Error_Message=code)

    def _read(self) -> None:
        self.hub.requests.append(f"{self.command} {self.path}")
        found = re.match(
            r"/(?:api/models/)?([^/]+/[^/]+?)(?:/(revision|tree|resolve)/([^/?]+))?(?:/([^?]*))?(?:\?|$)", self.path
        )
        name, what, revision, file = found.groups()
        repository = self.hub.repositories.get(name)
        if repository is None or (repository.private and not self._may_write()):
            return self._refuse(401, "RepoNotFound")
        if revision not in (None, "main", repository.commit):
            return self._refuse(404, "RevisionNotFound")
        if what == "tree":
            entries = [
                {"type": "file", "path": key, "size": len(data), "oid": _oid(data)}
                for key, data in repository.files.items()
            ]
            return self._answer(200, entries, Content_Type="application/json")
        if what == "resolve":
            if repository.gated:
                return self._refuse(403, "GatedRepo")
            if file not in repository.files:
                return self._refuse(404, "EntryNotFound")
            data = repository.files[file]
            return self._answer(200, data, ETag=f'"{_oid(data)}"', X_Repo_Commit=repository.commit)
        siblings = [{"rfilename": key} for key in repository.files]
        return self._answer(
            200, {"id": name, "sha": repository.commit, "siblings": siblings}, Content_Type="application/json"
        )

    do_GET = do_HEAD = _read

    def do_POST(self) -> None:
        self.hub.requests.append(f"{self.command} {self.path}")
        body = self._body()
        if not self._may_write():
            return self._refuse(403, "no right to write")
        if self.path == "/api/repos/create":
            asked = json.loads(body)
            name = f"{asked.get('organization') or 'me'}/{asked['name']}"
            self.hub.repositories.setdefault(name, Repository(private=asked.get("visibility") == "private"))
            return self._answer(200, {"url": f"{self.hub.url}/{name}", "name": name})
        if "/preupload/" in self.path:
            files = [
                {
                    "path": file["path"],
                    "shouldIgnore": False,
                    "uploadMode": "lfs" if file["path"].endswith(".safetensors") else "regular",
                }
                for file in json.loads(body)["files"]
            ]
            return self._answer(200, {"files": files})
        if self.path.endswith("/info/lfs/objects/batch"):
            objects = [
                {**wanted, "actions": {"upload": {"href": f"{self.hub.url}/upload/{wanted['oid']}"}}}
                for wanted in json.loads(body)["objects"]
            ]
            return self._answer(200, {"transfer": "basic", "objects": objects})
        if self.path == "/api/validate-yaml":
            head = json.loads(body)["content"].split("---\n")[1]
            known = re.search(r"^license: (mit|cc-by-4\.0)$", head, re.MULTILINE)
            errors = [] if known else [{"message": "license must be one of mit"}]
            return self._answer(200 if known else 400, {"errors": errors, "warnings": []})
        name = re.match(r"/api/models/([^/]+/[^/]+)/commit/main", self.path)[1]
        repository = self.hub.repositories[name]
        for line in map(json.loads, body.splitlines()):
            value = line["value"]
            if line["key"] == "header":
                repository.messages.append(value["summary"])
            if line["key"] == "file":
                repository.files[value["path"]] = base64.b64decode(value["content"])
            if line["key"] == "lfsFile":
                repository.files[value["path"]] = self.hub.uploads[value["oid"]]
                repository.large.add(value["path"])
        url = f"{self.hub.url}/{name}/commit/{repository.commit}"
        return self._answer(200, {"commitUrl": url, "commitOid": repository.commit, "success": True})

    def do_PUT(self) -> None:
        data = self._body()
        digest = hashlib.sha256(data).hexdigest()
        assert self.path == f"/upload/{digest}"
        self.hub.uploads[digest] = data
        self._answer(200)

    def log_message(self, *args):
        pass


def _oid(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


@contextmanager
def serve() -> Iterator[Hub]:
    with listening(_Handler) as server:
        hub = Hub(server.server_address[1])
        server.RequestHandlerClass = type("Handler", (_Handler,), {"hub": hub})
        yield hub
