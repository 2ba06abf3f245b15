"""Separate a share of the test chunks with the chosen settings."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from _common import job, progress, system, windows_folder

from gmsdi.data.windows import WindowSet
from gmsdi.io.files import atomic
from gmsdi.study.experiments import select_chunks, separate, share
from gmsdi.study.study import VALIDATED

snakemake: Any


def same(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """Whether two methods differ in their names at most."""
    names = ("title", "chosen_by")
    first, second = ({key: value for key, value in method.items() if key not in names} for method in (one, other))
    return first == second


with job(snakemake), progress(f"separating, {snakemake.wildcards.method}") as update:
    params, wildcards = snakemake.params, snakemake.wildcards
    windows = WindowSet(windows_folder(snakemake.input.windows))
    chosen_chunks = select_chunks(windows.table, params.chunks, seed=params.seed)
    ids = list(share(chosen_chunks, int(wildcards.shard), int(wildcards.shards)))
    selection = json.loads(Path(snakemake.input.selection).read_text())
    chosen = selection[wildcards.method]
    if snakemake.input.twin and same(chosen, selection[VALIDATED[wildcards.method]]):
        estimates = np.load(snakemake.input.twin)
    else:
        estimates = separate(
            system(snakemake, chosen["name"], chosen),
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
