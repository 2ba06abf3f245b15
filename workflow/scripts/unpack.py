"""Unpack the wanted tracks and stems that are not there yet, from a stored archive or while it is downloaded."""

import json
from contextlib import closing
from pathlib import Path
from typing import Any

from _common import job

from gmsdi.data.download import ProgressBar, download_slakh
from gmsdi.io.files import atomic

snakemake: Any

with job(snakemake), closing(ProgressBar()) as progress:
    params, options = snakemake.params, snakemake.config["data"]["download"]
    receipt = Path(snakemake.output[0])
    archive = receipt.with_name(params.archive)
    tracks = params.selection["tracks"]
    # An archive that was deleted is downloaded again if more of it is wanted than was unpacked.
    download_slakh(
        receipt.with_name(params.folder),
        variant=params.variant,
        splits=params.selection["splits"],
        tracks=None if tracks is None else [number for bounds in tracks for number in range(*bounds)],
        classes=params.selection["classes"],
        source=archive if archive.is_file() else None,
        archive="stream" if options["archive"] == "stream" else "buffer",
        registry=options["registry"],
        mirrors=options["mirrors"],
        progress=progress,
    )
    if options["archive"] == "remove":
        archive.unlink(missing_ok=True)
    with atomic(receipt) as path:
        path.write_text(json.dumps(params.selection, indent=1) + "\n", encoding="utf-8")
