"""Publish the tables and figures of runs.

After the run of config/RUN.yaml, `python -m benchmarks.publish RUN`, in the repository's root, copies the results to
docs/RUN, writes the page README.md there, inserts the table of all test sets, with notes, into the repository's
README.md, and their Figures 2 and 3 into docs/gallery.md. With `--page` it copies nothing and rewrites all of these
from the files in docs.

A page says that it is from one run only if its provenance agrees (`mixed`); `faults` finds pages that violate this.
"""

from __future__ import annotations

import json
import re
import shutil
import sys
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from benchmarks import by_program
from benchmarks.scaling import fill
from gmsdi.io.files import atomic, sha256_of
from gmsdi.study.data_kinds import KINDS
from gmsdi.study.references import HELD_OUT
from gmsdi.study.sheets import markdown
from gmsdi.study.tables.generation import coherence_sheet, references_note, stems_sheet
from gmsdi.study.trainings import training_facts, trainings_note

ROOT = Path(__file__).parents[1]
TITLES = {
    "mini_full": "The bundled model on our composed pieces",
    "by_others": "The bundled model on songs by others",
    "arranged": "The bundled model on arranged songs, with grooves and a SoundFont unseen in training",
    "mini_latent": "A model of latents and its codecs, compared with the bundled one, of waveforms",
    "mini_clap": "A model trained on CLAP embeddings instead of labels, compared with the bundled one",
}
TEST_SETS = {
    "by_others": "songs by others",
    "arranged": "unseen grooves and SoundFont",
    "mini_full": "our composed pieces",
}
"""Runs that measure the bundled models, with what they are measured on; the README shows the stems of the first."""
ROWS = {
    "demucs_gibbs": "Demucs + Gibbs",
    "weak_msdm": "Weakly supervised MSDM",
    "msdm": "MSDM",
    "separator": "GMSDI Separator",
    "extractor": "GMSDI Extractor",
    "extractor_plain_general": "GMSDI Extractor, model `general`",
    "extractor_consistent": "Extractor, consistent",
    "extractor_general": "Extractor, consistent, model `general`",
    "mean_of_models": "Mean of Demucs + Gibbs and an Extractor of each model",
}
"""Rows of Table 2 that a newcomer needs, with the README's words for them; the pages have all rows."""
SETTINGS = {
    **{"w": "w", "negatives": "negative prompts", "constrained": "constrained stem", "samples": "runs"},
    **{"steps": "steps", "solver.name": "sampler", "solver.steps": "steps", "solver.s_churn": "churn"},
    **{"solver.sigma_min": "noise levels", "solver.sigma_max": "noise levels", "solver.rho": "noise levels"},
    "solver.last": "last step",
}
"""Settings of a row whose differences between runs are told, in words; all pages have them in selection.json."""
UNTITLED = {"separator": "GMSDI Separator", "extractor": "GMSDI Extractor", "ensemble": "Ensemble"}
FIGURES = {
    "figure2_fad_stems": "Figure 2. Fréchet audio distance of single stems",
    "figure3_fad_mixtures": "Figure 3. Fréchet audio distance of total and partial generation",
    "figure4_costs": "Figure 4, beyond the paper. Separation against network evaluations per chunk",
}
TABLES = ("codecs", "table1_grid", "table2_separation", "table2_differences", "negative_prompts")
SECTIONS = {"Run", "Model", "Other models", "Training", "Data", "Software", "Time"}
"""The sections that workflow/scripts/page.py writes. Any other one describes results added or changed by hand."""
ONE = "from one run of"
MIXED = "**Not from one run alone**"
PARTS = (
    *("tables/*.csv", "tables/*.md", "figures/*.svg", "figures/*.png", "scores/fad_*.csv", "scores/costs.csv"),
    *("scores/coherence.csv", "scores/stems_of_mixtures.csv", "config.yaml", "selection.json", "provenance.json"),
)


def mixed(provenance: Mapping[str, Mapping[str, str]]) -> list[str]:
    """The reasons why the numbers of a provenance are not from one unchanged run; empty if they are."""
    found = [f"{title} ({', '.join(provenance[title])})" for title in provenance if title not in SECTIONS]
    return found + [f"no section {title}" for title in ("Run", "Software", "Time") if title not in provenance]


def faults(folder: Path) -> list[str]:
    """The claims of a published page that its provenance and configuration do not support.

    Args:
        folder: the folder of the page, with README.md, provenance.json and config.yaml.
    """
    provenance = json.loads((folder / "provenance.json").read_text(encoding="utf-8"))
    config = yaml.safe_load((folder / "config.yaml").read_text(encoding="utf-8"))
    caption = (folder / "README.md").read_text(encoding="utf-8").split("\n\n**Table 1")[0]
    reasons, found = mixed(provenance), []
    if reasons and ONE in caption:
        found.append(f"says that it is {ONE} a configuration, but its provenance has: {'; '.join(reasons)}")
    if reasons and MIXED not in caption:
        found.append(f"does not say that it mixes runs: {'; '.join(reasons)}")
    found += [f"does not say in its caption: {reason}" for reason in reasons if reason not in caption]
    if not reasons and (ONE not in caption or MIXED in caption):
        found.append("does not say that it is from one run, although it is")
    if config["run"] != folder.name:
        found.append(f"has the configuration of the run {config['run']}")
    if str(provenance.get("Run", {}).get("seed", config["seed"])) != str(config["seed"]):
        found.append("has different seeds in its provenance and configuration")
    if f"{provenance['Data']['test split'].split(',')[0]}" not in caption:
        found.append("does not say in its caption how many tracks it is based on")
    return found


def caption(run: str, folder: Path) -> list[str]:
    """The text below a page's title: the runs and the number of tracks that it is based on, with caveats."""
    provenance = json.loads((folder / "provenance.json").read_text(encoding="utf-8"))
    config = yaml.safe_load((folder / "config.yaml").read_text(encoding="utf-8"))
    where = (
        "the configuration with all defaults is in [config.yaml](config.yaml), the settings that Table 2 takes "
        "from Table 1 are in [selection.json](selection.json), model, data, software and times in "
        "[provenance.json](provenance.json), and all numbers with their intervals in the CSV files."
    )
    reasons = mixed(provenance)
    written = f"Written by `make publish` {ONE} `config/{run}.yaml`; {where}"
    if reasons:
        written = (
            f"{MIXED} of `config/{run}.yaml`: {'; '.join(reasons)}; see [below](#provenance). Written by "
            f"`make publish`; {where}"
        )
    blocks = [written, f"Test split: {provenance['Data']['test split']}."]
    if note := KINDS[config["data"]["kind"]].NOTE:
        blocks.append(note)
    if config["model"]["train"] and config["clap"]["train"]:
        blocks.append(
            "The diffusion model has not seen labels, but the CLAP whose embeddings it was trained on has: it was "
            "trained on the labels of the same mixtures."
        )
    return blocks


def page(run: str, folder: Path) -> str:
    """The page of a run's folder: tables, figures and provenance."""
    provenance = json.loads((folder / "provenance.json").read_text(encoding="utf-8"))
    chosen = json.loads((folder / "selection.json").read_text(encoding="utf-8"))
    blocks = [
        f"# {TITLES[run]}",
        *caption(run, folder),
        *((folder / f"{name}.md").read_text(encoding="utf-8") for name in TABLES if (folder / f"{name}.md").is_file()),
        "\n".join(f"- {row.get('title') or method}: {row['chosen_by']}" for method, row in chosen.items()),
    ]
    if facts := provenance.get("Training") or trained(provenance):
        blocks.append(trainings_note(facts))
    shown = {name: title for name, title in FIGURES.items() if (folder / f"{name}.svg").is_file()}
    for name, title in shown.items():
        blocks.append(f"## {title}\n\n![{title}]({name}.svg)")
        if name.startswith(("figure2", "figure3")):
            table = pd.read_csv(folder / f"{name.partition('_')[2]}.csv")
            blocks += [references_note(table)] if "shared_tracks" in table else []  # older pages do not have it
        if name == "figure3_fad_mixtures":
            sheets = [coherence_sheet(pd.read_csv(folder / "coherence.csv"))]
            if (folder / "stems_of_mixtures.csv").is_file():  # older pages do not have it
                sheets.insert(0, stems_sheet(pd.read_csv(folder / "stems_of_mixtures.csv")))
            blocks.append(markdown(sheets))
    if all((folder / f"{name}.csv").is_file() for name in by_program.FILES):  # only where the workflow renders tracks
        chosen = json.loads((folder / "selection.json").read_text(encoding="utf-8"))
        titles = {name: row["title"] for name, row in chosen.items()} | ROWS
        blocks.append("## By song and program\n\n" + "\n".join(by_program.section(folder, titles)))
    blocks.append("## Provenance")
    for title, facts in provenance.items():
        blocks.append("\n".join([f"| {title} | |", "| --- | --- |", *(f"| {k} | {v} |" for k, v in facts.items())]))
    return "\n\n".join(block.strip() for block in blocks) + "\n"


def trained(provenance: Mapping[str, Mapping[str, str]]) -> dict[str, str]:
    """Training data and time of a page's models, for pages older than their section "Training".

    Bundled models are recognised by the digest of their weights. Of another model, the page itself has the time.
    """
    bundled, models = _bundled(), {}
    for name, text in {"model": provenance["Model"]["model.safetensors"], **provenance.get("Other models", {})}.items():
        if not (found := re.search(r"sha256 ([0-9a-f]{64})", text)):
            continue
        if folder := bundled.get(found[1]):
            models[folder.name] = json.loads((folder / "provenance.json").read_text(encoding="utf-8"))
        elif name == "model":
            models[name] = {key.replace(" ", "_"): value for key, value in provenance["Model"].items()}
    return training_facts(models)


@cache
def _bundled() -> dict[str, Path]:
    """The folders of the bundled models by the digests of their weights."""
    return {sha256_of(file): file.parent for file in (ROOT / "gmsdi" / "weights").rglob("model.safetensors")}


def headline(docs: Path) -> str:
    """The table of README.md: SI-SDRi over active stems, by row of Table 2, on every published test set.

    Args:
        docs: the folder that holds the pages of the runs.
    """
    runs = [run for run in TEST_SETS if (docs / run).is_dir()]
    tables = {run: _active(docs / run) for run in runs}
    stems = [stem for stem in dict.fromkeys(tables[runs[0]]["stem"]) if stem != "All"]
    columns = [(runs[0], stem) for stem in stems] + [(run, "All") for run in runs]
    head = ["", *stems, *(f"All: {TEST_SETS[run]}, {_tracks(docs / run)}" for run in runs)]
    lines = [head, ["---", *["---:"] * len(columns)]]
    for row, title in ROWS.items():
        lines.append([title, *(_score(tables[run], row, stem) for run, stem in columns)])
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def side_by_side(docs: Path) -> str:
    """Figures 2 and 3 of all published test sets, and a table of the distances that they have in common.

    Args:
        docs: the folder that holds the pages of the runs.
    """
    runs = [run for run in TEST_SETS if (docs / run).is_dir()]
    names = ("figure2_fad_stems", "figure3_fad_mixtures")
    titles = {run: f"{name[0].upper()}{name[1:]}" for run, name in TEST_SETS.items()}
    lines = [["", "Figure 2: single stems", "Figure 3: total and partial generation"], ["---"] * 3]
    for run in runs:
        images = (f"[![{FIGURES[name]}]({run}/{name}.svg)]({run}/{name}.svg)" for name in names)
        lines.append([f"[{titles[run]}]({run}/README.md)", *images])
    tables = {run: pd.read_csv(docs / run / "fad_mixtures.csv", keep_default_na=False) for run in runs}
    common = {run: table[table["bar"].isin(["All", ""])].set_index("series") for run, table in tables.items()}
    distances = [["", *(titles[run] for run in runs)], ["---", *["---:"] * len(runs)]]
    configs = {run: yaml.safe_load((docs / run / "config.yaml").read_text(encoding="utf-8")) for run in runs}
    facts = {
        "w of GMSDI": {run: f"{config['generation']['total']['w']:g}" for run, config in configs.items()},
        "clips": {run: str(table["clips"].max()) for run, table in common.items()},
        "tracks in the reference": {run: str(table["reference_tracks"].max()) for run, table in common.items()},
        f"of these for {HELD_OUT}": {run: str(table.at[HELD_OUT, "reference_tracks"]) for run, table in common.items()},
    }
    distances += [[name, *(values[run] for run in runs)] for name, values in facts.items()]
    for kind in ("model", "line"):
        rows = [row for table in common.values() for row in table.index[table["kind"] == kind]]
        distances += [[row, *(_distance(common[run], row) for run in runs)] for row in dict.fromkeys(rows)]
    return "\n".join("".join(f"| {' | '.join(line)} |\n" for line in table) for table in (lines, distances))


def _distance(table: pd.DataFrame, series: str) -> str:
    """A Fréchet audio distance with its interval; a dash if the table does not have it."""
    if series not in table.index:
        return "–"
    return "{:.1f} [{:.1f}, {:.1f}]".format(*table.loc[series, ["fad", "fad_low", "fad_high"]].astype(float))


def notes(docs: Path) -> str:
    """In which settings columns of `headline` differ, and which of its rows were chosen on the test chunks.

    Args:
        docs: the folder that holds the pages of the runs.
    """
    runs = [run for run in TEST_SETS if (docs / run).is_dir()]
    chosen = {run: json.loads((docs / run / "selection.json").read_text(encoding="utf-8")) for run in runs}
    rows = [[_flat(chosen[run][row]) for run in runs if row in chosen[run]] for row in ROWS]
    differing = [
        word
        for key, word in SETTINGS.items()
        if any(
            all(key in settings for settings in row) and len({str(settings[key]) for settings in row}) > 1
            for row in rows
        )
    ]
    told = []
    if words := ", ".join(dict.fromkeys(differing)):
        told.append(f"Some rows have other settings in one column than in another ({words}); each page lists them.")
    best = [
        title
        for row, title in ROWS.items()
        if any(str(chosen[run].get(row, {}).get("chosen_by", "")).endswith("of Table 1") for run in runs)
    ]
    if best:
        told.append(
            "As in the paper, settings chosen in Table 1 are chosen on the test chunks themselves, which makes scores "
            f"optimistic: of {', '.join(best)}, on one page or more."
        )
    return f"\n{' '.join(told)}\n" if told else ""


def _flat(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a row with those of its solver as keys with dots."""
    solver = {f"solver.{key}": value for key, value in settings.get("solver", {}).items()}
    return {key: value for key, value in settings.items() if key != "solver"} | solver


def _score(table: pd.DataFrame, row: str, stem: str) -> str:
    """SI-SDRi of a row, with its interval if it is of all stems."""
    found = table[(table["row"] == row) & (table["stem"] == stem)]
    if found.empty:
        return "–"
    score, low, high = (found[key].item() for key in ("active", "active_low", "active_high"))
    return f"{score:.1f} [{low:.1f}, {high:.1f}]" if stem == "All" else f"{score:.1f}"


def _tracks(folder: Path) -> str:
    """How many tracks the scores of a run are based on; its test split may have more."""
    return f"{pd.read_csv(folder / 'table2_separation.csv')['tracks'].max():.0f} tracks"


def _active(folder: Path) -> pd.DataFrame:
    """The Table 2 of a published run, less what was not run, with the names of its rows."""
    chosen = json.loads((folder / "selection.json").read_text(encoding="utf-8"))
    config = yaml.safe_load((folder / "config.yaml").read_text(encoding="utf-8"))
    rows = config["separation"].get("rows", {})  # older pages do not have it
    averages = {name: row for name, row in rows.items() if row["kind"] == "average"}
    titles = UNTITLED | {name: row["title"] for name, row in (chosen | averages).items() if row.get("title")}
    table = pd.read_csv(folder / "table2_separation.csv", keep_default_na=False, na_values=[""])
    names = {title: name for name, title in titles.items()}
    return table[table["status"] == "run"].assign(row=lambda run: run["model"].map(names))


def main() -> None:
    """Copy the results, write the page, and update README.md and docs/gallery.md."""
    run, again = sys.argv[-1], sys.argv[1:-1] == ["--page"]
    if run not in TITLES or len(sys.argv) != 2 + again:
        sys.exit(f"usage: python -m benchmarks.publish [--page] RUN, one of {', '.join(TITLES)}")
    if again:
        with atomic(ROOT / "docs" / run / "README.md") as path:
            path.write_text(page(run, ROOT / "docs" / run), encoding="utf-8")
    else:
        copy(run)
    docs = ROOT / "docs"
    fill("test sets", (headline(docs) + notes(docs)).splitlines(), ROOT / "README.md")
    fill("generation", side_by_side(docs).splitlines(), docs / "gallery.md")


def copy(run: str) -> None:
    """Copy the results of a run to its folder in docs, and write its page."""
    results, target = ROOT / "results" / run, ROOT / "docs" / run
    missing = [pattern for pattern in PARTS if pattern != "scores/costs.csv" and not list(results.glob(pattern))]
    if missing:
        command = f"snakemake --cores all --configfile config/{run}.yaml"
        sys.exit(f"{results.relative_to(ROOT)}: no {missing[0]}; run: {command}")
    with atomic(target) as folder:
        folder.mkdir()
        for pattern in PARTS:
            for file in results.glob(pattern):
                shutil.copy(file, folder)
        by_program.write(results, folder)
        (folder / "README.md").write_text(page(run, folder), encoding="utf-8")


if __name__ == "__main__":
    main()
