"""Writes the page of all configuration keys, config/README.md, and the JSON schema for editors, from the typed models.

Run `python -m gmsdi.study.config_reference` in the repository's root.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml

from gmsdi.io.files import atomic
from gmsdi.study.config.schema import CHANGES, REF, Schema, definition, resolved, schema

REPO = Path(__file__).parents[2]
SCHEMA = REPO / "workflow" / "schemas" / "config.schema.json"
PAGE = REPO / "config" / "README.md"

INTRODUCTION = """\
<!-- Written by `make docs` from gmsdi/study/config/; edit those files instead. -->

# Configuration

A file given with `--configfile` overrides single keys of its base. It needs `run`, the name of its results folder,
and only those keys that differ from the base. The base is the demo, [`config.yaml`](config.yaml), unless the key `base`
names another file. Several files given together are merged first.

- Mappings are merged key by key; lists are replaced as a whole.
- The value `null` removes an entry that another file has of `data.classes`, `model.prompts`, `codec.variants`,
  `generation.negatives`, `generation.models`, `separation.rows` or `tuning.searches`. New rows of `separation.rows`
  come after those of the base.
- If a file chooses another sampler (`solver.name`), options of the base's solver that the new sampler lacks are
  dropped.

Keys that neither file has get the defaults below. Unknown keys, values of the wrong type or range, options of another
sampler, and anything else known to make a job fail are reported before the first job starts. After a run,
`results/<run>/config.yaml` holds its complete configuration, with every default filled in.

On this page, keys are written with dots: `data.mini.tracks.test` stands for

```yaml
data:
  mini:
    tracks: {test: 10}
```

YAML reads `1e-4` as text; write `0.0001` or `1.0e-4`. Infinity is `.inf`. Editors with YAML support check a file as you
type if its first line is `# yaml-language-server: $schema=../workflow/schemas/config.schema.json`.
"""


HEAD = ["key", "type", "default", "meaning"]


def reference() -> str:
    """The page in Markdown.

    Returns:
        An introduction, a table of the top level, and a table of all keys beneath for each of its mappings and for each
        definition that several mappings refer to.
    """
    whole = schema()
    sections = [INTRODUCTION, _table(_rows(whole, "", depth=1))]
    for key, rule in whole["properties"].items():
        if "properties" in rule:
            sections += [f"## `{key}`", _text(rule["description"]), _table(_rows(rule, f"{key}."))]
    sections.append("## Keys that occur in several mappings")
    for name, rule in whole["$defs"].items():
        if name.endswith(CHANGES):
            continue
        users = ", ".join(f"`{user}`" for user in _users(whole, name))
        text = f"{_text(rule['description']).removesuffix('.')}. Used in {users}."
        sections += [f"### Keys of `{name}`", text, _table(_rows(_options(name, rule), ""))]
    return "\n\n".join(section.strip() for section in sections) + "\n"


def editors() -> str:
    """The content of the JSON schema's file."""
    told = {"$comment": "Written by `make docs` from gmsdi/study/config/; edit those files instead."}
    return json.dumps({**told, **_optional(schema())}, indent=1, ensure_ascii=False, default=str) + "\n"


def main() -> None:
    """Write the page and the schema."""
    for file, text in ((PAGE, reference()), (SCHEMA, editors())):
        with atomic(file) as path:
            path.write_text(text, encoding="utf-8")


def _optional(whole: Schema) -> Schema:
    """The schema of a file that overrides a base: only `run` is required, and null removes entries."""

    def loosened(rule: Any) -> Any:
        if isinstance(rule, list):
            return [loosened(inner) for inner in rule]
        if not isinstance(rule, dict):
            return rule
        found = {key: loosened(inner) for key, inner in rule.items() if key != "required" or isinstance(inner, dict)}
        if "oneOf" in found:  # without their names, samplers with the same options cannot be told apart
            found["anyOf"] = found.pop("oneOf")
        if isinstance(own := found.get("additionalProperties"), dict):
            found["additionalProperties"] = {"anyOf": [own, {"type": "null"}]}
        return found

    return {**loosened(whole), "required": ["run"]}


def _options(name: str, rule: Schema) -> Schema:
    """A definition's keys; for a solver, the options of all samplers with their defaults."""
    if name != "solver":
        return rule
    keys = {key: dict(value) for key, value in resolved({"$ref": f"{REF}solver"})["properties"].items()}
    for sampler in reversed(rule["oneOf"]):
        for key, value in sampler["properties"].items():
            keys[key]["default"] = value["default"]
    return {"properties": keys}


def _rows(rule: Schema, prefix: str, *, depth: int | None = None) -> Iterator[list[str]]:
    """A row for every key of a mapping and, unless `depth` is 1, of the mappings in it that are written out in place.

    Args:
        rule: schema of the mapping.
        prefix: of its keys.
        depth: levels; None is all.
    """
    for key, own in rule["properties"].items():
        name = f"[{prefix}{key}](#{key})" if depth == 1 and "properties" in own else f"`{prefix}{key}`"
        shown = "required" if key in rule.get("required", []) else ""
        if "default" in own:
            shown = f"`{_yaml(own['default'])}`"
        yield [name, _type(own), shown, _text(own.get("description") or resolved(own)["description"])]
        if depth == 1 or "$ref" in own:
            continue
        for inner, path in (
            (own, f"{prefix}{key}."),
            (own.get("additionalProperties"), f"{prefix}{key}.<name>."),
            (own.get("items"), f"{prefix}{key}."),
        ):
            if isinstance(inner, dict) and "properties" in inner:
                yield from _rows(inner, path)


def _users(whole: Schema, name: str) -> list[str]:
    """The keys that refer to a definition, or to its changes, directly."""
    found = []

    def look(rule: Schema, path: str) -> None:
        for key, inner in rule.get("properties", {}).items():
            for part in (inner, *inner.get("anyOf", [])):
                if "$ref" in part and definition(part).removesuffix(CHANGES) == name:
                    found.append(f"{path}{key}")
            look(inner, f"{path}{key}.")
            if isinstance(own := inner.get("additionalProperties"), dict):
                if "$ref" in own and definition(own) == name:
                    found.append(f"{path}{key}")
                look(own, f"{path}{key}.<name>.")

    look(whole, "")
    for other, rule in whole["$defs"].items():
        look(rule, f"{other}: ")
    return found


def _type(rule: Schema, *, plural: bool = False) -> str:
    """A rule's type and range in words."""
    if "$ref" in rule:
        name = definition(rule).removesuffix(CHANGES)
        return f"[{name}](#{'keys-of-' * (name in schema()['$defs'])}{name})"
    if "anyOf" in rule:
        return " or ".join(_type(part, plural=plural) for part in rule["anyOf"])
    if "enum" in rule:
        return ", ".join(f"`{value}`" for value in rule["enum"])
    if "type" not in rule:
        return "values" if plural else "value"
    kinds = rule["type"] if isinstance(rule["type"], list) else [rule["type"]]
    words = []
    for kind in kinds:
        if kind == "array":
            words.append(_list(rule, plural=plural))
        elif kind == "object":
            inner = rule.get("additionalProperties")
            entries = ""
            if isinstance(inner, dict) and ("type" in inner or "$ref" in inner):
                entries = f" to {_type(inner, plural=True)}"
            least = f" of {rule['minProperties']} keys or more" if "minProperties" in rule else ""
            words.append(f"mapping{'s' if plural else ''}{least}{entries}")
        else:
            words.append(kind + ("s" if plural and kind != "null" else "") + (_range(rule) if kind != "null" else ""))
    return " or ".join(words)


def _list(rule: Schema, *, plural: bool) -> str:
    """The type of a list in words: its length and its entries."""
    least, most = rule.get("minItems", 0), rule.get("maxItems")
    number = f"{least} " if least == most else ""
    return (
        ("non-empty " if least == 1 else "")
        + ("lists" if plural else "list")
        + f" of {number}{'distinct ' if rule.get('uniqueItems') else ''}{_type(rule['items'], plural=True)}"
    )


def _range(rule: Schema) -> str:
    """The bounds of a number, or the pattern of a string."""
    signs = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}
    bounds = [f" {sign} {_short(rule[key])}" for key, sign in signs.items() if key in rule]
    return ",".join(bounds) + (f" like `{rule['pattern']}`" if "pattern" in rule else "")


def _short(number: float) -> str:
    return f"{number:.3g}" if number % 1 else f"{number:.0f}"


def _yaml(value: Any) -> str:
    """A value as it is written in a configuration, on one line."""
    plain = json.loads(json.dumps(value))  # tuples become lists, and keys that are numbers strings
    line = yaml.safe_dump(plain, default_flow_style=True, width=math.inf, sort_keys=False)
    return str(line).removesuffix("\n").removesuffix("\n...")


def _text(description: str) -> str:
    """A description in Markdown, escaped except for code."""
    parts = re.split(r"(`[^`]*`)", " ".join(description.split()))
    return "".join(part if part.startswith("`") else re.sub(r"([*<>\[\]])", r"\\\1", part) for part in parts)


def _table(rows: Iterable[Sequence[str]]) -> str:
    """A table in Markdown."""
    lines = [HEAD, ["---"] * len(HEAD), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


if __name__ == "__main__":
    main()
