"""The solvers of a configuration: which section overrides which."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from gmsdi.sampling.solver import changed
from gmsdi.study.methods import TABLE1

Path = tuple[str, ...]

SEPARATION, GENERATION = ("separation", "solver"), ("generation", "solver")


def stacks(config: Mapping[str, Any]) -> Iterator[list[Path]]:
    """For each solver, the paths of its sections: the complete settings first, then the sections that override them."""
    yield [SEPARATION]
    rows = {
        name: [SEPARATION, ("separation", "rows", name, "solver")] for name in _mapping(config, "separation", "rows")
    }
    yield from rows.values()
    for name in TABLE1:
        if name in rows:
            yield [*rows[name], ("grid", "solver")]
    yield [GENERATION]
    for task in ("single", "total", "sequential", "extracted", "partial", "conditioned"):
        yield [GENERATION, ("generation", task, "solver")]
    yield [*rows.get("extractor", [SEPARATION]), ("generation", "extracted", "extraction", "solver")]
    weak, joint = (("baselines", name, "generation", "solver") for name in ("weak_msdm", "msdm"))
    yield [GENERATION, ("generation", "single", "solver"), weak]
    yield [GENERATION, ("generation", "total", "solver"), joint]
    partial: Path = ("baselines", "msdm", "generation", "partial", "solver")
    yield [GENERATION, ("generation", "partial", "solver"), joint, partial]


def chains(config: Mapping[str, Any]) -> Iterator[tuple[Path, str, dict[str, Any]]]:
    """For every solver section that is given: its path, the name of its sampler, and its settings."""
    for stack in stacks(config):
        name = "euler"
        for path in stack:
            settings = _mapping(config, *path)
            name = settings.get("name", name)
        if isinstance(settings, dict) and isinstance(name, str) and settings:
            yield stack[-1], name, settings


def whole(config: Mapping[str, Any], stack: list[Path]) -> dict[str, Any]:
    """The settings of a solver after all overrides."""
    first, *others = (_mapping(config, *path) for path in stack)
    return changed(first, *others)


def _mapping(config: Any, *path: str) -> Mapping[str, Any]:
    """The mapping at a path of the configuration; empty if there is none."""
    for key in path:
        config = config.get(key) if isinstance(config, Mapping) else None
    return config if isinstance(config, Mapping) else {}
