"""Make Table 1 from the scores of the grid."""

from typing import Any

import pandas as pd
from _common import job, workflow_file, write_table

from gmsdi.io.tables import read_table
from gmsdi.study.tables.table1 import table1, table1_sheets

snakemake: Any

with job(snakemake):
    params = snakemake.params
    scores = pd.concat([read_table(file, missing=False) for file in snakemake.input.scores])
    paper = pd.read_csv(workflow_file("resources/paper_table1.csv"), keep_default_na=False)
    table = table1(scores, paper, **params.intervals)
    write_table(snakemake.output, table, table1_sheets(table, convention=params.convention, steps=params.steps))
