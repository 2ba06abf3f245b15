"""Rows and tasks with few settings, for tests."""

from __future__ import annotations

import re
from collections.abc import Sequence
from types import ModuleType
from typing import Any

from gmsdi.study.methods import Row, load_row
from gmsdi.study.methods import gmsdi as of_gmsdi
from gmsdi.study.tasks import Task, load_task
from tests import REPO

ALONE: dict[str, Any] = {"rows": dict.fromkeys(["demucs_gibbs", "weak_msdm", "msdm", "msdm_gaussian"])}
"""What `separation` of an overlay has to have of the demo the rows of the text-conditioned model alone."""
WHOLE: dict[str, Any] = {"separation": {**ALONE, "chunks": None}, "grid": {"chunks": None}}
"""The same, with whole tracks scored, for chunks that are too short to be scored one by one."""


def make_row(kind: str, labels: Sequence[str] = ("Bass", "Drums", "Guitar", "Piano"), **settings: Any) -> Row:
    """A row of a kind, by default with a name and a title of its own, one step and these labels."""
    own: dict[str, Any] = {"steps": 1} if kind == "demucs_gibbs" else {"solver": {"steps": 1}}
    return load_row({"kind": kind, "name": kind, "title": kind, "system": {"labels": labels}, **own, **settings})


def make_task(kind: str, labels: Sequence[str] = ("Bass", "Drums", "Guitar", "Piano"), **settings: Any) -> Task:
    """A task of a kind, by default with one clip a bar and one step."""
    own: dict[str, Any] = {"solver": {"steps": 1}, "clips": 1, "name": kind}
    return load_task({"kind": kind, "system": {"labels": labels}, **own, **settings})


def example(start: str, language: str = "python") -> str:
    """The code block of CONTRIBUTING.md that starts with these words."""
    page = (REPO / "CONTRIBUTING.md").read_text(encoding="utf-8")
    (code,) = re.findall(rf"```{language}\n({re.escape(start)}.*?)```", page, re.DOTALL)
    return str(code)


def defined_by(start: str, module: ModuleType) -> dict[str, Any]:
    """The names of a module after a code block of CONTRIBUTING.md that belongs there; the module stays as it is."""
    names = dict(vars(module))
    exec(example(start), names)  # annotations stay unevaluated, as in the module, since they do in this file
    return names


def example_of_a_method() -> type[Row]:
    """The class of rows in CONTRIBUTING.md."""
    kind: type[Row] = defined_by("class Turns", of_gmsdi)["Turns"]
    return kind
