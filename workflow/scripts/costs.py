"""Join the methods' tables of scores and costs."""

from typing import Any

import pandas as pd
from _common import job

from gmsdi.io.files import atomic

snakemake: Any

with job(snakemake), atomic(snakemake.output[0]) as path:
    pd.concat([pd.read_csv(file) for file in snakemake.input]).to_csv(path, index=False)
