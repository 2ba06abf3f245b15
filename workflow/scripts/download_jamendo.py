"""Download, verify and unpack a shard of MTG-Jamendo; existing tracks are not downloaded again."""

import json
from contextlib import closing
from pathlib import Path
from typing import Any

from _common import job

from gmsdi.data.download import ProgressBar, download_jamendo
from gmsdi.io.files import atomic

snakemake: Any

with job(snakemake), closing(ProgressBar()) as progress:
    options, tracks = snakemake.config["training_data"]["download"], snakemake.params.tracks
    shard = int(snakemake.wildcards.shard)
    download_jamendo(
        Path(snakemake.input[0]).parent,
        [shard],
        limit=tracks,
        archive="buffer" if options["archive"] == "remove" else options["archive"],
        registry=options["registry"],
        mirrors=options["mirrors"],
        progress=progress,
    )
    with atomic(snakemake.output[0]) as path:
        path.write_text(json.dumps({"shard": shard, "tracks": tracks}) + "\n", encoding="utf-8")
