"""Score a method's separations of the test split."""

from typing import Any

from _common import job, windows_folder

from gmsdi.data.windows import WindowSet
from gmsdi.experiments import join_shards, score_separation
from gmsdi.files import atomic

snakemake: Any

with job(snakemake), atomic(snakemake.output[0]) as path:
    windows = WindowSet(windows_folder(snakemake.input.windows))
    chunks, estimates = join_shards(snakemake.input.tables, snakemake.input.audio)
    score_separation(windows, chunks["chunk"].tolist(), estimates).to_csv(path, index=False)
