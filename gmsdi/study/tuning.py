"""The stage that compares the variants of a search on validation data, and reports which defaults they support."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from gmsdi.errors import UserError
from gmsdi.study.channels import heard
from gmsdi.study.chunks import ALL, Progress
from gmsdi.study.embedding import embed_clips, named
from gmsdi.study.references import HELD_OUT
from gmsdi.study.sheets import Cell, Sheet
from gmsdi.study.stems import COMMON, real_cosines, stems_of_mixtures

if TYPE_CHECKING:
    from gmsdi.data.windows import WindowSet
    from gmsdi.metrics.embeddings import Embedding
    from gmsdi.study.methods import Row
    from gmsdi.study.tasks import Task
    from gmsdi.systems.base import System

MEAN = "mean of the stems"


def compare_rows(
    rows: Sequence[Row],
    system: System,
    windows: WindowSet,
    ids: Sequence[int],
    *,
    seed: int,
    batch: int,
    default: str | None,
    confidence: float = 0.95,
    progress: Progress | None = None,
) -> pd.DataFrame:
    """Separate the same chunks, from the same noise, with every variant.

    Args:
        rows: the variants.
        system: their opened system.
        windows: the validation split.
        ids: ids of the chunks.
        seed: the run's seed.
        batch: see `gmsdi.study.separation.separate`.
        default: name of the variant that all are compared with; None compares with the best.
        confidence: coverage of the intervals.
        progress: called with the number of variants done, which may be fractional.

    Returns:
        The columns of `metrics.si_sdr.summarize`, with a row for each variant and stem and for All; also variant,
        default (is it the default?), evaluations (per chunk), and active_difference with _low and _high: the active
        score minus that of the default (empty for the default itself).
    """
    from gmsdi.metrics.si_sdr import differences, summarize
    from gmsdi.study.scoring import score_separation
    from gmsdi.study.separation import separate

    scores, parts = {}, {}
    for number, row in enumerate(rows):
        before = system.evaluations

        def advance(done: float, number: int = number) -> None:
            if progress is not None:
                progress(number + done / len(ids))

        estimates = separate(row, system, windows, ids, seed=seed, batch=batch, progress=advance)
        scores[row.name] = score_separation(windows, ids, estimates)
        cost = (system.evaluations - before) / len(ids)
        part = summarize(scores[row.name], confidence=confidence)
        parts[row.name] = part.assign(variant=row.name, default=row.name == default, evaluations=cost)
    compared = default or max(parts, key=lambda name: parts[name].set_index("stem").at[ALL, "active"])
    ends = ["", "_low", "_high"]
    for name, part in parts.items():
        if name != compared:
            apart = differences(scores[name], scores[compared], confidence=confidence).set_index("stem")
            for end in ends:
                part[f"active_difference{end}"] = apart.loc[part["stem"], f"active{end}"].to_numpy()
    table = pd.concat(parts.values(), ignore_index=True)
    return table.reindex(columns=[*dict.fromkeys([*table.columns, *(f"active_difference{end}" for end in ends)])])


def compare_tasks(
    tasks: Sequence[Task],
    system: System,
    windows: WindowSet,
    references: Mapping[str, np.ndarray],
    embedding: Embedding,
    *,
    seed: int,
    batch: int,
    default: str | None,
    confidence: float = 0.95,
    progress: Progress | None = None,
) -> pd.DataFrame:
    """Generate clips from the same noise with every variant, and measure them.

    Args:
        tasks: the variants.
        system: their opened system.
        windows: the validation split.
        references: embedded references from the rule `search_references`, with the names of their tracks.
        embedding: see `metrics.embeddings.get_embedding`.
        seed: the run's seed.
        batch: see `gmsdi.study.generation.generate`.
        default: name of the variant with the configuration's settings.
        confidence: coverage of the intervals.
        progress: called with the number of variants done, which may be fractional.

    Returns:
        The columns of `stems.stems_of_mixtures`, with variant instead of series: a row for each variant (and for
        held-out chunks), stem and reference. For each bar of several stems, a row with the stem All, the column `bar`,
        and the distance of the sum from real mixtures; for accompaniments, these rows have harmony, onsets and copied
        (`coherence.coherences`). Also default (is it the default?), evaluations (per clip), and refused: why a variant
        cannot run, such as an unstable schedule.

    Raises:
        UserError: if no variant can run.
    """
    from gmsdi.study.coherence import REAL, coherences
    from gmsdi.study.fad import distances
    from gmsdi.study.generation import clips_of, generate

    tracks = named(references, "tracks/")
    frames = {name: array for name, array in references.items() if not name.startswith("tracks/")}
    made: dict[str, dict[str, np.ndarray]] = {}
    cosines, sums, costs = {}, {}, {}
    given: list[pd.DataFrame] = []
    refused: dict[str, str] = {}
    for number, task in enumerate(tasks):

        def advance(done: float, number: int = number, total: int = len(task.bars()) * task.clips) -> None:
            if progress is not None:
                progress(number + done / total)

        clips = clips_of(task, windows if task.given else None, seed=seed)
        before = system.evaluations
        try:
            audio = generate(task, system, clips, seed=seed, batch=batch, windows=windows, progress=advance)
        except UserError as error:
            refused[task.name] = str(error)
            continue
        costs[task.name] = (system.evaluations - before) / len(clips)
        rows = task.rows if task.mixed else []
        audio = heard(audio) if audio.ndim > 3 else audio
        found = embed_clips(embedding, clips, audio, windows.sample_rate, rows=rows, count=task.clips)
        made[task.name] = named(found, "stem/" if rows else "bar/")
        if rows:
            cosines[task.name] = pd.DataFrame(named(found, "pairs/"))
            sums[task.name] = named(found, "bar/")
            if "tracks" in found:
                tracks[task.name] = found["tracks"]
        if task.given:
            own = coherences(task.labels, {task.name: (clips, audio)}, windows)  # type: ignore[dict-item]
            given.append(own[own["series"].isin([task.name, *([] if given else [REAL])])])
    if not made:
        raise UserError(f"no variant can run: {refused.popitem()[1]}")
    cosines[HELD_OUT] = real_cosines(windows, clips=max(task.clips for task in tasks), seed=seed)
    shared: dict[str, Any] = {"seed": seed, "tracks": tracks, "confidence": confidence}
    table = stems_of_mixtures(made, cosines, frames, series={name: name for name in made}, **shared)
    if sums:
        own = {"singles": {}, "mixtures": {name: name for name in sums}}
        found_sums = distances(tasks[0].labels, sums, frames, **own, **shared)[1]
        found_sums = found_sums[(found_sums["kind"] == "model") | (found_sums["series"] == HELD_OUT)]
        if given:
            common = pd.concat(given).replace({"series": {REAL: HELD_OUT}}).drop(columns=["given", "clips"])
            found_sums = found_sums.merge(common, on=["series", "bar"], how="outer")
        columns = ["series", "bar", "fad", "fad_low", "fad_high", "clips", "harmony", "onsets", "copied"]
        table = pd.concat([table, found_sums.reindex(columns=columns).assign(stem=ALL)], ignore_index=True)
    table = table.rename(columns={"series": "variant"})
    refusals = [{"variant": name, "stem": ALL, "refused": why} for name, why in refused.items()]
    table = pd.concat([table, pd.DataFrame(refusals, columns=["variant", "stem", "refused"])], ignore_index=True)
    table["default"] = table["variant"] == default
    table["evaluations"] = table["variant"].map(costs)
    return table


# --- For readers ------------------------------------------------------------------------------------------------------


def rows_summary(table: pd.DataFrame) -> pd.DataFrame:
    """Summarise `compare_rows`: a line per variant, best first; score is the active score of All."""
    overall = table[table["stem"] == ALL].set_index("variant")
    stems = table[table["stem"] != ALL].pivot(index="variant", columns="stem", values="active")
    columns = ["default", "active", "active_low", "active_high", "active_difference", "active_difference_low"]
    columns += ["active_difference_high", "protocol", "silent_level", "evaluations"]
    found = overall[columns].join(stems[list(dict.fromkeys(table.loc[table["stem"] != ALL, "stem"]))])
    found = found.rename(columns={"active": "score"}).sort_values("score", ascending=False)
    return found.assign(good=_good(found)).reset_index()


def tasks_summary(table: pd.DataFrame) -> pd.DataFrame:
    """Summarise `compare_tasks`: a line per variant, best first, then one for held-out chunks.

    The score is the mean distance of the stems from their own references.
    """
    lines = []
    for variant, group in table.groupby("variant", sort=False):
        stems = group[group["stem"] != ALL]
        own = stems[stems["own"] == True]  # noqa: E712, as sums have NaN
        line: dict[str, Any] = {"variant": variant, "default": bool(group["default"].any())}
        line |= {"score": own["fad"].mean(), "score_high": own["fad_high"].mean()}
        for stem, part in stems.groupby("stem", sort=False):
            nearest = part.loc[part["fad"].idxmin()]
            line[str(stem)] = part.loc[part["own"] == True, "fad"].iloc[0]  # noqa: E712
            line[f"nearest to {stem}"] = nearest["reference"]
        line["own nearest"] = int((own["nearest"] == True).sum())  # noqa: E712
        line |= stems[list(COMMON)].mean().to_dict()
        sums = group[group["stem"] == ALL]
        line["sum"] = sums["fad"].mean()
        for name in ("harmony", "onsets", "copied"):
            line[f"{name} with given"] = sums[name].mean() if name in sums else np.nan
        lines.append({**line, "evaluations": group["evaluations"].iloc[0], "refused": group["refused"].iloc[0]})
    found = pd.DataFrame(lines).dropna(axis="columns", how="all")
    real = found["variant"] == HELD_OUT
    found = pd.concat([found[~real].sort_values("score"), found[real]], ignore_index=True)
    return found.assign(good=_good(found))


def _good(summary: pd.DataFrame) -> pd.Series:
    """Which lines of a summary are the best variant, or the default if it is not clearly worse."""
    best = summary.iloc[0]
    if "active_difference_low" in summary:  # paired with the default: clear if the interval excludes 0
        close = bool(best["default"] or not best["active_difference_low"] > 0)
    else:
        close = summary["score"] <= best["score_high"]
    return (summary["score"] == best["score"]) | (summary["default"] & close)


def rows_sheet(name: str, summary: pd.DataFrame, *, chunks: int, tracks: int) -> Sheet:
    """The table of `rows_summary` for readers."""
    known = list(summary.columns)
    stems = known[known.index("evaluations") + 1 : known.index("good")]
    lines: list[list[Cell | str]] = []
    for row in summary.to_dict("records"):
        difference: Cell | str = "–"
        if pd.notna(row["active_difference"]):
            ends = f"{row['active_difference_low']:+.2f}", f"{row['active_difference_high']:+.2f}"
            difference = Cell(f"{row['active_difference']:+.2f}", ends)
        cells = [Cell(f"{row['score']:.2f}", bold=row["good"]), difference]
        cells += [f"{row[stem]:.1f}" for stem in stems]
        cells += ["–" if pd.isna(row["silent_level"]) else f"{row['silent_level']:.1f}", f"{row['evaluations']:.0f}"]
        lines.append([_titled(row), *cells])
    compared = "the default" if summary["default"].any() else "the best"
    header = ["Setting", "All", f"minus {compared}", *stems, "Level where silent (dB)", "Evaluations per chunk"]
    note = (
        f"SI-SDRi (dB) over active stems of {chunks} validation chunks of {tracks} tracks, the same for all; paired "
        "intervals over tracks. Bold: the best, and the default if it is not worse."
    )
    return Sheet(_heading(name), header, lines, [note])


def tasks_sheet(name: str, summary: pd.DataFrame, *, clips: int) -> Sheet:
    """The table of `tasks_summary` for readers."""
    words = {"score": MEAN.capitalize(), "sum": "Sum", "absolute": "|Cosine|", "harmony": "Harmony", "onsets": "Onsets"}
    words |= {f"{name} with given": f"{name.capitalize()} with given" for name in ("harmony", "onsets", "copied")}
    # Real chunks are measured in every way, a search's variants only in some.
    variants = summary[summary["variant"] != HELD_OUT].dropna(axis="columns", how="all")
    shown = [column for column in words if column in variants]
    stems = [column.removeprefix("nearest to ") for column in variants if column.startswith("nearest to ")]
    lines: list[list[Cell | str]] = []
    for row in summary.to_dict("records"):
        cells: list[Cell | str] = []
        for stem in stems:
            if pd.isna(row[stem]):
                cells.append("")
                continue
            other = str(row[f"nearest to {stem}"])
            cells.append(Cell(f"{row[stem]:.1f}", aside="" if other == stem else other))
        for column in shown:
            text = "" if pd.isna(row[column]) else f"{row[column]:.{1 if column in ('score', 'sum') else 2}f}"
            cells.append(Cell(text, bold=column == "score" and row["good"]))
        cost = row["evaluations"]
        lines.append([_titled(row), *cells, "" if pd.isna(cost) else f"{cost:.0f}"])
    header = ["Setting", *stems, *(words[column] for column in shown), "Evaluations per clip"]
    notes = [
        f"Fréchet audio distance of {clips} clips per bar, from the same noise, to validation chunks: of each stem to "
        "chunks of its own kind (in brackets, a kind that it is nearer to), and of sums to mixtures. The other columns "
        "compare pairs of stems in a clip, as in the report's table on the stems of mixtures. Bold: the best mean, and "
        "the default's if it is not above the upper end of the best's interval."
    ]
    if "refused" in summary:
        notes += [f"{row.variant}: {row.refused}." for row in summary.dropna(subset="refused").itertuples()]
    return Sheet(_heading(name), header, lines, notes)


def _heading(name: str) -> str:
    return name.replace("_", " ").capitalize()


def _titled(row: Mapping[str, Any]) -> str:
    return f"{row['variant']} (default)" if row["default"] else str(row["variant"])


def defaults_sheet(
    choices: Mapping[str, str],
    decides: Mapping[str, Mapping[str, Sequence[str]]],
    summaries: Mapping[str, pd.DataFrame],
) -> Sheet:
    """Which defaults the searches support: a line for each chosen value of the configuration.

    Args:
        choices: values from `gmsdi.study.search.choices`.
        decides: for each search, the keys whose values it tests, each with the names of the variants that bear on it.
        summaries: for each search, its summary.

    Raises:
        UserError: if a search tests a key that the configuration does not have.
    """
    for name, keys in decides.items():
        for key in keys:
            if key not in choices:
                raise UserError(f"config: tuning.searches.{name}.decides names {key}, which config.yaml does not have")
    lines: list[list[Cell | str]] = []
    for key, value in choices.items():
        said, supported = [], False
        for name in (name for name, keys in decides.items() if key in keys):
            summary = summaries[name][summaries[name]["variant"].isin(decides[name][key])]
            own, best = summary[summary["default"]], summary.iloc[0]
            if own.empty:
                said.append(f"{_heading(name)}: best {best['variant']}")
            elif _good(summary)[own.index[0]]:
                supported = True
                said.append(f"{_heading(name)}: {'the best' if best['default'] else 'as good as the best'}")
            else:
                said.append(f"{_heading(name)}: {best['variant']} is better")
        lines.append([key, value if supported else f"{value} (?)", "; ".join(said) or "no search"])
    return Sheet(
        "Defaults of config/config.yaml", ["Key", "Default", "Table"], lines, ["(?): no search supports this value."]
    )
