"""Compose and render one split of the data set mini."""

from pathlib import Path
from typing import Any

from _common import job, progress

from gmsdi.data.mini import MiniConfig, compose_dataset

snakemake: Any


def main() -> None:
    with job(snakemake), progress(f"composing {snakemake.wildcards.part}") as update:
        split, tracks = snakemake.wildcards.part.split("-")
        settings = {**snakemake.params.mini, "tracks": {split: int(tracks)}}
        config = MiniConfig(sample_rate=snakemake.params.sample_rate, **settings)
        compose_dataset(
            Path(snakemake.output[0]), config, seed=snakemake.params.seed, progress=update, workers=snakemake.threads
        )


if __name__ == "__main__":  # the worker processes import this file
    main()
