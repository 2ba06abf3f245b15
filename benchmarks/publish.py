"""Publish the tables and figures of a run of `config/mini_full.yaml`.

`python -m benchmarks.publish`, in the repository's root, after `make mini_full`: copies what the run found to
docs/mini_full, writes the page README.md there, and puts the run's Table 2 in the place that README.md has for it.
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
from gmsdi.tables import markdown, table2_brief

ROOT = Path(__file__).parents[1]
RUN = ROOT / "results" / "mini_full"
TARGET = ROOT / "docs" / "mini_full"
FIGURES = {
    "figure2_fad_stems": "Figure 2. Fréchet audio distance of single stems",
    "figure3_fad_mixtures": "Figure 3. Fréchet audio distance of total and partial generation",
    "figure4_costs": "Figure 4, beyond the paper. Separation against network evaluations per chunk",
}
PARTS = (
    *("tables/*.csv", "tables/*.md", "figures/*.svg", "figures/*.png", "scores/fad_*.csv", "scores/costs.csv"),
    *("config.yaml", "selection.json", "provenance.json"),
)


def page() -> str:
    """The page of docs/mini_full: tables, figures, and where they come from."""
    provenance = json.loads((TARGET / "provenance.json").read_text(encoding="utf-8"))
    chosen = json.loads((TARGET / "selection.json").read_text(encoding="utf-8"))
    blocks = [
        "# The bundled model on the whole test split",
        "Written by `make publish` from a run of `make mini_full`; the configuration with every default is in "
        "[config.yaml](config.yaml), what Table 2 uses of Table 1 in [selection.json](selection.json), model, data, "
        "software and times in [provenance.json](provenance.json), all numbers with their intervals in the CSV files.",
        *((TARGET / f"{name}.md").read_text(encoding="utf-8") for name in ("table1_grid", "table2_separation")),
        "\n".join(f"- {row.get('title') or method}: {row['chosen_by']}" for method, row in chosen.items()),
    ]
    blocks += [f"## {title}\n\n![{title}]({name}.svg)" for name, title in FIGURES.items() if shown(name)]
    blocks.append("## Provenance")
    for title, facts in provenance.items():
        blocks.append("\n".join([f"| {title} | |", "| --- | --- |", *(f"| {k} | {v} |" for k, v in facts.items())]))
    return "\n\n".join(block.strip() for block in blocks) + "\n"


def shown(figure: str) -> bool:
    """Whether the run has a figure."""
    return (TARGET / f"{figure}.svg").is_file()


def brief() -> str:
    """Table 2 in short, for README.md."""
    table = pd.read_csv(TARGET / "table2_separation.csv", keep_default_na=False, na_values=[""])
    config = yaml.safe_load((TARGET / "config.yaml").read_text(encoding="utf-8"))
    return markdown([table2_brief(table, confidence=config["bootstrap"]["confidence"])])


def main() -> None:
    """Copy, write the page, and fill the place in README.md."""
    missing = [pattern for pattern in PARTS if pattern != "scores/costs.csv" and not list(RUN.glob(pattern))]
    if missing:
        sys.exit(f"{RUN.relative_to(ROOT)}: no {missing[0]}; run: make mini_full")
    with atomic(TARGET) as folder:
        folder.mkdir()
        for pattern in PARTS:
            for file in RUN.glob(pattern):
                shutil.copy(file, folder)
    (TARGET / "README.md").write_text(page(), encoding="utf-8")
    readme = ROOT / "README.md"
    text, found = re.subn(
        r"(<!-- table2 -->\n).*?(<!-- end -->)",
        lambda match: f"{match[1]}{brief()}{match[2]}",
        readme.read_text(encoding="utf-8"),
        flags=re.S,
    )
    if found != 1:
        sys.exit(f"{readme}: no place for table2")
    with atomic(readme) as path:
        path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
