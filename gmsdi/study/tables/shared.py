"""What Tables 1 and 2 share."""

from __future__ import annotations

import pandas as pd

SCORES = {
    "protocol": "SI-SDRi (dB) by MSDM's protocol, which the paper follows; silent stems are scored",
    "active": "SI-SDRi (dB) over active stems only",
}


def paper_beside(published: float) -> str:
    """The paper's number, as it stands beside ours."""
    return "" if pd.isna(published) else f"paper {published:.2f}"


def track_count(table: pd.DataFrame) -> int:
    """The number of tracks behind a table."""
    return int(table["tracks"].max())
