"""Score a codec on the test split."""

from pathlib import Path
from typing import Any

import torch
from _common import job, windows_folder

from gmsdi.data.windows import WindowSet
from gmsdi.io.files import atomic
from gmsdi.models.autoencoder import load_codec
from gmsdi.study.codecs import score_codec

snakemake: Any

with job(snakemake), atomic(snakemake.output[0]) as path:
    torch.set_num_threads(snakemake.threads)
    codec = load_codec(Path(snakemake.input.model[0]).parent)
    score_codec(codec, WindowSet(windows_folder(snakemake.input.windows))).to_csv(path, index=False)
