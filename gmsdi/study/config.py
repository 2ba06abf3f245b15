"""Configuration files: reading, overlaying, defaults, and errors of one line."""

from __future__ import annotations

import copy
import difflib
import hashlib
import json
import os
import re
import string
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jsonschema
import yaml

from gmsdi.errors import UserError

Config = dict[str, Any]


def load(*paths: str | Path) -> Config:
    """Read configuration files; each overlays the ones before it, key by key.

    Raises:
        UserError: if a file is missing, is not YAML, or is not a mapping.
    """
    merged: Config = {}
    for path in paths:
        try:
            content = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
        except OSError as error:
            raise UserError(f"{path}: cannot be read ({error.strerror})") from error
        except yaml.YAMLError as error:
            raise UserError(f"{path}: not YAML ({' '.join(str(error).split())})") from error
        if not isinstance(content, dict):
            raise UserError(f"{path}: a configuration is a list of `key: value` lines")
        _overlay(merged, content)
    return merged


def validate(config: Mapping[str, Any], schema: str | Path) -> Config:
    """A copy of `config` with every default of the schema filled in.

    An entry that `data.classes`, `generation.negatives` or `separation.extras` has from another file is left out by the
    value null.

    Args:
        config: as `load` or Snakemake returns it.
        schema: JSON schema in YAML.

    Raises:
        UserError: for an unknown key, a missing key or a value of the wrong type or range; names the key.
    """
    rules = yaml.safe_load(Path(schema).read_text(encoding="utf-8"))
    filled: Config = copy.deepcopy(dict(config))
    _drop_empty(filled.get("data"), "classes")
    _drop_empty(filled.get("generation"), "negatives")
    _drop_empty(filled.get("separation"), "extras")
    _fill(filled, rules, rules.get("$defs", {}))
    errors = sorted(jsonschema.Draft202012Validator(rules).iter_errors(filled), key=lambda error: list(error.path))
    if errors:
        raise UserError(_one_line(errors[0]))
    _check_data(filled)
    _check_extras(filled)
    _check_generation(filled)
    _check_training_data(filled)
    return filled


def digest(value: Any, length: int = 8) -> str:
    """A short hexadecimal name for a configuration value; equal values have equal names, whatever their key order."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:length]


def _overlay(base: Config, extra: Mapping[str, Any]) -> None:
    for key, value in extra.items():
        if isinstance(value, Mapping) and isinstance(base.get(key), dict):
            _overlay(base[key], value)
        else:
            base[key] = copy.deepcopy(value)


def _drop_empty(section: Any, key: str) -> None:
    """Remove the entries of a mapping that an overlay has set to null."""
    if isinstance(section, dict) and isinstance(section.get(key), dict):
        section[key] = {name: value for name, value in section[key].items() if value is not None}


def _fill(config: Any, schema: Mapping[str, Any], definitions: Mapping[str, Any]) -> None:
    """Write the defaults of a schema into a mapping; objects that are not given at all are filled as empty ones."""
    if not isinstance(config, dict):
        return
    for key, rule in schema.get("properties", {}).items():
        if "$ref" in rule:
            rule = definitions[rule["$ref"].removeprefix("#/$defs/")]
        if key not in config:
            if "default" in rule:
                config[key] = copy.deepcopy(rule["default"])
            elif rule.get("type") == "object" and key not in schema.get("required", []):
                config[key] = {}
        _fill(config.get(key), rule, definitions)


def _one_line(error: jsonschema.ValidationError) -> str:
    where = ".".join(str(part) for part in error.absolute_path)
    inside = f" in {where}" if where else ""
    if error.validator == "additionalProperties":
        known = list(error.schema.get("properties", {}))
        unknown = next(key for key in error.instance if key not in known)
        near = difflib.get_close_matches(str(unknown), known, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"known keys: {', '.join(known)}"
        return f"config: unknown key {unknown!r}{inside}; {hint}"
    if error.validator == "required":
        missing = next(key for key in error.validator_value if key not in error.instance)
        return f"config: key {missing!r} is missing{inside}"
    value = json.dumps(error.instance, ensure_ascii=False, default=str)
    value = value if len(value) <= 60 else f"{value[:57]}..."
    if error.validator == "type":
        expected = error.validator_value
        names = " or ".join(expected) if isinstance(expected, list) else expected
        hint = ""
        if isinstance(error.instance, str) and "number" in names and _is_number(error.instance):
            hint = f"; YAML reads {error.instance} as text, write {float(error.instance)!r} or add a decimal point"
        return f"config: {where} must be of type {names}, not {value}{hint}"
    return f"config: {where} is {value}: {' '.join(error.message.split())}"


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _labels_used(config: Config) -> Iterator[tuple[str, str]]:
    separation, generation = config.get("separation", {}), config.get("generation", {})
    if label := separation.get("separator", {}).get("constrained"):
        yield "separation.separator.constrained", label
    for method in ("extractor", "separator"):
        for label in separation.get(method, {}).get("negatives", {}):
            yield f"separation.{method}.negatives", label
    for name, extra in separation.get("extras", {}).items():
        if label := extra.get("constrained"):
            yield f"separation.extras.{name}.constrained", label
    for label in generation.get("negatives", {}):
        yield "generation.negatives", label


def _check_data(config: Config) -> None:
    data = config.get("data", {})
    fad = config.get("fad", {})
    for key in ("checkpoint", "sha256"):
        if fad.get(key) and fad["embedding"].startswith("musicnn"):
            raise UserError(
                f"config: fad.{key} is for VGGish and CLAP, musicnn has its weights in its package; set it to null or "
                "choose another fad.embedding"
            )
    known = list(data.get("classes", {}))
    for where, label in _labels_used(config):
        if label not in known:
            raise UserError(f"config: {where} names the stem {label!r}; data.classes has {', '.join(known)}")


def _check_extras(config: Config) -> None:
    for name, extra in config.get("separation", {}).get("extras", {}).items():
        where = f"config: separation.extras.{name}"
        _check_title(f"{where}.title", extra, config["separation"])
        settled = extra["of"] == "extractor" or extra.get("projected") or extra.get("constrained")
        if extra.get("model") and (extra.get("w") is None or not settled):
            raise UserError(
                f"{where} has a model of its own, of which Table 1 says nothing; give its w, and constrained or "
                "projected if it is a separator"
            )
        if extra.get("by_power") and not (extra["of"] == "extractor" and extra.get("consistent")):
            raise UserError(f"{where} has by_power, which is for the extractor with consistent: true; leave it out")
        if extra.get("inverted") and extra.get("samples", 1) < 2:
            raise UserError(f"{where} has inverted, which is for samples of 2 or more; give them, or leave it out")
        implied = extra["of"] == "extractor" or extra.get("projected")
        if extra.get("solver", {}).get("last") == "estimate" and not implied:
            raise UserError(f"{where}.solver.last is estimate, which needs projected: true of a separator; use step")


def _check_generation(config: Config) -> None:
    generation, known = config.get("generation", {}), list(config.get("data", {}).get("classes", {}))
    named = {
        "groups": [label for group in generation.get("groups") or [] for label in group],
        "sequential.order": (generation.get("sequential") or {}).get("order") or [],
    }
    for key, labels in named.items():
        if labels and sorted(labels) != sorted(known):
            raise UserError(
                f"config: generation.{key} has {', '.join(labels)}; name each of data.classes once: {', '.join(known)}"
            )
    for task in ("total", "partial"):
        for key in ("gamma_x", "gamma_y"):
            gamma = generation.get(task, {}).get(key)
            if isinstance(gamma, dict) and gamma.get("above", 0) >= gamma.get("below", float("inf")):
                raise UserError(f"config: generation.{task}.{key}: above is not under below; no noise level is left")


def _check_title(where: str, extra: Mapping[str, Any], separation: Mapping[str, Any]) -> None:
    """A row's title says no number of steps or runs but its own."""
    solvers = (separation.get("solver", {}), separation[extra["of"]].get("solver", {}), extra.get("solver", {}))
    numbers = {"steps": [x["steps"] for x in solvers if "steps" in x][-1], "samples": extra.get("samples", 1)}
    try:
        found = {field for _, field, spec, conversion in string.Formatter().parse(extra["title"]) if field is not None}
    except ValueError:
        found = {""}
    if unknown := sorted(found - set(numbers)):
        raise UserError(f"{where} has {{{unknown[0]}}}; it may have {{steps}} and {{samples}}")
    for key, pattern in (("steps", r"(\d+) steps"), ("samples", r"mean of (\d+)")):
        for said in re.findall(pattern, extra["title"]):
            if int(said) != numbers[key]:
                raise UserError(
                    f"{where} says {said}, but the row has {numbers[key]} {key}; write {{{key}}} for what is run"
                )


def _check_training_data(config: Config) -> None:
    data = config.get("training_data", {})
    if data.get("kind") != "jamendo":
        return
    splits = {name: range(first, last + 1) for name, (first, last) in data["shards"].items()}
    for name, shards in splits.items():
        if not shards:
            raise UserError(f"config: training_data.shards.{name}: the first is after the last; write [first, last]")
    if shared := set(splits["train"]) & set(splits["validation"]):
        raise UserError(f"config: training_data.shards: shard {min(shared)} is in both splits; take it out of one")
    text = config["model"]["config"]["text"]["kind"]
    if config["model"]["train"] and text not in ("clap", "none"):
        raise UserError(
            f"config: model.config.text.kind is {text}, which learns from labels, and training_data.kind jamendo has "
            "none; choose clap or none"
        )


def slug(label: str) -> str:
    """A stem label as part of a file name: letters, digits and underscores."""
    return "".join(c if c.isalnum() and c.isascii() else "_" for c in label)


def writable(folder: str | Path) -> None:
    """Check that files can be written to a folder that need not exist yet.

    Raises:
        UserError: if they cannot, with the reason.
    """
    folder = Path(folder).absolute()
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    if not existing.is_dir():
        raise UserError(f"{folder}: cannot be written, {existing} is not a folder; rename it or choose another run")
    if not os.access(existing, os.W_OK | os.X_OK):
        raise UserError(f"{folder}: cannot be written, no permission for {existing}; change it or work elsewhere")
