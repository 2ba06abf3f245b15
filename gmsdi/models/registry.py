"""Open a model by its name or folder.

Model folders of this package are opened here, pipelines of diffusers by `gmsdi.models.adapters.pipelines`, and models
of other families as their packages say (`gmsdi.models.families`):

    register("mine", load)          # load(rest, device=..., precision=...) -> Model
    gmsdi.load("mine:checkpoint.pt")
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from gmsdi.errors import UserError
from gmsdi.io.allocator import tune_allocator
from gmsdi.io.device import resolve_device, resolve_precision
from gmsdi.level import known_level
from gmsdi.models import families, hub
from gmsdi.models.adapters import pipelines
from gmsdi.models.checkpoint import MIXTURE, load_model, target_of
from gmsdi.models.described import INDEX, SIGMA_DATA, describe, is_pipeline, require_one_sound
from gmsdi.models.edm import family as waveforms
from gmsdi.models.edm import latent as latents
from gmsdi.models.edm.denoiser import TextDenoiser
from gmsdi.models.edm.graphs import Graphs
from gmsdi.models.edm.text import require_prompts
from gmsdi.models.families import register
from gmsdi.models.folders import CONFIG, WEIGHTS, described, read_config
from gmsdi.models.protocol import Model, Outline
from gmsdi.models.trainable import kind_of

__all__ = ["Named", "bundled", "config_of", "folder_of", "load", "load_for", "open_folder", "outline_of", "register"]

BUNDLED = Path(__file__).parents[1] / "weights"
DISTRIBUTIONS = {"general": "gmsdi-general"}
"""Models whose weights are installed into this folder by distributions of their own."""
_BASELINE = "a model of separated stems, one of the baselines; a model of mixtures is needed here"


@dataclass(frozen=True)
class Named:
    """A model that is opened when it is needed; before that, tasks can be checked against its outline.

    Attributes:
        where: see `load`.
        device: see `load`.
        precision: see `load`.

    Raises:
        UserError: if the device or the precision cannot be used here.
    """

    where: str | Path
    device: str = "auto"
    precision: str = "auto"

    def __post_init__(self) -> None:
        resolve_precision(self.precision, resolve_device(self.device))

    def outline(self) -> Outline | None:
        """See `outline_of`."""
        return outline_of(self.where)

    def opened(self) -> Model:
        """See `load`."""
        return load(self.where, device=self.device, precision=self.precision)


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
    cuda_graphs: bool = False,
) -> Model:
    """Open a model.

    Args:
        where: a model folder or the folder of a pipeline of diffusers; a repository with one of them on the Hugging
            Face Hub, "owner/name" or "owner/name@revision"; the name of a model that comes with the package, "mini" or,
            with gmsdi-general installed, "general"; or of a family (`gmsdi.models.families`), with what the family
            takes after a colon.
        device: "auto" (CUDA if there is one), or a torch device.
        precision: of the network: "bf16", "float32", or "auto", which is bf16 where the hardware is faster at it.
        seconds: length of the windows in which a diffusers pipeline denoises; None means the length that it was trained
            at, or the default of its family if it takes any length.
        compile: run the network of a model folder through `torch.compile`, once for each new shape of a batch. That
            takes minutes for a large network, and on a CPU a C++ compiler; it pays off where much is sampled.
        cuda_graphs: replay the network of a model folder from CUDA graphs (`gmsdi.models.edm.graphs`), recorded once
            for each new shape of a batch. That helps where Python launches kernels more slowly than the GPU runs them,
            as with small batches or networks.

    Raises:
        UserError: if there is no such model, its family cannot be imported, the device does not exist, what is to be
            compiled or recorded is no model folder, or graphs are asked for on another device or of a compiled network.
    """
    tune_allocator()
    _require_name(where)
    if (family := families.loader_of(where)) is not None:
        _only_for_model_folders(compile, cuda_graphs, where)
        loader, rest = family
        return loader(rest, device=device, precision=precision)
    folder = folder_of(where)
    if is_pipeline(folder):
        _only_for_model_folders(compile, cuda_graphs, where)
        return pipelines.open_pipeline(folder, str(where), device=device, precision=precision, seconds=seconds)
    if seconds is not None:
        raise UserError(f"{where}: not a diffusers pipeline, so that its window is fixed; leave out seconds")
    return open_folder(folder, device=device, precision=precision, compile=compile, cuda_graphs=cuda_graphs)


def _only_for_model_folders(compile: bool, cuda_graphs: bool, where: str | Path) -> None:
    if cuda_graphs:
        raise UserError(f"{where}: CUDA graphs are for the networks of model folders; leave out cuda_graphs")
    if compile:
        raise UserError(f"{where}: only the networks of model folders can be compiled; leave out compile")


def _comes_along(where: str | Path) -> bool:
    """Whether this names a model that comes with the package, rather than a model's folder of that name."""
    own = any(os.path.isfile(Path(where) / name) for name in (CONFIG, WEIGHTS, INDEX))
    return str(where) in bundled() and not own


def _require_name(where: Any) -> None:
    """Refuse what names no model, such as the None of a variable that is not set.

    Raises:
        UserError: for anything but a text or a path.
    """
    if not isinstance(where, str | os.PathLike):
        raise UserError(f"the model is {where!r}; it must be a folder, or the name of a model")


def load_for(where: str | Path, seconds: float | None, *, device: str = "auto", precision: str = "auto") -> Model:
    """`load` for windows of so many seconds, where a model has none of its own."""
    own = families.is_of_family(where) or not is_pipeline(folder_of(where))
    return load(where, device=device, precision=precision, seconds=None if own else seconds)


def folder_of(where: str | Path) -> Path:
    """The folder of a model, given a folder, the name of a bundled model, or a name on the hub.

    Raises:
        UserError: if there is none; models of families have none.
    """
    _require_name(where)
    if families.is_of_family(where):
        raise UserError(f"{where}: a model of a family, opened by its own package; a model folder is needed here")
    if _comes_along(where):
        return BUNDLED / str(where)
    if hub.is_id(where):
        return pipelines.fetch(str(where))
    if not os.path.isdir(where):
        if str(where) in DISTRIBUTIONS:
            raise UserError(
                f"{where}: the weights of this model are not installed; install {DISTRIBUTIONS[str(where)]}"
            )
        known = [*bundled(), *(f"{name}:..." for name in families.names()), "owner/name on the Hugging Face Hub"]
        raise UserError(f"{where}: no model folder of that name; give one with {CONFIG}, or {', '.join(known)}")
    return Path(where)


def open_folder(
    path: str | Path,
    *,
    device: str = "auto",
    precision: str = "auto",
    compile: bool = False,
    cuda_graphs: bool = False,
) -> TextDenoiser:
    """Open a model folder of this package.

    Args:
        path: a folder with `model.safetensors` and `config.json`.
        device: see `load`.
        precision: see `load`.
        compile: see `load`.
        cuda_graphs: see `load`.

    Raises:
        UserError: if the folder holds no sound model of mixtures, the device does not exist, or graphs are asked for on
            another device or of a compiled network.
    """
    device = resolve_device(device)
    if cuda_graphs and (compile or not device.startswith("cuda")):
        raise UserError(f"CUDA graphs need a CUDA device, not {device}, and a network that is not compiled")
    dtype = resolve_precision(precision, device)
    model = load_model(path, device=device)
    if not isinstance(model, TextDenoiser) or target_of(model.config) != MIXTURE:
        raise UserError(f"{path}: {_BASELINE}")
    model.run_in(dtype)
    if compile:
        model.net.compile()
    if cuda_graphs:
        model.net.forward = Graphs(model.net.forward)
    return model


def config_of(where: str | Path) -> dict[str, Any] | None:
    """The `config.json` of a model folder or of a bundled model, without opening the model.

    Returns:
        The configuration; None for models that have to be downloaded or opened first.

    Raises:
        UserError: if the configuration cannot be used.
    """
    folder = BUNDLED / str(where) if _comes_along(where) else Path(where)
    return read_config(folder) if all(os.path.isfile(folder / name) for name in (CONFIG, WEIGHTS)) else None


def outline_of(where: str | Path) -> Outline | None:
    """What a model says of itself, without opening it; of one on the hub, its configurations are downloaded.

    Returns:
        The outline; None for a model of a family, which only its own package can read.

    Raises:
        UserError: if there is no such model, or its configuration cannot be used.
    """
    if families.is_of_family(where):
        return None
    remote = hub.is_id(where)
    folder = pipelines.fetch_configs(str(where)) if remote else folder_of(where)
    if is_pipeline(folder):
        pipelines.refuse(folder, str(where))
        told = describe(folder, str(where))
        shape = Outline(told.sample_rate, told.channels, told.usual, sigma_data=SIGMA_DATA.get(told.kind, 1.0))
        return shape if told.prompted else replace(shape, require_prompts=partial(require_one_sound, str(where)))
    return described(folder, lambda: _outline(folder, read_config(folder, weights=not remote)))


def _outline(folder: Path, config: dict[str, Any]) -> Outline:
    """The outline of a model folder of this package."""
    for part in ("unet", "text"):
        if not isinstance(config[part], dict):
            raise UserError(f"{folder / CONFIG}: {part} is {config[part]!r}; it must be a mapping")
    if kind_of(config) not in (waveforms.KIND, latents.KIND) or target_of(config) != MIXTURE:
        raise UserError(f"{folder}: {_BASELINE}")
    return Outline(
        sample_rate=config["sample_rate"],
        channels=1 if kind_of(config) == latents.KIND else config["unet"].get("in_channels", 1),
        window=config["window"],
        labels=config.get("labels") or [],
        level=known_level(config),
        sigma_data=config["sigma_data"],
        presets=config.get("presets"),
        require_prompts=partial(require_prompts, config["text"]),
    )
