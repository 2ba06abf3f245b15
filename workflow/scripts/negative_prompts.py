"""Tabulate the effect of negative prompts on each stem's distance, from Figure 2 and the curve over w."""

from typing import Any

from _common import job, write_table

from gmsdi.io.tables import read_table
from gmsdi.study.tables.generation import negatives, negatives_sheets

snakemake: Any

with job(snakemake):
    stems, curve = (read_table(file) for file in snakemake.input.scores)
    table = negatives(stems, curve)
    write_table(snakemake.output, table, negatives_sheets(table, **snakemake.params.intervals))
