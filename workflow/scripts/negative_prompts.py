"""Tabulate the effect of negative prompts on each stem's distance, from Figure 2 and the curve over w."""

from typing import Any

import pandas as pd
from _common import job, write_table

from gmsdi.study.tables.generation import negatives, negatives_sheets

snakemake: Any

with job(snakemake):
    stems, curve = (pd.read_csv(file, keep_default_na=False, na_values=[""]) for file in snakemake.input.scores)
    table = negatives(stems, curve)
    write_table(snakemake.output, table, negatives_sheets(table, **snakemake.params.intervals))
