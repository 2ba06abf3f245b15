"""What Tables 1 and 2 share."""

from __future__ import annotations

from collections.abc import Iterable

import pandas as pd

from gmsdi.study.chunks import ALL

SCORES = {
    "protocol": "SI-SDRi (dB) by MSDM's protocol, which the paper follows; silent stems are scored",
    "active": "SI-SDRi (dB) over active stems only",
}

PAPERS_STEMS = ("Bass", "Drums", "Guitar", "Piano")
"""The stems of the paper's tables, and those of which its "All" is the mean."""


def of_papers_stems(stems: Iterable[str]) -> bool:
    """Whether a table has the paper's stems (beside `ALL`); with other stems, its numbers mean something else."""
    return set(stems) - {ALL} == set(PAPERS_STEMS)


def paper_beside(published: float) -> str:
    """The paper's number, as it stands beside ours."""
    return "" if pd.isna(published) else f"paper {published:.2f}"


def track_count(table: pd.DataFrame) -> int:
    """The number of tracks behind a table."""
    return int(table["tracks"].max())


def counted(number: int, noun: str) -> str:
    """A number with its noun, in the plural if it is not 1."""
    return f"{number} {noun}{'' if number == 1 else 's'}"
