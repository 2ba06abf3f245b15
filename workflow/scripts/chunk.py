"""Cut a split into windows."""

from pathlib import Path
from typing import Any

from _common import job, progress

from gmsdi.data.multitracks import Activity, Splits
from gmsdi.data.windows import build_multitrack_windows, build_windows

snakemake: Any

build: Any = build_windows
settings = {"root": snakemake.input.dataset, **snakemake.params.data}
if "splits" in settings:
    build = build_multitrack_windows
    settings |= {"splits": Splits(**settings["splits"]), "activity": Activity(**settings["activity"])}

with job(snakemake), progress(f"cutting {snakemake.wildcards.part}") as update:
    build(
        out=Path(snakemake.output[0]).parent,
        stems=any(file.endswith("stems.npy") for file in snakemake.output),
        workers=snakemake.threads,
        progress=update,
        **settings,
    )
