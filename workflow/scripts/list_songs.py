"""Examine MIDI songs: which can be used, which are the same, and which split each is in."""

import logging
from typing import Any

from _common import job, progress

from gmsdi.data.midi_dataset import MidiConfig, list_songs
from gmsdi.io.files import atomic

snakemake: Any


def main() -> None:
    with job(snakemake), progress("looking at songs") as update:
        logging.basicConfig(format="%(message)s")
        table = list_songs(
            snakemake.input.folders,
            MidiConfig.of(snakemake.params.midi),
            seed=snakemake.params.seed,
            split=snakemake.params.split,
            workers=snakemake.threads,
            progress=update,
        )
        with atomic(snakemake.output[0]) as path:
            table.to_csv(path, index=False)
    skipped = table[table["skipped"] != ""]
    print(f"{len(table) - len(skipped)} of {len(table)} songs can be used")


if __name__ == "__main__":  # the worker processes import this file
    main()
