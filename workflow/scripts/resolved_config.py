"""Write the run's configuration, including defaults."""

from typing import Any

import yaml
from _common import job

from gmsdi.io.files import atomic

snakemake: Any

with job(snakemake), atomic(snakemake.output[0]) as path:
    path.write_text(yaml.safe_dump(dict(snakemake.params.config), sort_keys=False), encoding="utf-8")
