"""Files appear when they are complete, and what killed writers have left is found again."""

import os
import subprocess
import sys
import threading
import time

import pytest

from gmsdi.errors import UserError
from gmsdi.io.files import atomic, claimed, remove_partials, require_writable, together


def test_what_killed_processes_left_is_removed_and_nothing_else(tmp_path):
    for name in ("a.npy", "a[1].npy", "model"):
        with atomic(tmp_path / name) as path:
            path.write_text("complete")
    left = tmp_path / ".a[1].17.partial.npy"
    left.write_text("half")
    (tmp_path / ".model.18.partial").mkdir()
    (tmp_path / ".model.18.partial" / "model.safetensors").write_text("half")
    kept = [tmp_path / name for name in (".a.17.partial.npy", ".a[1].17.partial.csv", ".a1.17.partial.npy")]
    for path in kept:
        path.write_text("another's")
    remove_partials(tmp_path / "a[1].npy")
    remove_partials(tmp_path / "model")
    remove_partials(tmp_path / "nowhere" / "a.npy")
    assert sorted(tmp_path.iterdir()) == sorted([*kept, *(tmp_path / name for name in ("a.npy", "a[1].npy", "model"))])


def test_files_get_their_names_together_or_not_at_all(tmp_path, monkeypatch):
    (tmp_path / "old.wav").write_text("before")
    (tmp_path / "folder.wav").mkdir()
    (tmp_path / "folder.wav" / "inside").write_text("")
    names = ("old.wav", "deep/new.wav", "folder.wav", "last.wav")

    def attempt(*names, error=None):
        with together([tmp_path / name for name in names]) as temporaries:
            for temporary in temporaries:
                temporary.write_text("after")
            if error is not None:
                raise error

    def there():
        return {str(file.relative_to(tmp_path)) for file in tmp_path.rglob("*")}

    before = there()
    for linking in (True, False):  # with a file system's links, and without
        if not linking:
            monkeypatch.setattr("os.link", lambda *_: (_ for _ in ()).throw(PermissionError(1, "no links")))
        with pytest.raises(UserError, match=r"folder\.wav"):
            attempt(*names)
        assert there() == before
        assert (tmp_path / "old.wav").read_text() == "before"
    with pytest.raises(RuntimeError):
        attempt("deep/a", "b", error=RuntimeError())
    assert there() == before
    attempt("old.wav", "deep/new.wav", "last.wav")
    assert there() == before | {"deep", "deep/new.wav", "last.wav"}
    assert (tmp_path / "old.wav").read_text() == "after"


def test_what_cannot_be_replaced_is_found_before_the_work(tmp_path):
    """Each of the files, not the first of a folder alone."""
    fine, folder, pipe, immutable, readable = (tmp_path / name for name in ("a", "b", "c", "d", "e"))
    folder.mkdir()
    os.mkfifo(pipe)
    immutable.write_text("")
    readable.write_text("")
    readable.chmod(0o444)
    require_writable(fine, readable, tmp_path / "deep" / "f")
    for file, why in ((folder, "b: is a folder"), (pipe, "c: exists and is not a file")):
        with pytest.raises(UserError, match=why):
            require_writable(fine, file)
    if subprocess.run(["chattr", "+i", str(immutable)], capture_output=True, check=False).returncode:
        pytest.skip("no file can be made immutable here")
    try:
        with pytest.raises(UserError, match="cannot be replaced"):
            require_writable(fine, immutable)
    finally:
        subprocess.run(["chattr", "-i", str(immutable)], check=True)


def test_a_claim_waits_and_ends_with_its_process(tmp_path, caplog):
    target = tmp_path / "new" / "a.npy"
    program = (
        "import sys, time; from pathlib import Path; from gmsdi.io.files import claimed\n"
        "with claimed(Path(sys.argv[1])): print('held', flush=True); time.sleep(600)"
    )
    with subprocess.Popen([sys.executable, "-c", program, str(target)], stdout=subprocess.PIPE) as holder:
        assert holder.stdout.readline() == b"held\n"
        entered = threading.Event()

        def enter():
            with claimed(target):
                entered.set()

        waiting = threading.Thread(target=enter)
        waiting.start()
        time.sleep(0.3)
        assert not entered.is_set()
        holder.kill()
        waiting.join(10)
    assert entered.is_set()
    assert "a.npy: waiting for another process" in caplog.text
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(UserError, match=r"cannot be written \(.*\); choose another folder"),
        claimed(tmp_path / "file" / "a"),
    ):
        pass
