"""Score one separation method at every number of solver steps, and count the network's work."""

from collections.abc import Callable
from functools import partial
from typing import Any

import pandas as pd
from _common import chosen_rows, job, open_system, progress, windows_folder

from gmsdi.data.windows import WindowSet
from gmsdi.io.files import atomic
from gmsdi.metrics.si_sdr import summarize
from gmsdi.study.chunks import select_chunks
from gmsdi.study.scoring import score_separation
from gmsdi.study.separation import separate

snakemake: Any


def advance(update: Callable[[float, float], None], before: float, total: float, share: float, done: float) -> None:
    update(before + done * share, total)


with job(snakemake), progress(f"costs, {snakemake.wildcards.method}") as update:
    params, method = snakemake.params, snakemake.wildcards.method
    windows = WindowSet(windows_folder(snakemake.input.windows))
    ids = select_chunks(windows.table, params.chunks, seed=params.seed)
    row = chosen_rows(snakemake)[method]
    system = open_system(snakemake, row.system)
    tables = []
    for place, steps in enumerate(params.steps):
        before = system.evaluations
        estimates = separate(
            row.with_steps(steps),
            system,
            windows,
            ids,
            seed=params.seed,
            batch=snakemake.config["jobs"]["batch"],
            progress=partial(
                advance, update, sum(params.steps[:place]) * len(ids), sum(params.steps) * len(ids), steps
            ),
        )
        scores = summarize(score_separation(windows, ids, estimates), **params.intervals)
        tables.append(
            scores.assign(
                method=method,
                steps=steps,
                evaluations=(system.evaluations - before) / len(ids),
                chunks=len(ids),
            )
        )
    with atomic(snakemake.output[0]) as path:
        pd.concat(tables).to_csv(path, index=False)
