"""How much memory is available, so that work that will not fit is refused before it starts."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from gmsdi.errors import UserError

_MEMBERSHIP = Path("/proc/self/cgroup")
_GROUPS = Path("/sys/fs/cgroup")


def available() -> int | None:
    """Bytes of memory that are available without swapping; None if the system does not say.

    A limit of the process's control group, which cluster jobs often have, is taken into account.
    """
    found = []
    try:
        lines = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text().splitlines())
        found.append(int(lines["MemAvailable"].split()[0]) * 1024)
    except (OSError, KeyError, ValueError):
        with suppress(OSError, ValueError):
            found.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    return min([*found, *_left_by_groups()], default=None)


def _left_by_groups() -> Iterator[int]:
    """What the limits of the process's control group, and of those around it, leave."""
    own = "/"
    with suppress(OSError):
        lines = [line.split(":", 2) for line in _MEMBERSHIP.read_text().splitlines()]
        own = next((path for number, _, path in lines if number == "0"), own)
    group = _GROUPS / own.strip("/")
    for folder in (group, *group.parents):
        if not folder.is_relative_to(_GROUPS):
            return
        with suppress(OSError, ValueError, KeyError):
            limit, used = ((folder / name).read_text() for name in ("memory.max", "memory.current"))
            counts = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
            # Cached files count as used, but give way when memory is needed.
            yield int(limit) - int(used) + int(counts["inactive_file"])


def require_memory(needed: int, what: str, advice: str) -> None:
    """Refuse work that needs more memory than is available.

    Raises:
        UserError: if too little memory is free.
    """
    free = available()
    if free is not None and needed > free:
        raise UserError(
            f"{what} needs about {needed / 1e9:.3g} GB of memory, and {free / 1e9:.1f} GB are free; {advice}"
        )
