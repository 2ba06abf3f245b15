"""Compose the songs of one split of a source, as MIDI files."""

from pathlib import Path
from typing import Any

from _common import job, progress

from gmsdi.data.songs import write_songs

snakemake: Any


def main() -> None:
    wildcards = snakemake.wildcards
    with job(snakemake), progress(f"composing {wildcards.source} songs, {wildcards.split}") as update:
        write_songs(
            Path(snakemake.output[0]).parent,
            wildcards.source,
            wildcards.split,
            snakemake.params.tracks,
            seed=snakemake.params.seed,
            workers=snakemake.threads,
            progress=update,
        )


if __name__ == "__main__":  # the worker processes import this file
    main()
