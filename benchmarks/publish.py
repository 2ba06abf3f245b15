"""Publish the tables and figures of runs.

After the run of config/RUN.yaml, `python -m benchmarks.publish RUN`, in the repository's root, copies the results to
docs/RUN, writes the page README.md there, and inserts the table of all test sets, with notes, into the repository's
README.md. With `--page` it copies nothing and rewrites the page and the table from the files in docs.

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
from gmsdi.io.files import atomic, sha256_of
from gmsdi.study.data_kinds import KINDS
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
FEW_TRACKS = 20
"""With fewer, the percentiles of a bootstrap cover much less than they should (`gmsdi.metrics.si_sdr.mean_ci`)."""
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
        if name == "figure2_fad_stems" and (told := unequal(folder)):
            blocks.append(told)
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


def unequal(folder: Path) -> str:
    """A note for a Figure 2 whose series have different w, as before `generation.single.w` existed; otherwise ""."""
    generation = yaml.safe_load((folder / "config.yaml").read_text(encoding="utf-8"))["generation"]
    strong = generation["single"].get("w_negatives")
    if strong is None or strong == generation["w"]:
        return ""
    table = pd.read_csv(folder / "fad_stems.csv")
    cells = table[table["kind"] == "model"].pivot(index="bar", columns="series", values="fad")
    changes = [
        f"{bar} {row['without negative prompts']:.1f} to {row['with negative prompts']:.1f}"
        f" ({'farther' if row['with negative prompts'] > row['without negative prompts'] else 'nearer'})"
        for bar, row in cells.loc[list(dict.fromkeys(table["bar"]))].iterrows()
    ]
    return (
        f"**The two series differ in more than their negative prompts:** w = {generation['w']:g} without them, "
        f"w = {strong:g} with them. FAD without and with: {', '.join(changes)}. The distances have no intervals here; "
        "small differences mean nothing."
    )


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


def notes(docs: Path) -> str:
    """What the columns of `headline` do not have in common: the kind of their intervals, and the settings of rows.

    Args:
        docs: the folder that holds the pages of the runs.
    """
    runs = [run for run in TEST_SETS if (docs / run).is_dir()]
    kinds = {run: _intervals(docs / run) for run in runs}
    told = [
        f"The intervals of {TEST_SETS[run]} are percentiles of a bootstrap of {_tracks(docs / run)}: too narrow."
        for run in runs
        if kinds[run] == "bootstrap" and int(_tracks(docs / run).split()[0]) < FEW_TRACKS
    ]
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
    if differing:
        words = ", ".join(dict.fromkeys(differing))
        told.append(f"Some rows have other settings in one column than in another ({words}); each page lists them.")
    return f"\n{' '.join(told)}\n" if told else ""


def _flat(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a row with those of its solver as keys with dots."""
    solver = {f"solver.{key}": value for key, value in settings.get("solver", {}).items()}
    return {key: value for key, value in settings.items() if key != "solver"} | solver


def _intervals(folder: Path) -> str:
    """The kind of a run's intervals: "t", or "bootstrap" on older pages."""
    text = (folder / "table2_separation.md").read_text(encoding="utf-8")
    (kind,) = set(re.findall(r"95% (\w+) intervals over tracks", text))
    return str(kind)


def _score(table: pd.DataFrame, row: str, stem: str) -> str:
    """SI-SDRi of a row, with its interval if it is of all stems."""
    found = table[(table["row"] == row) & (table["stem"] == stem)]
    if found.empty:
        return "–"
    score, low, high = (found[key].item() for key in ("active", "active_low", "active_high"))
    return f"{score:.1f} [{low:.1f}, {high:.1f}]" if stem == "All" else f"{score:.1f}"


def _tracks(folder: Path) -> str:
    """How many tracks the numbers of a run are based on."""
    provenance = json.loads((folder / "provenance.json").read_text(encoding="utf-8"))
    return str(provenance["Data"]["test split"]).split(",")[0]


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
    """Copy the results, write the page, and update README.md."""
    run, again = sys.argv[-1], sys.argv[1:-1] == ["--page"]
    if run not in TITLES or len(sys.argv) != 2 + again:
        sys.exit(f"usage: python -m benchmarks.publish [--page] RUN, one of {', '.join(TITLES)}")
    if again:
        with atomic(ROOT / "docs" / run / "README.md") as path:
            path.write_text(page(run, ROOT / "docs" / run), encoding="utf-8")
    else:
        copy(run)
    readme = ROOT / "README.md"
    text, found = re.subn(
        r"(<!-- test sets -->\n).*?(<!-- end -->)",
        lambda match: f"{match[1]}{headline(ROOT / 'docs')}{notes(ROOT / 'docs')}{match[2]}",
        readme.read_text(encoding="utf-8"),
        flags=re.S,
    )
    if found != 1:
        sys.exit(f"{readme}: no <!-- test sets --> to fill")
    with atomic(readme) as path:
        path.write_text(text, encoding="utf-8")


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
