"""The JSON schema of the configuration, made from its models."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import Any

from gmsdi.sampling.solver import SAMPLERS
from gmsdi.study.config.base import SolverChanges, model_of
from gmsdi.study.config.rows import SECTIONS
from gmsdi.study.config.run import Configuration

Schema = dict[str, Any]
REF = "#/$defs/"
CHANGES = "_changes"
"""Ending of the name of a definition whose keys override others, and are all optional."""


@cache
def schema() -> Schema:
    """The JSON schema (draft 2020-12). Sections used once are written in place, others are in `$defs`."""
    raw = Configuration.model_json_schema()
    raw["$defs"] |= SolverChanges.model_json_schema().pop("$defs", {})
    definitions: Schema = {_snake(name): _tidied(rule) for name, rule in raw.pop("$defs").items()}
    definitions["row"] = _joined({kind: definitions.pop(_snake(rule.__name__)) for kind, rule in SECTIONS.items()})
    for kind in SAMPLERS.values():
        definitions.pop(_snake(kind.__name__))
    definitions["solver"] = {
        "description": "all settings of one sampler",
        "type": "object",
        "oneOf": [_sampler(name) for name in SAMPLERS],
    }
    top = _tidied(raw)
    uses = [name for rule in (top, *definitions.values()) for name in _references(rule)]
    once = {name: rule for name, rule in definitions.items() if uses.count(name) == 1 and name != "row"}
    shared = {name: rule for name, rule in definitions.items() if name not in once}
    inlined = {name: _inlined(rule, once) for name, rule in shared.items()}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "gmsdi workflow configuration",
        **_inlined(top, once),
        "$defs": {name: inlined[name] for name in sorted(inlined)},
    }


def rule_at(path: Sequence[str | int]) -> Schema:
    """The part of the schema that applies at a path; empty where it says nothing."""
    rule: Schema = schema()
    for part in path:
        rule = resolved(rule)
        if isinstance(part, int):
            rule = rule.get("items", {})
        elif part in rule.get("properties", {}):
            rule = rule["properties"][part]
        else:
            own = rule.get("additionalProperties")
            rule = own if isinstance(own, dict) else {}
    return resolved(rule)


def resolved(rule: Schema) -> Schema:
    """A rule merged with the definition that it refers to; a solver gets the options of all samplers."""
    if "$ref" not in rule:
        return rule
    name = definition(rule)
    found: Schema = schema()["$defs"]["solver_changes" if name == "solver" else name]
    return {**found, **{key: value for key, value in rule.items() if key != "$ref"}}


def definition(rule: Mapping[str, Any]) -> str:
    """The name of the definition that a rule refers to."""
    return str(rule["$ref"]).removeprefix(REF)


def _sampler(name: str) -> Schema:
    rule: Schema = _tidied(model_of(SAMPLERS[name]).model_json_schema())  # type: ignore[arg-type]
    return rule if name == "euler" else {**rule, "required": ["name"]}


def _joined(kinds: Mapping[str, Schema]) -> Schema:
    """A row of any kind: the keys of all kinds, each with the kinds that have it. Only `kind` is required."""
    keys: dict[str, Schema] = {}
    for rule in kinds.values():
        keys |= rule["properties"]
    for key, rule in keys.items():
        having = [kind for kind, own in kinds.items() if key in own["properties"]]
        others = [kind for kind in kinds if kind not in having]
        whose = ", ".join(having) if len(having) < len(others) else f"not {', '.join(others)}"
        whose += "; required" if any(key in kinds[kind]["required"] for kind in having) else ""
        keys[key] = {**rule, "description": f"{rule['description']} ({whose})"} if others else rule
    told = "; ".join(f"`{kind}`: {rule['description'].removesuffix('.')}" for kind, rule in kinds.items())
    keys["kind"] = {"type": "string", "enum": list(kinds), "description": f"the method. {told}"}
    told = "A row of Table 2. Brackets say which kinds of rows have a key."
    return {
        "type": "object",
        "description": told,
        "properties": keys,
        "required": ["kind"],
        "additionalProperties": False,
    }


def _snake(name: str) -> str:
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name.replace("MSDM", "Msdm").replace("UNet", "Unet")).lower()


def _tidied(rule: Any) -> Any:
    """Drop titles, rename definitions, and write `type: [integer, "null"]` for unions of plain types."""
    if isinstance(rule, list):
        return [_tidied(inner) for inner in rule]
    if not isinstance(rule, dict):
        return rule
    if "oneOf" in rule:  # only solvers and rows are unions told apart by a key
        named = "row" if any(inner["$ref"].endswith("Row") for inner in rule["oneOf"]) else "solver"
        return {"$ref": f"{REF}{named}", **{key: rule[key] for key in ("description",) if key in rule}}
    found: Schema = {}
    for key, inner in rule.items():
        if key == "properties":
            found[key] = {name: _tidied(one) for name, one in inner.items()}
        elif key == "$ref":
            found[key] = REF + _snake(inner.removeprefix(REF))
        elif key in ("default", "enum", "const"):
            if not (key == "default" and inner is None and not _nullable(rule)):
                found[key] = inner
        elif key != "title" or not isinstance(inner, str):
            found[key] = _tidied(inner)
    if "const" in found:
        found["enum"] = [found.pop("const")]
    parts: list[Schema] = found.get("anyOf", [])
    if len(parts) > 1 and all(isinstance(part.get("type"), str) and "enum" not in part for part in parts):
        del found["anyOf"]
        joined: Schema = {}
        for part in parts:
            joined |= part
        return {**joined, **found, "type": [part["type"] for part in parts]}
    return found


def _nullable(rule: Mapping[str, Any]) -> bool:
    return any(part.get("type") == "null" for part in rule.get("anyOf", []))


def _references(rule: Any) -> Iterator[str]:
    if isinstance(rule, dict):
        if "$ref" in rule:
            yield definition(rule)
        for inner in rule.values():
            yield from _references(inner)
    elif isinstance(rule, list):
        for inner in rule:
            yield from _references(inner)


def _inlined(rule: Any, once: Mapping[str, Schema]) -> Any:
    """The schema with each definition that is used only once written in place of its reference."""
    if isinstance(rule, list):
        return [_inlined(inner, once) for inner in rule]
    if not isinstance(rule, dict):
        return rule
    if "$ref" in rule and definition(rule) in once:
        own = {key: value for key, value in rule.items() if key != "$ref"}
        rule = {**once[definition(rule)], **own}
    found = {key: _inlined(inner, once) for key, inner in rule.items()}
    parts = found.get("anyOf", [])
    if len(parts) == 2 and parts[1] == {"type": "null"} and parts[0].get("type") == "object":
        own = {key: value for key, value in found.items() if key != "anyOf"}
        return {**parts[0], **own, "type": ["object", "null"]}
    return found
