"""Play the songs of one split with SoundFonts."""

import logging
from pathlib import Path
from typing import Any

import pandas as pd
from _common import job, progress

from gmsdi.data.midi_dataset import MidiConfig, render_split
from gmsdi.io.tables import read_table

snakemake: Any


def main() -> None:
    with job(snakemake), progress(f"rendering {snakemake.wildcards.part}") as update:
        logging.basicConfig(format="%(message)s")
        tables = [read_table(file, missing=False) for file in snakemake.input.songs]
        render_split(
            pd.concat(tables, ignore_index=True),
            snakemake.wildcards.part.split("-")[0],
            Path(snakemake.output[0]),
            MidiConfig.of(snakemake.params.midi),
            seed=snakemake.params.seed,
            first=snakemake.params.first,
            workers=snakemake.threads,
            progress=update,
        )


if __name__ == "__main__":  # the worker processes import this file
    main()
