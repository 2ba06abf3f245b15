"""How much memory is available, so that work that will not fit is refused before it starts."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from gmsdi.errors import UserError


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
    with suppress(OSError, ValueError):
        group = Path("/sys/fs/cgroup")
        limit, used = ((group / name).read_text() for name in ("memory.max", "memory.current"))
        found.append(int(limit) - int(used))
    return min(found) if found else None


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
