"""Join the methods' tables of scores and costs, and name the methods by their titles."""

from typing import Any

import pandas as pd
from _common import job

from gmsdi.io.files import atomic
from gmsdi.io.tables import read_table

snakemake: Any

with job(snakemake), atomic(snakemake.output[0]) as path:
    titled = zip(snakemake.input, snakemake.params.titles, strict=True)
    pd.concat([read_table(file).assign(method=title) for file, title in titled]).to_csv(path, index=False)
