"""The configuration: typed, checked before the first job, and complete.

`run.Configuration` defines all keys with their types and defaults; settings of the library are defined by its own
classes. The JSON schema, config/README.md and the resolved configuration are made from it. No heavy library is
imported.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from gmsdi.errors import UserError
from gmsdi.study.config.files import load, over_base, retyped, writable
from gmsdi.study.names import Config

__all__ = ["load", "over_base", "retyped", "validate", "writable"]


REMOVABLE = (
    ("data", "classes"),
    ("model", "prompts"),
    ("codec", "variants"),
    ("generation", "negatives"),
    ("separation", "rows"),
    ("tuning", "searches"),
)
"""Mappings whose entries null removes; those of `generation.models` may be null themselves."""


def validate(config: Mapping[str, Any]) -> Config:
    """Check a configuration, and return a copy with every default filled in.

    The value null removes an entry that another file has, see `REMOVABLE`.

    Args:
        config: as `load` or `over_base` returns it.

    Raises:
        UserError: for an unknown or missing key, a value of the wrong type or range, and anything else known to make a
            job fail; in one line that names the key.
    """
    from gmsdi.study.config.checks import check_all
    from gmsdi.study.config.errors import one_line
    from gmsdi.study.config.run import Configuration

    given: Config = copy.deepcopy(dict(config))
    for section, key in REMOVABLE:
        _drop_empty(given.get(section), key)
    data = given.get("data")
    for part in (_at(data, "mini"), _at(_at(data, "midi"), "variety")):
        if isinstance(sizes := _at(part, "section_sizes"), dict):  # YAML reads a key 1 as a number
            part["section_sizes"] = {str(size): share for size, share in sizes.items()}
    try:
        filled = _listed(Configuration.model_validate(given).model_dump())
    except ValidationError as error:
        raise UserError(one_line(error, given)) from error
    check_all(filled)
    return {**filled, "base": None}


def _at(section: Any, key: str) -> Any:
    return section.get(key) if isinstance(section, dict) else None


def _drop_empty(section: Any, key: str) -> None:
    """Remove the entries of a mapping that an overlay has set to null."""
    if isinstance(section, dict) and isinstance(section.get(key), dict):
        section[key] = {name: value for name, value in section[key].items() if value is not None}


def _listed(value: Any) -> Any:
    """The same value with lists in place of tuples, as in YAML."""
    if isinstance(value, dict):
        return {key: _listed(inner) for key, inner in value.items()}
    return [_listed(inner) for inner in value] if isinstance(value, list | tuple) else value
