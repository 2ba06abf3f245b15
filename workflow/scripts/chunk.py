"""Cut a split into windows."""

from pathlib import Path
from typing import Any

from _common import job, progress

from gmsdi.data.windows import build_windows

snakemake: Any

with job(snakemake), progress(f"cutting {snakemake.wildcards.part}") as update:
    split = snakemake.wildcards.part.split("-")[0]
    build_windows(
        Path(snakemake.input.root),
        split,
        Path(snakemake.output[0]).parent,
        stems=any(file.endswith("stems.npy") for file in snakemake.output),
        progress=update,
        **snakemake.params.data,
    )
