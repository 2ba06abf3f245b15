"""Rows and tasks with few settings, for tests."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from gmsdi.study.methods import Row, load_row
from gmsdi.study.tasks import Task, load_task

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
