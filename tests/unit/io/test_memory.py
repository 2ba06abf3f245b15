"""How much memory is available."""

from gmsdi.io import memory

GIGABYTE = 10**9


def group(folder, limit, used, cached):
    """A control group's files, as Linux writes them."""
    folder.mkdir(parents=True)
    (folder / "memory.max").write_text(f"{limit}\n")
    (folder / "memory.current").write_text(f"{used}\n")
    (folder / "memory.stat").write_text(f"anon {used - cached}\nfile {cached}\ninactive_file {cached}\n")


def test_the_tightest_group_counts_and_cached_files_do_not(tmp_path, monkeypatch):
    """A job's group is within those of its step and its machine; any of them may have a limit."""
    groups, membership = tmp_path / "cgroup", tmp_path / "membership"
    monkeypatch.setattr(memory, "_GROUPS", groups)
    monkeypatch.setattr(memory, "_MEMBERSHIP", membership)
    without = memory.available()
    membership.write_text("0::/job/step\n")
    group(groups / "job", limit=2 * GIGABYTE, used=19 * GIGABYTE // 10, cached=15 * GIGABYTE // 10)
    group(groups / "job" / "step", limit="max", used=0, cached=0)
    group(tmp_path / "elsewhere", limit=0, used=0, cached=0)
    assert memory.available() == 16 * GIGABYTE // 10
    (groups / "job" / "memory.max").write_text("max\n")
    assert abs(memory.available() - without) < GIGABYTE
    (groups / "job" / "memory.max").write_text(f"{2 * GIGABYTE}\n")
    membership.write_text("5:memory:/job\n0::/\n")
    assert abs(memory.available() - without) < GIGABYTE
