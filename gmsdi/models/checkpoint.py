"""Models on disk: `model.safetensors` and `config.json` in one folder, the Hugging Face Hub's convention.

A model with a frozen text encoder also has `prompts.safetensors`, the embeddings of its prompts.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from gmsdi.errors import UserError
from gmsdi.io.allocator import tune_allocator
from gmsdi.io.files import atomic
from gmsdi.models import demucs as _demucs  # noqa: F401  # registers its kind, as `family` does
from gmsdi.models.clap import training as _clap  # noqa: F401  # the same
from gmsdi.models.edm import family
from gmsdi.models.edm import latent as _latent  # noqa: F401  # registers its kind, and the codec's
from gmsdi.models.folders import CONFIG, PROMPTS, WEIGHTS, described, fill, read_config, require_place, write_weights
from gmsdi.models.trainable import TrainableModel, builder, kind_of

MIXTURE, STEMS = "mixture", "stems"


class Unfilled(TorchFunctionMode):
    """Leaves the weights of modules that are built unfilled, for weights that replace all of them.

    Random numbers cost more time than the weights' file does. And memory that is not written to is not used yet, so a
    size in a configuration that is a slip of the pen is found before it fills the memory.
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Pass on every call but those of `torch.nn.init`."""
        if getattr(func, "__module__", None) == nn.init.__name__:
            return args[0] if args else kwargs["tensor"]
        return func(*args, **(kwargs or {}))


def build_model(config: dict[str, Any], *, prompts: Path | None = None) -> TrainableModel:
    """Build a model with fresh weights.

    Args:
        config: `kind`, "diffusion" (the default), "latent", "codec", "clap" or "gibbs"; `target`, see `target_of`;
            `sample_rate` in Hz, `window` in samples, `labels`; `level`, which training measures, see `gmsdi.level`; and
            for a diffusion model `unet` (see `UNetConfig`), `text` (see `models.edm.text.build_text`) and `sigma_data`;
            for a model of latents also `codec` (see `CodecConfig`), and for a codec only that; for the other kinds the
            keys that `models.clap.training.build` and `models.demucs.build` take.
        prompts: file of embeddings of known prompts, see `models.edm.text.build_text`.

    Raises:
        UserError: if the settings contradict each other, or a pretrained text encoder is not available.
    """
    target_of(config)
    return builder(config)(config, prompts)


def target_of(config: Mapping[str, Any]) -> str:
    """The signals that a model generates: "mixture" (the default), "stems" or one label.

    "mixture" is the sum of the stems, one channel; "stems" is the K stems of `labels` as K channels, in that order; a
    label is that stem alone.

    Raises:
        UserError: if the target is none of these, or is "stems" and a diffusion network does not have K channels.
    """
    target, labels = config.get("target", MIXTURE), list(config.get("labels") or [])
    if target not in (MIXTURE, STEMS, *labels):
        raise UserError(f"model target is {target!r}; choose mixture, stems, or a label ({', '.join(labels)})")
    channels = config.get("unet", {}).get("in_channels", 1)
    if target == STEMS and kind_of(config) == family.KIND and channels != len(labels):
        raise UserError(
            f"model target is stems, so unet.in_channels must be {len(labels)} ({', '.join(labels)}), not {channels}"
        )
    return str(target)


def save_model(
    folder: str | Path,
    model: TrainableModel,
    extra: dict[str, str] | None = None,
    *,
    dtype: torch.dtype = torch.float32,
) -> None:
    """Write a model folder, which appears once it is complete; one that is there is replaced.

    Of a frozen text encoder, only the embeddings of its prompts are stored.

    Args:
        folder: the model folder.
        model: the model.
        extra: further files of the folder, name to text (such as `provenance.json`).
        dtype: dtype of the weights in the file; float16 halves the file, and `load_model` returns float32 in any case.

    Raises:
        UserError: if the weights have been rounded to bf16 to run the model, and would be stored so; or for a folder
            that holds anything else (`gmsdi.models.folders.require_place`).
    """
    place = require_place(folder, extra or ())
    if dtype != torch.bfloat16 and any(weight.dtype == torch.bfloat16 for weight in model.parameters()):
        raise UserError("the model was opened to run in bf16, with rounded weights; open it with precision float32")
    with atomic(place) as temporary:
        temporary.mkdir()
        weights = {
            name: tensor.detach().to("cpu", dtype if tensor.is_floating_point() else None).contiguous()
            for name, tensor in model.state_dict().items()
        }
        write_weights(weights, temporary / WEIGHTS)
        (temporary / WEIGHTS).chmod(0o644)  # safetensors creates private files
        (temporary / CONFIG).write_text(json.dumps(model.config, indent=2) + "\n")
        model.write_beside(temporary)
        for name, text in (extra or {}).items():
            (temporary / name).write_text(text)


def load_model(folder: str | Path, *, device: str = "cpu") -> TrainableModel:
    """Read a model folder, ready for inference.

    Raises:
        UserError: if a file is missing or damaged, or the weights do not have the shapes that the configuration
            implies.
    """
    tune_allocator()
    folder = Path(folder)
    config, prompts = read_config(folder), folder / PROMPTS
    pretrained = described(folder, lambda: config.get("text", {}).get("kind", "none")) not in ("tiny", "none")
    with nullcontext() if pretrained else Unfilled():
        model = described(folder, lambda: build_model(config, prompts=prompts if prompts.is_file() else None))
    return fill(model, folder).to(device)
