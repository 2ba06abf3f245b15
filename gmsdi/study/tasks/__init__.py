"""The tasks of Figures 2 and 3 as objects: each knows its bars, how to generate, to count, and what it is called.

A task goes through a job's parameters as a mapping (`model_dump`), and comes back by `load_task`. Nothing heavy is
imported before a task generates.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Field, TypeAdapter

from gmsdi.study.tasks.base import Accompanied, Alone, Task
from gmsdi.study.tasks.baselines import PartialMsdm, SingleWeakMsdm, TotalMsdm
from gmsdi.study.tasks.gmsdi import Conditioned, Extracted, Groups, Partial, Sequential, Single, Total

__all__ = [
    "Accompanied",
    "Alone",
    "AnyTask",
    "Conditioned",
    "Extracted",
    "Groups",
    "Partial",
    "PartialMsdm",
    "Sequential",
    "Single",
    "SingleWeakMsdm",
    "Task",
    "Total",
    "TotalMsdm",
    "load_task",
]

AnyTask = Annotated[
    Single | Total | Groups | Sequential | Extracted | Partial | Conditioned | SingleWeakMsdm | TotalMsdm | PartialMsdm,
    Field(discriminator="kind"),
]
"""A task of any kind."""
_TASK: TypeAdapter[Any] = TypeAdapter(AnyTask)


def load_task(settings: Mapping[str, Any]) -> Task:
    """A task from what its `model_dump` gave."""
    task: Task = _TASK.validate_python(dict(settings))
    return task
