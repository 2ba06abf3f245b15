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
from gmsdi.models.checkpoint import CONFIG, WEIGHTS
from gmsdi.study.names import training_id
from gmsdi.study.sources import digest_of_files
from gmsdi.training.config import TrainingConfig
from gmsdi.training.loop import CHECKPOINT, train

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
    model = Path(snakemake.output.model[0]).parent
    remove_partials(model)
    codec = Path(snakemake.input.codec[0]).parent if snakemake.input.get("codec") else None
    windows, validation = windows_folder(snakemake.input.train), windows_folder(snakemake.input.validation)
    embeddings = snakemake.input.get("train_embeddings") or None
    validation_embeddings = snakemake.input.get("validation_embeddings") or None
    name = training_id(
        params.model,
        params.training,
        params.seed,
        folders=[windows, validation, *filter(None, (embeddings, validation_embeddings))],
        code=params.code,
        codec=None if codec is None else digest_of_files(codec, WEIGHTS, CONFIG),
        initial=None if config.initial is None else digest_of_files(config.initial, WEIGHTS, CONFIG),
    )
    work = losses.parent / f"work-{name}"
    first = train(
        dict(params.model),
        config,
        windows,
        validation,
        model,
        seed=params.seed,
        work=work,
        description=params.description,
        train_embeddings=embeddings,
        validation_embeddings=validation_embeddings,
        codec=codec,
    )
    if first:
        logged = pd.read_csv(work / "csv" / "metrics.csv")
        columns = [name for name in ("step", "train_loss", "val_loss") if name in logged]
        columns += [name for name in logged if name.startswith(("mse_", "wiener_"))]
        with atomic(losses) as path:
            logged[columns].to_csv(path, index=False)
        (work / CHECKPOINT).unlink(missing_ok=True)  # first, so that nothing resumes from a folder that is half removed
        shutil.rmtree(work)
