"""Published weights over a loopback connection: verified, kept, and read without running what they pickle."""

import functools
import hashlib
import http.server
import pathlib
import threading
from typing import ClassVar

import numpy as np
import pytest
import torch

from gmsdi.errors import UserError
from gmsdi.io import transfer
from gmsdi.io.weights import Weights, read_torch


class Handler(http.server.SimpleHTTPRequestHandler):
    served: ClassVar[list[str]] = []

    def do_GET(self):
        self.served.append(self.path)
        super().do_GET()

    def log_message(self, *args):
        pass


@pytest.fixture
def site(tmp_path, monkeypatch):
    """A server of a folder, an empty cache, and no proxy in between."""
    folder = tmp_path / "site"
    folder.mkdir()
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(torch.hub, "_hub_dir", None)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setattr(Handler, "served", [])
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=folder)) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield folder, f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_a_download_is_verified_and_kept(site, tmp_path, capsys):
    folder, url = site
    torch.save({"a": torch.arange(3.0)}, folder / "net.pth")
    digest = hashlib.sha256((folder / "net.pth").read_bytes()).hexdigest()
    weights = Weights(f"{url}/net.pth", digest, 1)
    cached = tmp_path / "torch" / "hub" / "checkpoints" / "net.pth"
    assert weights.file() == cached
    assert f"Downloading {url}/net.pth (1 MB) to {cached}" in capsys.readouterr().err
    assert torch.equal(read_torch(cached)["a"], torch.arange(3.0))
    assert weights.file() == cached  # from the cache
    assert Handler.served == ["/net.pth"]
    assert weights.file(folder / "net.pth") == folder / "net.pth"

    cached.write_bytes(b"half of it")
    with pytest.raises(UserError, match=r"net\.pth: has the sha256 .*; remove it, and it will be downloaded again"):
        weights.file()
    cached.unlink()
    with pytest.raises(UserError, match=r"net\.pth: has the sha256 .*, not 0+\); try again"):
        Weights(f"{url}/net.pth", "0" * 64, 1).file()
    with pytest.raises(UserError, match=r"other\.pth: cannot be downloaded \(.*: HTTP 404 .*\); try again later"):
        Weights(f"{url}/other.pth", digest, 1).file()
    assert {path.suffix for path in cached.parent.iterdir()} == {".lock"}  # nothing half done is left


def test_without_a_connection_the_error_says_where_the_file_goes(site, tmp_path, monkeypatch):
    monkeypatch.setattr(transfer, "_BACKOFF", 0.001)
    with pytest.raises(UserError, match=rf"refused.*put it at {tmp_path}/torch/hub/checkpoints/net\.pth"):
        Weights("http://127.0.0.1:9/net.pth", "0" * 64, 1).file()


class Harmful:
    def __reduce__(self):
        return pathlib.Path.touch, (pathlib.Path("harm"),)


def test_only_data_is_read(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "file.pt"
    # What LAION's training script saves beside the weights.
    saved = {"epoch": 15, "loss": np.float64(0.5), "rate": np.float32(2), "state_dict": {"a": torch.ones(2)}}
    torch.save(saved, file)
    for mmap in (False, True):
        content = read_torch(file, mmap=mmap)
        assert (content["loss"], content["rate"], content["epoch"]) == (0.5, 2.0, 15)
        assert torch.equal(content["state_dict"]["a"], torch.ones(2))
    # The name that NumPy 1 gave its scalars, as in files of 2023.
    old = tmp_path / "old.pt"
    torch.save(saved, old, _use_new_zipfile_serialization=False)
    old.write_bytes(old.read_bytes().replace(b"numpy._core.multiarray", b"numpy.core.multiarray"))
    assert read_torch(old)["loss"] == 0.5
    torch.save(Harmful(), file)
    with pytest.raises(UserError, match=r"file\.pt: not a file of weights"):
        read_torch(file)
    assert not (tmp_path / "harm").exists()
    file.write_bytes(b"<html>not found</html>")
    with pytest.raises(UserError, match=r"file\.pt: not a file of weights"):
        read_torch(file)
    file.write_bytes(b"")
    with pytest.raises(UserError, match=r"file\.pt: not a file of weights"):
        read_torch(file)
