"""Files appear when they are complete, and what killed writers have left is found again."""

import subprocess
import sys
import threading
import time

import pytest

from gmsdi.errors import UserError
from gmsdi.io.files import atomic, claimed, remove_partials


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
