"""Score a method's separations of the test split."""

from typing import Any

import numpy as np
import pandas as pd
from _common import job, windows_folder

from gmsdi.data.windows import WindowSet
from gmsdi.experiments import score_separation
from gmsdi.files import atomic

snakemake: Any

with job(snakemake), atomic(snakemake.output[0]) as path:
    windows = WindowSet(windows_folder(snakemake.input.windows))
    ids = pd.concat([pd.read_csv(file) for file in snakemake.input.tables])["chunk"].tolist()
    estimates = np.concatenate([np.load(file) for file in snakemake.input.audio])
    score_separation(windows, ids, estimates).to_csv(path, index=False)
