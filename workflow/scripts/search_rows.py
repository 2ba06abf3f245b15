"""Compare the variants of a search that separates."""

from typing import Any

from _common import job, open_system, progress, windows_folder

from gmsdi.data.windows import WindowSet
from gmsdi.io.files import atomic
from gmsdi.study.chunks import select_chunks
from gmsdi.study.methods import load_row
from gmsdi.study.tuning import compare_rows

snakemake: Any

with job(snakemake), progress(f"searching, {snakemake.wildcards.search}") as update:
    params = snakemake.params
    windows = WindowSet(windows_folder(snakemake.input.windows))
    rows = [load_row(row) for row in params.variants]
    table = compare_rows(
        rows,
        open_system(snakemake, rows[0].system),
        windows,
        select_chunks(windows.table, params.number, seed=params.seed),
        seed=params.seed,
        batch=snakemake.config["jobs"]["batch"],
        default=params.default,
        **params.intervals,
        progress=lambda done: update(done, len(rows)),
    )
    with atomic(snakemake.output[0]) as path:
        table.to_csv(path, index=False)
