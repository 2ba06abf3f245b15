"""Embed the references of generated clips: test chunks, white noise, shuffled stems."""

from typing import Any

import numpy as np
import torch
from _common import job, progress, windows_folder

from gmsdi.data.windows import WindowSet
from gmsdi.io.allocator import tune_allocator
from gmsdi.io.files import atomic
from gmsdi.metrics.embeddings import Embedding, get_embedding
from gmsdi.metrics.fad_library import LibraryEmbedding
from gmsdi.study.embedding import embed
from gmsdi.study.references import reference_audio

snakemake: Any

with job(snakemake), progress("embedding, references") as update:
    tune_allocator()
    torch.set_num_threads(snakemake.threads)
    params = snakemake.params
    embedding: Embedding = (
        LibraryEmbedding(**params.library) if params.get("library") else get_embedding(**params.embedding)
    )
    windows = WindowSet(windows_folder(snakemake.input.windows))
    sets = reference_audio(
        windows,
        clips=params.clips,
        limit=params.limit,
        mixtures=params.mixtures,
        seed=params.seed,
        groups=params.groups,
    )
    total = 3 * (len(windows.labels) + sum(len(group) > 1 for group in params.groups or [])) + 4
    frames: dict[str, Any] = {}
    for done, reference in enumerate(sets):
        update(done, total)
        frames[reference.name] = embed(embedding, reference.clips, windows.sample_rate)
        frames[f"tracks/{reference.name}"] = np.array(reference.tracks, dtype=str)
    update(total, total)
    with atomic(snakemake.output[0]) as path:
        np.savez(path, **frames)
