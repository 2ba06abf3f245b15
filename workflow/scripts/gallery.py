"""Write the gallery's audio and spectrograms."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from _common import job, windows_folder

from gmsdi.data.windows import WindowSet
from gmsdi.io.tables import read_table
from gmsdi.study.gallery import write_gallery
from gmsdi.study.shards import open_audio
from gmsdi.study.tasks import load_task

snakemake: Any

with job(snakemake):

    def read(files: list[str]) -> dict[str, tuple[pd.DataFrame, np.ndarray]]:
        tables = [file for file in files if file.endswith(".csv")]
        return {
            Path(file).parent.name: (read_table(file), open_audio(Path(file).with_suffix(".npy"))) for file in tables
        }

    write_gallery(
        snakemake.output[0],
        WindowSet(windows_folder(snakemake.input.windows)),
        read(snakemake.input.separation),
        read(snakemake.input.generation),
        tasks=[load_task(task) for task in snakemake.params.tasks],
        examples=snakemake.params.examples,
    )
