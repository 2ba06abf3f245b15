"""Train a model; a run that was killed continues from its last checkpoint."""

import os
import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from _common import job, windows_folder

from gmsdi.errors import UserError
from gmsdi.io.files import atomic, remove_partials
from gmsdi.study.names import digest
from gmsdi.training.config import TrainingConfig
from gmsdi.training.loop import train

snakemake: Any

with job(snakemake):
    params = snakemake.params
    devices = max(1, snakemake.resources.gpu)
    threads = max(1, snakemake.threads // devices)
    torch.set_num_threads(threads)
    os.environ.setdefault("OMP_NUM_THREADS", str(threads))  # otherwise several processes compete for all cores
    try:
        config = TrainingConfig(**params.training, devices=devices)
    except TypeError as error:
        raise UserError(f"config: training: {error}") from error
    losses = Path(snakemake.output.losses)
    # The folder's name has a digest of the configuration, so that another one does not resume this checkpoint.
    work = losses.parent / f"work-{digest([params.model, params.training, params.seed])}"
    model = Path(snakemake.output.model[0]).parent
    remove_partials(model)
    codec = snakemake.input.get("codec") or None
    first = train(
        dict(params.model),
        config,
        windows_folder(snakemake.input.train),
        windows_folder(snakemake.input.validation),
        model,
        seed=params.seed,
        work=work,
        description=params.description,
        train_embeddings=snakemake.input.get("train_embeddings") or None,
        validation_embeddings=snakemake.input.get("validation_embeddings") or None,
        codec=codec and Path(codec[0]).parent,
    )
    if first:
        logged = pd.read_csv(work / "csv" / "metrics.csv")
        columns = [name for name in ("step", "train_loss", "val_loss") if name in logged]
        columns += [name for name in logged if name.startswith(("mse_", "wiener_"))]
        with atomic(losses) as path:
            logged[columns].to_csv(path, index=False)
        shutil.rmtree(work)
