"""Table 2 from the scores of the separation of the test split."""

import json
from pathlib import Path
from typing import Any

import pandas as pd
from _common import job, write_table

from gmsdi.study import VALIDATED
from gmsdi.tables import table2, table2_sheets

snakemake: Any

with job(snakemake):
    params = snakemake.params
    scores = {method: pd.read_csv(file) for method, file in zip(params.methods, snakemake.input.scores, strict=True)}
    selection = json.loads(Path(snakemake.input.selection).read_text())
    validation = {}
    if snakemake.input.validation:
        grid = pd.concat([pd.read_csv(file, keep_default_na=False) for file in snakemake.input.validation])
        for method in VALIDATED:
            chosen = selection[method]
            rows = (grid["model"] == chosen["name"]) & (grid["constrained"] == chosen.get("constrained", ""))
            validation[method] = grid[rows & (grid["w"] == chosen["w"])]
    table = table2(
        scores,
        selection,
        pd.read_csv(snakemake.input.paper),
        validation=validation,
        **params.bootstrap,
        seed=params.seed,
    )
    chunks = sum(len(pd.read_csv(file)) for file in snakemake.input.chunks)
    sheets = table2_sheets(table, chunks=chunks, confidence=params.bootstrap["confidence"])
    write_table(snakemake.output, table, sheets)
