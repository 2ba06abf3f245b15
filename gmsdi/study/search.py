"""Searches: rows of Table 2, or tasks of Figures 2 and 3, with other settings, to be compared on validation data."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from itertools import product
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from gmsdi.errors import UserError
from gmsdi.sampling.solver import Guidance, Solver, changed
from gmsdi.study.config.base import hint
from gmsdi.study.config.generation import FEWEST_CLIPS
from gmsdi.study.methods import Row, load_row
from gmsdi.study.tasks import Task, load_task

if TYPE_CHECKING:
    from gmsdi.study.study import Study

TUNED = ("separation", "generation", "baselines")
"""Sections of the configuration whose values a search can test."""
NO_CHOICES = {
    *("chunks", "clips", "curve_clips", "title", "kind", "of", "enabled", "train", "model", "training"),
    *("bss_eval", "published", "costed"),
}
"""Keys in these sections that are not tested: amounts, names, and what is included."""


@dataclass(frozen=True)
class Search:
    """Variants that are compared with each other.

    Attributes:
        name: name of the search, and of its table.
        variants: rows or tasks; their names tell which settings they vary.
        default: name of the variant with the configuration's own settings; None if there is none.
        decides: for each key of the demo's configuration whose value the search tests, the names of the variants that
            bear on it.
        items: number of chunks, or of clips per bar.
    """

    name: str
    variants: Sequence[Row] | Sequence[Task]
    default: str | None
    decides: Mapping[str, Sequence[str]]
    items: int

    @classmethod
    def of(cls, name: str, study: Study, given: Mapping[str, Any]) -> Search:
        """Make a search from an entry of `tuning.searches`.

        Args:
            name: name of the search.
            study: the rows and tasks to vary.
            given: the entry, see `gmsdi.study.config.tuning.Search`.

        Raises:
            UserError: if it names something unknown, or a variant is not valid.
        """
        where = f"config: tuning.searches.{name}"
        known: dict[str, Any] = {**study.grid_rows, **study.rows, **study.tasks}
        for other in given["of"]:
            if other not in known:
                raise UserError(f"{where}.of names {other!r}; choose from {', '.join(known)}")
        bases = [known[other] for other in given["of"]]
        separates = isinstance(bases[0], Row)
        if any((isinstance(base, Row), base.system) != (separates, bases[0].system) for base in bases):
            raise UserError(
                f"{where}.of names {', '.join(given['of'])}, which are not all rows, or all tasks, of one system"
            )
        items = given["items"] or study.config["tuning"]["chunks" if separates else "clips"]
        if not separates and items < FEWEST_CLIPS:
            raise UserError(f"{where}.items is {items}, but distances take at least {FEWEST_CLIPS} clips per bar")
        variants: list[Any] = []
        settings: dict[str, Mapping[str, Any]] = {}  # that a variant sets, by its name
        default = None
        for base in bases:
            own = _with(base, given["settings"] if separates else {**given["settings"], "clips": items}, where)
            for chosen in _choices(given["vary"], combine=given["combine"]):
                words = [base.name] if len(bases) > 1 else []
                words += [f"{key} {_said(value)}" for key, value in chosen.items()]
                variant = _with(own, {**chosen, "name": ", ".join(words) or base.name}, where)
                if separates and variant.is_open:
                    raise UserError(f"{where} leaves {', '.join(set(variant.OPEN) - set(variant.fixed))} open; set it")
                if _plain(variant) == _plain(own):
                    if chosen and not given["combine"]:
                        continue  # the value is the default's
                    default = variant.name if base is bases[0] else default
                variants.append(variant)
                settings[variant.name] = chosen
        if len({getattr(variant, "model", None) for variant in variants}) > 1:
            kind = "rows" if separates else "tasks"
            raise UserError(f"{where} has {kind} of several models; give each model a search of its own")
        refused = [] if separates else [variant.refusal() for variant in variants]
        if refused and all(refused):
            raise UserError(f"{where}: no variant can run: {refused[0]}")
        decides = {}
        for key, setting in given["decides"].items():
            if setting is not None and setting not in given["vary"]:
                raise UserError(f"{where}.decides.{key} names {setting!r}, which is not in its vary")
            every = given["combine"] or setting is None
            decides[key] = [other for other in settings if every or other == default or setting in settings[other]]
        return cls(name, variants, default, decides, items)

    @property
    def rows(self) -> list[Row]:
        """The variants, if they separate."""
        return [variant for variant in self.variants if isinstance(variant, Row)]

    @property
    def tasks(self) -> list[Task]:
        """The variants, if they generate."""
        return [variant for variant in self.variants if isinstance(variant, Task)]


def choices(config: Mapping[str, Any]) -> dict[str, str]:
    """The keys of a configuration file that hold a chosen value, each with its value as JSON.

    Args:
        config: from `gmsdi.study.config.load`, without defaults filled in.

    Returns:
        Keys with dots; an entry in a list of mappings is called by its `name`.
    """
    return {
        f"{section}.{key}": json.dumps(value).replace("Infinity", ".inf")
        for section in TUNED
        for key, value in _leaves(config.get(section, {}))
        if value not in (None, {})  # these leave the choice open
    }


def _choices(vary: Mapping[str, Sequence[Any]], *, combine: bool) -> Iterator[dict[str, Any]]:
    """The settings of each variant: every combination of the values, or no change and then one change at a time."""
    if combine:
        yield from (dict(zip(vary, values, strict=True)) for values in product(*vary.values()))
    else:
        yield {}
        yield from ({key: value} for key, values in vary.items() for value in values)


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
    """A row or a task with other settings; a solver may change its sampler."""
    made: dict[str, Any] = copy.deepcopy(item.model_dump())
    for key, value in settings.items():
        *path, last = key.split(".")
        inner = made
        for place in path:
            inner = inner.get(place) if isinstance(inner, dict) else None  # type: ignore[assignment]
        if not isinstance(inner, dict) or (not path and last not in inner):
            raise UserError(f"{where} has the setting {key}, but {item.name} only has {', '.join(made)}")
        if last == "solver" and isinstance(value, Mapping):
            value = changed(inner["solver"], value)
        if last == "guidance" and isinstance(value, Mapping):
            value = {**inner["guidance"], **value}
        inner[last] = value
    try:
        if "solver" in made:
            Solver(**made["solver"])
        if "guidance" in made:
            _check_guidance(made["guidance"], own_w=isinstance(item, Row))
        return load_row(made) if isinstance(item, Row) else load_task(made)
    except (UserError, TypeError) as error:
        raise UserError(f"{where}: {error}") from error
    except ValidationError as error:
        first = error.errors()[0]
        raise UserError(f"{where}: {'.'.join(map(str, first['loc'][1:]))}: {first['msg']}") from error


def _check_guidance(settings: Mapping[str, Any], *, own_w: bool) -> None:
    """Refuse what `Guidance` would refuse in the job; a row has its w beside its guidance."""
    known = [field.name for field in fields(Guidance) if not (own_w and field.name == "w")]
    for key in settings:
        if key not in known:
            raise UserError(f"guidance has no {key}; {hint(key, known)}")
    Guidance(**settings)


def _plain(item: Row | Task) -> dict[str, Any]:
    return item.model_dump(exclude={"name", "title"})


def _said(value: Any) -> str:
    if isinstance(value, Mapping):
        return " ".join(f"{key} {_said(inner)}" for key, inner in value.items())
    if isinstance(value, list):
        return "–".join(map(_said, value))
    return "none" if value is None else f"{value:g}" if isinstance(value, float) else str(value)
