"""The files of a model folder: `model.safetensors` and `config.json`, as on the Hugging Face Hub."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file

from gmsdi.errors import UserError
from gmsdi.level import known_level
from gmsdi.models.trainable import TrainableModel
from gmsdi.settings import Bounded

WEIGHTS, CONFIG, PROMPTS = "model.safetensors", "config.json", "prompts.safetensors"

_NUMBERS = {
    "sample_rate": Bounded(whole=True, ge=1000, le=1_000_000),
    "window": Bounded(whole=True, ge=1, le=2**31),
    "sigma_data": Bounded(gt=0, le=1e6),
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
    for name, bounded in _NUMBERS.items():
        if name in config and not (bounded.is_kind(config[name]) and bounded.within(config[name])):
            raise UserError(f"{folder / CONFIG}: {name} is {config[name]!r}; it must be {bounded.wanted}")
    known_level(config)
    labels = config.get("labels") or []
    if not isinstance(labels, list) or not all(isinstance(label, str) and label.strip() for label in labels):
        raise UserError(f"{folder / CONFIG}: labels are {labels!r}; they must be a list of texts")
    if len({label.lower() for label in labels}) < len(labels):
        raise UserError(f"{folder / CONFIG}: labels {', '.join(labels)}: two are the same")
    return config


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
