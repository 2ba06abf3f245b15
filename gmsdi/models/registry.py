"""Open a model by its name or folder.

Model folders of this package are opened here, pipelines of diffusers by `gmsdi.models.adapters.pipelines`, and models
of other families as their packages say (`gmsdi.models.families`):

    register("mine", load)          # load(rest, device=..., precision=...) -> Model
    gmsdi.load("mine:checkpoint.pt")
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from gmsdi.errors import UserError
from gmsdi.io.allocator import tune_allocator
from gmsdi.io.device import resolve_device, resolve_precision
from gmsdi.models import families, hub
from gmsdi.models.adapters import pipelines
from gmsdi.models.checkpoint import MIXTURE, load_model, target_of
from gmsdi.models.described import is_pipeline
from gmsdi.models.edm.denoiser import TextDenoiser
from gmsdi.models.families import register
from gmsdi.models.folders import CONFIG, WEIGHTS, read_config
from gmsdi.models.protocol import Model

__all__ = ["bundled", "config_of", "folder_of", "load", "load_for", "open_folder", "register"]

BUNDLED = Path(__file__).parents[1] / "weights"


def bundled() -> list[str]:
    """The names of the models of mixtures that come with the package."""
    return sorted(path.parent.name for path in BUNDLED.glob(f"*/{CONFIG}"))


def load(
    where: str | Path,
    *,
    device: str = "auto",
    precision: str = "auto",
    seconds: float | None = None,
    compile: bool = False,
) -> Model:
    """Open a model.

    Args:
        where: a model folder or the folder of a pipeline of diffusers; a repository with one of them on the Hugging
            Face Hub, "owner/name" or "owner/name@revision"; the name of a model that comes with the package, "mini"; or
            of a family (`gmsdi.models.families`), with what the family takes after a colon.
        device: "auto" (CUDA if there is one), or a torch device.
        precision: of the network: "bf16", "float32", or "auto", which is bf16 where the hardware is faster at it.
        seconds: length of the windows in which a diffusers pipeline denoises; None means the length that it was trained
            at, or the default of its family if it takes any length.
        compile: run the network of a model folder through `torch.compile`, once for each new shape of a batch. That
            takes minutes for a large network, and on a CPU a C++ compiler; it pays off where much is sampled.

    Raises:
        UserError: if there is no such model, its family cannot be imported, the device does not exist, or what is to be
            compiled is no model folder.
    """
    tune_allocator()
    if (family := families.loader_of(where)) is not None:
        _refuse_to_compile(compile, where)
        loader, rest = family
        return loader(rest, device=device, precision=precision)
    folder = folder_of(where)
    if is_pipeline(folder):
        _refuse_to_compile(compile, where)
        return pipelines.open_pipeline(folder, str(where), device=device, precision=precision, seconds=seconds)
    if seconds is not None:
        raise UserError(f"{where}: not a diffusers pipeline, so that its window is fixed; leave out seconds")
    return open_folder(folder, device=device, precision=precision, compile=compile)


def _refuse_to_compile(compile: bool, where: str | Path) -> None:
    if compile:
        raise UserError(f"{where}: only the networks of model folders can be compiled; leave out compile")


def load_for(where: str | Path, seconds: float | None, *, device: str = "auto", precision: str = "auto") -> Model:
    """`load` for windows of so many seconds, where a model has none of its own."""
    own = families.is_of_family(where) or not is_pipeline(folder_of(where))
    return load(where, device=device, precision=precision, seconds=None if own else seconds)


def folder_of(where: str | Path) -> Path:
    """The folder of a model, given a folder, the name of a bundled model, or a name on the hub.

    Raises:
        UserError: if there is none; models of families have none.
    """
    if families.is_of_family(where):
        raise UserError(f"{where}: a model of a family, opened by its own package; a model folder is needed here")
    if not os.path.exists(where) and str(where) in bundled():
        return BUNDLED / str(where)
    if hub.is_id(where):
        return pipelines.fetch(str(where))
    if not os.path.isdir(where):
        known = [*bundled(), *(f"{name}:..." for name in families.names()), "owner/name on the Hugging Face Hub"]
        raise UserError(f"{where}: no model folder of that name; give one with {CONFIG}, or {', '.join(known)}")
    return Path(where)


def open_folder(
    path: str | Path, *, device: str = "auto", precision: str = "auto", compile: bool = False
) -> TextDenoiser:
    """Open a model folder of this package.

    Args:
        path: a folder with `model.safetensors` and `config.json`.
        device: see `load`.
        precision: see `load`.
        compile: see `load`.

    Raises:
        UserError: if the folder holds no sound model of mixtures, or the device does not exist.
    """
    device = resolve_device(device)
    model = load_model(path, device=device)
    if not isinstance(model, TextDenoiser) or target_of(model.config) != MIXTURE:
        raise UserError(f"{path}: a model of separated stems, one of the baselines; a model of mixtures is needed here")
    model.run_in(resolve_precision(precision, device))
    if compile:
        model.net.compile()
    return model


def config_of(where: str | Path) -> dict[str, Any] | None:
    """The `config.json` of a model folder or of a bundled model, without opening the model.

    Returns:
        The configuration; None for models that have to be downloaded or opened first.

    Raises:
        UserError: if the configuration cannot be used.
    """
    bundled_folder = not os.path.exists(where) and str(where) in bundled()
    folder = BUNDLED / str(where) if bundled_folder else Path(where)
    return read_config(folder) if all(os.path.isfile(folder / name) for name in (CONFIG, WEIGHTS)) else None
