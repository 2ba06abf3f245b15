"""Score one separation method at every number of solver steps, and count the network's work."""

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
from _common import job, progress, system, windows_folder

from gmsdi.data.windows import WindowSet
from gmsdi.io.files import atomic
from gmsdi.metrics.si_sdr import summarize
from gmsdi.study.experiments import score_separation, select_chunks, separate
from gmsdi.study.study import with_steps, without_steps
from gmsdi.study.tables import NAMES

snakemake: Any


def advance(update: Callable[[float, float], None], before: float, total: float, share: float, done: float) -> None:
    update(before + done * share, total)


with job(snakemake), progress(f"costs, {snakemake.wildcards.method}") as update:
    params, method = snakemake.params, snakemake.wildcards.method
    windows = WindowSet(windows_folder(snakemake.input.windows))
    ids = select_chunks(windows.table, params.chunks, seed=params.seed)
    selection = json.loads(Path(snakemake.input.selection).read_text(encoding="utf-8"))
    chosen = selection[method]
    title = without_steps({name: row.get("title") or NAMES.get(name, name) for name, row in selection.items()})[method]
    runner = system(snakemake, chosen["name"], chosen)
    tables = []
    for place, steps in enumerate(params.steps):
        before = runner.evaluations
        estimates = separate(
            runner,
            windows,
            ids,
            with_steps(chosen, steps),
            guidance=params.guidance,
            seed=params.seed,
            batch=snakemake.config["jobs"]["batch"],
            progress=partial(
                advance, update, sum(params.steps[:place]) * len(ids), sum(params.steps) * len(ids), steps
            ),
        )
        scores = summarize(score_separation(windows, ids, estimates), **params.intervals)
        tables.append(
            scores.assign(
                method=title,
                steps=steps,
                evaluations=(runner.evaluations - before) / len(ids),
                chunks=len(ids),
            )
        )
    with atomic(snakemake.output[0]) as path:
        pd.concat(tables).to_csv(path, index=False)
