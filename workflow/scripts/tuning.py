"""Write the tables of all searches, and which defaults they support."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd
from _common import job, model_folders, windows_folder

from gmsdi.errors import UserError
from gmsdi.io.files import atomic
from gmsdi.io.tables import read_table
from gmsdi.study import report
from gmsdi.study.sheets import markdown
from gmsdi.study.tuning import defaults_sheet, rows_sheet, rows_summary, tasks_sheet, tasks_summary

snakemake: Any

PAGES = {"separation": "Searches among ways to separate", "generation": "Searches among ways to generate"}
NOTE = "Written by `make tune` from validation data; all numbers are in {name}.csv."

with job(snakemake):
    files, params = snakemake.input, snakemake.params
    if not files.rows and not files.tasks:
        raise UserError(
            "config: tuning.searches names no search; run with --configfile config/tuning.yaml, or name one"
        )
    tracks = read_table(next(file for file in files.windows if file.endswith("windows.csv")))["track"].nunique()
    found: dict[str, dict[str, pd.DataFrame]] = {name: {} for name in PAGES}
    for file in map(Path, files.rows):
        found["separation"][file.stem] = rows_summary(read_table(file))
    for file in map(Path, files.tasks):
        found["generation"][file.stem] = tasks_summary(read_table(file))
    models = model_folders(files.models, params.bundled)
    data = dict(report.data_facts(windows_folder(files.windows)))
    facts = {
        "Models": "; ".join(f"{Path(folder).name}: {report.model_brief(folder)}" for folder in models),
        "Data": f"validation split, {tracks} tracks, {data['sample rate']}, chunks of {data['chunk']}",
        "Run": f"seed {params.seed}, {datetime.now(UTC):%Y-%m-%d}, {report.machine()}",
        "Software": ", ".join(f"{name} {number}" for name, number in report.versions()),
    }
    every = {name: summary for part in found.values() for name, summary in part.items()}
    with atomic(snakemake.output[0]) as out:
        out.mkdir()
        lines = [
            "# Tuning",
            "Which of the defaults of `config/config.yaml` a search on validation data supports. Written by ",
        ]
        lines[-1] += "`make tune`; the tables: " + ", ".join(f"[{name}]({name}.md)" for name in PAGES) + "."
        lines += [f"- {name}: {text}" for name, text in facts.items()]
        sheet = defaults_sheet(params.choices, params.decides, every)
        text = "\n\n".join(lines[:2]) + "\n\n" + "\n".join(lines[2:]) + "\n\n" + markdown([sheet])
        (out / "README.md").write_text(text, encoding="utf-8")
        for name, title in PAGES.items():
            sheets = []
            for search, summary in found[name].items():
                items = params.numbers[search]
                if name == "separation":
                    sheets.append(rows_sheet(search, summary, chunks=items, tracks=min(tracks, items)))
                else:
                    sheets.append(tasks_sheet(search, summary, clips=items))
            text = f"# {title}\n\n{NOTE.format(name=name)}\n\n" + markdown(sheets)
            (out / f"{name}.md").write_text(text, encoding="utf-8")
            parts = [summary.assign(search=search) for search, summary in found[name].items()]
            table = pd.concat(parts, ignore_index=True) if parts else pd.DataFrame({"search": []})
            table = table[["search", *(column for column in table if column != "search")]]
            table.to_csv(out / f"{name}.csv", index=False, float_format="%.6g")
