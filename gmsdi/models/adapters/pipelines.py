"""Pipelines of diffusers, in a folder or on the Hugging Face Hub, as models of this package.

Each family has a module with `adapt`. The library is imported when a pipeline is opened. Nothing that a repository
brings is run: classes come from diffusers and transformers, and weights are safetensors, or tensors alone where a
family was published as a pickle.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from gmsdi.errors import UserError
from gmsdi.io.device import resolve_device, resolve_precision
from gmsdi.models import hub
from gmsdi.models.adapters import ace_step, dance_diffusion, stable_audio, stable_audio_3
from gmsdi.models.adapters.parameterisations import Adapted
from gmsdi.models.adapters.parts import Opening
from gmsdi.models.described import INDEX
from gmsdi.models.folders import CONFIG, WEIGHTS


@dataclass(frozen=True)
class Family:
    """A class of pipelines.

    Attributes:
        adapt: a pipeline to the model.
        check: refuses a folder by its configuration, before weights are downloaded and read.
        safetensors: whether its weights are published as these.
        parts: those of a folder that are not opened as diffusers would.
    """

    adapt: Callable[[Any, Opening], Adapted]
    check: Callable[[Path, str], None]
    safetensors: bool = True
    parts: Callable[[Path], dict[str, Any]] = lambda folder: {}


FAMILIES = {
    "StableAudioPipeline": Family(stable_audio.adapt, stable_audio.check),
    "StableAudio3Pipeline": Family(stable_audio_3.adapt, stable_audio_3.check),
    "AceStepPipeline": Family(ace_step.adapt, ace_step.check),
    "DanceDiffusionPipeline": Family(
        dance_diffusion.adapt, dance_diffusion.check, safetensors=False, parts=dance_diffusion.parts
    ),
}
"""By the name of the pipeline's class, as `model_index.json` has it."""

MEL = (
    "works on mel spectrograms, which have no phase: nothing in it takes a waveform, and signals with one spectrogram, "
    "such as y and -y, would be one state, so that no stem can be the mixture minus the others"
)
REFUSED = {"AudioLDMPipeline": MEL, "AudioLDM2Pipeline": MEL, "MusicLDMPipeline": MEL}
"""Classes that cannot be models here, and why."""

UNUSED = ("*.ckpt", "*.fp16.*", "*.h5", "*.msgpack", "*.onnx*")
"""Files of a pipeline's parts that are other forms of the same weights."""


def fetch(where: str) -> Path:
    """The folder of a repository: from the Hugging Face cache, or downloaded there.

    Of a pipeline of diffusers the parts that its index lists are fetched, else a model folder of this package.

    Args:
        where: see `gmsdi.models.hub.download`.

    Raises:
        UserError: if it is not there, not for everybody, neither of the two, or a pipeline that cannot be a model.
    """
    # One request first, since others are repeated for most of a minute where there is no connection.
    told = hub.download(where, [INDEX, CONFIG, "*/*config.json"])
    if not (told / INDEX).is_file():
        _require_model(told, where)
        return hub.download(where)
    parts, family = _read(told, where)
    refuse(told, where)
    patterns = [INDEX, *(f"{part}/*" for part in parts if not part.startswith("_"))]
    return hub.download(where, patterns, [*UNUSED, *(["*.bin"] if family.safetensors else [])])


def refuse(folder: Path, name: str) -> None:
    """Refuse a pipeline as `open_pipeline` does before it reads weights.

    Raises:
        UserError: if it cannot be a model, or diffusers is not installed.
    """
    _, family = _read(folder, name)
    _library(name)
    family.check(folder, name)


def _require_model(folder: Path, name: str) -> None:
    """Check that the configuration of a folder that is no pipeline is that of a model."""
    try:
        config = json.loads((folder / CONFIG).read_text())
    except (OSError, json.JSONDecodeError):
        config = None
    if not isinstance(config, dict) or "sample_rate" not in config:
        raise UserError(
            f"{name}: neither a pipeline of diffusers ({INDEX}) nor a model folder ({CONFIG} and {WEIGHTS}); "
            "original checkpoints have to be converted to diffusers' format first"
        )


def open_pipeline(
    folder: Path, name: str, *, device: str = "auto", precision: str = "auto", seconds: float | None = None
) -> Adapted:
    """The model of a pipeline's folder.

    Args:
        folder: with `model_index.json`.
        name: for messages.
        device: see `gmsdi.models.registry.load`.
        precision: see there.
        seconds: see there.

    Raises:
        UserError: if it is a pipeline that cannot be a model, something is missing, or diffusers is not installed.
    """
    parts, family = _read(folder, name)
    if seconds is not None and not seconds > 0:
        raise UserError(f"seconds is {seconds}; it must be positive")
    where = resolve_device(device)
    diffusers = _library(name)
    family.check(folder, name)
    kind = getattr(diffusers, parts["_class_name"], None)
    if kind is None:
        raise UserError(f"{name}: diffusers {diffusers.__version__} has no {parts['_class_name']}; install a newer one")
    try:
        # Its scheduler is not used, and may need libraries of its own.
        pipeline = kind.from_pretrained(
            folder,
            scheduler=None,
            dtype=torch.float32,
            local_files_only=True,
            low_cpu_mem_usage=find_spec("accelerate") is not None,
            use_safetensors=True if family.safetensors else None,
            **family.parts(folder),
        )
    except (OSError, ValueError, RuntimeError, KeyError, ImportError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise UserError(f"{name}: not a complete pipeline that can be read ({reason}); fetch it again") from error
    for part in pipeline.components.values():
        if isinstance(part, torch.nn.Module):
            part.requires_grad_(False).eval()
    opening = Opening(name, where, resolve_precision(precision, where), seconds)
    return family.adapt(pipeline, opening)


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
    """The index of a pipeline and its family.

    Raises:
        UserError: if it is none that can be a model.
    """
    try:
        parts = json.loads((folder / INDEX).read_text())
        kind = str(parts["_class_name"])
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise UserError(f"{name}: its {INDEX} is not that of a pipeline of diffusers") from error
    if kind in REFUSED:
        raise UserError(f"{name}: {kind} {REFUSED[kind]}; docs/pretrained.md lists the models that can be used")
    if kind not in FAMILIES:
        raise UserError(f"{name}: a {kind}; models can be made of {', '.join(FAMILIES)}")
    return parts, FAMILIES[kind]
