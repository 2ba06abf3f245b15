"""Fréchet audio distances by two engines, side by side."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from gmsdi.errors import UserError
from gmsdi.study.sheets import Cell, Sheet

KEYS = ["figure", "bar", "series", "kind"]


def compared(ours: Sequence[pd.DataFrame], library: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """The distances of gmsdi and of frechet-audio-distance, bar by bar.

    Args:
        ours: the two tables of `fad.distances`, of Figure 2 and of Figure 3, with the column embedding.
        library: the same tables by the package.

    Returns:
        figure (2 or 3), bar, series, kind, embedding, gmsdi, library (both distances), difference (library minus
        gmsdi), relative (the difference over gmsdi's distance), low and high (gmsdi's interval), clips and
        reference_clips, and frames and library_frames, which differ if the engines divide clips differently.

    Raises:
        UserError: if the two engines did not use the same clips.
    """
    first, second = (
        pd.concat([table.assign(figure=figure) for figure, table in enumerate(tables, 2)], ignore_index=True)
        for tables in (ours, library)
    )
    first, second = (table.assign(bar=table["bar"].fillna("")) for table in (first, second))
    same = [*KEYS, "clips", "reference_clips"]
    if len(first) != len(second) or not first[same].equals(second[same]):
        raise UserError("the engines have distances of different clips; remove the folder engines of the run")
    table = first[[*KEYS, "embedding"]].copy()
    table["gmsdi"], table["library"] = first["fad"], second["fad"]
    table["difference"] = table["library"] - table["gmsdi"]
    table["relative"] = table["difference"] / table["gmsdi"]
    table["low"], table["high"] = first["fad_low"], first["fad_high"]
    for column in ("clips", "reference_clips", "frames"):
        table[column] = first[column]
    table["library_frames"] = second["frames"]
    table["embedding"] = [min(pair, key=len) for pair in zip(first["embedding"], second["embedding"], strict=True)]
    return table


def engines_sheet(table: pd.DataFrame) -> Sheet:
    """The table of engines for readers: the rows of `compared`."""
    table = table.assign(bar=table["bar"].fillna(""))  # empty in a table that was read from a file
    rows: list[list[Cell | str]] = [
        [
            f"Figure {row['figure']}: {', '.join(filter(None, [row['bar'], row['series']]))}",
            Cell(f"{row['gmsdi']:.4g}", (f"{row['low']:.4g}", f"{row['high']:.4g}")),
            f"{row['library']:.4g}",
            f"{row['difference']:+.2g}",
            f"{100 * row['relative']:+.2f} %",
        ]
        for row in table.to_dict("records")
    ]
    worst = table.loc[table["relative"].abs().idxmax()]
    return Sheet(
        f"Fréchet audio distances by two engines, {table['embedding'].iloc[0]}",
        ["Bar and series", "gmsdi", "frechet-audio-distance", "difference", "relative"],
        rows,
        [
            f"The same clips, {table['clips'].min()} or more of each; the greatest difference is "
            f"{100 * abs(worst['relative']):.2f} %. The engines share no code: the package reads WAV files, resamples "
            "with resampy (gmsdi with soxr), runs its own network and takes SciPy's matrix square root. Its CLAP "
            "embeds ten random seconds of a longer clip (gmsdi all windows), and does not round samples to 16 bits. "
            "Intervals are gmsdi's.",
        ],
    )
