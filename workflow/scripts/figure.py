"""Draw a figure from its table."""

from typing import Any

from _common import job

from gmsdi.io.tables import read_table
from gmsdi.study import figures as plots

snakemake: Any

DRAW = {"stems": plots.fad_stems, "mixtures": plots.fad_mixtures, "costs": plots.costs}

with job(snakemake):
    table = read_table(snakemake.input.table, missing=False)
    plots.save(DRAW[snakemake.params.draw](table), *snakemake.output)
