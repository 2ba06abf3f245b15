"""Compare the distances of both engines."""

from typing import Any

from _common import job, write_table

from gmsdi.io.tables import read_table
from gmsdi.study.engines import compared, engines_sheet

snakemake: Any

with job(snakemake):
    tables = [[read_table(file) for file in files] for files in (snakemake.input.ours, snakemake.input.library)]
    table = compared(*tables)
    write_table(snakemake.output, table, [engines_sheet(table)])
