"""Publish the tables and figures of runs.

`python -m benchmarks.publish RUN`, in the repository's root, after the run of config/RUN.yaml: copies what it found to
docs/RUN, writes the page README.md there, and puts the Table 2 of mini_full in the place that README.md has for it.
"""

from __future__ import annotations

import json
import re
import shutil
import sys
from pathlib import Path

import pandas as pd
import yaml

from gmsdi.files import atomic
from gmsdi.tables import coherence_sheet, markdown, stems_sheet, table2_brief

ROOT = Path(__file__).parents[1]
TITLES = {
    "mini_full": "The bundled model on the whole test split",
    "mini_clap": "A model trained without labels, beside the bundled one",
}
FIGURES = {
    "figure2_fad_stems": "Figure 2. Fréchet audio distance of single stems",
    "figure3_fad_mixtures": "Figure 3. Fréchet audio distance of total and partial generation",
    "figure4_costs": "Figure 4, beyond the paper. Separation against network evaluations per chunk",
}
TABLES = ("table1_grid", "table2_separation", "table2_differences")
PARTS = (
    *("tables/*.csv", "tables/*.md", "figures/*.svg", "figures/*.png", "scores/fad_*.csv", "scores/costs.csv"),
    *("scores/coherence.csv", "scores/stems_of_mixtures.csv", "config.yaml", "selection.json", "provenance.json"),
)


def page(run: str, folder: Path) -> str:
    """The page of a run's folder: tables, figures, and where they come from."""
    provenance = json.loads((folder / "provenance.json").read_text(encoding="utf-8"))
    chosen = json.loads((folder / "selection.json").read_text(encoding="utf-8"))
    blocks = [
        f"# {TITLES[run]}",
        f"Written by `make publish` from a run of `config/{run}.yaml`; the configuration with every default is in "
        "[config.yaml](config.yaml), what Table 2 uses of Table 1 in [selection.json](selection.json), model, data, "
        "software and times in [provenance.json](provenance.json), all numbers with their intervals in the CSV files.",
        *((folder / f"{name}.md").read_text(encoding="utf-8") for name in TABLES),
        "\n".join(f"- {row.get('title') or method}: {row['chosen_by']}" for method, row in chosen.items()),
    ]
    shown = {name: title for name, title in FIGURES.items() if (folder / f"{name}.svg").is_file()}
    for name, title in shown.items():
        blocks.append(f"## {title}\n\n![{title}]({name}.svg)")
        if name == "figure3_fad_mixtures":
            sheets = [coherence_sheet(pd.read_csv(folder / "coherence.csv"))]
            if (folder / "stems_of_mixtures.csv").is_file():  # a page that was published before there was one
                sheets.insert(0, stems_sheet(pd.read_csv(folder / "stems_of_mixtures.csv")))
            blocks.append(markdown(sheets))
    blocks.append("## Provenance")
    for title, facts in provenance.items():
        blocks.append("\n".join([f"| {title} | |", "| --- | --- |", *(f"| {k} | {v} |" for k, v in facts.items())]))
    return "\n\n".join(block.strip() for block in blocks) + "\n"


def brief(folder: Path) -> str:
    """Table 2 in short, for README.md."""
    table = pd.read_csv(folder / "table2_separation.csv", keep_default_na=False, na_values=[""])
    config = yaml.safe_load((folder / "config.yaml").read_text(encoding="utf-8"))
    return markdown([table2_brief(table, **config["intervals"])])


def main() -> None:
    """Copy, write the page, and fill the place in README.md."""
    if len(sys.argv) != 2 or sys.argv[1] not in TITLES:
        sys.exit(f"usage: python -m benchmarks.publish RUN, one of {', '.join(TITLES)}")
    run = sys.argv[1]
    results, target = ROOT / "results" / run, ROOT / "docs" / run
    missing = [pattern for pattern in PARTS if pattern != "scores/costs.csv" and not list(results.glob(pattern))]
    if missing:
        sys.exit(f"{results.relative_to(ROOT)}: no {missing[0]}; run: snakemake --configfile config/{run}.yaml")
    with atomic(target) as folder:
        folder.mkdir()
        for pattern in PARTS:
            for file in results.glob(pattern):
                shutil.copy(file, folder)
        (folder / "README.md").write_text(page(run, folder), encoding="utf-8")
    if run != "mini_full":
        return
    readme = ROOT / "README.md"
    text, found = re.subn(
        r"(<!-- table2 -->\n).*?(<!-- end -->)",
        lambda match: f"{match[1]}{brief(target)}{match[2]}",
        readme.read_text(encoding="utf-8"),
        flags=re.S,
    )
    if found != 1:
        sys.exit(f"{readme}: no place for table2")
    with atomic(readme) as path:
        path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
