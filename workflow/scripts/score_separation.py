"""Score a method's separations of the test split."""

from typing import Any

from _common import job, windows_folder

from gmsdi.data.windows import WindowSet
from gmsdi.io.files import atomic
from gmsdi.study.scoring import score_separation
from gmsdi.study.shards import join_shards

snakemake: Any

with job(snakemake), atomic(snakemake.output[0]) as path:
    windows = WindowSet(windows_folder(snakemake.input.windows))
    chunks, estimates = join_shards(snakemake.input.tables, snakemake.input.audio)
    score_separation(windows, chunks["chunk"].tolist(), estimates).to_csv(path, index=False)
