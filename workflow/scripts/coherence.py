"""Compare accompaniments with the given stems."""

from pathlib import Path
from typing import Any

from _common import job, windows_folder

from gmsdi.data.windows import WindowSet
from gmsdi.io.files import atomic
from gmsdi.study.coherence import coherences
from gmsdi.study.shards import join_shards

snakemake: Any


def of(task: str, files: list[str]) -> list[str]:
    """The task's files, sorted by shard."""
    return [file for file in files if Path(file).parent.name == task]


with job(snakemake), atomic(snakemake.output[0]) as path:
    made = {
        series: join_shards(of(task, snakemake.input.tables), of(task, snakemake.input.audio), mono=True)
        for task, series in snakemake.params.series.items()
    }
    windows = WindowSet(windows_folder(snakemake.input.windows))
    coherences(snakemake.params.labels, made, windows).to_csv(path, index=False)
