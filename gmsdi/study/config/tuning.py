"""The section `tuning`."""

from __future__ import annotations

from typing import Annotated, Any

from annotated_types import Len

from gmsdi.settings import Count
from gmsdi.study.config.base import Model, about, choice
from gmsdi.study.config.generation import Clips

DOTS = "named as the row or the task has them, with dots: `solver.steps`"


class Search(Model):
    """Variants of rows of Table 2, or of tasks of Figures 2 and 3."""

    of: Annotated[list[str], Len(1)] = about("names of rows of one system, or of tasks of one system")
    settings: dict[str, Any] = choice({}, f"what all variants have in common, {DOTS}")
    vary: dict[str, list[Any]] = choice({}, f"settings and the values to try, {DOTS}; every combination is a variant")
    decides: list[str] = choice([], "keys of config.yaml that the table supports, or does not")
    items: Count | None = choice(None, "chunks, or clips of each bar; null takes tuning.chunks, or tuning.clips")


class Tuning(Model):
    """Searches on the validation split, which `snakemake tune` runs."""

    chunks: Count = choice(16, "validation chunks with two active stems or more, spread over the tracks")
    clips: Clips = choice(16, "clips of each bar")
    searches: dict[str, Search] = choice({}, "short names to searches")
