"""Separation by song, and by the General MIDI programs that play a stem: where a run's scores are high and low.

    python -m benchmarks.by_program by_others                 # docs/by_others/by_song.csv and by_program.csv
    python -m benchmarks.by_program arranged --rows extractor mean_of_models

After the run of config/RUN.yaml, on data that the workflow rendered. Scores are SI-SDRi over active stems, as in
Table 2; each chunk is attributed to all programs that play the stem in the whole track. `benchmarks.publish` writes the
same files, and shows them on the page of the run.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import pandas as pd
import pretty_midi
import yaml

from benchmarks.scaling import table
from gmsdi.data.slakh import list_tracks
from gmsdi.study.data_kinds import KINDS
from gmsdi.study.study import Study

ROOT = Path(__file__).parents[1]
ROWS = ("extractor_plain_general", "extractor_general", "mean_of_models")
"""The paper's Extractor and the consistent one with the model `general`, and the mean with the other models."""
NAMES = {number: pretty_midi.program_to_instrument_name(number) for number in [*range(8), *range(24, 40)]}
"""General MIDI's programs of the bundled models' classes."""
FILES = ("by_song", "by_program")


def programs_of(metadata: Path) -> tuple[str, dict[str, str]]:
    """The name of a track's song, and the programs of each of its classes, in words and in order.

    Args:
        metadata: the track's metadata.yaml, in the layout of Slakh2100.
    """
    known = yaml.safe_load(metadata.read_text(encoding="utf-8"))
    found: dict[str, set[tuple[int, str]]] = {}
    for part in known["stems"].values():
        number = part.get("preset", part["program_num"])
        name = f"drum kit {number}" if part["is_drum"] else f"{number} {NAMES.get(number, '')}".strip()
        found.setdefault(part["inst_class"], set()).add((number, name))
    words = {label: ", ".join(name for _, name in sorted(parts)) for label, parts in found.items()}
    return str(known.get("song", metadata.parent.name)), words


def by_song(scores: pd.DataFrame, songs: Mapping[str, str], programs: Mapping[str, Mapping[str, str]]) -> pd.DataFrame:
    """Scores of each row, song and stem.

    Args:
        scores: row, then the columns of the files scores/separation_*.csv.
        songs: the name of each track's song.
        programs: for each track, the programs of its stems.

    Returns:
        row, song, track, stem, programs, subwindows (those in which the stem is active), stems_at_once (mean number of
        active stems in these) and si_sdri, their mean in dB.
    """
    place = ["row", "track", "offset", "sub"]
    scores = scores.assign(at_once=scores.groupby(place)["active"].transform("sum"))
    active = scores[scores["active"]]
    groups = active.groupby(["row", "track", "stem"], sort=False)
    found = groups.agg(
        subwindows=("si_sdri", "size"), stems_at_once=("at_once", "mean"), si_sdri=("si_sdri", "mean")
    ).reset_index()
    found.insert(1, "song", found["track"].map(songs))
    pairs = zip(found["track"], found["stem"], strict=True)
    found.insert(4, "programs", [programs[track][stem] for track, stem in pairs])
    return found


def by_program(songs: pd.DataFrame) -> pd.DataFrame:
    """Scores of each row, stem and set of programs, from those of `by_song`.

    Returns:
        row, stem, programs, songs, subwindows, stems_at_once, si_sdri (the mean over sub-windows, as in Table 2, where
        the mean over the programs, weighted by their sub-windows, is the stem's score), lowest and highest (of a song).
    """
    weighted = songs.assign(
        **{name: songs[name] * songs["subwindows"] for name in ("stems_at_once", "si_sdri")}, score=songs["si_sdri"]
    )
    found = weighted.groupby(["row", "stem", "programs"], sort=False).agg(
        songs=("track", "nunique"),
        subwindows=("subwindows", "sum"),
        stems_at_once=("stems_at_once", "sum"),
        si_sdri=("si_sdri", "sum"),
        lowest=("score", "min"),
        highest=("score", "max"),
    )
    for name in ("stems_at_once", "si_sdri"):
        found[name] /= found["subwindows"]
    order = [found.index.get_level_values(name).map(_places(songs[name])) for name in ("row", "stem")]
    ranked = found.assign(first=order[0], second=order[1]).sort_values(["first", "second", "si_sdri"], kind="stable")
    return ranked.drop(columns=["first", "second"]).reset_index()


def _places(values: pd.Series) -> dict[str, int]:
    return {value: place for place, value in enumerate(dict.fromkeys(values))}


def tracks_of(results: Path) -> list[Path]:
    """The folders of the test tracks of a run; empty if the workflow did not render them, or they are gone."""
    config = yaml.safe_load((results / "config.yaml").read_text(encoding="utf-8"))
    study, made = Study(config), KINDS[config["data"]["kind"]].MADE
    folder = results.parent / "data" / study.dataset_id() / study.part("test") / (made or "")
    return list_tracks(folder, "test") if made and folder.is_dir() else []


def write(results: Path, out: Path, rows: Iterable[str] = ROWS) -> bool:
    """Write by_song.csv and by_program.csv of a run; return whether there was anything to write.

    Args:
        results: the folder of the run, beside the folder of its data.
        out: where the two files go.
        rows: names of rows of Table 2; those that were not run are left out.
    """
    files = {row: results / "scores" / f"separation_{row}.csv" for row in rows}
    tables = [pd.read_csv(file).assign(row=row) for row, file in files.items() if file.is_file()]
    tracks = tracks_of(results) if tables else []
    if not tracks:
        return False
    known = {track.name: programs_of(track / "metadata.yaml") for track in tracks}
    songs, programs = ({track: facts[place] for track, facts in known.items()} for place in (0, 1))
    found = by_song(pd.concat(tables), songs, programs)
    for name, made in zip(FILES, (found, by_program(found)), strict=True):
        made.round(3).to_csv(out / f"{name}.csv", index=False)
    return True


def section(folder: Path, titles: Mapping[str, str]) -> list[str]:
    """The lines of a page on by_program.csv and by_song.csv: a table of stems and programs, and the hardest songs.

    Args:
        folder: holds the two files.
        titles: the rows of Table 2 by name.
    """
    songs, programs = (pd.read_csv(folder / f"{name}.csv") for name in FILES)
    rows = list(dict.fromkeys(programs["row"]))
    wide = programs.pivot(index=["stem", "programs", "songs", "subwindows"], columns="row", values="si_sdri")
    best = rows[-1]
    stems = _places(programs["stem"])
    lines = sorted(wide.reset_index().to_dict("records"), key=lambda line: (stems[line["stem"]], line[best]))
    shown = [
        [line["stem"], line["programs"], *(str(line[name]) for name in ("songs", "subwindows"))]
        + [f"{line[row]:.1f}" for row in rows]
        for line in lines
    ]
    head = ["Stem", "Programs in the track", "Songs", "Sub-windows", *(titles.get(row, row) for row in rows)]
    told = []
    for stem, own in songs[songs["row"] == best].groupby("stem", sort=False):
        ordered = own.sort_values("si_sdri")
        low = ", ".join(f"{line['song']} {line['si_sdri']:.1f}" for line in ordered[:3].to_dict("records"))
        below = (own["si_sdri"] < 0).sum()
        told.append(f"{stem}: {low}; {below} of {len(own)} below 0")
    return [
        *table(head, shown),
        "",
        f"SI-SDRi (dB) over the sub-windows in which the stem is active; all sets of programs that a stem of a track "
        f"is played with. By song, “{titles.get(best, best)}”, the lowest three: {'. '.join(told)}. "
        "[by_song.csv](by_song.csv) and [by_program.csv](by_program.csv) have all of them, by "
        "`python -m benchmarks.by_program`.",
    ]


def main(arguments: Sequence[str] | None = None) -> None:
    """Write the two files of a run."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", help="name of a run")
    parser.add_argument("--results", type=Path, default=ROOT / "results", help="folder of the runs and their data")
    parser.add_argument("--rows", nargs="+", default=ROWS, help="rows of Table 2")
    parser.add_argument("--out", type=Path, help="folder of the two files; docs/RUN unless told otherwise")
    given = parser.parse_args(arguments)
    results = given.results / given.run
    if not (results / "config.yaml").is_file():
        sys.exit(f"{results}: no finished run; run: snakemake --cores all --configfile config/{given.run}.yaml")
    if not write(results, given.out or ROOT / "docs" / given.run, given.rows):
        sys.exit(f"{results}: no scores of {', '.join(given.rows)}, or no tracks rendered by the workflow")


if __name__ == "__main__":
    main()
