"""The page of all configuration keys, config/README.md, from the schema that checks them.

`python -m gmsdi.study.config_reference`, in the repository's root, writes it. Defaults that the schema leaves to a
class of the package are read from its source, so that no heavy library is imported.
"""

from __future__ import annotations

import ast
import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from gmsdi.io.files import atomic

Schema = Mapping[str, Any]

PACKAGE = Path(__file__).parents[1]
SCHEMA = PACKAGE.parent / "workflow" / "schemas" / "config.schema.yaml"
PAGE = PACKAGE.parent / "config" / "README.md"
CLASSES = {
    "training": ("training/config.py", "TrainingConfig"),
    "unet": ("models/edm/unet.py", "UNetConfig"),
    "data.mini": ("data/mini.py", "MiniConfig"),
}
"""For definitions and keys of the schema that a class configures, its file and name."""

INTRODUCTION = """\
<!-- Written by `make docs` from workflow/schemas/config.schema.yaml; edit that. -->

# Configuration

The workflow always reads [`config.yaml`](config.yaml), the demo's values. A file given with `--configfile` overlays
it key by key: it needs `run`, the name of its folder of results, and the keys that differ. Lists are replaced as a
whole. An entry of `data.classes`, `generation.negatives` or `separation.extras` that `config.yaml` has is left out by
the value `null`. A key in neither file has the default below; a key that is not below is an error, and so is a value
of another type or range. What a run was is in its `results/<run>/config.yaml`, with the defaults of the
schema filled in, but not those that a class has (of `training`, `unet` and `data.mini`).

Keys are written with dots: `data.mini.tracks.test` is

```yaml
data:
  mini:
    tracks: {test: 10}
```

YAML reads `1e-4` as text, write `0.0001` or `1.0e-4`; infinity is `.inf`.
"""


HEAD = ["key", "type", "default", "meaning"]


def reference(schema: Schema) -> str:
    """The page in Markdown.

    Args:
        schema: JSON schema of the configuration.

    Returns:
        An introduction, a table of the top level, and a table of all keys beneath for each of its mappings and for each
        definition that several mappings refer to.
    """
    top, definitions = schema["properties"], schema["$defs"]
    sections = [INTRODUCTION, _table(_rows(schema, schema, "", depth=1))]
    for key, rule in top.items():
        if "properties" in rule:
            sections += [f"## `{key}`", _text(rule["description"]), _table(_rows(rule, schema, f"{key}."))]
    sections.append("## Keys that several mappings have")
    for name in (name for name in definitions if _has_table({"$ref": f"#/$defs/{name}"}, schema)):
        users = ", ".join(f"`{user}`" for user in _users(schema, name))
        text = f"{_text(definitions[name]['description'])}. In {users}."
        sections += [f"### Keys of `{name}`", text, _table(_rows(definitions[name], schema, "", of=name))]
    return "\n\n".join(section.strip() for section in sections) + "\n"


def main() -> None:
    """Write the page."""
    schema = yaml.safe_load(SCHEMA.read_text(encoding="utf-8"))
    with atomic(PAGE) as path:
        path.write_text(reference(schema), encoding="utf-8")


def _rows(rule: Schema, schema: Schema, prefix: str, *, of: str = "", depth: int | None = None) -> Iterator[list[str]]:
    """A row for every key of a mapping and, unless `depth` is 1, of the mappings in it that are written out in place.

    Args:
        rule: schema of the mapping.
        schema: the whole.
        prefix: of its keys.
        of: name of the definition, if it is one.
        depth: levels; None is all.
    """
    others = _class_defaults(*CLASSES[of or prefix[:-1]]) if (of or prefix[:-1]) in CLASSES else {}
    for key, given in rule["properties"].items():
        own = {**_resolved(given, schema), **given}
        name = f"[{prefix}{key}](#{key})" if depth == 1 and "properties" in given else f"`{prefix}{key}`"
        shown = "required" if key in rule.get("required", []) else ""
        if "default" in own or key in others:
            shown = f"`{_yaml(own['default'] if 'default' in own else others[key])}`"
        yield [name, _type(own, schema), shown, _text(own["description"]) + _of_names(own)]
        if depth == 1 or _has_table(given, schema):
            continue
        for inner, path in ((own, f"{prefix}{key}."), (own.get("additionalProperties"), f"{prefix}{key}.<name>.")):
            if isinstance(inner, dict) and "properties" in inner:
                yield from _rows(inner, schema, path)


def _resolved(rule: Schema, schema: Schema) -> Schema:
    """The definition that a rule refers to, or an empty one."""
    found: Schema = schema["$defs"][_definition(rule)] if "$ref" in rule else {}
    return found


def _definition(rule: Schema) -> str:
    return str(rule["$ref"]).removeprefix("#/$defs/")


def _has_table(rule: Schema, schema: Schema) -> bool:
    """Whether a rule refers to a definition of a mapping's keys, which has a table of its own."""
    own = _resolved(rule, schema)
    return "properties" in own and own["type"] == "object"


def _users(schema: Schema, name: str) -> list[str]:
    """The keys that refer to a definition, directly."""
    found = []

    def look(rule: Schema, path: str) -> None:
        for key, inner in rule.get("properties", {}).items():
            if "$ref" in inner and _definition(inner) == name:
                found.append(f"{path}{key}")
            look(inner, f"{path}{key}.")
        if isinstance(rule.get("additionalProperties"), dict):
            look(rule["additionalProperties"], f"{path}<name>.")

    look(schema, "")
    for other, rule in schema["$defs"].items():
        look(rule, f"{other}: ")
    return found


def _class_defaults(file: str, name: str) -> dict[str, Any]:
    """Defaults of a dataclass, read from its source."""
    source = ast.parse((PACKAGE / file).read_text(encoding="utf-8"))
    (found,) = (node for node in source.body if isinstance(node, ast.ClassDef) and node.name == name)
    defaults = {}
    for node in found.body:
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.value is not None:
            value: ast.expr = node.value
            if isinstance(value, ast.Call):  # field(default_factory=lambda: ...)
                factory = value.keywords[0].value
                assert isinstance(factory, ast.Lambda)
                value = factory.body
            defaults[node.target.id] = ast.literal_eval(value)
    return defaults


def _type(rule: Schema, schema: Schema, *, plural: bool = False) -> str:
    """A rule's type and range in words."""
    if "$ref" in rule and _has_table(rule, schema):
        return f"[{_definition(rule)}](#keys-of-{_definition(rule)})"
    if "enum" in rule:
        return ", ".join(f"`{value}`" for value in rule["enum"])
    kinds = rule["type"] if isinstance(rule["type"], list) else [rule["type"]]
    words = []
    for kind in kinds:
        if kind == "array":
            words.append(_list(rule, schema, plural=plural))
        elif kind == "object":
            inner = rule.get("additionalProperties")
            entries = f" to {_type(inner, schema, plural=True)}" if isinstance(inner, dict) and "type" in inner else ""
            least = f" of {rule['minProperties']} keys or more" if "minProperties" in rule else ""
            words.append(f"mapping{'s' if plural else ''}{least}{entries}")
        else:
            words.append(kind + ("s" if plural and kind != "null" else "") + (_range(rule) if kind != "null" else ""))
    return " or ".join(words)


def _list(rule: Schema, schema: Schema, *, plural: bool) -> str:
    """A list, how long it is and of what."""
    least, most = rule.get("minItems", 0), rule.get("maxItems")
    number = f"{least} " if least == most else ""
    return (
        ("non-empty " if least == 1 else "")
        + ("lists" if plural else "list")
        + f" of {number}{'distinct ' if rule.get('uniqueItems') else ''}{_type(rule['items'], schema, plural=True)}"
    )


def _range(rule: Schema) -> str:
    """The bounds of a number, or the pattern of a string."""
    signs = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}
    bounds = [f" {sign} {rule[key]}" for key, sign in signs.items() if key in rule]
    return ",".join(bounds) + (f" like `{rule['pattern']}`" if "pattern" in rule else "")


def _of_names(rule: Schema) -> str:
    """What the keys of a mapping may be called, where the user chooses them."""
    names = rule.get("propertyNames")
    if names is None:
        return ""
    taken = ", ".join(f"`{name}`" for name in names["not"]["enum"])
    return f"; a name is like `{names['pattern']}`, and none of {taken}"


def _yaml(value: Any) -> str:
    """A value as it is written in a configuration, on one line."""
    plain = json.loads(json.dumps(value))  # tuples become lists, and keys that are numbers strings
    line = yaml.safe_dump(plain, default_flow_style=True, width=math.inf, sort_keys=False)
    return str(line).removesuffix("\n").removesuffix("\n...")


def _text(description: str) -> str:
    """A description in Markdown: what is not code has no meaning but its words."""
    parts = re.split(r"(`[^`]*`)", " ".join(description.split()))
    return "".join(part if part.startswith("`") else re.sub(r"([*<>\[\]])", r"\\\1", part) for part in parts)


def _table(rows: Iterable[Sequence[str]]) -> str:
    """A table in Markdown."""
    lines = [HEAD, ["---"] * len(HEAD), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


if __name__ == "__main__":
    main()
