"""Families of models that other packages open: by a name, and what the family takes after a colon.

A package that is installed names its families in the entry-point group "gmsdi.models", each with a `Loader`; `register`
adds one for the running program alone. A family is imported when a model of it is opened, and not before: torch is not
needed to know its name.

docs/tutorials/model.md has an example; CONTRIBUTING.md says where models belong that are opened by this package itself.
"""

from __future__ import annotations

import hashlib
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from gmsdi.errors import UserError

if TYPE_CHECKING:
    from gmsdi.models.protocol import Model

GROUP = "gmsdi.models"
"""The group of entry points."""
_END = 2**20
"""Bytes of a file's beginning and end that count for its digest: reading a checkpoint of gigabytes would take long."""


class Loader(Protocol):
    """How a family opens its models."""

    def __call__(self, where: str, *, device: str, precision: str) -> Model:
        """Open a model.

        Args:
            where: what follows the family's name.
            device: see `gmsdi.models.registry.load`.
            precision: see there.
        """


_REGISTERED: dict[str, Loader] = {}


def register(name: str, loader: Loader) -> None:
    """Make a family known to the running program; it hides an installed one of that name."""
    _REGISTERED[name] = loader


def names() -> list[str]:
    """The names of all families, registered and installed."""
    return sorted({*_REGISTERED, *entry_points(group=GROUP).names})


def is_of_family(where: str | Path) -> bool:
    """Whether a model is one of a family, which is not imported."""
    return _parted(where)[0] in names()


def loader_of(where: str | Path) -> tuple[Loader, str] | None:
    """Import the family of a model.

    Returns:
        How the family opens its models, and what it takes: the model without the family's name. None of a model of no
        family.

    Raises:
        UserError: if the family cannot be imported.
    """
    name, rest = _parted(where)
    if name in _REGISTERED:
        return _REGISTERED[name], rest
    if (point := _installed(name)) is None:
        return None
    try:
        loader: Loader = point.load()
    except (ImportError, AttributeError) as error:
        raise UserError(f"{where}: the family {name}, {point.value}, cannot be imported ({error})") from error
    return loader, rest


def digest(where: str | Path) -> str:
    """What changes if a model of an installed family does: the family's version, or the file or folder that it names.

    Of a file, the size, the beginning and the end count.
    """
    name, rest = _parted(where)
    point, found = _installed(name), hashlib.sha256()
    if point is not None and point.dist is not None:
        found.update(f"{point.value} {point.dist.version}\n".encode())
    place = Path(rest).expanduser()
    if rest and place.exists():
        for file in sorted(file for file in (place.rglob("*") if place.is_dir() else [place]) if file.is_file()):
            size = file.stat().st_size
            found.update(f"{file.relative_to(place).as_posix()} {size}\n".encode())
            with file.open("rb") as content:
                found.update(content.read(_END))
                content.seek(max(0, size - _END))
                found.update(content.read(_END))
    return found.hexdigest()[:16]


def _parted(where: str | Path) -> tuple[str, str]:
    """The family's name and the rest."""
    name, _, rest = str(where).partition(":")
    return name, rest


def _installed(name: str) -> EntryPoint | None:
    return next(iter(entry_points(group=GROUP, name=name)), None)
