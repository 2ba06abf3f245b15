"""Score one separation method with every setting of its part of the grid."""

from collections.abc import Callable
from functools import partial
from typing import Any

import pandas as pd
from _common import job, open_system, progress, windows_folder

from gmsdi.data.windows import WindowSet
from gmsdi.io.files import atomic
from gmsdi.study.chunks import select_chunks
from gmsdi.study.methods import load_row
from gmsdi.study.scoring import score_separation
from gmsdi.study.separation import separate

snakemake: Any


def advance(update: Callable[[float, float], None], before: int, total: int, done: float) -> None:
    update(before + done, total)


with job(snakemake), progress(f"grid, {snakemake.wildcards.split}, {snakemake.wildcards.method}") as update:
    params = snakemake.params
    windows = WindowSet(windows_folder(snakemake.input.windows))
    ids = select_chunks(windows.table, params.chunks, seed=params.seed)
    cells = [load_row(cell) for cell in params.cells]
    system = open_system(snakemake, cells[0].system)
    tables = []
    total = len(cells) * len(ids)
    for place, cell in enumerate(cells):
        estimates = separate(
            cell,
            system,
            windows,
            ids,
            seed=params.seed,
            batch=snakemake.config["jobs"]["batch"],
            progress=partial(advance, update, place * len(ids), total),
        )
        scores = score_separation(windows, ids, estimates)
        tables.append(scores.assign(**cell.cell()))
    with atomic(snakemake.output[0]) as path:
        pd.concat(tables).to_csv(path, index=False)
