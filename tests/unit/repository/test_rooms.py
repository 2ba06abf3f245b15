"""Imports go downward: every room of the package imports rooms below it alone, and no modules import each other."""

from __future__ import annotations

import ast
from pathlib import Path

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


def room(module: str) -> str:
    return module.split(".")[1]


def test_rooms_import_what_is_below_them():
    known = modules()
    floors = {name: number for number, names in enumerate(FLOORS) for name in names}
    assert floors.keys() == {room(name) for name in known if name != "gmsdi"}
    upward = [
        f"{name} imports {other}"
        for name, path in known.items()
        if name != "gmsdi"
        for other in imported(path, known)
        if room(other) != room(name) and floors[room(other)] >= floors[room(name)]
    ]
    assert not upward, "\n".join(upward)


def test_no_modules_import_each_other():
    known = modules()
    below = {name: imported(path, known) - {name} for name, path in known.items()}
    while free := {name for name, others in below.items() if not others}:  # Kahn's algorithm
        below = {name: others - free for name, others in below.items() if name not in free}
    assert not below, f"in a circle, or above one: {', '.join(sorted(below))}"
