"""Make the table of codecs from their scores."""

from typing import Any

from _common import job, write_table

from gmsdi.io.tables import read_table
from gmsdi.study.codecs import codecs_sheet, codecs_table

snakemake: Any

with job(snakemake):
    configs = snakemake.params.configs
    scores = {name: read_table(file) for name, file in zip(configs, snakemake.input.scores, strict=True)}
    table = codecs_table(scores, configs)
    write_table(snakemake.output, table, [codecs_sheet(table)])
