"""Generate one shard of a task's clips."""

from typing import Any

import numpy as np
from _common import job, open_system, progress, windows_folder

from gmsdi.data.windows import WindowSet
from gmsdi.io.files import atomic
from gmsdi.study.counting import share
from gmsdi.study.generation import clips_of, generate
from gmsdi.study.tasks import load_task

snakemake: Any

with job(snakemake), progress(f"generating, {snakemake.wildcards.task}") as update:
    params, wildcards = snakemake.params, snakemake.wildcards
    windows = WindowSet(windows_folder(snakemake.input.windows)) if snakemake.input.windows else None
    task = load_task(params.task)
    every = clips_of(task, windows, seed=params.seed)
    numbers = share(range(len(every)), int(wildcards.shard), int(wildcards.shards))
    clips = every.iloc[list(numbers)]
    audio = generate(
        task,
        open_system(snakemake, task.system),
        clips,
        seed=params.seed,
        batch=snakemake.config["jobs"]["batch"],
        windows=windows,
        progress=lambda done: update(done, len(clips)),
    )
    with atomic(snakemake.output.audio) as path:
        np.save(path, audio)
    with atomic(snakemake.output.table) as path:
        clips.to_csv(path, index=False)
