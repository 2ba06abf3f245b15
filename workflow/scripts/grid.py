"""Score one separation method with every setting of its part of the grid."""

from collections.abc import Callable
from functools import partial
from typing import Any

import pandas as pd
from _common import job, progress, system, windows_folder

from gmsdi.data.windows import WindowSet
from gmsdi.io.files import atomic
from gmsdi.study.experiments import score_separation, select_chunks, separate

snakemake: Any


def advance(update: Callable[[float, float], None], before: int, total: int, done: float) -> None:
    update(before + done, total)


with job(snakemake), progress(f"grid, {snakemake.wildcards.split}, {snakemake.wildcards.method}") as update:
    params = snakemake.params
    windows = WindowSet(windows_folder(snakemake.input.windows))
    ids = select_chunks(windows.table, params.chunks, seed=params.seed)
    runner = system(snakemake, params.cells[0]["name"], params.cells[0])
    tables = []
    total = len(params.cells) * len(ids)
    for place, cell in enumerate(params.cells):
        estimates = separate(
            runner,
            windows,
            ids,
            cell,
            guidance=params.guidance,
            seed=params.seed,
            batch=snakemake.config["jobs"]["batch"],
            progress=partial(advance, update, place * len(ids), total),
        )
        scores = score_separation(windows, ids, estimates)
        described = {"w": cell.get("w", 0), "model": cell["name"], "constrained": cell.get("constrained", "")}
        tables.append(scores.assign(**described))
    with atomic(snakemake.output[0]) as path:
        pd.concat(tables).to_csv(path, index=False)
