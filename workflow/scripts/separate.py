"""Separate a share of the test chunks with the chosen settings."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from _common import job, progress, system, windows_folder

from gmsdi.data.windows import WindowSet
from gmsdi.experiments import select_chunks, separate, share
from gmsdi.files import atomic

snakemake: Any

with job(snakemake), progress(f"separating, {snakemake.wildcards.method}") as update:
    params, wildcards = snakemake.params, snakemake.wildcards
    windows = WindowSet(windows_folder(snakemake.input.windows))
    ids = list(share(select_chunks(windows.table, params.chunks), int(wildcards.shard), int(wildcards.shards)))
    chosen = json.loads(Path(snakemake.input.selection).read_text())[wildcards.method]
    estimates = separate(
        system(snakemake, chosen["name"]),
        windows,
        ids,
        chosen,
        guidance=params.guidance,
        seed=params.seed,
        batch=snakemake.config["jobs"]["batch"],
        progress=lambda done: update(done, len(ids)),
    )
    with atomic(snakemake.output.audio) as path:
        np.save(path, estimates)
    with atomic(snakemake.output.table) as path:
        windows.table.loc[ids].to_csv(path, index_label="chunk")
