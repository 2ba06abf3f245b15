"""Download the list of MTG-Jamendo's tracks and their digests."""

from contextlib import closing
from pathlib import Path
from typing import Any

from _common import job

from gmsdi.data.download import ProgressBar, fetch, find_entry

snakemake: Any

with job(snakemake), closing(ProgressBar()) as progress:
    options = snakemake.config["training_data"]["download"]
    target = Path(snakemake.output[0])
    entry = find_entry(target.name, registry=options["registry"], mirrors=options["mirrors"])
    fetch(entry, target, progress=progress)
