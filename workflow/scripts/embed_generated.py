"""Embed the generated clips of a task, bar by bar."""

from typing import Any

import numpy as np
import torch
from _common import job, progress, windows_folder

from gmsdi.data.windows import WindowSet
from gmsdi.io.allocator import tune_allocator
from gmsdi.io.files import atomic
from gmsdi.metrics.embeddings import get_embedding
from gmsdi.study.embedding import embed, mixdown
from gmsdi.study.shards import join_shards

snakemake: Any

with job(snakemake), progress(f"embedding, {snakemake.wildcards.task}") as update:
    tune_allocator()
    torch.set_num_threads(snakemake.threads)
    embedding = get_embedding(**snakemake.params.embedding)
    sample_rate = WindowSet(windows_folder(snakemake.input.windows)).sample_rate
    clips, audio = join_shards(snakemake.input.tables, snakemake.input.audio)
    bars = list(clips.groupby("bar", sort=False))
    frames: dict[str, Any] = {}
    for done, (bar, group) in enumerate(bars):
        update(done, len(bars))
        one_by_one = (mixdown(audio[[row]])[0] for row in group.index)
        frames[bar] = embed(embedding, one_by_one, sample_rate)
        if "track" in group:  # the same for every bar
            frames["tracks"] = group["track"].to_numpy(dtype=str)
    update(len(bars), len(bars))
    with atomic(snakemake.output[0]) as path:
        np.savez(path, **frames)
