"""Download an archive, or verify the one that is there; an interrupted download resumes where it stopped."""

import json
from contextlib import closing
from pathlib import Path
from typing import Any

from _common import job

from gmsdi.data.download import ProgressBar, fetch, find_entry
from gmsdi.io.files import atomic

snakemake: Any

with job(snakemake), closing(ProgressBar()) as progress:
    options = snakemake.config["data"]["download"]
    receipt = Path(snakemake.output[0])
    entry = find_entry(snakemake.params.archive, registry=options["registry"], mirrors=options["mirrors"])
    fetch(entry, receipt.with_name(entry.name), progress=progress)
    facts = {key: getattr(entry, key) for key in ("name", "version", "hash", "licence")}
    with atomic(receipt) as path:
        path.write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
