"""Score one separation method at every value of w."""

from collections.abc import Callable
from functools import partial
from typing import Any

import pandas as pd
from _common import job, pipeline, progress, windows_folder

from gmsdi.data.windows import WindowSet
from gmsdi.experiments import score_separation, select_chunks, separate
from gmsdi.files import atomic

snakemake: Any


def advance(update: Callable[[float, float], None], before: int, total: int, done: float) -> None:
    update(before + done, total)


with job(snakemake), progress(f"grid, {snakemake.wildcards.split}, {snakemake.wildcards.method}") as update:
    params = snakemake.params
    windows = WindowSet(windows_folder(snakemake.input.windows))
    ids = select_chunks(windows.table, params.chunks)
    pipe = pipeline(snakemake)
    tables = []
    total = len(params.w) * len(ids)
    for place, w in enumerate(params.w):
        estimates = separate(
            pipe,
            windows,
            ids,
            {**params.method, "w": w},
            guidance=params.guidance,
            seed=params.seed,
            batch=snakemake.config["jobs"]["batch"],
            progress=partial(advance, update, place * len(ids), total),
        )
        scores = score_separation(windows, ids, estimates)
        tables.append(scores.assign(w=w, model=params.method["name"], constrained=params.method.get("constrained", "")))
    with atomic(snakemake.output[0]) as path:
        pd.concat(tables).to_csv(path, index=False)
