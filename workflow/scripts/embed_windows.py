"""Embed all windows of a dataset part with the CLAP that conditions the model."""

from functools import partial
from typing import Any

import torch
from _common import job, progress, windows_folder

from gmsdi.data.windows import WindowSet
from gmsdi.io.allocator import tune_allocator
from gmsdi.io.device import resolve_device
from gmsdi.models.clap.encoder import clap_of
from gmsdi.models.clap.windows import embed_windows
from gmsdi.models.edm.text import write_clap_prompts

snakemake: Any

with job(snakemake), progress(f"embedding windows, {snakemake.wildcards.part}") as update:
    tune_allocator()
    torch.set_num_threads(snakemake.threads)
    params = snakemake.params
    windows = WindowSet(windows_folder(snakemake.input.windows))
    clap = clap_of(params.text, device=resolve_device(snakemake.config["jobs"]["device"]))
    hop = max(1, round(params.hop * windows.window))
    # A training may run where laion-clap is not installed.
    labels = params.get("labels")
    prompts = partial(write_clap_prompts, params.text, labels=labels) if labels else None
    embed_windows(clap, windows, snakemake.output[0], hop=hop, progress=update, prompts=prompts)
