"""Files appear when they are complete, and what killed writers have left is found again."""

from gmsdi.io.files import atomic, remove_partials


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
