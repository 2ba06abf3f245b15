"""Imports go downward: every room imports rooms below it alone, and no modules or packages import each other."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

import pytest

from tests import REPO

PACKAGE = REPO / "gmsdi"
FLOORS = [
    {"errors"},
    {"settings", "io"},
    {"types", "level", "stability", "data"},
    {"models"},
    {"inference", "metrics"},
    {"sampling"},
    {"tasks", "presets"},
    {"song"},
    {"batch"},
    {"systems"},
    {"training"},
    {"study"},
    {"app"},
    {"cli"},
]
"""From the ground up. A room imports itself and what is below."""


def modules() -> dict[str, Path]:
    names = {
        ".".join(("gmsdi", *path.relative_to(PACKAGE).with_suffix("").parts)): path for path in PACKAGE.rglob("*.py")
    }
    return {name.removesuffix(".__init__"): path for name, path in names.items()}


def imported(path: Path, known: dict[str, Path]) -> set[str]:
    """The modules of the package that a module imports, anywhere in it, but for types' sake."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    typing = {
        inner
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        for inner in ast.walk(node)
    }
    found = set()
    for node in ast.walk(tree):
        if node in typing:
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names if alias.name in known}
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "gmsdi":
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {name if name in known else str(node.module) for name in names}
    return found - {"gmsdi"}


@cache
def imports() -> dict[str, set[str]]:
    """What each module of the package imports."""
    known = modules()
    return {name: imported(path, known) - {name} for name, path in known.items()}


def parts(package: str) -> dict[str, set[str]]:
    """What each part of a package, a module or a subpackage with all that is in it, imports of the others."""
    inside, depth = f"{package}.", package.count(".") + 2
    below: dict[str, set[str]] = {}
    for name, others in imports().items():
        if f"{name}.".startswith(inside):
            near = {".".join(other.split(".")[:depth]) for other in others if other.startswith(inside)}
            below.setdefault(".".join(name.split(".")[:depth]), set()).update(near)
    return {part: others - {part} for part, others in below.items()}


def circular(below: dict[str, set[str]]) -> list[str]:
    """The nodes in a circle, or above one, by Kahn's algorithm."""
    while free := {name for name, others in below.items() if not others}:
        below = {name: others - free for name, others in below.items() if name not in free}
    return sorted(below)


def room(module: str) -> str:
    return module.split(".")[1]


def test_rooms_import_what_is_below_them():
    floors = {name: number for number, names in enumerate(FLOORS) for name in names}
    assert floors.keys() == {room(name) for name in imports() if name != "gmsdi"}
    upward = [
        f"{name} imports {other}"
        for name, others in imports().items()
        if name != "gmsdi"
        for other in others
        if room(other) != room(name) and floors[room(other)] >= floors[room(name)]
    ]
    assert not upward, "\n".join(upward)


def test_no_modules_import_each_other():
    assert not circular(imports()), "in a circle, or above one"


@pytest.mark.parametrize("package", [name for name, path in modules().items() if path.name == "__init__.py"])
def test_no_packages_import_each_other(package):
    assert not circular(parts(package)), "in a circle, or above one"


def test_a_circle_is_found():
    assert circular({"a": {"b"}, "b": {"c"}, "c": {"b", "d"}, "d": set()}) == ["a", "b", "c"]
