"""Frechet audio distances of all bars and reference lines."""

from pathlib import Path
from typing import Any

import numpy as np
from _common import job

from gmsdi.experiments import distances
from gmsdi.files import atomic

snakemake: Any

with job(snakemake):
    generated = {Path(file).stem: dict(np.load(file)) for file in snakemake.input.generated}
    references = dict(np.load(snakemake.input.references))
    tables = distances(snakemake.params.labels, generated, references, seed=snakemake.params.seed)
    for table, output in zip(tables, (snakemake.output.stems, snakemake.output.mixtures), strict=True):
        with atomic(output) as path:
            table.assign(embedding=snakemake.params.embedding).to_csv(path, index=False)
