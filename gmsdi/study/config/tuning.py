"""The section `tuning`."""

from __future__ import annotations

from typing import Annotated, Any

from annotated_types import Len

from gmsdi.settings import Count
from gmsdi.study.config.base import Model, about, choice
from gmsdi.study.config.generation import Clips

DOTS = "named by the fields of the row or task, with dots: `solver.steps`"


class Search(Model):
    """Variants of rows of Table 2, or of tasks of Figures 2 and 3."""

    of: Annotated[list[str], Len(1)] = about("names of rows, or of tasks, that run on one system")
    settings: dict[str, Any] = choice({}, f"settings that all variants share, {DOTS}")
    vary: dict[str, list[Any]] = choice({}, f"maps each setting to the values to try; settings are {DOTS}")
    combine: bool = choice(
        True,
        "whether every combination of values is a variant; false: one setting at a time, the others as in the default",
    )
    decides: dict[str, str | None] = choice(
        {}, "maps keys of config.yaml to the setting in `vary` that tests their values; null: all variants test them"
    )
    items: Count | None = choice(
        None, "number of chunks, or of clips per bar; null means tuning.chunks or tuning.clips"
    )


class Tuning(Model):
    """Searches on the validation split, run by the target `tune`."""

    chunks: Count = choice(16, "number of validation chunks with two or more active stems, spread over the tracks")
    clips: Clips = choice(16, "number of clips per bar of the figures")
    searches: dict[str, Search] = choice({}, "maps a short name to each search")
