"""Draw a figure from its table."""

from typing import Any

import pandas as pd
from _common import job

from gmsdi.study import figures as plots

snakemake: Any

DRAW = {"stems": plots.fad_stems, "mixtures": plots.fad_mixtures, "costs": plots.costs}

with job(snakemake):
    table = pd.read_csv(snakemake.input.table, keep_default_na=False)
    plots.save(DRAW[snakemake.params.draw](table), *snakemake.output)
