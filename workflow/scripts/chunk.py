"""Cut a split into windows."""

from pathlib import Path
from typing import Any

from _common import job, progress

from gmsdi.data.windows import build_windows

snakemake: Any

with job(snakemake), progress(f"cutting {snakemake.wildcards.part}") as update:
    build_windows(
        out=Path(snakemake.output[0]).parent,
        stems=any(file.endswith("stems.npy") for file in snakemake.output),
        workers=snakemake.threads,
        progress=update,
        **{"root": snakemake.input.dataset, **snakemake.params.data},
    )
