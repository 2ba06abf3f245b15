"""Compute the Fréchet audio distances of all bars and reference lines."""

from pathlib import Path
from typing import Any

import numpy as np
from _common import job

from gmsdi.io.files import atomic
from gmsdi.metrics.fad_library import library_distance
from gmsdi.metrics.frechet import fad
from gmsdi.study.embedding import named
from gmsdi.study.fad import distances

snakemake: Any

with job(snakemake):
    made = {Path(file).stem: dict(np.load(file)) for file in snakemake.input.generated}
    generated = {task: named(arrays, "bar/") for task, arrays in made.items()}
    loaded = dict(np.load(snakemake.input.references))
    references = {name: frames for name, frames in loaded.items() if not name.startswith("tracks/")}
    tracks = {task: arrays["tracks"] for task, arrays in made.items() if "tracks" in arrays}
    tracks |= named(loaded, "tracks/")
    params = snakemake.params
    singles = {single["series"]: single for single in params.singles.values()}
    without = {
        (single["w"], single["model"], single["curve"]): task
        for task, single in params.singles.items()
        if single["negative"] is False
    }
    minus = {
        task: without[single["w"], single["model"], single["curve"]]
        for task, single in params.singles.items()
        if single["negative"]
    }
    stems, mixtures = distances(
        params.labels,
        generated,
        references,
        seed=params.seed,
        tracks=tracks,
        singles={task: single["series"] for task, single in params.singles.items()},
        mixtures=params.mixtures,
        minus=minus,
        distance=library_distance if params.get("library") else fad,
        **params.intervals,
    )
    for column in ("w", "negative", "model"):
        stems[column] = [singles[name][column] if name in singles else None for name in stems["series"]]
    curve = stems["series"].map(lambda name: name in singles and singles[name]["curve"])
    tables = stems[~curve], mixtures, stems[curve]
    outputs = snakemake.output.stems, snakemake.output.mixtures, snakemake.output.curve
    for table, output in zip(tables, outputs, strict=True):
        with atomic(output) as path:
            table.assign(embedding=snakemake.params.embedding).to_csv(path, index=False)
