"""The tasks of Figures 2 and 3 as objects: each knows its bars and its name, can generate, and can count its work.

A task is stored in job parameters as a mapping (`model_dump`), which `load_task` turns back into a task. No heavy
library is imported before a task generates.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, get_args

from pydantic import Field, TypeAdapter

from gmsdi.study.tasks.base import Accompanied, Alone, Clips, Task
from gmsdi.study.tasks.baselines import PartialMsdm, SingleWeakMsdm, TotalMsdm
from gmsdi.study.tasks.gmsdi import Conditioned, Extracted, Groups, Partial, Sequential, Single, Total

__all__ = [
    "TASKS",
    "Accompanied",
    "Alone",
    "AnyTask",
    "Clips",
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
TASKS: dict[str, type[Task]] = {task.model_fields["kind"].default: task for task in get_args(get_args(AnyTask)[0])}
"""The tasks by their kinds."""
_TASK: TypeAdapter[Any] = TypeAdapter(AnyTask)


def load_task(settings: Mapping[str, Any]) -> Task:
    """Make a task from the mapping that its `model_dump` returned."""
    task: Task = _TASK.validate_python(dict(settings))
    return task
