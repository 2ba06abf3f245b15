"""Compare generated stems with real stems of their labels, and with each other."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from _common import job, windows_folder

from gmsdi.data.windows import WindowSet
from gmsdi.io.files import atomic
from gmsdi.study.embedding import named
from gmsdi.study.references import HELD_OUT
from gmsdi.study.stems import real_cosines, stems_of_mixtures

snakemake: Any

with job(snakemake):
    files, params = snakemake.input, snakemake.params
    generated, cosines = {}, {}
    for file in files.generated:
        task, loaded = Path(file).stem, dict(np.load(file))
        pairs = named(loaded, "pairs/")
        generated[task] = named(loaded, "stem/" if pairs else "bar/")
        if pairs:
            cosines[task] = pd.DataFrame(pairs)
    windows = WindowSet(windows_folder(files.windows))
    cosines[HELD_OUT] = real_cosines(windows, clips=params.clips, seed=params.seed)
    loaded = dict(np.load(files.references))
    references = {name: frames for name, frames in loaded.items() if not name.startswith("tracks/")}
    tracks: dict[str, Any] = named(loaded, "tracks/")
    table = stems_of_mixtures(
        generated, cosines, references, series=params.series, seed=params.seed, tracks=tracks, **params.intervals
    )
    with atomic(snakemake.output[0]) as path:
        table.to_csv(path, index=False)
