"""Searches: rows of Table 2, or tasks of Figures 2 and 3, with other settings, to be compared on validation data."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from gmsdi.errors import UserError
from gmsdi.sampling.solver import Solver, changed
from gmsdi.study.methods import Row, load_row
from gmsdi.study.tasks import Task, load_task

if TYPE_CHECKING:
    from gmsdi.study.study import Study

TUNED = ("separation", "generation", "baselines")
"""Sections of the configuration whose values are choices that a search can support."""
NO_CHOICES = {
    *("chunks", "clips", "curve_clips", "title", "kind", "of", "enabled", "train", "model", "training"),
    *("bss_eval", "published", "costed"),
}
"""Keys in them that say how much is done, what there is, and what it is called."""


@dataclass(frozen=True)
class Search:
    """Variants that are compared with each other.

    Attributes:
        name: of its table.
        variants: rows, or tasks; each is named by the settings in which it differs from the others.
        default: name of the variant that has the settings of the configuration; None if there is none.
        decides: keys of the demo's configuration that the table supports, or does not.
        items: chunks, or clips of each bar.
    """

    name: str
    variants: Sequence[Row] | Sequence[Task]
    default: str | None
    decides: Sequence[str]
    items: int

    @classmethod
    def of(cls, name: str, study: Study, given: Mapping[str, Any]) -> Search:
        """A search as `tuning.searches` says.

        Args:
            name: of the search.
            study: whose rows and tasks are varied.
            given: see `gmsdi.study.config.tuning.Search`.

        Raises:
            UserError: if something that it names is not there, or a variant is not valid.
        """
        where = f"config: tuning.searches.{name}"
        known: dict[str, Any] = {**study.grid_rows, **study.rows, **study.tasks}
        for other in given["of"]:
            if other not in known:
                raise UserError(f"{where}.of names {other!r}; choose of {', '.join(known)}")
        bases = [known[other] for other in given["of"]]
        separates = isinstance(bases[0], Row)
        if any((isinstance(base, Row), base.system) != (separates, bases[0].system) for base in bases):
            raise UserError(
                f"{where}.of names {', '.join(given['of'])}, which are not all rows, or tasks, of one system"
            )
        items = given["items"] or study.config["tuning"]["chunks" if separates else "clips"]
        variants: list[Any] = []
        default = None
        for base in bases:
            own = _with(base, given["settings"] if separates else {**given["settings"], "clips": items}, where)
            for values in product(*given["vary"].values()):
                chosen = dict(zip(given["vary"], values, strict=True))
                words = [base.name] if len(bases) > 1 else []
                words += [f"{key} {_said(value)}" for key, value in chosen.items()]
                variant = _with(own, {**chosen, "name": ", ".join(words) or base.name}, where)
                if separates and variant.is_open:
                    raise UserError(f"{where} leaves {', '.join(set(variant.OPEN) - set(variant.fixed))} open; give it")
                if base is bases[0] and _plain(variant) == _plain(own):
                    default = variant.name
                variants.append(variant)
        return cls(name, variants, default, given["decides"], items)

    @property
    def rows(self) -> list[Row]:
        """The variants, if they separate."""
        return [variant for variant in self.variants if isinstance(variant, Row)]

    @property
    def tasks(self) -> list[Task]:
        """The variants, if they generate."""
        return [variant for variant in self.variants if isinstance(variant, Task)]


def choices(config: Mapping[str, Any]) -> dict[str, str]:
    """The keys of a configuration file that somebody had to choose a value for, each with its value as JSON.

    Args:
        config: as `gmsdi.study.config.load` reads it, without the defaults of other places.

    Returns:
        Keys with dots; an entry of a list of mappings goes by its `name`.
    """
    return {
        f"{section}.{key}": json.dumps(value).replace("Infinity", ".inf")
        for section in TUNED
        for key, value in _leaves(config.get(section, {}))
        if value not in (None, {})  # which leave the choice to others
    }


def _leaves(value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping):
        inner: Any = [(str(key), part) for key, part in value.items() if key not in NO_CHOICES]
    else:
        inner = [(str(part["name"]), {key: own for key, own in part.items() if key != "name"}) for part in value]
    for key, part in inner:
        named = isinstance(part, list) and part and all(isinstance(x, Mapping) and "name" in x for x in part)
        if named or (isinstance(part, Mapping) and part):
            yield from ((f"{key}.{rest}", leaf) for rest, leaf in _leaves(part))
        else:
            yield key, part


def _with(item: Any, settings: Mapping[str, Any], where: str) -> Any:
    """A row or a task with other settings; those of a solver may name another sampler."""
    made: dict[str, Any] = copy.deepcopy(item.model_dump())
    for key, value in settings.items():
        *path, last = key.split(".")
        inner = made
        for place in path:
            inner = inner.get(place) if isinstance(inner, dict) else None  # type: ignore[assignment]
        if not isinstance(inner, dict) or (not path and last not in inner):
            raise UserError(f"{where} has the setting {key}, and {item.name} has {', '.join(made)}")
        if last == "solver" and isinstance(value, Mapping):
            value = changed(inner["solver"], value)
        inner[last] = value
    try:
        if "solver" in made:
            Solver(**made["solver"])
        return load_row(made) if isinstance(item, Row) else load_task(made)
    except (UserError, TypeError) as error:
        raise UserError(f"{where}: {error}") from error
    except ValidationError as error:
        first = error.errors()[0]
        raise UserError(f"{where}: {'.'.join(map(str, first['loc'][1:]))}: {first['msg']}") from error


def _plain(item: Row | Task) -> dict[str, Any]:
    return item.model_dump(exclude={"name", "title"})


def _said(value: Any) -> str:
    if isinstance(value, Mapping):
        return " ".join(f"{key} {_said(inner)}" for key, inner in value.items())
    if isinstance(value, list):
        return "–".join(map(_said, value))
    return "none" if value is None else f"{value:g}" if isinstance(value, float) else str(value)
