"""Cut shards of MTG-Jamendo into windows."""

from pathlib import Path
from typing import Any

from _common import job, progress

from gmsdi.data.windows import build_mixture_windows

snakemake: Any

with job(snakemake), progress(f"cutting {snakemake.wildcards.part}") as update:
    build_mixture_windows(
        split=snakemake.wildcards.part.split("-")[0],
        out=Path(snakemake.output[0]).parent,
        workers=snakemake.threads,
        progress=update,
        **snakemake.params.data,
    )
