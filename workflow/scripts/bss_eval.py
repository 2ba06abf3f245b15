"""Score a method's separations of the test split by BSS Eval."""

from typing import Any

import numpy as np
import pandas as pd
from _common import job, progress, windows_folder

from gmsdi.data.windows import WindowSet
from gmsdi.experiments import score_bss_eval
from gmsdi.files import atomic

snakemake: Any

with job(snakemake), progress(f"BSS Eval, {snakemake.wildcards.method}") as update:
    windows = WindowSet(windows_folder(snakemake.input.windows))
    ids = pd.concat([pd.read_csv(file) for file in snakemake.input.tables])["chunk"].tolist()
    estimates = np.concatenate([np.load(file) for file in snakemake.input.audio])
    scores = score_bss_eval(windows, ids, estimates, progress=lambda done: update(done, len(ids)))
    with atomic(snakemake.output[0]) as path:
        scores.to_csv(path, index=False)
