"""Embed the generated stems of a task's clips, stem by stem, and compare the stems of each clip."""

from typing import Any

import numpy as np
import torch
from _common import job, progress, windows_folder

from gmsdi.data.windows import WindowSet
from gmsdi.io.allocator import tune_allocator
from gmsdi.io.files import atomic
from gmsdi.metrics.embeddings import get_embedding
from gmsdi.study.embedding import embed
from gmsdi.study.shards import join_shards
from gmsdi.study.stems import made_stems

snakemake: Any

with job(snakemake), progress(f"embedding stems, {snakemake.wildcards.task}") as update:
    tune_allocator()
    torch.set_num_threads(snakemake.threads)
    params = snakemake.params
    embedding = get_embedding(**params.embedding)
    sample_rate = WindowSet(windows_folder(snakemake.input.windows)).sample_rate
    clips, audio = join_shards(snakemake.input.tables, snakemake.input.audio)
    chosen, cosines = made_stems(clips, audio, params.rows, count=params.clips)
    found: dict[str, Any] = {f"cosines/{name}": cosines[name].to_numpy() for name in cosines}
    found |= {f"cosines/{name}": cosines[name].to_numpy(dtype=str) for name in ("stem", "other")}
    for place, (row, numbers) in enumerate(chosen.items()):
        update(place, len(chosen))
        found[row] = embed(embedding, (audio[[number]][0, place] for number in numbers), sample_rate)
    update(len(chosen), len(chosen))
    with atomic(snakemake.output[0]) as path:
        np.savez(path, **found)
