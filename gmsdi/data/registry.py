"""The table of published files, `registry.csv`: where each lies, with hash, size and licence."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from gmsdi.errors import UserError
from gmsdi.io.transfer import Entry

REGISTRY = Path(__file__).with_name("registry.csv")


def read_registry(path: str | Path | None = None) -> dict[str, Entry]:
    """Read a table of published files, by name.

    Args:
        path: A CSV file with the columns name, version, url, mirrors (URLs separated by spaces), hash, size, unpacked
            and licence, of which name and url must be filled in; None means the package's table. A table of your own is
            useful for a site with its own copies.

    Raises:
        UserError: if the file cannot be read or lacks a column.
    """
    file = Path(path) if path is not None else REGISTRY
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


def find_entry(name: str, *, registry: str | Path | None = None, mirrors: Sequence[str] = ()) -> Entry:
    """Find a file in a registry.

    Args:
        name: Name of the file.
        registry: A table of published files to use instead of the package's, see `read_registry`.
        mirrors: URLs of folders that have a file of this name; they are tried first.

    Raises:
        UserError: if the table has no such file.
    """
    entries = read_registry(registry)
    if name not in entries:
        raise UserError(f"{registry or REGISTRY}: has no row {name}; add one with the URL and hash of your copy")
    entry = entries[name]
    urls = [*(f"{mirror.rstrip('/')}/{name}" for mirror in mirrors), entry.url, *entry.mirrors]
    return replace(entry, url=urls[0], mirrors=tuple(urls[1:]))
