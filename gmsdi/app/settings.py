"""From the values of the page's controls, by name, to the arguments of the tasks in `gmsdi.song`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from gmsdi import song
from gmsdi.errors import UserError
from gmsdi.inference import gamma_from_text
from gmsdi.io.audio import Encoding, as_source
from gmsdi.models.protocol import Model
from gmsdi.presets import Preset, presets_of
from gmsdi.sampling.session import Batch
from gmsdi.sampling.solver import Guidance, Solver, options_of, sampler
from gmsdi.types import Progress, Stems

Values = Mapping[str, Any]
PROCEDURES = {
    "Extractor, stems that sum to the song": "consistent",
    "Extractor (Eq. 14)": "extractor",
    "Separator (Eq. 13)": "separator",
    "Separator, projected": "projected",
}
"""The ways to separate, by the names that the page gives them."""
FILES = {
    "WAV, 32-bit float": Encoding("wav", "float"),
    "WAV, 24 bits": Encoding("wav", "24"),
    "WAV, 16 bits": Encoding("wav", "16"),
    "FLAC, 24 bits": Encoding("flac", "24"),
    "FLAC, 16 bits": Encoding("flac", "16"),
    "MP3": Encoding("mp3"),
}
"""How files are written, by the names that the page gives them."""


def presets(model: Model) -> dict[str, dict[str, Any]]:
    """What each preset of a model sets of the controls of a separation; the page starts with the first.

    Raises:
        UserError: if the model has an unusable one.
    """
    return {name: _shown(preset) for name, preset in presets_of(model).items()}


def _shown(preset: Preset) -> dict[str, Any]:
    return {
        "procedure": preset.method,
        "constrained": preset.constrained,
        "by_power": preset.by_power,
        "wiener": preset.filtered,
        "runs": preset.runs,
        "negatives": "\n".join(f"{label}: {text}" for label, text in preset.negatives.items()),
        **sampling(preset.solver, preset.guidance),
    }


def sampling(solver: Solver, guidance: Guidance) -> dict[str, Any]:
    """A solver and a guidance as the values of their controls."""
    values = asdict(solver)
    interval = "" if guidance.interval is None else ", ".join(f"{level:g}" for level in guidance.interval)
    return {"sampler": values.pop("name"), **values, "w": guidance.w, "interval": interval}


def separation(values: Values, model: Model) -> dict[str, Any]:
    """The arguments of `song.separation` but for the stems: a preset of what the controls say, block, seed and batch.

    Raises:
        UserError: if a value makes no sense.
    """
    common = _common(values, model)
    runs, method = _filled(values, "runs"), values["procedure"]
    constrained = spelled([values["constrained"] or ""], model) if method == "separator" else []
    preset = Preset(
        "of the page",
        method,
        solver=common["solver"],
        guidance=common["guidance"],
        constrained=constrained[0] if constrained else None,
        runs=runs,
        inverted=runs > 1,
        by_power=values["by_power"],
        filtered=values["wiener"],
    )
    shared = {key: common[key] for key in ("seed", "batch", "negatives")}
    return {"preset": preset, "block": _filled(values, "block"), **shared}


def separate(
    model: Model, source: str, stems: Sequence[str], rest: Sequence[str], values: Values, progress: Progress
) -> Stems:
    """Separate a song, all of which `stems` and `rest` are, as the controls say.

    Returns:
        The stems, without the rest.

    Raises:
        UserError: if a value makes no sense or the files cannot hold such stems, and as `song.separation`.
    """
    how, opened = song.separation(model, stems, rest=rest, **separation(values, model)), as_source(source, None)
    encoding(values).require(opened.sample_rate, how.channels(opened), source)
    return how.collected(opened, progress)


def generate(model: Model, stems: Sequence[str], values: Values, progress: Progress) -> Stems:
    """Generate stems, as the controls say.

    Raises:
        UserError: if a value makes no sense or the files cannot hold such stems, and as `song.generate`.
    """
    encoding(values).require(model.sample_rate, model.channels, "the stems")
    return song.generate(model, stems, progress=progress, **generation(values, model))


def accompany(
    model: Model, given: Mapping[str, str], stems: Sequence[str], values: Values, progress: Progress
) -> Stems:
    """Generate stems that go with the given files, by label, as the controls say.

    Raises:
        UserError: if a value makes no sense or the files cannot hold such stems, and as `song.accompany`.
    """
    for file in given.values():
        source = as_source(file, None)
        encoding(values).require(source.sample_rate, source.channels, file)
    return song.accompany(model, given, stems, progress=progress, **accompaniment(values, model))


def encoding(values: Values) -> Encoding:
    """How the files are written."""
    return FILES[values["files"]]


def generation(values: Values, model: Model) -> dict[str, Any]:
    """The arguments of `song.generate`.

    Raises:
        UserError: if a value makes no sense.
    """
    groups = [spelled(line.split(","), model) for line in (values["groups"] or "").splitlines() if line.strip()]
    noise = None if values["noise"] == "coupled" else values["noise"]  # as in `accompaniment`
    own = {"method": values["method"], "noise": noise, "groups": groups or None}
    return own | {"seconds": _filled(values, "seconds")} | _gammas(values) | _common(values, model)


def accompaniment(values: Values, model: Model) -> dict[str, Any]:
    """The arguments of `song.accompany`.

    Raises:
        UserError: if a value makes no sense.
    """
    # The page cannot tell a default that was left from one that was chosen; `song.accompany` refuses others with share.
    noise = None if values["given_noise"] == "coupled" else values["given_noise"]
    own = {"given_noise": noise, "share": values["share"] or None}
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
        raise UserError(f'guidance between {text!r}: write two noise levels, such as "0.1, inf"') from None
    return low, high


def _negatives(text: str | None, model: Model) -> dict[str, str]:
    result = {}
    for line in filter(str.strip, (text or "").splitlines()):
        label, colon, negative = line.partition(":")
        if not colon or not label.strip() or not negative.strip():
            raise UserError(f'negative prompt {line.strip()!r}: write one per line, such as "Bass: Drums, Guitar"')
        result[spelled([label], model)[0]] = negative.strip()
    return result
