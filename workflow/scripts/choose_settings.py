"""Choose w and the constrained stem of each method of Table 2: as configured, or the best on the grid."""

import json
from typing import Any

from _common import chosen_rows, job

from gmsdi.io.files import atomic

snakemake: Any

with job(snakemake), atomic(snakemake.output[0]) as path:
    settings = {name: row.model_dump() for name, row in chosen_rows(snakemake).items()}
    path.write_text(json.dumps(settings, indent=1) + "\n", encoding="utf-8")
