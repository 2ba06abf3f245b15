"""Conversion of audio-diffusion-pytorch 0.0.43's models, MSDM's checkpoints among them.

The published classes `UNet1d` and `UNetConditional1d` compute what `gmsdi.models.edm.unet.UNet1d` computes with its
default options; only the names differ (`RENAMES`). Widths, depths and factors follow from the shapes of the weights.
Other settings (`SETTINGS`) come from the checkpoint's hyper-parameters; for a plain state dict, which has none, MSDM's
are assumed.

A checkpoint is a pickle, which can run code when it is read. Here it is read with `weights_only=True`, and every class
that it names beyond PyTorch's own (such as the distribution of σ among the hyper-parameters) is replaced by an empty
one, so that nothing that the file names is called or imported.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from torch import Tensor
from torch.serialization import get_unsafe_globals_in_checkpoint, safe_globals

from gmsdi.errors import UserError
from gmsdi.io.files import atomic, sha256_of
from gmsdi.models.edm.unet import UNet1d, UNetConfig
from gmsdi.models.folders import CONFIG, WEIGHTS, require_place, require_sound, write_weights

RENAMES = (
    (r"^to_time\.0\.0\.weights$", "to_time.0.frequencies"),
    (r"^to_time\.0\.1\.", "to_time.1."),
    (r"^to_features\.", "to_text."),
    (r"^to_in\.module_list\.0\.", "patch."),
    (r"^to_out\.module_list\.0\.", "unpatch."),
    (r"^downsamples\.(\d+)\.downsample\.", r"downs.\1.down."),
    (r"^downsamples\.", "downs."),
    (r"^upsamples\.(\d+)\.upsample\.", r"ups.\1.up."),
    (r"^upsamples\.", "ups."),
    (r"^bottleneck\.(pre|post)_block\.", r"bottleneck.\1."),
    (r"\.cross_attend\.fn\.", ".cross_attention."),
    (r"\.attention\.fn\.", ".attention."),
    (r"\.attention\.to_out\.0\.", ".out.linear."),
    (r"\.attention\.to_out\.1\.", ".out.norm."),
    (r"\.to_scale_shift\.to_scale_shift\.", ".modulation."),
    (r"\.to_out\.", ".skip."),
    (r"\.groupnorm\.", ".norm."),
    (r"\.project\.", ".conv."),
    (r"\.norm_in\.", ".norm."),
    (r"\.norm_context\.", ".norm_text."),
    (r"\.g$", ".weight"),
)
"""Turns the published classes' parameter names into ours: patterns and replacements, applied in this order."""

SETTINGS = {
    "attention_heads": 8,
    "resnet_groups": 8,
    "kernel_multiplier_downsample": 2,
    "use_skip_scale": True,
    "diffusion_sigma_data": 0.2,
}
"""The published classes' arguments that do not follow from shapes, with MSDM's values."""

STEMS = ("Bass", "Drums", "Guitar", "Piano")
"""The order of the channels of MSDM's joint model."""

T5 = {512: "t5-small", 768: "t5-base", 1024: "t5-large"}
"""The text encoder for each width of embeddings."""

_ENTRY = "to_in.module_list.0.block.block1.project.weight"
_UNCONDITIONAL = "fixed_embedding.embedding.weight"


def import_msdm(
    ckpt: str | Path,
    out: str | Path,
    *,
    labels: Sequence[str] | None = None,
    text_encoder: str | None = None,
    sample_rate: int = 22050,
    window: int = 2**18,
) -> None:
    """Turn a checkpoint of MSDM, or of audio-diffusion-pytorch 0.0.43's diffusion models, into a model folder.

    MSDM clamps the denoised signal to ±1 wherever it samples: set guidance's `clamp` to 1 to do the same.

    Args:
        ckpt: a Lightning checkpoint with a `UNet1d` or `UNetConditional1d` anywhere in its state dict, or a state dict.
        out: the folder to write.
        labels: names of the stems; by default MSDM's four, but none for an unconditional model of one channel, whose
            stem is not stored in the checkpoint.
        text_encoder: T5 model of a text-conditional network; by default the one whose embeddings have the same width.
        sample_rate: sample rate of the training data in Hz.
        window: training window in samples.

    Raises:
        UserError: if the file cannot be read safely or contains another kind of network, the arguments do not fit, or
            the folder holds anything but a model.
    """
    ckpt, place = Path(ckpt), require_place(out)
    given = {"sample_rate": sample_rate, "window": window, "labels": None if labels is None else list(labels)}
    require_sound(given, "import-msdm")
    weights, hyper_parameters = read_checkpoint(ckpt)
    try:
        net, text = convert(weights, hyper_parameters)
    except UserError as error:
        raise UserError(f"{ckpt}: {error}") from error
    config = net.config
    if window % config.stride:
        raise UserError(f"window of {window} samples is not a multiple of the network's stride {config.stride}")
    if labels is None:
        labels = STEMS if text is not None or config.in_channels == len(STEMS) else ()
    unet = {name: value for name, value in asdict(config).items() if name != "text_features"}
    state = {f"net.{name}": tensor.detach().float().contiguous() for name, tensor in net.state_dict().items()}
    described: dict[str, Any] = {"kind": "none"}
    if text is not None:
        length, features = text.shape
        name = text_encoder or T5.get(features)
        if name is None:
            raise UserError(f"{ckpt}: embeddings of {features} features; name the T5 model that gives them")
        described = {"kind": "t5", "name": name, "max_length": length, "attend_padding": True}
        state["text.unconditional"] = text.float().contiguous()
    taken = {name: hyper_parameters[name] for name in SETTINGS if name in hyper_parameters}
    assumed = {name: value for name, value in SETTINGS.items() if name not in taken}
    settings = {**SETTINGS, **taken}
    provenance = {
        "checkpoint": ckpt.name,
        "sha256": sha256_of(ckpt),
        "read from it": taken,
        "taken for granted": assumed,
    }
    with atomic(place) as folder:
        folder.mkdir()
        write_weights(state, folder / WEIGHTS)
        model = {
            "unet": unet,
            "text": described,
            "sigma_data": settings["diffusion_sigma_data"],
            "sample_rate": sample_rate,
            "window": window,
            "labels": list(labels),
        }
        if text is None and config.in_channels == len(labels):  # MSDM: all stems as channels, or one stem alone
            model["target"] = "stems" if len(labels) > 1 else labels[0]
        (folder / CONFIG).write_text(json.dumps(model, indent=2) + "\n")
        (folder / "provenance.json").write_text(json.dumps(provenance, indent=2) + "\n")


def read_checkpoint(path: str | Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read the weights of a checkpoint and its numeric hyper-parameters, without running code from the file.

    Raises:
        UserError: if the file is missing, is not a checkpoint of PyTorch 1.6 or later, or cannot be read safely.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    try:
        stand_ins = [
            (_InertDict if name.lower().endswith("dict") else _Inert, name)
            for name in get_unsafe_globals_in_checkpoint(path)
        ]
        with safe_globals(stand_ins):  # type: ignore[arg-type]  # names instead of classes are allowed, but not typed
            content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except (UnpicklingError, ValueError, RuntimeError, EOFError, OSError, TypeError) as error:
        reason = str(error).partition("\n")[0]
        raise UserError(f"{path}: not a checkpoint that can be read safely ({reason})") from error
    if not isinstance(content, Mapping):
        raise UserError(f"{path}: neither a Lightning checkpoint nor a state dict")
    weights = content.get("state_dict", content)
    if not isinstance(weights, Mapping):
        raise UserError(f"{path}: its state_dict is not a dictionary")
    tensors = {name: value for name, value in weights.items() if isinstance(name, str) and isinstance(value, Tensor)}
    parameters = content.get("hyper_parameters", {})
    plain = parameters.items() if isinstance(parameters, Mapping) else ()
    return tensors, {str(name): value for name, value in plain if isinstance(value, bool | int | float)}


def convert(weights: Mapping[str, Tensor], settings: Mapping[str, Any] | None = None) -> tuple[UNet1d, Tensor | None]:
    """Convert a published network, with its weights.

    Args:
        weights: a state dict that contains a `UNet1d` or `UNetConditional1d`, under any prefix.
        settings: arguments of the published class; missing ones of `SETTINGS` get MSDM's values.

    Returns:
        The network and, for a `UNetConditional1d`, its unconditional embedding z* `[L, F]`. Both share memory with
        `weights`.

    Raises:
        UserError: if there is no such network, or it has parts that ours lacks.
    """
    prefixes = [name.removesuffix(_ENTRY) for name in weights if name.endswith(_ENTRY)]
    if not prefixes:
        raise UserError("no UNet1d of audio-diffusion-pytorch 0.0.43 in it")
    # A diffusion model holds its network under two names, `unet` and `diffusion.net`; one of them is enough.
    prefix = min(prefixes, key=len)
    inner = {name.removeprefix(prefix): tensor for name, tensor in weights.items() if name.startswith(prefix)}
    text = inner.pop(_UNCONDITIONAL, None)
    # Weights of the diffusion object, if the network beside it has no prefix.
    inner = {name: tensor for name, tensor in inner.items() if not name.startswith("diffusion.")}
    try:
        config = _config(inner, {**SETTINGS, **(settings or {})})
    except KeyError as error:
        raise UserError(f"weight {error} is missing; not a complete network with time conditioning") from error
    except (ValueError, ZeroDivisionError) as error:
        raise UserError(f"not a network that UNet1d supports: {error}") from error
    with torch.device("meta"):
        net = UNet1d(config)
    expected = net.state_dict()
    state: dict[str, Tensor] = {}
    for name, tensor in inner.items():
        ours = renamed(name)
        if ours not in expected:
            raise UserError(f"weight {name} has no counterpart here; the network has a part that UNet1d lacks")
        wanted = expected[ours].shape
        # Convolutions over single frames are linear layers here, and gains of normalisations have one dimension.
        if [n for n in tensor.shape if n > 1] != [n for n in wanted if n > 1]:
            raise UserError(f"weight {name} has shape {tuple(tensor.shape)} where {tuple(wanted)} is expected")
        state[ours] = tensor.reshape(wanted)
    missing = sorted(expected.keys() - state.keys())
    if missing:
        raise UserError(f"it has no counterpart of {missing[0]}; the network is not complete")
    net.load_state_dict(state, assign=True)
    return net.requires_grad_(False).eval(), text


def renamed(name: str) -> str:
    """Our name of a published network's parameter."""
    for pattern, replacement in RENAMES:
        name = re.sub(pattern, replacement, name)
    return name


def _config(weights: Mapping[str, Tensor], settings: Mapping[str, Any]) -> UNetConfig:
    """The hyper-parameters that the shapes of a published network imply.

    Raises:
        KeyError: names a weight that every supported network has.
        ValueError: for variants of the published class that ours does not have.
    """

    def count(pattern: str) -> int:
        return len({match[1] for name in weights if (match := re.match(pattern, name))})

    if count(r"to_in\.module_list\.(\d+)\.") > 1:
        raise ValueError("several patch blocks; only patch_blocks = 1 is supported")
    channels = weights["to_time.0.1.weight"].shape[1] - 1
    in_channels = weights[_ENTRY].shape[1]
    out_channels = weights["to_out.module_list.0.block.block2.project.weight"].shape[0]
    if in_channels != out_channels:
        raise ValueError(f"{in_channels} channels in but {out_channels} out")
    levels = range(count(r"downsamples\.(\d+)\."))
    down = [weights[f"downsamples.{i}.downsample.weight"] for i in levels]
    attentions = [f"downsamples.{i}.transformer.feed_forward.1.weight" in weights for i in levels]
    inner = {tensor.shape[0] for name, tensor in weights.items() if name.endswith(".to_q.weight")}
    context = {tensor.shape[1] for name, tensor in weights.items() if name.endswith(".cross_attend.fn.to_kv.weight")}
    multipliers = {
        tensor.shape[0] // tensor.shape[1] for name, tensor in weights.items() if name.endswith("feed_forward.1.weight")
    }
    text_features = context.pop() if context else None
    modulation = weights.get("to_features.0.weight")
    if modulation is not None and modulation.shape[1] != text_features:
        raise ValueError("context_features that are not the width of the text embedding")
    heads, kernel = int(settings["attention_heads"]), int(settings["kernel_multiplier_downsample"])
    defaults = UNetConfig()
    return UNetConfig(
        in_channels=in_channels,
        channels=channels,
        patch_factor=channels // weights[_ENTRY].shape[0],
        multipliers=(down[0].shape[1] // channels, *(weight.shape[0] // channels for weight in down)),
        factors=tuple((weight.shape[2] - 1) // kernel for weight in down),
        num_blocks=tuple(count(rf"downsamples\.{i}\.blocks\.(\d+)\.") for i in levels),
        attentions=tuple(attentions),
        text_modulation=modulation is not None,
        attention_heads=heads,
        attention_features=inner.pop() // heads if inner else defaults.attention_features,
        attention_multiplier=multipliers.pop() if multipliers else defaults.attention_multiplier,
        use_attention_bottleneck="bottleneck.attention.fn.to_q.weight" in weights,
        resnet_groups=int(settings["resnet_groups"]),
        kernel_multiplier_downsample=kernel,
        use_nearest_upsample=any(re.match(r"upsamples\.\d+\.upsample\.1\.", name) for name in weights),
        use_skip_scale=bool(settings["use_skip_scale"]),
        text_features=text_features,
    )


class _Inert:
    """Stands in for every class or function that a checkpoint names and PyTorch does not allow."""

    def __new__(cls, *args: Any, **kwargs: Any) -> _Inert:
        return super().__new__(cls)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        pass


class _InertDict:
    """Stands in for subclasses of dict, which the reader fills, as a plain dict."""

    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        return {}
