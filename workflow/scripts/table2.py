"""Make Table 2, and the table of differences of its rows, from the separation scores on the test split."""

import json
from pathlib import Path
from typing import Any

import pandas as pd
from _common import job, workflow_file, write_table

from gmsdi.io.tables import read_table
from gmsdi.study.methods import Ensemble, MeanOfRows, Row, load_rows
from gmsdi.study.tables.table2 import differences_sheet, table2, table2_differences, table2_sheets

snakemake: Any

with job(snakemake):
    params = snakemake.params
    scores = {method: read_table(file) for method, file in zip(params.methods, snakemake.input.scores, strict=True)}
    rows = load_rows(json.loads(Path(snakemake.input.selection).read_text(encoding="utf-8")))
    averages = {row["name"]: MeanOfRows(**row) for row in params.averages}
    selection: dict[str, Row | MeanOfRows] = {**rows, **averages}
    ensembles, validation = [Ensemble(**row) for row in params.ensembles], {}
    if snakemake.input.validation:
        grid = pd.concat([read_table(file, missing=False) for file in snakemake.input.validation])
        for row in rows.values():
            if row.twin:
                cell = row.cell()
                validation[row.name] = grid[(grid[list(cell)] == pd.Series(cell)).all(axis=1)]
    given: dict[str, Any] = {"ensembles": ensembles, "validation": validation}
    table = table2(
        scores,
        selection,
        pd.read_csv(workflow_file("resources/paper_table2.csv")),
        **given,
        **params.intervals,
    )
    chunks = sum(len(read_table(file)) for file in snakemake.input.chunks)
    write_table(
        [file for file in snakemake.output if "differences" not in Path(file).stem],
        table,
        table2_sheets(table, selection, ensembles, chunks=chunks, **params.intervals),
    )
    pairs = table2_differences(scores, selection, **given, **params.intervals)
    write_table(snakemake.output.differences, pairs, [differences_sheet(pairs, **params.intervals)])
