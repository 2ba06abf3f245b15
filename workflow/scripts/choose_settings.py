"""Settle w and the constrained stem of each method of Table 2: as configured, or the best of the grid."""

import json
from typing import Any

import pandas as pd
from _common import job

from gmsdi.io.files import atomic
from gmsdi.study.experiments import choose_settings

snakemake: Any

with job(snakemake), atomic(snakemake.output[0]) as path:
    grids = {
        split: [pd.read_csv(file, keep_default_na=False) for file in files]
        for split, files in (("test", snakemake.input.test), ("validation", snakemake.input.validation))
        if files
    }
    chosen = choose_settings(grids, snakemake.params.methods, by=snakemake.params.by)
    path.write_text(json.dumps(chosen, indent=1) + "\n", encoding="utf-8")
