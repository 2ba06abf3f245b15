"""Choose w and the constrained stem for Table 2: pinned in the configuration, or the best of Table 1."""

import json
from typing import Any

import pandas as pd
from _common import job

from gmsdi.experiments import choose_settings
from gmsdi.files import atomic

snakemake: Any

with job(snakemake), atomic(snakemake.output[0]) as path:
    scores = [pd.read_csv(file, keep_default_na=False) for file in snakemake.input.scores]
    chosen = choose_settings(scores, snakemake.params.pinned, by=snakemake.params.by)
    path.write_text(json.dumps(chosen, indent=1) + "\n", encoding="utf-8")
