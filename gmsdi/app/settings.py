"""From what the controls of the page say, a value by name, to the arguments of the tasks of `gmsdi.song`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from gmsdi import song
from gmsdi.errors import UserError
from gmsdi.inference import ShareOut, Wiener, gamma_from_text
from gmsdi.models.protocol import Model
from gmsdi.sampling.session import Batch
from gmsdi.sampling.solver import Guidance, Solver, options_of, sampler
from gmsdi.tasks import Average
from gmsdi.types import Progress, Stems

Values = Mapping[str, Any]
CONSISTENT, EXTRACTOR, SEPARATOR, PROJECTED = "consistent", "extractor", "separator", "projected"
PROCEDURES = {
    "Extractor, stems that sum to the song": CONSISTENT,
    "Extractor (Eq. 14)": EXTRACTOR,
    "Separator (Eq. 13)": SEPARATOR,
    "Separator, projected": PROJECTED,
}
"""The ways to separate, by the names that the page gives them."""


def presets(model: Model) -> dict[str, dict[str, Any]]:
    """What each preset sets of the controls of a separation; the page starts with the first.

    Args:
        model: the one that they are for.
    """
    few = {"sigma_min": 4e-3, "sigma_max": 0.5, "s_churn": 5.0, "last": "estimate"}
    best = _preset(CONSISTENT, Solver("euler", steps=12, **few), 3.0, by_power=0.25)
    fewer = Solver("euler", steps=6, **few | {"sigma_min": 0.015, "s_churn": 1.8})
    return {
        "best": best,
        "fast": _preset(CONSISTENT, fewer, 4.0, by_power=0.25, wiener=0.35),
        "paper-extractor": _preset(EXTRACTOR, Solver("euler", steps=25, sigma_max=2.0, s_churn=10.0), 3.0),
        "paper-separator": _preset(SEPARATOR, Solver("euler", steps=50, sigma_max=1.0, s_churn=8.0), 1.0),
    }


def _preset(procedure: str, solver: Solver, w: float, *, by_power: float = 0.0, wiener: float = 0.0) -> dict[str, Any]:
    own = {"procedure": procedure, "by_power": by_power, "wiener": wiener, "runs": 1}
    return own | sampling(solver, Guidance(w))


def sampling(solver: Solver, guidance: Guidance) -> dict[str, Any]:
    """A solver and a guidance as the values of their controls."""
    values = asdict(solver)
    return {"sampler": values.pop("name"), **values, "w": guidance.w}


def separation(values: Values, model: Model) -> dict[str, Any]:
    """The arguments of `song.extract`, or of `song.separate` if the procedure is a Separator.

    Raises:
        UserError: if a value makes no sense.
    """
    rate, procedure = model.sample_rate, values["procedure"]
    own: dict[str, Any] = {
        "average": Average(_filled(values, "runs"), inverted=values["runs"] > 1),
        "wiener": Wiener(rate, values["wiener"]) if values["wiener"] else None,
    }
    if procedure == CONSISTENT:
        own["consistent"] = ShareOut(rate, values["by_power"]) if values["by_power"] else True
    elif procedure == SEPARATOR:
        own["constrained"] = spelled([values["constrained"]], model)[0] if values["constrained"] else None
    elif procedure == PROJECTED:
        own["projected"] = True
    return own | _common(values, model)


def separate(
    model: Model, source: str, stems: Sequence[str], rest: Sequence[str], values: Values, progress: Progress
) -> Stems:
    """Separate a song, all of which `stems` and `rest` are, as the controls say.

    Returns:
        The stems, without the rest.

    Raises:
        UserError: if a value makes no sense, and as `song.separate` and `song.extract`.
    """
    run = song.extract if values["procedure"] in (CONSISTENT, EXTRACTOR) else song.separate
    whole = run(model, source, [*stems, *rest], progress=progress, **separation(values, model))
    return Stems({label: whole.parts[label] for label in stems}, whole.mixture, whole.sample_rate)


def generation(values: Values, model: Model) -> dict[str, Any]:
    """The arguments of `song.generate`.

    Raises:
        UserError: if a value makes no sense.
    """
    groups = [spelled(line.split(","), model) for line in (values["groups"] or "").splitlines() if line.strip()]
    own = {"method": values["method"], "noise": values["noise"], "groups": groups or None}
    return own | {"seconds": _filled(values, "seconds")} | _gammas(values) | _common(values, model)


def accompaniment(values: Values, model: Model) -> dict[str, Any]:
    """The arguments of `song.accompany`.

    Raises:
        UserError: if a value makes no sense.
    """
    own = {"given_noise": values["given_noise"], "share": values["share"] or None}
    own |= {name: _filled(values, name) for name in ("alpha", "beta")}
    return own | _gammas(values) | _common(values, model)


def spelled(names: Iterable[str] | None, model: Model) -> list[str]:
    """Labels as the model spells them; other text stays as it is, and empty text is left out."""
    known = {label.lower(): label for label in model.labels}
    stripped = [name.strip() for name in names or []]
    return [known.get(name.lower(), name) for name in stripped if name]


def _common(values: Values, model: Model) -> dict[str, Any]:
    """What all tasks take."""
    kind = sampler(values["sampler"])
    options = {name: _filled(values, name) for name in options_of(kind) if name in values}
    return {
        "solver": Solver(values["sampler"], **options),
        "guidance": Guidance(_filled(values, "w"), interval=_interval(values["interval"])),
        "seed": _filled(values, "seed"),
        "batch": Batch(_filled(values, "batch")),
        "negatives": _negatives(values["negatives"], model),
    }


def _filled(values: Values, name: str) -> Any:
    if values[name] is None:
        raise UserError(f"{name} is empty; give a number")
    return values[name]


def _gammas(values: Values) -> dict[str, Any]:
    """γ where one is given; what is empty is left to the task."""
    names = [name for name in ("gamma_x", "gamma_y") if (values[name] or "").strip()]
    return {name: gamma_from_text(values[name], name) for name in names}


def _interval(text: str | None) -> tuple[float, float] | None:
    if not (text or "").strip():
        return None
    try:
        low, high = (float(part) for part in str(text).split(","))
    except ValueError:
        raise UserError(f'guidance between {text!r}: write two noise levels, as "0.1, inf"') from None
    return low, high


def _negatives(text: str | None, model: Model) -> dict[str, str]:
    result = {}
    for line in filter(str.strip, (text or "").splitlines()):
        label, colon, negative = line.partition(":")
        if not colon or not label.strip() or not negative.strip():
            raise UserError(f'negative prompt {line.strip()!r}: write one a line, as "Bass: Drums, Guitar"')
        result[spelled([label], model)[0]] = negative.strip()
    return result
