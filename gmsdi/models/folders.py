"""The files of a model folder: `model.safetensors` and `config.json`, as on the Hugging Face Hub."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar, get_args

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from gmsdi.errors import UserError
from gmsdi.io.files import require_writable
from gmsdi.level import known_level
from gmsdi.models.trainable import TrainableModel
from gmsdi.settings import Bounded, Deviation

WEIGHTS, CONFIG, PROMPTS = "model.safetensors", "config.json", "prompts.safetensors"

_NUMBERS = {
    "sample_rate": Bounded(whole=True, ge=1000, le=1_000_000),
    "window": Bounded(whole=True, ge=1, le=2**31),
    "sigma_data": get_args(Deviation)[1],
}
"""Requirements on numbers in the configuration, for every kind of model that has them."""

Result = TypeVar("Result")
AnyModel = TypeVar("AnyModel", bound=TrainableModel)


def read_config(folder: str | Path, *, weights: bool = True) -> dict[str, Any]:
    """Read the configuration of a model folder.

    Args:
        folder: the model folder.
        weights: whether the weights have to be there, too.

    Raises:
        UserError: if a file is missing, or is not a configuration.
    """
    folder = Path(folder)
    for name in (CONFIG, WEIGHTS) if weights else (CONFIG,):
        if not (folder / name).is_file():
            raise UserError(f"{folder}: no {name} there; a model is a folder with {CONFIG} and {WEIGHTS}")
    config = described(folder, lambda: json.loads((folder / CONFIG).read_text()))
    if not isinstance(config, dict):
        raise UserError(f"{folder / CONFIG}: not the configuration of a model")
    require_sound(config, folder / CONFIG)
    return config


def require_sound(config: Mapping[str, Any], what: str | Path) -> None:
    """Refuse values of a configuration that no kind of model can have.

    Args:
        config: see `gmsdi.models.checkpoint.build_model`.
        what: what messages call it.

    Raises:
        UserError: for the first of them.
    """
    for name, bounded in _NUMBERS.items():
        if name in config and not (bounded.is_kind(config[name]) and bounded.within(config[name])):
            raise UserError(f"{what}: {name} is {config[name]!r}; it must be {bounded.wanted}")
    known_level(config)
    labels = config.get("labels") or []
    if not isinstance(labels, list) or not all(isinstance(label, str) and label.strip() for label in labels):
        raise UserError(f"{what}: labels are {labels!r}; they must be a list of texts")
    for label in labels:
        if "," in label or label != label.strip() or not label.isprintable():
            raise UserError(
                f"{what}: the label {label!r} must be one line without commas and without spaces at its ends"
            )
    if len({label.lower() for label in labels}) < len(labels):
        raise UserError(f"{what}: labels {', '.join(labels)}: two are the same")


def require_place(folder: str | Path, beside: Iterable[str] = ()) -> Path:
    """Refuse a place for a model folder at which something else would be lost: a folder is replaced as a whole.

    Args:
        folder: where the model is to be written.
        beside: names of further files that are written there.

    Returns:
        The folder, without links and relative parts.

    Raises:
        UserError: if there is a file, a folder with anything but the files of a model, or the current folder; or if the
            place cannot be written to.
    """
    place = Path(os.path.realpath(folder))
    if Path.cwd().is_relative_to(place):
        raise UserError(f"{folder}: the current folder, or one around it; name a folder that can be replaced")
    if place.is_dir():
        own = {CONFIG, WEIGHTS, PROMPTS, "provenance.json", "README.md", *beside}
        if others := sorted(set(os.listdir(place)) - own):
            raise UserError(
                f"{folder}: holds {others[0]}, which is no file of a model and would be lost; choose another folder"
            )
    elif place.exists():
        raise UserError(f"{folder}: is a file; choose another name for the model's folder")
    require_writable(place.parent / f".{place.name}.partial")
    return place


def write_weights(weights: dict[str, Tensor], file: Path) -> None:
    """Write the weights of a model folder.

    Raises:
        UserError: if the disk is full.
    """
    try:
        save_file(weights, file, metadata={"format": "pt"})
    except SafetensorError as error:
        raise UserError(f"{file.name}: cannot be written ({error}); free space, or choose another folder") from error


def described(folder: str | Path, use: Callable[[], Result]) -> Result:
    """Call `use`, which builds something from a folder's configuration, and turn its errors into a UserError.

    Whoever wrote the configuration, its values reach every layer of a network, and any of them may refuse one.

    Raises:
        UserError: if settings are missing or wrong.
    """
    try:
        return use()
    except UserError:
        raise
    except (ValueError, KeyError, TypeError, AttributeError, ArithmeticError, RuntimeError, AssertionError) as error:
        why = str(error).strip().partition("\n")[0] or type(error).__name__
        raise UserError(f"{Path(folder) / CONFIG}: not the configuration of a model ({why})") from error


def fill(model: AnyModel, folder: str | Path) -> AnyModel:
    """Load the weights of a folder into a model and make it ready for inference.

    Raises:
        UserError: if the weights are damaged or not finite, or do not have the shapes that the configuration implies.
    """
    folder = Path(folder)
    require_shapes(model, folder)
    with _readable(folder):
        weights = load_file(folder / WEIGHTS)
    for name, tensor in weights.items():
        if not torch.isfinite(tensor).all():
            raise UserError(f"{folder / WEIGHTS}: weight {name} holds NaN or infinite numbers; fetch or train it again")
    model.load_state_dict(weights, strict=False)
    return model.requires_grad_(False).eval()


def require_shapes(model: TrainableModel, folder: str | Path) -> None:
    """Compare the shapes of a folder's weights, of which only the list is read, with those of a model.

    Args:
        model: of the folder's configuration; it may be on torch's device "meta", where it takes no memory.
        folder: the model folder.

    Raises:
        UserError: if the file is damaged, or one of the shapes differs.
    """
    file = Path(folder) / WEIGHTS
    with _readable(file.parent), safe_open(file, "pt") as opened:
        found = {name: tuple(opened.get_slice(name).get_shape()) for name in opened.keys()}  # noqa: SIM118
    expected = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    for name, shape in expected.items():
        if name not in found:
            raise UserError(f"{file}: weight {name} is missing; the file belongs to another configuration")
        if found[name] != shape:
            raise UserError(
                f"{file}: weight {name} has shape {found[name]} but {CONFIG} asks for {shape}; the two files do not "
                "belong together"
            )
    unknown = sorted(found.keys() - expected.keys())
    if unknown:
        raise UserError(f"{file}: unknown weight {unknown[0]}; the file belongs to another configuration")


@contextmanager
def _readable(folder: Path) -> Iterator[None]:
    """Turn the errors of a weights file into a UserError."""
    try:
        yield
    except (SafetensorError, OSError) as error:
        raise UserError(f"{folder / WEIGHTS}: damaged or not a safetensors file ({error}); fetch it again") from error
