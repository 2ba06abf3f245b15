"""Table 2 of the paper, source separation: as tidy data and for readers, with the paper's numbers beside ours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import permutations

import pandas as pd

from gmsdi.metrics.bss_eval import SCORES as RATIOS
from gmsdi.metrics.bss_eval import summarize_bss_eval
from gmsdi.metrics.si_sdr import differences, ensemble, summarize
from gmsdi.study.chunks import ALL
from gmsdi.study.methods import Ensemble, MeanOfRows, Row
from gmsdi.study.sheets import Cell, Sheet
from gmsdi.study.tables.shared import SCORES, counted, of_papers_stems, paper_beside, track_count

SILENT = "Level where silent (dB)"
SILENCE_NOTE = (
    f"{SILENT}: the median level of an estimate, relative to the mixture's, where its stem is silent; ideally nothing. "
    "The score over active stems ignores it; MSDM's protocol keeps rewarding lower levels even where they are "
    "inaudible."
)
LOG_MEL = "Log-Mel L1"
LOG_MEL_NOTE = (
    f"{LOG_MEL}: how far the spectra of active stems are from the true ones, whatever their phases, which decide over "
    "SI-SDR; 1 is a factor of e, and lower is better. Settings of our own (gmsdi.metrics.log_mel): not comparable with "
    "other papers' values."
)


def table2(
    scores: Mapping[str, pd.DataFrame],
    selection: Mapping[str, Row | MeanOfRows],
    paper: pd.DataFrame,
    *,
    ensembles: Sequence[Ensemble] = (),
    validation: Mapping[str, pd.DataFrame] | None = None,
    confidence: float = 0.95,
) -> pd.DataFrame:
    """Summarise the separation of the test split, with the paper's rows in the paper's order.

    Args:
        scores: for each row of Table 2, by name, its scores from `scoring.score_separation`.
        selection: the rows as they were run, from `selection.choose_settings`, and averages.
        paper: the paper's Table 2 (model, then a column per stem and All). All its rows need labels or stems; its
            numbers for GMSDI are those of a weakly supervised model. Its numbers and its rows that were not run are
            left out if the stems are not the paper's.
        ensembles: the rows that take the best of others for each stem, by the score of the column.
        validation: for rows with a twin, their scores on validation chunks, by which their ensemble is chosen.
        confidence: coverage of the intervals.

    Returns:
        model, settings, status ("run" or "not run"), then the columns of `summarize`, then paper.
    """
    summaries, settings = {}, {}
    for name, row in _rows(scores, selection, ensembles, validation).items():
        both = summarize(row.protocol, confidence=confidence)
        columns = [column for column in both if column.startswith("active")]
        active = summarize(row.active, confidence=confidence).set_index("stem")
        both[columns] = active.loc[both["stem"], columns].to_numpy()
        summaries[name], settings[name] = both, row.settings

    stems = next(iter(summaries.values()))["stem"]
    parts = []
    published = paper.to_dict("records")
    every: list[Row | MeanOfRows | Ensemble] = [*selection.values(), *ensembles]
    ours = {row.paper: row.title for row in every if row.paper is not None}
    # The paper's Ensemble combines its own two methods, so its number does not stand beside ensembles of others.
    alien = {row.title for row in ensembles if row.paper is None}
    published = [
        {**line, "model": ours.get(line["model"], line["model"])} for line in published if line["model"] not in alien
    ]
    if not of_papers_stems(stems):
        published = [{"model": line["model"]} for line in published if line["model"] in summaries]
    known = {row["model"] for row in published}
    for row in [*published, *({"model": name} for name in summaries if name not in known)]:
        model = row["model"]
        part = summaries.get(model, pd.DataFrame({"stem": stems})).copy()
        part.insert(0, "status", "run" if model in summaries else "not run")
        part.insert(0, "settings", settings.get(model, ""))
        part.insert(0, "model", model)
        part["paper"] = [row.get(stem) for stem in part["stem"]]
        parts.append(part)
    return pd.concat(parts, ignore_index=True).astype({"paper": float})


@dataclass(frozen=True)
class _Line:
    """A line of Table 2: the scores behind its two numbers (an ensemble chooses for each), and its settings."""

    protocol: pd.DataFrame
    active: pd.DataFrame
    settings: str
    published: bool = False  # a method of the paper, with the paper's settings


def _rows(
    scores: Mapping[str, pd.DataFrame],
    selection: Mapping[str, Row | MeanOfRows],
    ensembles: Sequence[Ensemble],
    validation: Mapping[str, pd.DataFrame] | None,
) -> dict[str, _Line]:
    """The rows of Table 2 that have been run, by title."""

    def best_of(row: Ensemble) -> _Line:
        names = _names(row, selection)
        compared = (validation or {}) if row.chosen_on == "validation" else scores
        named = {names[other]: scores[other] for other in row.of}
        by = {names[other]: compared[other] for other in row.of}
        (protocol, choice), (active, choice_active) = (
            ensemble(named, by, score=score) for score in ("protocol", "active")
        )
        said = [", ".join(f"{stem}: {model}" for stem, model in made.items()) for made in (choice, choice_active)]
        return _Line(protocol, active, said[0] if choice == choice_active else f"{said[0]}; for active: {said[1]}")

    rows = {
        selection[name].title: _Line(table, table, selection[name].summary(), selection[name].published)
        for name, table in scores.items()
    }
    return rows | {row.title: best_of(row) for row in ensembles}


def _names(ensemble: Ensemble, selection: Mapping[str, Row | MeanOfRows]) -> dict[str, str]:
    """Names for the rows of an ensemble: their methods, or their titles if two share a method."""
    methods = {name: selection[name].GRID.capitalize() for name in ensemble.of}
    alike = len(set(methods.values())) < len(methods)
    return {name: selection[name].title if alike else method for name, method in methods.items()}


def table2_differences(
    scores: Mapping[str, pd.DataFrame],
    selection: Mapping[str, Row | MeanOfRows],
    *,
    ensembles: Sequence[Ensemble] = (),
    validation: Mapping[str, pd.DataFrame] | None = None,
    confidence: float = 0.95,
) -> pd.DataFrame:
    """Differences between all pairs of rows of Table 2, with paired intervals over tracks.

    Args:
        scores: as `table2` takes them.
        selection: as `table2` takes it.
        ensembles: as `table2` takes them.
        validation: as `table2` takes it.
        confidence: coverage of the intervals.

    Returns:
        model, other, published (is `other` a method of the paper?), then the columns of `metrics.si_sdr.differences`
        for model minus other; a row for each ordered pair of models and each stem, and for All. The choice of an
        ensemble is taken as given.
    """
    rows, parts = _rows(scores, selection, ensembles, validation), []
    for model, other in permutations(rows, 2):
        part = differences(rows[model].protocol, rows[other].protocol, confidence=confidence)
        columns = [column for column in part if column.startswith("active")]
        active = differences(rows[model].active, rows[other].active, confidence=confidence).set_index("stem")
        part[columns] = active.loc[part["stem"], columns].to_numpy()
        part.insert(0, "published", rows[other].published)
        part.insert(0, "other", other)
        part.insert(0, "model", model)
        parts.append(part)
    return pd.concat(parts, ignore_index=True)


def differences_sheet(table: pd.DataFrame, *, confidence: float = 0.95) -> Sheet:
    """Differences for readers, of All over active stems: a row per model, a column per method of the paper.

    Args:
        table: see `table2_differences`.
        confidence: coverage of its intervals.
    """
    overall = table[table["stem"] == ALL].set_index(["model", "other"])
    models = list(dict.fromkeys(table["model"]))
    published = set(table.loc[table["published"], "other"])
    others = [model for model in models if model in published]
    rows = []
    for model in models:
        cells: list[Cell | str] = []
        for other in others:
            if model == other:
                cells.append("–")
                continue
            pair = overall.loc[(model, other)]
            cells.append(Cell(*_interval(pair, "active", "+.2f"), bold=pair["active_low"] > 0))
        rows.append([model, *cells])
    return Sheet(
        "Table 2, differences. SI-SDRi (dB) over active stems, All: the row minus the column",
        ["Model", *(f"minus {other}" for other in others)],
        rows,
        [
            f"Paired {confidence:.0%} t intervals over {counted(track_count(overall), 'track')}, of differences on the "
            "same sub-windows; bold if the whole interval is above 0. The coverage holds for each interval on its own: "
            f"about {1 - confidence:.0%} of them will miss. All pairs, single stems and MSDM's protocol are in the CSV "
            "file. An ensemble's choice is taken as given, so the interval is too favourable if it was chosen on these "
            "chunks.",
        ],
    )


def table2_sheets(
    table: pd.DataFrame,
    selection: Mapping[str, Row | MeanOfRows],
    ensembles: Sequence[Ensemble] = (),
    *,
    chunks: int,
    confidence: float = 0.95,
) -> list[Sheet]:
    """Table 2 for readers: a row per model, a column per stem and All, each with its interval and the paper's number.

    Args:
        table: from `table2`.
        selection: as `table2` takes it.
        ensembles: as `table2` takes them.
        chunks: number of chunks.
        confidence: coverage of the intervals.
    """
    stems = list(dict.fromkeys(table["stem"]))
    settings = table[table["settings"].fillna("") != ""].drop_duplicates("model").set_index("model")["settings"]
    own = [row.title for row in ensembles]
    described = "; ".join(f"{model}: {said}" for model, said in settings.items() if model not in own)
    sheets = []
    for score, title in SCORES.items():
        rows = []
        # Tables of earlier versions do not have it.
        spectral = score == "active" and "active_log_mel" in table
        for model, group in table.groupby("model", sort=False):
            cells = group.set_index("stem")
            if score == "active" and "not run" in set(group["status"]):
                continue
            line: list[Cell | str] = [str(model)]
            for stem in stems:
                cell = cells.loc[stem]
                paper = paper_beside(cell["paper"]) if score == "protocol" else ""
                if cell["status"] == "run":
                    line.append(Cell(*_interval(cell, score), aside=paper))
                else:
                    line.append(Cell("not run", aside=paper))
            rows.append([*line, *([f"{cells.at[ALL, 'active_log_mel']:.2f}"] if spectral else []), _level(cells)])
        tracks = track_count(table)
        intervals = f"{confidence:.0%} t intervals over tracks" if tracks > 1 else "no intervals, which take two tracks"
        notes = [
            f"{counted(chunks, 'chunk')} of {counted(tracks, 'track')} of the test split; {intervals}. {described}.",
        ]
        for row in ensembles:
            names, chosen = list(_names(row, selection).values()), settings[row.title]
            if row.chosen_on == "validation":
                notes.append(f"{row.title}: {chosen}.")
                continue
            better = f"{'better' if len(names) == 2 else 'best'} of {', '.join(names[:-1])} and {names[-1]}"
            notes.append(
                f"{row.title}: the {better} for each stem, chosen on these chunks as in the paper, so its number is "
                f"optimistic ({chosen})."
            )
        if score == "protocol" and table["paper"].notna().any():
            notes.append(
                "The paper's numbers are for Slakh2100, the paper's model and, of Demucs + Gibbs, 512 steps: context, "
                "not a comparison."
            )
        if spectral:
            notes.append(LOG_MEL_NOTE)
        notes.append(SILENCE_NOTE)
        header = ["Model", *stems, *([LOG_MEL] if spectral else []), SILENT]
        sheets.append(Sheet(f"Table 2. Source separation. {title}", header, rows, notes))
    return sheets


def _level(cells: pd.DataFrame) -> str:
    """The level of a model's estimates where their stems are silent, for All."""
    level = cells.at[ALL, "silent_level"]
    return "–" if pd.isna(level) else f"{level:.1f}"


def _interval(row: pd.Series, score: str, form: str = ".2f") -> tuple[str, tuple[str, str] | None]:
    """A score and the ends of its interval, if there are enough tracks for one."""
    low, high = row[f"{score}_low"], row[f"{score}_high"]
    return format(row[score], form), None if pd.isna(low) else (format(low, form), format(high, form))


def table2_bss_eval(scores: Mapping[str, pd.DataFrame], selection: Mapping[str, Row | MeanOfRows]) -> pd.DataFrame:
    """Summarise the same separations by BSS Eval.

    Args:
        scores: for each row of Table 2, by name, its scores from `scoring.score_bss_eval`.
        selection: the rows as they were run, from `selection.choose_settings`.

    Returns:
        model, settings, then the columns of `summarize_bss_eval`; a row per stem and for All.
    """
    parts = []
    for name, rows in scores.items():
        part = summarize_bss_eval(rows)
        part.insert(0, "settings", selection[name].summary())
        part.insert(0, "model", selection[name].title)
        parts.append(part)
    return pd.concat(parts, ignore_index=True)


def bss_eval_sheets(table: pd.DataFrame) -> list[Sheet]:
    """BSS Eval's ratios for readers: a row per model and stem, and for All; a dash where nothing could be scored."""
    rows = [
        [
            f"{row['model']}: {row['stem']}",
            *("–" if pd.isna(row[ratio]) else f"{row[ratio]:.2f}" for ratio in RATIOS),
            str(row["frames"]),
            str(row["tracks"]),
        ]
        for row in table.to_dict("records")
    ]
    settings = table.drop_duplicates("model")
    notes = [
        "Medians over tracks of each track's median over frames of 1 s. All: the mean over stems, and all their "
        f"frames. {'; '.join(f'{row.model}: {row.settings}' for row in settings.itertuples())}.",
        "BSS Eval version 4 (museval), filters of 512 taps. Frames in which a target or an estimate is silent have no "
        "score. The paper has no scores of this kind.",
    ]
    header = ["Model: stem", *(f"{ratio.upper()} (dB)" for ratio in RATIOS), "Frames", "Tracks"]
    return [Sheet("Table 2 in BSS Eval's ratios. Distortion, interference and artifacts", header, rows, notes)]
