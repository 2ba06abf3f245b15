"""Does the method need solos? Publishes the comparison of two short trainings, with and without them.

    python -m benchmarks.solos    # docs/solos.csv, and its table in docs/bundled_training.md

After the two commands of config/solos.yaml, which take two and a half hours on a slow core.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from benchmarks.scaling import fill, table
from gmsdi.io.files import atomic
from gmsdi.study.chunks import ALL

ROOT = Path(__file__).parents[1]
RUN, FILE, PAGE = ROOT / "results" / "solos", ROOT / "docs" / "solos.csv", ROOT / "docs" / "bundled_training.md"
PAIRS = {
    "GMSDI Extractor": "GMSDI Extractor, trained without solos",
    "Extractor, consistent": "Extractor, consistent, trained without solos",
}
"""The rows of Table 2 of the model trained with solos, and their counterparts."""
COLUMNS = ("active", "active_low", "active_high")


def compared(scores: pd.DataFrame, differences: pd.DataFrame) -> pd.DataFrame:
    """SI-SDRi over active stems with and without solos, and the paired difference.

    Args:
        scores: tables/table2_separation.csv of the run.
        differences: tables/table2_differences.csv of the run.

    Returns:
        method, stem, then `COLUMNS` with the endings _with, _without and _difference (in dB), and tracks.
    """
    rows = []
    own, paired = scores.set_index(["model", "stem"]), differences.set_index(["model", "other", "stem"])
    for method, without in PAIRS.items():
        for stem in dict.fromkeys(scores["stem"]):
            parts = {
                "with": own.loc[(method, stem)],
                "without": own.loc[(without, stem)],
                "difference": paired.loc[(method, without, stem)],
            }
            row = {f"{column}_{name}": part[column] for name, part in parts.items() for column in COLUMNS}
            rows.append({"method": method, "stem": stem, **row, "tracks": parts["with"]["tracks"]})
    return pd.DataFrame(rows)


def lines(found: pd.DataFrame) -> list[str]:
    """The table for the page."""
    stems = list(dict.fromkeys(found["stem"]))
    rows = []
    for method, part in found.groupby("method", sort=False):
        by = part.set_index("stem")
        for name, said in (("with", "with solos"), ("without", "without"), ("difference", "difference")):
            cells = [_cell(by.loc[stem], name, interval=stem == ALL or name == "difference") for stem in stems]
            rows.append([f"{method}: {said}", *cells])
    return table(["", *stems], rows)


def _cell(row: pd.Series, name: str, *, interval: bool) -> str:
    value, low, high = (row[f"{column}_{name}"] for column in COLUMNS)
    return f"{value:.1f} [{low:.1f}, {high:.1f}]" if interval else f"{value:.1f}"


def main(given: Sequence[str] | None = None) -> None:
    """Write the file and the table."""
    argparse.ArgumentParser(description=__doc__.splitlines()[0]).parse_args(given)
    found = compared(*(pd.read_csv(RUN / "tables" / f"table2_{name}.csv") for name in ("separation", "differences")))
    with atomic(FILE) as path:
        found.round(3).to_csv(path, index=False)
    fill("solos", lines(pd.read_csv(FILE)), PAGE)


if __name__ == "__main__":
    main()
