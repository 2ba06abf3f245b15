"""Turns a mistake in a configuration into one line: what is wrong, where, and what to do."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import ValidationError

from gmsdi.study.config.base import hint
from gmsdi.study.config.schema import rule_at

TYPES = {
    "wrong_type", "model_type", "list_type", "dict_type", "string_type", "bool_type", "tuple_type", "mapping_type",
    "is_instance_of", "int_type", "none_required", "sequence_str",
}  # fmt: skip


def one_line(error: ValidationError, config: Mapping[str, Any]) -> str:
    """Describe the first mistake."""
    found = error.errors(include_url=False)
    first = _path(found[0]["loc"], config)
    # If a value may be of several types, the error about the type that it has is the most helpful.
    same = [one for one in found if _path(one["loc"], config)[: len(first)] == first]
    mistake = next((one for one in same if one["type"] not in (*TYPES, "literal_error")), same[0])
    path = _path(mistake["loc"], config)
    kind, context = mistake["type"], mistake.get("ctx", {})
    where, value = ".".join(map(str, path)), mistake["input"]
    inside = f" in {where}" if where else ""
    if kind == "unknown_key":
        return f"config: unknown key {context['key']!r}{inside}; {context['hint']}"
    if kind == "missing":
        section = ".".join(map(str, path[:-1]))
        return f"config: key {path[-1]!r} is missing{f' in {section}' if section else ''}"
    if kind == "refused":
        return f"config: {where}: {context['why']}"
    if kind == "wrong_kind" and "kind" not in value:
        names = [name for name in config["separation"]["rows"] if name != path[-1]]
        near = hint(path[-1], names)
        return f"config: key 'kind' is missing in {where}; {near if near.startswith('did') else 'every row has one'}"
    if kind == "wrong_kind":
        path, where, value = [*path, "kind"], f"{where}.kind", value["kind"]
    if kind == "wrong_name":
        where, value = f"{where}.name", value["name"]
    shown = json.dumps(value, ensure_ascii=False, default=str)
    shown = shown if len(shown) <= 60 else f"{shown[:57]}..."
    rule = rule_at(path)
    kinds = _kinds(rule)
    if kind in TYPES and not (rule.get("enum") or _choices(rule)):
        advice = ""
        if isinstance(value, str) and ("number" in kinds or "integer" in kinds) and _is_number(value):
            advice = f"; YAML reads {value} as text: write {float(value)!r}, or add a decimal point"
        return f"config: {where} must be of type {' or '.join(kinds)}, not {shown}{advice}"
    choices = rule.get("enum") or _choices(rule)
    if choices and kind != "out_of_range":
        near = hint(value, map(str, choices)) if isinstance(value, str) and len(choices) > 1 else ""
        advice = near if near.startswith("did") else f"choose {', '.join(map(str, choices))}"
        return f"config: {where} is {shown}: {advice}"
    if kind == "string_pattern_mismatch":
        return f"config: {where} is {shown}: it must be like {context['pattern']}"
    if kind in ("too_short", "too_long"):
        least, most = context.get("min_length"), context.get("max_length")
        entries = f"{least or most} entries" if (least or most) != 1 else "1 entry"
        return f"config: {where} is {shown}: it must have {'at least' if least else 'at most'} {entries}"
    message = context.get("wanted") or mistake["msg"]
    return f"config: {where} is {shown}: {message}"


def _path(location: Sequence[str | int], config: Any) -> list[str | int]:
    """A path in the configuration, without the parts that pydantic adds for members of unions."""
    path: list[str | int] = []
    for place, part in enumerate(location):
        last = place == len(location) - 1
        if isinstance(config, Mapping):
            inside = part in config
            named = inside or (last and bool(rule_at([*path, part])))
        else:
            inside = named = isinstance(config, list) and isinstance(part, int) and part < len(config)
        if inside:
            config = config[part]
        if named:
            path.append(part)
    return path


def _kinds(rule: Mapping[str, Any]) -> list[str]:
    if "anyOf" in rule:
        return [kind for part in rule["anyOf"] for kind in _kinds(part)]
    kinds = rule.get("type", "mapping")
    return list(kinds) if isinstance(kinds, list) else [kinds]


def _choices(rule: Mapping[str, Any]) -> list[str]:
    """The choices for a value that may be one of several names or of another type."""
    parts = rule.get("anyOf", [])
    named = [choice for part in parts for choice in part.get("enum", [])]
    others = [f"a whole number of at least {part.get('minimum')}" for part in parts if part.get("type") == "integer"]
    return [*named, *others] if named else []


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
