"""The stage that chooses the open settings of Table 2's rows by the scores of the grid."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd

from gmsdi.errors import UserError
from gmsdi.study.chunks import ALL
from gmsdi.study.methods import Row


def choose_settings(grids: Mapping[str, Sequence[pd.DataFrame]], rows: Mapping[str, Row], *, by: str) -> dict[str, Row]:
    """Choose the open settings of Table 2's rows: w and the constrained stem.

    Args:
        grids: for "test" (Table 1) and "validation", rows of `score_separation` with the columns model, constrained and
            w; a split may be missing if no row needs it.
        rows: rows by name; settings that are None are chosen on the split `chosen_on`.
        by: "active" or "protocol", see `metrics.si_sdr.summarize`.

    Returns:
        The rows with all settings chosen; their `chosen_by` says how.

    Raises:
        UserError: if no cell of the grid has the settings that a row gives.
    """
    tables = {split: _overall(scores, by) for split, scores in grids.items()}
    result = {}
    for name, row in rows.items():
        if not row.is_open:
            result[name] = row.model_copy(update={"chosen_by": "configuration"})
            continue
        table = tables[row.chosen_on]
        own = table[table["model"] == row.grid].dropna(subset="score")
        for key, value in row.fixed.items():
            own = own[own[key] == value]
        if own.empty:
            raise UserError(
                f"config: separation.rows.{name} fixes {row.fixed}, which its grid does not cover; extend grid.w"
            )
        best = own.loc[own["score"].idxmax()]
        where = "Table 1" if row.chosen_on == "test" else "the same grid on validation chunks"
        found = best[list(row.OPEN)].to_dict()
        result[name] = row.model_copy(update={**found, "chosen_by": f"best {by} score of {where}"})
    return result


def _overall(scores: Sequence[pd.DataFrame], by: str) -> pd.DataFrame:
    """The score of All in every cell of a grid: model, constrained, w, score."""
    from gmsdi.metrics.si_sdr import summarize

    rows = [
        (model, constrained, float(w), summarize(group).set_index("stem").at[ALL, by])
        for (model, constrained, w), group in pd.concat(scores).groupby(["model", "constrained", "w"])
    ]
    return pd.DataFrame(rows, columns=["model", "constrained", "w", "score"])
