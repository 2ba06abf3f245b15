"""Models on disk: `model.safetensors` and `config.json` in one folder, the Hugging Face Hub's convention.

Beside them a model with a frozen text encoder has `prompts.safetensors`, the embeddings of its prompts.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any, cast

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from gmsdi.errors import UserError
from gmsdi.io.files import atomic
from gmsdi.models.clap.training import build as build_clap
from gmsdi.models.edm.denoiser import TextDenoiser
from gmsdi.models.edm.text import FrozenText, build_text
from gmsdi.models.edm.unet import UNet1d, UNetConfig
from gmsdi.models.trainable import TrainableModel

WEIGHTS, CONFIG, PROMPTS = "model.safetensors", "config.json", "prompts.safetensors"
MIXTURE, STEMS = "mixture", "stems"


def build_model(config: dict[str, Any], *, prompts: Path | None = None) -> TrainableModel:
    """A model with fresh weights.

    Args:
        config: `kind`, "diffusion" (the default), "clap" or "gibbs"; `target`, see `target_of`; `sample_rate` in Hz,
            `window` in samples, `labels`; `level`, which training measures, see `gmsdi.level`; and for a diffusion
            model `unet` (see `UNetConfig`), `text` (see `models.edm.text.build_text`) and `sigma_data`, for the other
            kinds what `models.clap.training.build` and `gmsdi.systems.demucs_gibbs.build` take.
        prompts: embeddings of prompts that are known already, see `models.edm.text.build_text`.

    Raises:
        UserError: if the settings contradict each other, or a pretrained text encoder cannot be had.
    """
    kind = config.get("kind", "diffusion")
    target_of(config)
    if kind == "diffusion":
        return _build_diffusion(config, prompts)
    if kind == "clap":
        return build_clap(config)
    if kind == "gibbs":  # by name: the baselines stand above the models, and need a package of their own
        return cast(TrainableModel, import_module("gmsdi.systems.demucs_gibbs").build(config))
    raise UserError(f"model kind is {kind!r}; choose diffusion, clap or gibbs")


def target_of(config: Mapping[str, Any]) -> str:
    """The signals that a model is of: "mixture" (the default), "stems" or one label.

    "mixture" is one channel, the sum of the stems; "stems" is the K stems of `labels` as K channels, in that order; a
    label is that stem alone.

    Raises:
        UserError: if the target is none of these, or the diffusion network's channels are not the K stems.
    """
    target, labels = config.get("target", MIXTURE), list(config.get("labels") or [])
    if target not in (MIXTURE, STEMS, *labels):
        raise UserError(f"model target is {target!r}; choose mixture, stems, or a label ({', '.join(labels)})")
    channels = config.get("unet", {}).get("in_channels", 1)
    if target == STEMS and config.get("kind", "diffusion") == "diffusion" and channels != len(labels):
        raise UserError(
            f"model target is stems, so unet.in_channels must be {len(labels)} ({', '.join(labels)}), not {channels}"
        )
    return str(target)


def _build_diffusion(config: dict[str, Any], prompts: Path | None) -> TextDenoiser:
    text = build_text(config["text"], prompts=prompts)
    try:
        unet_config = UNetConfig(**{**config["unet"], "text_features": text.features})
    except (TypeError, ValueError) as error:
        raise UserError(f"model.unet: {error}") from error
    if config["window"] % unet_config.stride:
        raise UserError(
            f"model window of {config['window']} samples is not a multiple of the network's stride "
            f"{unet_config.stride}; change data.window, or the U-Net's patch_factor and factors"
        )
    return TextDenoiser(UNet1d(unet_config), text, config["sigma_data"], config)


def save_model(
    folder: str | Path,
    model: TrainableModel,
    extra: dict[str, str] | None = None,
    *,
    dtype: torch.dtype = torch.float32,
) -> None:
    """Write a model folder; it appears when it is complete. Of a frozen text encoder it holds the prompts' embeddings.

    Args:
        folder: the model folder.
        model: the model.
        extra: further files of the folder, name to text (such as `provenance.json`).
        dtype: of the weights in the file; float16 halves it, and `load_model` gives float32 in any case.
    """
    with atomic(folder) as temporary:
        temporary.mkdir()
        weights = {
            name: tensor.detach().to("cpu", dtype if tensor.is_floating_point() else None).contiguous()
            for name, tensor in _own_state(model).items()
        }
        save_file(weights, temporary / WEIGHTS, metadata={"format": "pt"})
        (temporary / WEIGHTS).chmod(0o644)  # safetensors makes it private
        (temporary / CONFIG).write_text(json.dumps(model.config, indent=2) + "\n")
        if isinstance(text := getattr(model, "text", None), FrozenText):
            text.write_prompts(temporary / PROMPTS, model.config["labels"])
            (temporary / PROMPTS).chmod(0o644)
        for name, text in (extra or {}).items():
            (temporary / name).write_text(text)


def load_model(folder: str | Path, *, device: str = "cpu") -> TrainableModel:
    """Read a model folder, ready for inference.

    Raises:
        UserError: if a file is missing or damaged, or the weights are of another shape than the configuration says.
    """
    folder = Path(folder)
    for name in (CONFIG, WEIGHTS):
        if not (folder / name).is_file():
            raise UserError(f"{folder}: no {name} there; a model is a folder with {CONFIG} and {WEIGHTS}")
    try:
        config = json.loads((folder / CONFIG).read_text())
        prompts = folder / PROMPTS
        model = build_model(config, prompts=prompts if prompts.is_file() else None)
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise UserError(f"{folder / CONFIG}: not the configuration of a model ({error})") from error
    try:
        weights = load_file(folder / WEIGHTS)
    except (SafetensorError, OSError) as error:
        raise UserError(f"{folder / WEIGHTS}: damaged or not a safetensors file ({error}); fetch it again") from error
    expected = _own_state(model)
    for name, tensor in expected.items():
        if name not in weights:
            raise UserError(f"{folder / WEIGHTS}: weight {name} is missing; the file belongs to another configuration")
        if weights[name].shape != tensor.shape:
            raise UserError(
                f"{folder / WEIGHTS}: weight {name} has shape {tuple(weights[name].shape)} but {CONFIG} asks for "
                f"{tuple(tensor.shape)}; the two files do not belong together"
            )
    unknown = sorted(weights.keys() - expected.keys())
    if unknown:
        raise UserError(f"{folder / WEIGHTS}: unknown weight {unknown[0]}; the file belongs to another configuration")
    model.load_state_dict(weights, strict=False)
    return model.requires_grad_(False).eval().to(device)


def bundled_model() -> Path:
    """The folder of the small model that comes with the package."""
    return Path(__file__).parents[1] / "weights" / "mini"


def _own_state(model: TrainableModel) -> dict[str, torch.Tensor]:
    # T5 ties its token table to two names; one of them is enough, and safetensors refuses shared memory.
    tied = "text.encoder.encoder.embed_tokens.weight"
    return {name: tensor for name, tensor in model.state_dict().items() if name != tied}
