"""Configuration files: where they are, reading and merging them."""

from __future__ import annotations

import copy
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

from gmsdi.errors import UserError
from gmsdi.sampling.solver import SAMPLERS, options_of
from gmsdi.study.config.solvers import chains
from gmsdi.study.names import Config

_PACKAGED = Path(__file__).parents[2] / "share"
HOME = _PACKAGED if _PACKAGED.is_dir() else Path(__file__).parents[3]
"""The folder that contains workflow, config and envs: the copy in a wheel, or the checkout."""
FOLDER = HOME / "config"
"""Folder of the configurations that come with the package."""
DEMO = "config.yaml"
WEIGHTS = Path(__file__).parents[2] / "weights"
"""Folder of the models that come with the package, and of the baselines' once they are installed."""
CONFIG = "config.json"


def model_folder(name: str | None) -> Path:
    """The folder of a text-conditioned model.

    Args:
        name: of a model that comes with the package, see `gmsdi.models.registry.bundled`, unless there is a model's
            folder of that name; or a folder. None is the model "mini".
    """
    own = WEIGHTS / (name or "mini")
    return own if name is None or (not (Path(name) / CONFIG).is_file() and (own / CONFIG).is_file()) else Path(name)


def load(*paths: str | Path) -> Config:
    """Read configuration files; each overrides the ones before it, and together they override their base.

    Snakemake's `--configfile` does the same. The base is named by the key `base` of the last file that has it, and
    is otherwise the demo, config.yaml.

    Returns:
        All keys of these files, not validated yet (see `validate`).

    Raises:
        UserError: if a file is missing, is not YAML, or is not a mapping.
    """
    given: Config = {}
    for path in paths:
        _overlay(given, read(Path(path)))
    return over_base(given)


def retyped(given: Mapping[str, Any], entries: Iterable[str]) -> Config:
    """Give the values of Snakemake's `--config` the types that they have in YAML.

    Snakemake reads `training={steps: 100}` as texts only; it has merged them into the configuration. Whatever was
    overridden since, as by a workflow that uses this one as a module, is left alone.

    Args:
        given: the configuration as Snakemake has it.
        entries: the words after `--config`, such as `training={steps: 100}`.
    """
    typed = copy.deepcopy(dict(given))
    for key, _, text in (entry.partition("=") for entry in entries):
        try:
            texts, values = yaml.load(text, yaml.BaseLoader), yaml.safe_load(text)
        except yaml.YAMLError:  # Snakemake has taken it as one text
            continue
        if key in typed and isinstance(values, dict | list):
            typed[key] = _retyped(typed[key], texts, values)
    return typed


def _retyped(given: Any, text: Any, value: Any) -> Any:
    """`value` in place of `text` wherever it occurs in `given`."""
    if isinstance(given, dict) and isinstance(text, dict) and len(text) == len(value):
        pairs = dict(zip(text, value.values(), strict=True))
        return {key: _retyped(own, text[key], pairs[key]) if key in text else own for key, own in given.items()}
    return value if given == text else given


def over_base(given: Mapping[str, Any], folder: Path = FOLDER) -> Config:
    """Merge a configuration into the one that its key `base` names, key by key; lists are replaced as a whole.

    Where it chooses another sampler, options of the base's solver that the new sampler lacks are dropped.

    Args:
        given: the user's configuration, from files and the command line.
        folder: the folder of the configurations that `base` may name.

    Returns:
        All keys, not validated yet. Their `base` is null, since it has been merged.

    Raises:
        UserError: if the base is missing, damaged, or based on itself.
    """
    return {**_based(given, [], folder), "base": None}


def _based(given: Mapping[str, Any], seen: list[Path], folder: Path) -> Config:
    name = given.get("base", "demo")
    if name is None:
        return copy.deepcopy(dict(given))
    if not isinstance(name, str):
        raise UserError(f"config: base is {name!r}; write demo, the name of another file in config/, a path, or null")
    path = folder / DEMO if name == "demo" else folder / f"{name}.yaml"
    if not path.is_file():
        path = Path(name).expanduser()
    if not path.is_file():
        names = ", ".join(["demo", *(file.stem for file in sorted(folder.glob("*.yaml")) if file.name != DEMO)])
        raise UserError(f"config: base is {name!r}, which is not a file; write a path, or one of {names}")
    path = path.resolve()
    if path in seen:
        raise UserError(f"config: base: {path} is based on itself; remove its key base")
    content = read(path)
    if path == (folder / DEMO).resolve():
        content["base"] = None
    base = _based(content, [*seen, path], folder)
    merged = copy.deepcopy(base)
    _overlay(merged, given)
    for where, name, settings in chains(merged):
        if name not in SAMPLERS:
            continue
        own = given
        for key in where:
            own = own.get(key) or {} if isinstance(own, Mapping) else {}
        for option in [key for key in settings if key not in options_of(SAMPLERS[name]) and key not in own]:
            if any(option in options_of(kind) for kind in SAMPLERS.values()):
                del settings[option]
    return merged


def read(path: Path) -> Config:
    """Read one configuration file.

    Raises:
        UserError: if it is missing, is not YAML, is not a mapping, or has a key twice.
    """
    try:
        loader = yaml.SafeLoader(path.read_text(encoding="utf-8"))
        root = loader.get_single_node()
        _require_once(root)
        content = None if root is None else loader.construct_document(root)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not YAML ({' '.join(str(error).split())})") from error
    if not isinstance(content, dict):
        raise UserError(f"{path}: not a configuration, which consists of lines `key: value`")
    return content


def _require_once(node: yaml.Node | None) -> None:
    """Refuse a key that a mapping has twice: YAML would take the last, and forget the other without a word.

    Raises:
        MarkedYAMLError: if there is one.
    """
    if isinstance(node, yaml.SequenceNode):
        for value in node.value:
            _require_once(value)
    if isinstance(node, yaml.MappingNode):
        keys = set()
        for key, value in node.value:
            if isinstance(key, yaml.ScalarNode):
                if key.value in keys:
                    problem = f"the key {key.value!r} is there twice"
                    raise yaml.MarkedYAMLError(problem=problem, problem_mark=key.start_mark)
                keys.add(key.value)
            _require_once(value)


def _overlay(base: Config, extra: Mapping[str, Any]) -> None:
    for key, value in extra.items():
        if isinstance(value, Mapping) and isinstance(base.get(key), dict):
            _overlay(base[key], value)
        else:
            base[key] = copy.deepcopy(value)


def writable(folder: str | Path) -> None:
    """Check that files can be written to a folder that need not exist yet.

    Raises:
        UserError: if they cannot, with the reason.
    """
    folder = Path(folder).absolute()
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    if not existing.is_dir():
        raise UserError(
            f"{folder}: cannot be created, since {existing} is not a folder; rename it, or choose another run"
        )
    if not os.access(existing, os.W_OK | os.X_OK):
        raise UserError(
            f"{folder}: cannot be written, since {existing} is read-only; change its permissions, or work elsewhere"
        )
