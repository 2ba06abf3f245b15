"""The stage that settles what the rows of Table 2 leave open, by the scores of the grid."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd

from gmsdi.errors import UserError
from gmsdi.study.methods import Row


def choose_settings(grids: Mapping[str, Sequence[pd.DataFrame]], rows: Mapping[str, Row], *, by: str) -> dict[str, Row]:
    """Settle what the rows of Table 2 leave open: w, and the constrained stem.

    Args:
        grids: for "test" (Table 1) and "validation" the rows of `score_separation` with the columns model, constrained
            and w; those of a split may be left out if no row needs it.
        rows: by name; None is to be chosen, on the split `chosen_on`.
        by: "active" or "protocol", see `metrics.si_sdr.summarize`.

    Returns:
        The rows with nothing open, and `chosen_by`, how.

    Raises:
        UserError: if no value of the grid fits what is given.
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
                f"config: separation.rows.{name} pins {row.fixed}, of which its grid has no value; extend grid.w"
            )
        best = own.loc[own["score"].idxmax()]
        where = "Table 1" if row.chosen_on == "test" else "the same grid on validation chunks"
        found = {key: best[key].item() if hasattr(best[key], "item") else best[key] for key in row.OPEN}
        result[name] = row.model_copy(update={**found, "chosen_by": f"best {by} score of {where}"})
    return result


def _overall(scores: Sequence[pd.DataFrame], by: str) -> pd.DataFrame:
    """The score of All of every cell of a grid: model, constrained, w, score."""
    from gmsdi.metrics.si_sdr import summarize

    rows = [
        (model, constrained, float(w), summarize(group).set_index("stem").at["All", by])
        for (model, constrained, w), group in pd.concat(scores).groupby(["model", "constrained", "w"])
    ]
    return pd.DataFrame(rows, columns=["model", "constrained", "w", "score"])
