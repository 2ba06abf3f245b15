"""Assemble the report page."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml
from _common import job, model_folders, windows_folder, workflow_file

from gmsdi.io.files import atomic
from gmsdi.io.tables import read_table
from gmsdi.study import figures as plots
from gmsdi.study import report
from gmsdi.study.chunks import ALL
from gmsdi.study.codecs import codecs_sheet
from gmsdi.study.data_kinds import KINDS
from gmsdi.study.engines import engines_sheet
from gmsdi.study.methods import load_rows
from gmsdi.study.sheets import frame_html, sheet_html
from gmsdi.study.study import Study
from gmsdi.study.tables.generation import coherence_sheet, negatives_sheets, references_note, stems_sheet
from gmsdi.study.tables.table1 import table1_sheets
from gmsdi.study.tables.table2 import differences_sheet, table2_sheets
from gmsdi.study.trainings import trainings_note

snakemake: Any


def caption(figure: str) -> str:
    """A caption of Snakemake's report as plain text."""
    return " ".join(workflow_file(f"report/{figure}.rst").read_text(encoding="utf-8").replace("``", "").split())


with job(snakemake):
    files, params = snakemake.input, snakemake.params
    config = yaml.safe_load(Path(files.config).read_text(encoding="utf-8"))
    chunks = sum(len(read_table(file)) for file in files.chunks)
    rows = load_rows(json.loads(Path(files.selection).read_text(encoding="utf-8")))
    titles = ("Figure 2. Single stems", "Figure 3. Total and partial generation")
    captions = ("figure2", "figure3")
    figures = []
    for title, draw, text, file in zip(
        titles, (plots.fad_stems, plots.fad_mixtures), captions, files.scores, strict=True
    ):
        table = read_table(file, missing=False)
        told = f"{caption(text)} {references_note(table)}"
        facts = {"title": title, "caption": told, "table": frame_html(table[report.DISTANCES])}
        figures.append({**facts, "image": report.svg_uri(draw(table))})
    costs = None
    if files.costs:
        table = read_table(files.costs)
        columns = ["method", "steps", "evaluations", "active", "active_low", "active_high", "protocol"]
        overall = table.loc[table["stem"] == ALL, columns]
        costs = {
            "title": "Figure 4. Separation against its cost",
            "caption": caption("figure4"),
            "table": frame_html(overall),
            "image": report.svg_uri(plots.costs(table)),
        }
    training = None
    if files.training:
        short = config["demo_training"]
        training = {
            "image": report.svg_uri(plots.losses(read_table(files.training))),
            "text": f"{short['training']['steps']} steps on {short['tracks']} tracks.",
        }
    table1, table2 = read_table(files.table1), read_table(files.table2)
    table1["constrained"] = table1["constrained"].fillna("")
    convention, study = config["separation"]["guidance"]["convention"], Study(config)
    sheets1 = table1_sheets(table1, convention=convention, steps=study.grid_steps())
    sheets2 = [
        *table2_sheets(
            table2, {**rows, **study.averages}, list(study.ensembles.values()), chunks=chunks, **config["intervals"]
        ),
        differences_sheet(read_table(files.differences), **config["intervals"]),
    ]
    negative = negatives_sheets(read_table(files.negatives), **config["intervals"]) if files.negatives else []
    data, windows = config["data"], windows_folder(files.windows)
    (model,) = model_folders(files.model, params.bundled)
    others = sorted(model_folders(files.others, params.bundled_others), key=str)
    trainings = report.trainings([model, *others])
    provenance = [
        (
            "Run",
            [
                ("finished", f"{datetime.now(UTC):%Y-%m-%d}"),
                ("seed", config["seed"]),
                ("page made on", report.machine()),
            ],
        ),
        ("Model", report.model_facts(model)),
        *([("Other models", [(Path(folder).name, report.model_brief(folder)) for folder in others])] if others else []),
        *([("Training", list(trainings.items()))] if trainings else []),
        ("Data", report.data_facts(windows)),
        ("Software", report.versions()),
        ("Time", [(kind, f"{seconds:.0f} s") for kind, seconds in report.times(params.benchmarks)]),
    ]
    described = "a text-conditioned diffusion model that was trained on mixtures only"
    if isinstance(model, str):
        described = f"the pretrained model {model}"
    context = {
        "run": config["run"],
        "summary": f"Tables 1 and 2 and Figures 2 and 3 of the paper, computed on the data set “{data['kind']}” "
        f"({', '.join(data['classes'])}; {data['sample_rate']} Hz) with {described}.",
        "data_note": KINDS[data["kind"]].NOTE,
        "amounts": f"Table 1: {config['grid']['chunks'] or 'all'} chunks of the test split, Table 2: {chunks}. "
        f"Figures 2 and 3: {config['generation']['clips']} clips of each bar.",
        "table1": [sheet_html(sheet) for sheet in sheets1],
        "table2": [sheet_html(sheet) for sheet in sheets2],
        "chosen": "; ".join(f"{row.title}: {row.summary()} ({row.chosen_by})" for row in rows.values()),
        "trainings": trainings_note(trainings) if trainings else "",
        "codecs": [sheet_html(codecs_sheet(read_table(files.codecs)))] if files.codecs else [],
        "engines": [sheet_html(engines_sheet(read_table(files.engines)))] if files.engines else [],
        "costs": costs,
        "figures": figures,
        "stems": sheet_html(stems_sheet(read_table(files.stems))),
        "coherence": sheet_html(coherence_sheet(read_table(files.coherence))),
        "negatives": [sheet_html(sheet) for sheet in negative],
        "gallery": report.gallery(files.gallery),
        "provenance": provenance,
        "settings": report.settings(config),
        "training": training,
    }
    with atomic(snakemake.output.page) as path:
        path.write_text(report.render(workflow_file("report/page.html.j2"), context), encoding="utf-8")
    with atomic(snakemake.output.provenance) as path:
        path.write_text(
            json.dumps({title: dict(facts) for title, facts in provenance}, indent=1) + "\n", encoding="utf-8"
        )
