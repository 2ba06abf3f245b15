"""Open a model by its name or folder.

Model folders of this package are opened here, and pipelines of diffusers by `gmsdi.models.adapters.pipelines`. A family
of other models registers a name and how it is opened:

    register("mine", load)          # load(rest, device=..., precision=...) -> Model
    gmsdi.load("mine:checkpoint.pt")
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Protocol

from gmsdi.errors import UserError
from gmsdi.io.allocator import tune_allocator
from gmsdi.io.device import resolve_device, resolve_precision
from gmsdi.models import hub
from gmsdi.models.adapters import pipelines
from gmsdi.models.checkpoint import MIXTURE, load_model, target_of
from gmsdi.models.edm.denoiser import TextDenoiser
from gmsdi.models.folders import CONFIG, WEIGHTS, read_config
from gmsdi.models.protocol import Model

BUNDLED = Path(__file__).parents[1] / "weights"


class Loader(Protocol):
    """How a family opens its models."""

    def __call__(self, where: str, *, device: str, precision: str) -> Model:
        """Open a model.

        Args:
            where: what follows the family's name.
            device: see `load`.
            precision: see `load`.
        """


_FAMILIES: dict[str, Loader] = {}


def register(name: str, loader: Loader) -> None:
    """Make a family of models known, by a name that `load` takes before a colon or alone."""
    _FAMILIES[name] = loader


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
            of a registered family, with what the family takes after a colon.
        device: "auto" (CUDA if there is one), or a torch device.
        precision: of the network: "bf16", "float32", or "auto", which is bf16 where the hardware is faster at it.
        seconds: length of the windows in which a pipeline of diffusers denoises; None is the length that it was trained
            at, or one that its family says if it takes any.
        compile: run the network of a model folder through `torch.compile`, once for each new shape of a batch. That
            takes minutes for a large network, and on a CPU a C++ compiler; it pays where much is sampled.

    Raises:
        UserError: if there is no such model, or the device does not exist, or it is no model folder that is to be
            compiled.
    """
    tune_allocator()
    family, _, rest = str(where).partition(":")
    if family in _FAMILIES:
        _refuse(compile, where)
        return _FAMILIES[family](rest, device=device, precision=precision)
    folder = folder_of(where)
    if (folder / pipelines.INDEX).is_file():
        _refuse(compile, where)
        return pipelines.open_pipeline(folder, str(where), device=device, precision=precision, seconds=seconds)
    if seconds is not None:
        raise UserError(f"{where}: no pipeline of diffusers, and has its own window; leave out seconds")
    return open_folder(folder, device=device, precision=precision, compile=compile)


def _refuse(compile: bool, where: str | Path) -> None:
    if compile:
        raise UserError(f"{where}: only the networks of model folders can be compiled; leave out compile")


def folder_of(where: str | Path) -> Path:
    """The folder of a model, of one that comes with the package, or of one from the hub.

    Raises:
        UserError: if there is none.
    """
    if not os.path.exists(where) and str(where) in bundled():
        return BUNDLED / str(where)
    if hub.is_id(where):
        return pipelines.fetch(str(where))
    if not os.path.isdir(where):
        known = [*bundled(), *(f"{name}:..." for name in sorted(_FAMILIES)), "owner/name on the Hugging Face Hub"]
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
    """The `config.json` of a model folder or of a model that comes with the package, which is not opened.

    Returns:
        None of what has to be opened, or fetched, to know more.

    Raises:
        UserError: if it is unusable.
    """
    bundled_folder = not os.path.exists(where) and str(where) in bundled()
    folder = BUNDLED / str(where) if bundled_folder else Path(where)
    return read_config(folder) if all(os.path.isfile(folder / name) for name in (CONFIG, WEIGHTS)) else None


def families() -> list[str]:
    """The names of the registered families."""
    return sorted(_FAMILIES)
