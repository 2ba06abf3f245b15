"""Tables on generated clips: whether they fit the given stems and sound like their labels; negative prompts."""

from __future__ import annotations

import pandas as pd

from gmsdi.study.sheets import Cell, Sheet
from gmsdi.study.stems import COMMON

ENDINGS = {False: "without", True: "with"}
VERDICTS = {
    "nearer": "They help",
    "farther": "They harm",
    "open": "Undecided, as the interval of the difference does not exclude 0",
}


def coherence_sheet(table: pd.DataFrame) -> Sheet:
    """The rows of `coherence.coherences` for readers: means over bars with equally many given stems."""
    sizes, names = sorted(set(table["given"])), ["harmony", "onsets", "copied"]
    rows = []
    for series, group in table.groupby("series", sort=False):
        means = group.groupby("given")[names].mean()
        rows.append([str(series), *(f"{means.at[k, name]:.2f}" for name in names for k in sizes)])
    header = ["Accompaniment", *(f"{name.capitalize()}, {k} given" for name in names for k in sizes)]
    return Sheet(
        "Beyond the paper. Do accompaniments fit the given stems?",
        header,
        rows,
        [
            "Harmony: cosine of the pitch classes of accompaniment and given stems. Onsets: correlation of their "
            "rises in level. Copied: the share of the accompaniment's power that a filter can make from the given "
            f"stems; copies raise the other two. Means over {table['clips'].iloc[0]} clips of each subset of given "
            "stems. Values above those of the real stems are not better, since real stems do not double each other."
        ],
    )


def stems_sheet(table: pd.DataFrame) -> Sheet:
    """The rows of `stems.stems_of_mixtures` for readers: a row per series, a column per stem."""
    stems = list(dict.fromkeys(table["stem"]))
    rows: list[list[Cell | str]] = []
    for series, group in table.groupby("series", sort=False):
        cells: list[Cell | str] = []
        for stem in stems:
            own = group[group["stem"] == stem]
            if own.empty:
                cells.append("")
                continue
            nearest = own.loc[own["fad"].idxmin()]
            other = "" if nearest["own"] else f"{nearest['reference']} {nearest['fad']:.1f}"
            cells.append(Cell(f"{own.loc[own['own'], 'fad'].iloc[0]:.1f}", aside=other))
        common = group[list(COMMON)].mean()
        if any(cells):
            rows.append([str(series), *cells, *("" if pd.isna(value) else f"{value:.2f}" for value in common)])
    return Sheet(
        "Do the stems of generated mixtures sound like their labels?",
        ["Series", *stems, "Cosine", "|Cosine|", "Harmony", "Onsets"],
        rows,
        [
            "Fréchet audio distance of each generated stem to test chunks of its own kind; in brackets, a kind that "
            f"it is nearer to, if there is one. {table['clips'].max()} clips of each stem; in partial generation, from "
            "all subsets of given stems in turn. The other columns compare pairs of stems in a clip, as means over "
            "clips and pairs: the cosine of the waveforms and its absolute value (near 1 for parts of one signal, "
            "near 0 for real stems), the cosine of the pitch classes, and the correlation of the onsets. Figure 3 "
            "only shows sums of stems and cannot tell: with gamma_y = inf, the bar All is a plain sample of a "
            "mixture, independent of the stems."
        ],
    )


def references_note(table: pd.DataFrame) -> str:
    """From how many tracks the references of Figure 2 or 3 are, and how many of them bars or lines share.

    Args:
        table: rows of `fad.distances`.
    """
    bars = table[table["kind"] == "model"]
    fewest, most = bars["reference_tracks"].min(), bars["reference_tracks"].max()
    tracks = f"{most} tracks" if fewest == most else f"{fewest} to {most} tracks"
    told = f"References: {tracks}"
    # Stems, and clips with given stems, are made of test tracks, too; the distance to a reference with the same tracks
    # is smaller than to another.
    shared = bars[bars["shared_tracks"] > 0]
    if shared.empty:
        return f"{told}, none of which the clips of a bar use."
    worst = shared.loc[shared["shared_tracks"].idxmax()]
    return (
        f"{told}. Up to {worst['shared_tracks']} of the {worst['reference_tracks']} also provide the given stems of a "
        "bar, which makes the distance smaller than it would be to other tracks."
    )


def negatives(*parts: pd.DataFrame) -> pd.DataFrame:
    """The effect of negative prompts on the distance of each stem at equal w.

    Args:
        *parts: rows of `fad.distances` for Figure 2 and for the curve, with the columns w, negative and model (see
            `figures.fad_stems`).

    Returns:
        part (number of the table given, from 0), bar, w, model (title of a further model), then fad, fad_low and
        fad_high of both series with the endings _without and _with, difference (with minus without; below 0, negative
        prompts help), difference_low and difference_high (its paired interval), verdict ("nearer" or "farther" where
        that excludes 0, else "open"), clips, and reference_tracks.
    """
    columns, paired = ["fad", "fad_low", "fad_high"], ["difference", "difference_low", "difference_high"]
    rows = []
    for part, table in enumerate(parts):
        own = table[table["w"].notna() & (table["kind"] == "model")]
        own = own.assign(model=own.get("model"))
        for (bar, w, model), pair in own.groupby(["bar", "w", "model"], sort=False, dropna=False):
            by = {str(row["negative"]) == "True": row for row in pair.to_dict("records")}
            if set(by) != {False, True}:
                continue
            values = {f"{column}_{said}": by[key][column] for key, said in ENDINGS.items() for column in columns}
            told = {key: by[True][key] for key in (*paired, "clips", "reference_tracks")}
            below, above = told["difference_high"] < 0, told["difference_low"] > 0
            verdict = "nearer" if below else "farther" if above else "open"
            of = {"part": part, "bar": bar, "w": w, "model": model}
            rows.append({**of, **values, **told, "verdict": verdict})
    return pd.DataFrame(rows)


def negatives_sheets(table: pd.DataFrame, *, confidence: float = 0.95) -> list[Sheet]:
    """The rows of `negatives` for readers: a sheet each for Figure 2 and the curve, a row per stem and w."""
    sheets = []
    for part, title in enumerate(("Figure 2", "the curve over w")):
        own = table[table["part"] == part]
        if own.empty:
            continue
        rows: list[list[Cell | str]] = []
        said: dict[str, list[str]] = {verdict: [] for verdict in VERDICTS}
        for row in own.to_dict("records"):
            of = "" if pd.isna(row.get("model")) else f", {row['model']}"
            cells = [
                Cell(f"{row[f'fad_{end}']:.1f}", (f"{row[f'fad_low_{end}']:.1f}", f"{row[f'fad_high_{end}']:.1f}"))
                for end in ENDINGS.values()
            ]
            ends = (f"{row['difference_low']:+.1f}", f"{row['difference_high']:+.1f}")
            difference = Cell(f"{row['difference']:+.1f}", ends)
            rows.append([f"{row['bar']}, w = {row['w']:g}{of}", *cells, difference, row["verdict"]])
            said[row["verdict"]].append(f"{row['bar']} at w = {row['w']:g}{of}")
        told = [f"{words}: {', '.join(said[key]) or 'none'}" for key, words in VERDICTS.items()]
        note = (
            f"Both series of a row have the same w and noise, and {own['clips'].iloc[0]} clips; {confidence:.0%} "
            f"intervals, those of differences paired over clips and tracks of the reference; references from at least "
            f"{own['reference_tracks'].min()} tracks. Below 0, negative prompts bring a stem nearer to real ones. "
            f"{'. '.join(told)}."
        )
        header = ["Stem", "FAD without negative prompts", "with", "difference", "verdict"]
        sheets.append(Sheet(f"Effect of negative prompts at equal w, {title}", header, rows, [note]))
    return sheets
