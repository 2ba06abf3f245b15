"""Separate one shard of the test chunks with the chosen settings."""

from typing import Any

import numpy as np
from _common import chosen_rows, job, open_system, progress, windows_folder

from gmsdi.data.windows import WindowSet
from gmsdi.io.files import atomic
from gmsdi.study.chunks import select_chunks
from gmsdi.study.counting import share
from gmsdi.study.separation import separate

snakemake: Any

with job(snakemake), progress(f"separating, {snakemake.wildcards.method}") as update:
    params, wildcards = snakemake.params, snakemake.wildcards
    windows = WindowSet(windows_folder(snakemake.input.windows))
    chosen_chunks = select_chunks(windows.table, params.chunks, seed=params.seed)
    ids = list(share(chosen_chunks, int(wildcards.shard), int(wildcards.shards)))
    rows = chosen_rows(snakemake)
    row = rows[wildcards.method]
    if row.twin and row.same_as(rows[row.twin]):
        estimates = np.load(snakemake.input.twin)
    else:
        estimates = separate(
            row,
            open_system(snakemake, row.system),
            windows,
            ids,
            seed=params.seed,
            batch=snakemake.config["jobs"]["batch"],
            progress=lambda done: update(done, len(ids)),
        )
    with atomic(snakemake.output.audio) as path:
        np.save(path, estimates)
    with atomic(snakemake.output.table) as path:
        windows.table.loc[ids].to_csv(path, index_label="chunk")
