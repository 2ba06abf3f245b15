"""CSV tables with names that users have chosen."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

NAMES = ("track", "label", "stem", "bar")
"""Columns of names of tracks and stems."""


def read_table(path: str | Path, *, missing: bool = True) -> pd.DataFrame:
    """Read a table; names remain as they were written, since a track may be called "001" or "NA".

    Args:
        path: a `.csv` file.
        missing: an empty cell is a missing value; otherwise it is an empty text.

    Raises:
        OSError, ValueError: if it cannot be read.
    """
    import pandas as pd

    empty = [""] if missing else []
    return pd.read_csv(path, dtype=dict.fromkeys(NAMES, str), keep_default_na=False, na_values=empty)
