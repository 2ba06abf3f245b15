"""Make the table of codecs from their scores."""

from typing import Any

import pandas as pd
from _common import job, write_table

from gmsdi.study.codecs import codecs_sheet, codecs_table

snakemake: Any

with job(snakemake):
    configs = snakemake.params.configs
    names = {"dtype": {"track": str}, "keep_default_na": False, "na_values": [""]}
    scores = {name: pd.read_csv(file, **names) for name, file in zip(configs, snakemake.input.scores, strict=True)}
    table = codecs_table(scores, configs)
    write_table(snakemake.output, table, [codecs_sheet(table)])
