"""Pipelines of diffusers, in a folder or on the Hugging Face Hub, as models of this package.

Each family has a module with `adapt`. The library is imported when a pipeline is opened. No code of a repository is
run: classes come from diffusers and transformers, and weights are safetensors; of families that were published as
pickles, only tensors are read.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from safetensors import SafetensorError

from gmsdi.errors import UserError
from gmsdi.io.device import resolve_device, resolve_precision
from gmsdi.models import hub
from gmsdi.models.adapters import ace_step, dance_diffusion, stable_audio, stable_audio_3
from gmsdi.models.adapters.parameterisations import Adapted
from gmsdi.models.adapters.parts import Opening
from gmsdi.models.described import INDEX, describe, read_json, require_supported
from gmsdi.models.folders import CONFIG, WEIGHTS


@dataclass(frozen=True)
class Family:
    """A class of pipelines.

    Attributes:
        adapt: makes the model from a pipeline.
        check: refuses a folder by its configuration, before weights are downloaded and read.
        safetensors: whether its weights are published in this format.
        options: by the part's name, further arguments with which it is opened, of its configuration.
    """

    adapt: Callable[[Any, Opening], Adapted]
    check: Callable[[Path, str], None]
    safetensors: bool = True
    options: Mapping[str, Callable[[dict[str, Any]], dict[str, Any]]] = field(default_factory=dict)


FAMILIES = {
    "StableAudioPipeline": Family(stable_audio.adapt, stable_audio.check),
    "StableAudio3Pipeline": Family(stable_audio_3.adapt, stable_audio_3.check),
    "AceStepPipeline": Family(ace_step.adapt, ace_step.check),
    "DanceDiffusionPipeline": Family(
        dance_diffusion.adapt, dance_diffusion.check, safetensors=False, options={"unet": dance_diffusion.options}
    ),
}
"""The families by the names of their pipelines' classes in `model_index.json`."""

UNUSED = ("*.ckpt", "*.fp16.*", "*.h5", "*.msgpack", "*.onnx*")
"""Files of a pipeline's parts that contain the same weights in other formats."""


def fetch(where: str) -> Path:
    """The folder of a repository: from the Hugging Face cache, or downloaded there.

    For a diffusers pipeline, the parts that its index lists are downloaded; otherwise a model folder of this package.

    Args:
        where: see `gmsdi.models.hub.download`.

    Raises:
        UserError: if it does not exist, may not be read, is neither of the two, or is a pipeline that is not supported.
    """
    # A single request first, since without a connection the others would be retried for most of a minute.
    told = fetch_configs(where)
    if not (told / INDEX).is_file():
        return hub.download(where)
    parts, family = _read(told, where)
    patterns = [INDEX, *(f"{part}/*" for part in parts if not part.startswith("_"))]
    return hub.download(where, patterns, [*UNUSED, *(["*.bin"] if family.safetensors else [])])


def fetch_configs(where: str) -> Path:
    """The folder of a repository with its configurations, but maybe without its weights; see `fetch`.

    Raises:
        UserError: see `fetch`.
    """
    told = hub.download(where, [INDEX, CONFIG, "*/*config.json"])
    if (told / INDEX).is_file():
        refuse(told, where)
    else:
        _require_model(told, where)
    return told


def refuse(folder: Path, name: str) -> None:
    """Make the checks of `open_pipeline` that need no weights.

    Raises:
        UserError: if the pipeline is not supported, or diffusers is not installed.
    """
    _, family = _read(folder, name)
    _library(name)
    family.check(folder, name)


def _require_model(folder: Path, name: str) -> None:
    """Check that a folder that is not a pipeline has the configuration of a model."""
    try:
        config = json.loads((folder / CONFIG).read_text())
    except (OSError, ValueError):
        config = None
    if not isinstance(config, dict) or "sample_rate" not in config:
        raise UserError(
            f"{name}: neither a pipeline of diffusers ({INDEX}) nor a model folder ({CONFIG} and {WEIGHTS}); "
            "original checkpoints have to be converted to diffusers' format first"
        )


def open_pipeline(
    folder: Path, name: str, *, device: str = "auto", precision: str = "auto", seconds: float | None = None
) -> Adapted:
    """Open the folder of a pipeline as a model.

    Args:
        folder: a folder with `model_index.json`.
        name: name for messages.
        device: see `gmsdi.models.registry.load`.
        precision: see there.
        seconds: see there.

    Raises:
        UserError: if the pipeline is not supported, something is missing or damaged, a weight is not finite, or
            diffusers is not installed.
    """
    parts, family = _read(folder, name)
    if seconds is not None and not seconds > 0:
        raise UserError(f"seconds is {seconds}; it must be positive")
    where = resolve_device(device)
    dtype = resolve_precision(precision, where)
    diffusers = _library(name)
    family.check(folder, name)
    describe(folder, name)
    kind = getattr(diffusers, parts["_class_name"], None)
    if kind is None:
        raise UserError(f"{name}: diffusers {diffusers.__version__} has no {parts['_class_name']}; install a newer one")
    networks = {}
    for part, listed in parts.items():
        with _readable(name):
            network = _class_of(listed, diffusers)
        if network is not None:
            networks[part] = _open_network(network, folder / part, family, name)
    with _readable(name), _quiet(diffusers):
        # The scheduler is not used, and may need further libraries.
        pipeline = kind.from_pretrained(
            folder, scheduler=None, local_files_only=True, low_cpu_mem_usage=_sparing(), **networks
        )
    return family.adapt(pipeline, Opening(name, where, dtype, seconds))


@contextmanager
def _readable(name: str) -> Iterator[None]:
    """Turn what diffusers and transformers raise about the files of a pipeline into a UserError.

    Configurations are not checked by them: a wrong value reaches the constructors of networks, which raise anything.
    """
    try:
        yield
    except (
        *(OSError, EOFError, ImportError, SafetensorError, UnpicklingError),
        *(ValueError, TypeError, LookupError, AttributeError, ArithmeticError, RuntimeError, AssertionError),
    ) as error:
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        raise UserError(f"{name}: not a complete pipeline that can be read ({reason}); fetch it again") from error


@contextmanager
def _quiet(diffusers: Any) -> Iterator[None]:
    """Leave out the warnings of diffusers, which prints every layer of a network of its own that it is given."""
    logging = diffusers.utils.logging
    before = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(before)


def _sparing() -> bool:
    """Whether diffusers can do without a second copy of the weights in memory."""
    return find_spec("accelerate") is not None


def _class_of(listed: Any, diffusers: Any) -> Any:
    """The class of a part, by its library and name in the pipeline's index; None if the part is not a network."""
    if not isinstance(listed, list) or len(listed) != 2 or not all(isinstance(word, str) for word in listed):
        return None
    import transformers

    library, name = listed
    known = {"diffusers": diffusers, "transformers": transformers}
    module = known.get(library) or getattr(diffusers.pipelines, library, None)  # that of a pipeline
    found = getattr(module, name, None)
    return found if isinstance(found, type) and issubclass(found, torch.nn.Module) else None


def _open_network(network: Any, folder: Path, family: Family, name: str) -> torch.nn.Module:
    """Open a part of a pipeline.

    It is not left to the pipeline, since diffusers and transformers only log that weights are missing from the files,
    and go on with random ones.

    Raises:
        UserError: if something is missing or damaged, or a weight is not finite.
    """
    # Without a configuration, transformers would build a network of its default size, of gigabytes.
    config = read_json(folder / "config.json", name)
    options = family.options.get(folder.name, lambda config: {})(config)
    if network.__module__.startswith("diffusers."):
        options["low_cpu_mem_usage"] = _sparing()
    with _readable(name):
        part, loaded = network.from_pretrained(
            folder,
            dtype=torch.float32,
            local_files_only=True,
            use_safetensors=True if family.safetensors else None,
            output_loading_info=True,
            **options,
        )
    if loaded["missing_keys"]:
        raise UserError(
            f"{name}: weight {min(loaded['missing_keys'])} of {folder.name} is missing; the file belongs to another "
            "configuration, or is incomplete; fetch it again"
        )
    for weight, values in part.state_dict().items():
        if not values.isfinite().all():
            raise UserError(f"{name}: weight {weight} of {folder.name} holds NaN or infinite numbers; fetch it again")
    opened: torch.nn.Module = part.requires_grad_(False).eval()
    return opened


def _library(name: str) -> Any:
    """The module diffusers.

    Raises:
        UserError: if it is not installed.
    """
    try:
        import diffusers
    except ImportError as error:
        raise UserError(
            f"{name}: a pipeline of diffusers, which is not installed; run: pip install diffusers"
        ) from error
    return diffusers


def _read(folder: Path, name: str) -> tuple[dict[str, Any], Family]:
    """Read the index of a pipeline and find its family.

    Raises:
        UserError: if there is none, or it is not supported.
    """
    try:
        parts = json.loads((folder / INDEX).read_text())
        kind = str(parts["_class_name"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{name}: its {INDEX} is not that of a pipeline of diffusers") from error
    require_supported(kind, name)
    return parts, FAMILIES[kind]
