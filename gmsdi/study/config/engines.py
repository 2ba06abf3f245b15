"""Checks of a configuration that uses other people's packages as engines."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from typing import Any

from gmsdi.errors import UserError

LIBRARY = "frechet_audio_distance"
LAION = "laion_clap"


def check_engine(fad: Mapping[str, Any]) -> None:
    """Refuse settings of `fad` that frechet-audio-distance does not support, or would not read.

    Args:
        fad: the section `fad`.

    Raises:
        UserError: for the first mistake, in one line.
    """
    key = "compare_engines" if fad["compare_engines"] else "engine"
    if fad["engine"] == LIBRARY or fad["compare_engines"]:
        if fad["embedding"].startswith("musicnn"):
            raise UserError(
                f"config: fad.{key} is {str(fad[key]).lower()}, but frechet-audio-distance has no musicnn; set "
                "fad.embedding to VGGish's or CLAP's"
            )
        if fad["hop"] is not None:
            raise UserError(
                f"config: fad.{key} is {str(fad[key]).lower()}, but frechet-audio-distance takes no hop; set fad.hop "
                "to null"
            )
        if fad["engine"] == LIBRARY and not fad["compare_engines"] and fad["checkpoint"]:
            raise UserError(
                "config: fad.checkpoint is a file, but fad.engine frechet_audio_distance reads a folder; name it in "
                "fad.folder, and set fad.checkpoint to null"
            )
    elif fad["folder"]:
        raise UserError("config: fad.folder is for fad.engine frechet_audio_distance; set it to null")


def check_text(config: Mapping[str, Any]) -> None:
    """Refuse settings of a text encoder that laion-clap does not support.

    Args:
        config: complete.

    Raises:
        UserError: in one line.
    """
    text = config["model"]["config"]["text"]
    if not config["model"]["train"] or text["kind"] != LAION:
        return
    where = "config: model.config.text"
    if config["clap"]["train"]:
        raise UserError(
            f"{where}.kind is laion_clap, but clap.train makes a CLAP of its own; set the kind to clap, or the other "
            "to false"
        )
    if text["features"] != 512:
        raise UserError(f"{where}.features is {text['features']}, but LAION's embeddings have 512; set it to that")


def require_engines(config: Mapping[str, Any]) -> None:
    """Refuse a run whose engines are not installed, before its first job.

    Args:
        config: complete.

    Raises:
        UserError: in one line.
    """
    wanted: dict[str, tuple[str, list[str]]] = {}
    fad = config["fad"]
    if fad["engine"] == LIBRARY or fad["compare_engines"]:
        key = "engine" if fad["engine"] == LIBRARY else "compare_engines"
        packages = ["frechet_audio_distance", "resampy"]
        packages += ["laion_clap", "torchlibrosa", "librosa"] if fad["embedding"].startswith("clap") else []
        wanted[f"fad.{key}"] = "fad", packages
    if config["model"]["train"] and config["model"]["config"]["text"]["kind"] == LAION:
        wanted["model.config.text.kind"] = "clap", ["laion_clap", "torchlibrosa", "librosa"]
    for key, (environment, packages) in wanted.items():
        missing = [name for name in packages if find_spec(name) is None]
        if missing:
            raise UserError(
                f"config: {key} needs {' and '.join(missing)}, not installed here; add --use-conda, install what "
                f"envs/{environment}.post-deploy.sh does, or leave the key out"
            )
