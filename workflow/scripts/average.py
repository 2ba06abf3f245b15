"""Average the stems that several rows of Table 2 estimated for one shard of the test chunks."""

import shutil
from typing import Any

import numpy as np
from _common import job, windows_folder

from gmsdi.data.windows import WindowSet
from gmsdi.io.files import atomic
from gmsdi.io.tables import read_table
from gmsdi.study.methods import MeanOfRows
from gmsdi.study.separation import average

snakemake: Any

with job(snakemake):
    files, row = snakemake.input, MeanOfRows(**snakemake.params.row)
    ids = read_table(files.tables[0])["chunk"].tolist()
    estimates = {name: np.load(file, mmap_mode="c") for name, file in zip(row.of, files.audio, strict=True)}
    windows = WindowSet(windows_folder(files.windows))
    means = average(row, estimates, windows, ids, batch=snakemake.config["jobs"]["batch"])
    with atomic(snakemake.output.audio) as path:
        np.save(path, means)
    with atomic(snakemake.output.table) as path:
        shutil.copyfile(files.tables[0], path)
