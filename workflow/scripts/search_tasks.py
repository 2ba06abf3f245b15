"""Compare the variants of a search that generates."""

from typing import Any

import numpy as np
from _common import job, open_system, progress, windows_folder

from gmsdi.data.windows import WindowSet
from gmsdi.io.files import atomic
from gmsdi.metrics.embeddings import get_embedding
from gmsdi.study.tasks import load_task
from gmsdi.study.tuning import compare_tasks

snakemake: Any

with job(snakemake), progress(f"searching, {snakemake.wildcards.search}") as update:
    params = snakemake.params
    tasks = [load_task(task) for task in params.variants]
    table = compare_tasks(
        tasks,
        open_system(snakemake, tasks[0].system),
        WindowSet(windows_folder(snakemake.input.windows)),
        dict(np.load(snakemake.input.references)),
        get_embedding(**params.embedding),
        seed=params.seed,
        batch=snakemake.config["jobs"]["batch"],
        default=params.default,
        **params.intervals,
        progress=lambda done: update(done, len(tasks)),
    )
    with atomic(snakemake.output[0]) as path:
        table.to_csv(path, index=False)
