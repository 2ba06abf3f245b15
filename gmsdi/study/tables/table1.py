"""Table 1 of the paper, the grid over w: as tidy data and for readers, with the paper's numbers beside ours."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from gmsdi.metrics.si_sdr import summarize
from gmsdi.study.chunks import ALL
from gmsdi.study.methods import TABLE1
from gmsdi.study.sheets import Cell, Sheet
from gmsdi.study.tables.shared import SCORES, counted, of_papers_stems, paper_beside, track_count

GUIDANCE = {
    "paper": "the paper: D(z) + w (D(z) - D(z*))",
    "adp": "audio-diffusion-pytorch: D(z*) + w (D(z) - D(z*))",
}


def table1(scores: pd.DataFrame, paper: pd.DataFrame, *, confidence: float = 0.95) -> pd.DataFrame:
    """Summarise the grid over w.

    Args:
        scores: rows of `scoring.score_separation` with columns model ("extractor" or "separator"), constrained, w.
        paper: the paper's Table 1 (model, constrained, w, si_sdri); left out if the stems are not the paper's.
        confidence: coverage of the intervals.

    Returns:
        model, constrained, w, then the columns of `summarize`, then paper; a row per stem and for All.
    """
    published = {(row.model, row.constrained, float(row.w)): row.si_sdri for row in paper.itertuples()}
    if not of_papers_stems(scores["stem"]):
        published = {}
    parts = []
    for (model, constrained, w), group in scores.groupby(["model", "constrained", "w"], sort=False):
        part = summarize(group, confidence=confidence)
        part.insert(0, "w", float(w))
        part.insert(0, "constrained", constrained)
        part.insert(0, "model", TABLE1[model])
        part["paper"] = [
            published.get((TABLE1[model], constrained, float(w))) if stem == ALL else None for stem in part["stem"]
        ]
        parts.append(part)
    return pd.concat(parts, ignore_index=True).astype({"paper": float})


def table1_sheets(table: pd.DataFrame, *, convention: str, steps: Mapping[str, int]) -> list[Sheet]:
    """Table 1 for readers: a row per method, a column per w, the score of All; the best of each row in bold.

    Args:
        table: see `table1`.
        convention: convention of the guidance, a key of `GUIDANCE`.
        steps: solver steps of "extractor" and "separator".
    """
    overall = table[table["stem"] == ALL]
    values = sorted(overall["w"].unique())
    subwindows, tracks = int(overall["subwindows"].max()), counted(track_count(overall), "track")
    sheets = []
    for score, title in SCORES.items():
        rows = []
        for (model, constrained), group in overall.groupby(["model", "constrained"], sort=False):
            cells = group.set_index("w")
            best = cells[score].idxmax()
            row: list[Cell | str] = [f"{model} ({constrained})" if constrained else str(model)]
            for w in values:
                paper = "" if score == "active" else paper_beside(cells.at[w, "paper"])
                row.append(Cell(f"{cells.at[w, score]:.2f}", aside=paper, bold=w == best))
            rows.append(row)
        notes = [
            f"{subwindows} scores per cell (sub-windows times stems) from {tracks}; the best of each row in bold. "
            f"Solver steps: {', '.join(f'{TABLE1[name]} {number}' for name, number in steps.items())}. Guidance "
            f"as in {GUIDANCE[convention]}. Intervals and single stems are in the CSV file."
        ]
        if score == "active":
            notes.append("The paper has no score of this kind.")
        header = ["Model (constrained stem)", *(f"w = {w:g}" for w in values)]
        sheets.append(Sheet(f"Table 1. Guidance strength w. {title}", header, rows, notes))
    return sheets
