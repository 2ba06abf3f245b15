"""The properties of a diffusers pipeline, read from the small files of its folder.

No weights are read, and neither torch nor diffusers is needed, so that the properties are known before gigabytes are
downloaded and before the first job of a run.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gmsdi.errors import UserError
from gmsdi.settings import Bounded

INDEX = "model_index.json"
"""The file that makes a folder a diffusers pipeline."""
SIGMA_DATA = {"DanceDiffusionPipeline": 0.1}
"""Standard deviation of the clean states of a family; for others it is 1, as for latents."""
_MEL = (
    "works on mel spectrograms, which have no phase: nothing in it takes a waveform, and signals with one spectrogram, "
    "such as y and -y, would be one state, so that no stem can be the mixture minus the others"
)
_REFUSED = {"AudioLDMPipeline": _MEL, "AudioLDM2Pipeline": _MEL, "MusicLDMPipeline": _MEL}
"""Classes that cannot be models here, and why."""
_RATE = Bounded(whole=True, ge=1000, le=1_000_000)
_COUNT = Bounded(whole=True, ge=1, le=100_000_000)


@dataclass(frozen=True)
class Described:
    """A pipeline, before it is opened.

    Attributes:
        kind: name of the pipeline's class.
        sample_rate: in Hz.
        channels: number of audio channels.
        hop: samples per step of a state; windows are multiples of it.
        longest: samples of the longest window; None means any length.
        usual: samples of the default window.
        prompted: whether it takes prompts.
        latent: channels of its latents; None for a model of waveforms.
        parameters: number of parameters of each part whose weights are in the folder, by the part's name.
    """

    kind: str
    sample_rate: int
    channels: int
    hop: int
    longest: int | None
    usual: int
    prompted: bool = True
    latent: int | None = None
    parameters: dict[str, int] = field(default_factory=dict)

    def refusal(self, window: int) -> str | None:
        """Why windows cannot have this number of samples; None if they can."""
        if window % self.hop:
            near = max(self.hop, round(window / self.hop) * self.hop)
            return f"not a multiple of the {self.hop} samples of its latents; {near} is"
        if self.longest is not None and window > self.longest:
            return f"longer than the {self.longest} ({self.longest / self.sample_rate:.2f} s) that it was trained at"
        return None


def is_pipeline(folder: str | Path) -> bool:
    """Whether a folder contains a pipeline."""
    return (Path(folder) / INDEX).is_file()


def describe(folder: str | Path, name: str | None = None) -> Described:
    """Describe a pipeline by its folder.

    Args:
        folder: a folder with `model_index.json` and the parts' configurations; weights may be missing.
        name: name for messages; None means the folder.

    Raises:
        UserError: if its files are damaged, or its family is not supported.
    """
    folder, name = Path(folder), name or str(folder)
    kind = str(read_json(folder / INDEX, name).get("_class_name"))
    require_supported(kind, name)
    return Described(kind=kind, parameters=_parameters(folder), **_FAMILIES[kind](folder, name))


def require_supported(kind: str, name: str) -> None:
    """Refuse a class of pipelines that cannot be a model here; `name` is the pipeline's, for the message.

    Raises:
        UserError: if it is one.
    """
    if kind in _REFUSED:
        raise UserError(f"{name}: {kind} {_REFUSED[kind]}; docs/pretrained.md lists the models that can be used")
    if kind not in _FAMILIES:
        raise UserError(f"{name}: its pipeline is {kind}; models can be made of {', '.join(_FAMILIES)}")


def require_one_sound(name: str, texts: Sequence[str | None]) -> None:
    """Refuse several prompts for a pipeline without text, which would take them all for the same sound.

    Raises:
        UserError: if there are several.
    """
    if len({text for text in texts if text is not None}) > 1:
        raise UserError(
            f"{name}: knows one kind of sound and takes no prompts, so that all stems would be the same; combine one "
            "such model per stem (gmsdi.models.adapters.priors, docs/pretrained.md)"
        )


def _stable_audio(folder: Path, name: str) -> dict[str, Any]:
    vae, net = _Part(folder, "vae", name), _Part(folder, "transformer", name)
    hop = vae.product("downsampling_ratios")
    longest = hop * net.number("sample_size")
    return {**_audio(vae), "hop": hop, "longest": longest, "usual": longest, "latent": net.number("in_channels")}


def _stable_audio_3(folder: Path, name: str) -> dict[str, Any]:
    vae = _Part(folder, "vae", name)
    hop = vae.number("patch_size") * vae.product("encoder_strides")
    return {**_audio(vae), **_free(hop, 47.0, vae), "latent": vae.number("latent_dim")}


def _ace_step(folder: Path, name: str) -> dict[str, Any]:
    vae, net = _Part(folder, "vae", name), _Part(folder, "transformer", name)
    hop = vae.product("downsampling_ratios")
    return {**_audio(vae), **_free(hop, 60.0, vae), "latent": net.number("audio_acoustic_hidden_dim")}


def _dance_diffusion(folder: Path, name: str) -> dict[str, Any]:
    net = _Part(folder, "unet", name)
    hop, size = 2 ** len(net.listed("up_block_types")), net.number("sample_size")
    shape = {"sample_rate": net.number("sample_rate", _RATE), "channels": net.number("in_channels")}
    return {**shape, "hop": hop, "longest": None, "usual": size - size % hop, "prompted": False}


_FAMILIES = {
    "StableAudioPipeline": _stable_audio,
    "StableAudio3Pipeline": _stable_audio_3,
    "AceStepPipeline": _ace_step,
    "DanceDiffusionPipeline": _dance_diffusion,
}


class _Part:
    """The configuration of a part, whose values are checked when they are read.

    Args:
        folder: the pipeline's folder.
        part: the part's name.
        name: name of the pipeline, for messages.

    Raises:
        UserError: if it is missing or damaged.
    """

    def __init__(self, folder: Path, part: str, name: str) -> None:
        self.said, self.values = f"{name}: {part}/config.json", read_json(folder / part / "config.json", name)

    def number(self, key: str, bounds: Bounded = _COUNT) -> int:
        """A whole number.

        Raises:
            UserError: if it is missing or out of bounds.
        """
        return self._checked(key, self.values.get(key), bounds)

    def listed(self, key: str) -> list[Any]:
        """A list with something in it.

        Raises:
            UserError: if it is none.
        """
        found = self.values.get(key)
        if not isinstance(found, list) or not found:
            raise UserError(f"{self.said}: {key} is {found!r}, but must be a list; fetch it again")
        return found

    def product(self, key: str) -> int:
        """The product of a list of whole numbers.

        Raises:
            UserError: if it is none.
        """
        return math.prod(self._checked(key, each, _COUNT) for each in self.listed(key))

    def _checked(self, key: str, value: Any, bounds: Bounded) -> int:
        if not bounds.is_kind(value) or not bounds.within(value):
            raise UserError(f"{self.said}: {key} is {value!r}, but must be {bounds.wanted}; fetch it again")
        return int(value)


def _audio(vae: _Part) -> dict[str, Any]:
    return {"sample_rate": vae.number("sampling_rate", _RATE), "channels": vae.number("audio_channels")}


def _free(hop: int, seconds: float, vae: _Part) -> dict[str, Any]:
    """Windows of any length."""
    return {"hop": hop, "longest": None, "usual": hop * max(1, round(seconds * vae.number("sampling_rate") / hop))}


def read_json(file: Path, name: str) -> dict[str, Any]:
    """A small file of a pipeline.

    Args:
        file: the file.
        name: name of the pipeline, for messages.

    Raises:
        UserError: if it is missing, damaged or not a JSON object.
    """
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(
            f"{name}: {file.parent.name}/{file.name} is missing or cannot be read; fetch it again"
        ) from error
    if not isinstance(found, dict):
        raise UserError(f"{name}: {file.parent.name}/{file.name} is not a JSON object; fetch it again")
    return found


def _parameters(folder: Path) -> dict[str, int]:
    """Number of parameters of each part, from the headers of the safetensors files."""
    counts: dict[str, int] = {}
    for file in sorted(folder.glob("*/*.safetensors")):
        if ".fp16." not in file.name:
            counts[file.parent.name] = counts.get(file.parent.name, 0) + _count(file)
    return counts


def _count(file: Path) -> int:
    """Number of elements in a safetensors file; 0 if it is damaged."""
    try:
        with file.open("rb") as opened:
            header = json.loads(opened.read(int.from_bytes(opened.read(8), "little")))
        return sum(math.prod(entry["shape"]) for name, entry in header.items() if name != "__metadata__")
    except (OSError, ValueError, KeyError, TypeError, MemoryError):
        return 0
