"""Embed the generated clips of a task, a bar at a time, and their stems, and compare the stems of each clip."""

from typing import Any

import numpy as np
import torch
from _common import job, progress, windows_folder

from gmsdi.data.windows import WindowSet
from gmsdi.io.allocator import tune_allocator
from gmsdi.io.files import atomic
from gmsdi.metrics.embeddings import Embedding, get_embedding
from gmsdi.metrics.fad_library import LibraryEmbedding
from gmsdi.study.embedding import embed_clips
from gmsdi.study.shards import join_shards

snakemake: Any

with job(snakemake), progress(f"embedding, {snakemake.wildcards.task}") as update:
    tune_allocator()
    torch.set_num_threads(snakemake.threads)
    params = snakemake.params
    embedding: Embedding = (
        LibraryEmbedding(**params.library) if params.get("library") else get_embedding(**params.embedding)
    )
    sample_rate = WindowSet(windows_folder(snakemake.input.windows)).sample_rate
    clips, audio = join_shards(snakemake.input.tables, snakemake.input.audio, mono=True)
    found: dict[str, Any] = embed_clips(
        embedding,
        clips,
        audio,
        sample_rate,
        rows=params.rows,
        count=params.clips,
        progress=lambda done: update(done, 1),
    )
    with atomic(snakemake.output[0]) as path:
        np.savez(path, **found)
