"""The pretrained models of a configuration: where they are, what jobs open, and what is refused before the first job.

`model.folder`, and the key `model` of a row, may name something other than a model folder of this package: the folder
of a diffusers pipeline, a repository on the Hugging Face Hub, or a model of an installed family. Before the first job,
only small files of a repository are read. Jobs open the same commit, so that a run has one model from beginning to end.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gmsdi.errors import UserError
from gmsdi.models import families
from gmsdi.models.described import INDEX, describe, is_pipeline

WEIGHTS = (".safetensors", ".bin")


@dataclass(frozen=True)
class Pretrained:
    """A pretrained model, which is opened by name.

    Attributes:
        key: the key of the configuration that names it.
        opened: the argument of `gmsdi.load`: its folder, `owner/name@commit`, or `family:name`.
        folder: the folder with its small files; None for a model of a family.
        digest: a text that changes if its files do.
    """

    key: str
    opened: str
    folder: Path | None
    digest: str


def named(config: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Every key that names a model to separate or generate with, and its value."""
    if not config["model"]["train"] and config["model"]["folder"]:
        yield "model.folder", config["model"]["folder"]
    for name, row in config["separation"]["rows"].items():
        if row.get("model"):
            yield f"separation.rows.{name}.model", row["model"]


def is_pretrained(where: str) -> bool:
    """Whether a name is of a family's model or of a pipeline's folder, or may be on the hub, which is not asked."""
    if families.is_of_family(where):
        return True
    folder = Path(where).expanduser()
    return is_pipeline(folder) or (not folder.exists() and where.count("/") == 1)


def find(key: str, where: str) -> Pretrained | None:
    """Find the pretrained model of a name; None if it is a model folder of this package, or does not exist.

    Raises:
        UserError: if it may be on the hub, but can be read neither there nor in the cache.
    """
    if families.is_of_family(where):
        return Pretrained(key, where, None, families.digest(where))
    folder = Path(where).expanduser()
    if is_pipeline(folder):
        return Pretrained(key, str(folder), folder, _digest(folder))
    if folder.exists() or where.count("/") != 1:
        return None
    from gmsdi.models import hub

    if not hub.is_id(where):
        return None
    found = hub.download(where, [INDEX, "config.json", "*/*config.json"])
    commit = found.name
    return Pretrained(key, f"{where.partition('@')[0]}@{commit}", found, commit)


def refuse(config: Mapping[str, Any], key: str, folder: Path, name: str) -> None:
    """Refuse a configuration that does not fit a pipeline, judging by its small files alone.

    Raises:
        UserError: in one line.
    """
    told, data = describe(folder, f"config: {key}: {name}"), config["data"]
    if not told.prompted:
        raise UserError(f"config: {key}: {name} is a {told.kind}, which takes no prompts; name a model that does")
    rows = {"sample_rate": (told.sample_rate, "Hz"), "channels": (told.channels, "channels")}
    for own, (value, unit) in rows.items():
        if data[own] != value:
            raise UserError(f"config: data.{own} is {data[own]}, but the model of {key} has {value} {unit}; change it")
    if why := told.refusal(data["window"]):
        raise UserError(f"config: data.window is {data['window']}, for the model of {key} {why}; change it")


def refuse_local(config: Mapping[str, Any]) -> None:
    """Call `refuse` for all pipelines in local folders, and refuse those with missing weights.

    Raises:
        UserError: in one line.
    """
    for key, where in named(config):
        folder = Path(where).expanduser()
        if is_pipeline(folder):
            refuse(config, key, folder, where)
            for part in ("transformer", "vae"):
                if not any(file.parent.name == part for file in _weights(folder)):
                    raise UserError(f"config: {key}: {where} has no weights in {part}; fetch it again")


def refuse_opening(found: Pretrained, config: Mapping[str, Any]) -> None:
    """Refuse a pretrained model that jobs could not open: unknown family, missing library, unsupported pipeline.

    Raises:
        UserError: in one line.
    """
    if found.folder is None:
        try:
            families.loader_of(found.opened)
        except UserError as error:
            raise UserError(f"config: {found.key}: {error}") from error
        return
    if not is_pipeline(found.folder):
        return
    from gmsdi.models.adapters.pipelines import refuse as refuse_pipeline

    refuse_pipeline(found.folder, f"config: {found.key}: {found.opened}")
    refuse(config, found.key, found.folder, found.opened)


def _weights(folder: Path) -> list[Path]:
    return sorted(file for file in folder.glob("*/*") if file.suffix in WEIGHTS)


def _digest(folder: Path) -> str:
    """A digest of the contents of small files, and of names and sizes of the weights, which would take long to read."""
    digest = hashlib.sha256()
    for file in sorted([*folder.glob("*.json"), *folder.glob("*/*")]):
        name = file.relative_to(folder).as_posix()
        heavy = file.suffix in WEIGHTS
        digest.update(f"{name} {file.stat().st_size}\n".encode() + (b"" if heavy else file.read_bytes()))
    return digest.hexdigest()[:16]
