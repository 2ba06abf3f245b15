"""Make the table of BSS Eval's ratios for the separations of Table 2."""

import json
from pathlib import Path
from typing import Any

from _common import job, write_table

from gmsdi.io.tables import read_table
from gmsdi.study.methods import MeanOfRows, load_rows
from gmsdi.study.tables.table2 import bss_eval_sheets, table2_bss_eval

snakemake: Any

with job(snakemake):
    files, methods = snakemake.input, snakemake.params.methods
    scores = {method: read_table(file) for method, file in zip(methods, files.scores, strict=True)}
    rows = load_rows(json.loads(Path(files.selection).read_text(encoding="utf-8")))
    averages = {row["name"]: MeanOfRows(**row) for row in snakemake.params.averages}
    table = table2_bss_eval(scores, {**rows, **averages})
    write_table(snakemake.output, table, bss_eval_sheets(table))
