"""Score a method's separations of the test split with BSS Eval."""

from typing import Any

from _common import job, progress, windows_folder

from gmsdi.data.windows import WindowSet
from gmsdi.io.files import atomic
from gmsdi.study.scoring import score_bss_eval
from gmsdi.study.shards import join_shards

snakemake: Any

with job(snakemake), progress(f"BSS Eval, {snakemake.wildcards.method}") as update:
    windows = WindowSet(windows_folder(snakemake.input.windows))
    chunks, estimates = join_shards(snakemake.input.tables, snakemake.input.audio)
    ids = chunks["chunk"].tolist()
    scores = score_bss_eval(windows, ids, estimates, progress=lambda done: update(done, len(ids)))
    with atomic(snakemake.output[0]) as path:
        scores.to_csv(path, index=False)
