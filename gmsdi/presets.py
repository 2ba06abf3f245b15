"""Presets: the ways to separate that a model is known to be good at, by name.

A model's `config.json` may hold `presets`, name to settings; a model of another kind may have them as its attribute:

    "presets": {"best": {"guidance": {"w": 2.0}}, "mine": {"method": "projected", "solver": {"steps": 40}}}

Whatever these leave out is as in the bundled model's preset of the same name, or in its "best" if it has none of that
name, with the noise levels scaled to the signals that the model was trained on. A training writes no presets: of a new
model nothing better is known. Which values of the bundled models' presets, in their `config.json`, a search on
validation chunks supports, and which none does, is listed in docs/bundled_training.md, "Presets".
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias, get_args

from gmsdi.errors import UserError
from gmsdi.models.protocol import Model, Outline, Traits
from gmsdi.sampling.solver import Guidance, Solver, changed
from gmsdi.settings import Flag, Share, Steps, check

Method: TypeAlias = Literal["consistent", "extractor", "projected", "separator"]
METHODS: dict[str, str] = {
    "consistent": "the Extractor, consistent",
    "extractor": "the Extractor of Eq. 14",
    "projected": "the projected Separator",
    "separator": "the Separator of Eq. 13",
}
"""What a preset may run, in words."""


@dataclass(frozen=True)
class Preset:
    """How a song is separated.

    Attributes:
        name: of the preset.
        method: what is sampled, see `METHODS`.
        solver: how it is integrated.
        guidance: strength and kind of the guidance.
        constrained: of "separator": the stem that is the song minus the others; None is Drums, or the last.
        runs: how many runs the mean is taken of (`tasks.Average`).
        inverted: every other run separates the song with its polarity inverted.
        by_power: of "consistent": share of the residual that is divided among the stems by their power (`ShareOut`).
        filtered: how far the song is filtered by the stems (`Wiener`).
        negatives: label to negative text.

    Raises:
        UserError: if a value is out of range.
    """

    name: str
    method: Method
    solver: Solver
    guidance: Guidance = field(default_factory=Guidance)
    constrained: str | None = None
    runs: Annotated[int, *get_args(Steps)[1:]] = 1
    inverted: Flag = False
    by_power: Share = 0.0
    filtered: Share = 0.0
    negatives: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check(self, f"preset {self.name!r}:")
        if self.method not in METHODS:
            raise UserError(f"preset {self.name!r}: method is {self.method!r}; choose {', '.join(METHODS)}")
        if not isinstance(self.inverted, bool):
            raise UserError(f"preset {self.name!r}: inverted is {self.inverted!r}; it must be true or false")
        if not isinstance(self.negatives, Mapping):
            raise UserError(f"preset {self.name!r}: negatives are {self.negatives!r}; they must map labels to texts")
        if self.constrained is not None and self.method != "separator":
            raise UserError(
                f"preset {self.name!r} is {METHODS[self.method]}, which constrains no stem; leave constrained out, or "
                "choose paper-separator"
            )

    def changed(
        self,
        *,
        method: Method | None = None,
        solver: Solver | None = None,
        guidance: Guidance | None = None,
        steps: int | None = None,
        w: float | None = None,
        **others: Any,
    ) -> Preset:
        """The preset with what is not None in place of its own."""
        solver, guidance = solver or self.solver, guidance or self.guidance
        given = {key: value for key, value in others.items() if value is not None}
        return replace(
            self,
            method=method or self.method,
            solver=solver if steps is None else replace(solver, steps=steps),
            guidance=guidance if w is None else replace(guidance, w=w),
            **given,
        )

    def as_dict(self) -> dict[str, Any]:
        """The settings as JSON has them, without the name."""
        return {key: value for key, value in asdict(self).items() if key != "name"}


def presets_of(model: Model | Outline) -> dict[str, Preset]:
    """The presets of a model: the bundled model's, with its own.

    Raises:
        UserError: if one of its own is unusable.
    """
    return presets_by(Traits.of(model), model.sigma_range)


def presets_by(traits: Traits, sigma_range: tuple[float, float] = (0.0, math.inf)) -> dict[str, Preset]:
    """The presets of a model by what it says of itself, so that it need not be opened.

    Args:
        traits: its `presets` and `sigma_data` count.
        sigma_range: lowest and highest noise level that it can denoise.

    Raises:
        UserError: see `presets_of`.
    """
    own = traits.presets or {}
    if not isinstance(own, Mapping):
        raise UserError(f"the model's presets are {own!r}; they must be a mapping, name to settings")
    known = _bundled()["presets"]
    scale = traits.sigma_data / _bundled()["sigma_data"]
    low, high = sigma_range
    found = {}
    for name in dict.fromkeys([*known, *own]):
        settings = dict(known.get(name, known["best"]))
        solver = settings["solver"]
        settings["solver"] = solver | {
            key: min(max(solver[key] * scale, low), high) for key in ("sigma_min", "sigma_max")
        }
        found[name] = _preset(name, settings, own.get(name, {}))
    return found


@cache
def _bundled() -> dict[str, Any]:
    """The configuration of the bundled model."""
    path = Path(__file__).parent / "weights" / "mini" / "config.json"
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found


def preset_of(model: Model | Outline, name: str | Preset) -> Preset:
    """A model's preset by its name.

    Raises:
        UserError: if it has none of that name, or one is unusable.
    """
    if isinstance(name, Preset):
        return name
    presets = presets_of(model)
    if name not in presets:
        raise UserError(f"preset is {name!r}; the model has {', '.join(presets)}")
    return presets[name]


def _preset(name: str, settings: dict[str, Any], changes: Any) -> Preset:
    """A preset of its settings in JSON and the model's changes of them."""
    if isinstance(changes, Preset):
        return replace(changes, name=name)
    where = f"preset {name!r}"
    known = {item.name for item in fields(Preset)} - {"name"}
    if not isinstance(changes, Mapping) or (unknown := changes.keys() - known):
        what = f"has {min(unknown)!r}" if isinstance(changes, Mapping) else f"is {changes!r}"
        raise UserError(f"{where} of the model {what}; known settings are {', '.join(sorted(known))}")
    try:
        solver = Solver(**changed(settings["solver"], changes.get("solver", {})))
        guidance = Guidance(**{**settings["guidance"], **changes.get("guidance", {})})
        return Preset(name, **{**settings, **changes, "solver": solver, "guidance": guidance})
    except (TypeError, ValueError, AttributeError) as error:
        raise UserError(f"{where} of the model: {error}") from error
    except UserError as error:
        message = str(error)
        raise error if message.startswith("preset") else UserError(f"{where} of the model: {message}") from error
