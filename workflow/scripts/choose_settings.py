"""Choose w and the constrained stem of each method of Table 2: as configured, or the best on the grid."""

import json
from typing import Any

from _common import job

from gmsdi.io.files import atomic
from gmsdi.io.tables import read_table
from gmsdi.study.methods import load_rows
from gmsdi.study.selection import choose_settings

snakemake: Any

with job(snakemake), atomic(snakemake.output[0]) as path:
    grids = {
        split: [read_table(file, missing=False) for file in files]
        for split, files in (("test", snakemake.input.test), ("validation", snakemake.input.validation))
        if files
    }
    chosen = choose_settings(grids, load_rows(snakemake.params.rows), by=snakemake.params.by)
    settings = {name: row.model_dump() for name, row in chosen.items()}
    path.write_text(json.dumps(settings, indent=1) + "\n", encoding="utf-8")
