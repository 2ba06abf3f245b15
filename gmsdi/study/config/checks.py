"""Checks of a configuration whose keys are each valid: combinations that would make a job fail."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from gmsdi.data.settings import INSTRUMENTS, MidiConfig
from gmsdi.errors import UserError
from gmsdi.metrics import HOP, SUBWINDOW
from gmsdi.models.clap import CLAPS
from gmsdi.models.settings import UNetConfig
from gmsdi.sampling.solver import Solver, options_of, refuse_unknown, sampler
from gmsdi.sampling.windows import fills
from gmsdi.study.config.base import CodecSettings, TrainingSettings, UNetSettings, hint
from gmsdi.study.config.engines import check_engine, check_text
from gmsdi.study.config.files import WEIGHTS, model_folder
from gmsdi.study.config.solvers import stacks, whole
from gmsdi.study.figure_tasks import Tasks, further_models
from gmsdi.study.methods import METHODS, Extractor
from gmsdi.study.names import Config, slug
from gmsdi.study.pretrained import refuse_local
from gmsdi.study.setups import GMSDI
from gmsdi.study.table_rows import Rows

DEMUCS = {"depth": 6, "kernel_size": 8, "stride": 4, "resample": True}
"""Defaults of the class Demucs in the package demucs for the options that determine the length of a frame."""
RESERVED = ("All", "mixture", "stems")
"""Names that tables and models use for all stems together."""


def check_all(config: Config) -> None:
    """Refuse settings that contradict each other.

    Args:
        config: with every default filled in.

    Raises:
        UserError: for the first mistake, in one line.
    """
    for check in (
        _labels, _classes, _lengths, _fad, _named_labels, _solvers, _rows, _guidance, _generation, _tasks,
        _training_data, _trainings, _networks, _demucs, _channels, _bundled, refuse_local,
    ):  # fmt: skip
        check(config)


def _labels(config: Config) -> None:
    labels: list[str] = list(config["data"]["classes"])
    files: dict[str, str] = {}
    for label in labels:
        where = f"config: data.classes: the label {label!r}"
        if label in RESERVED:
            raise UserError(f"{where} is reserved for all stems together; choose another")
        if not label or label != label.strip() or "," in label or not label.isprintable():
            raise UserError(f"{where} must be one line of text without commas and without spaces at its ends")
        if (other := files.setdefault(slug(label), label)) != label:
            raise UserError(
                f"{where} and {other!r} have the same file name, {slug(label)!r}; make them differ in a letter A to Z "
                "or a digit"
            )


def _classes(config: Config) -> None:
    data = config["data"]
    known = list(data["classes"])
    if data["kind"] == "midi":
        for label in data["midi"]["required"]:
            if label not in known:
                raise UserError(f"config: data.midi.required names the stem {label!r}; {_of(label, known)}")
        if data["midi"]["least_classes"] > len(known):
            raise UserError(
                f"config: data.midi.least_classes is {data['midi']['least_classes']}; there are {len(known)} classes"
            )
        _say("", lambda: MidiConfig(classes=data["classes"], soundfonts=[]).programs())
        for number, source in enumerate(data["midi"]["songs"]):
            wanted, other = ("root", "tracks") if source["kind"] == "files" else ("tracks", "root")
            if wanted not in source or other in source:
                raise UserError(
                    f"config: data.midi.songs.{number} is of kind {source['kind']}; this kind takes {wanted}, not "
                    f"{other}"
                )
    if data["kind"] == "mini":
        for label, members in data["classes"].items():
            for member in members:
                if member not in INSTRUMENTS:
                    raise UserError(f"config: data.classes.{label} has {member!r}; {_of(member, INSTRUMENTS, 'mini')}")
        missing = [name for name in INSTRUMENTS if name != "Drums" and name not in data["mini"]["programs"]]
        if missing:
            raise UserError(f"config: data.mini.programs has no program for {missing[0]}; give one or more")
    for where, sizes in (("mini", data["mini"]), ("midi.variety", data["midi"]["variety"])):
        for size in sizes["section_sizes"]:
            if not size.isdigit() or int(size) < 1 or (where == "mini" and int(size) > len(INSTRUMENTS)):
                raise UserError(
                    f"config: data.{where}.section_sizes has the key {size!r}; keys are whole numbers from 1"
                )
        if not sum(sizes["section_sizes"].values()):
            raise UserError(f"config: data.{where}.section_sizes: all probabilities are 0; give at least one above 0")
    pairs = {
        "mini.sections": data["mini"]["sections"],
        "midi.variety.tempo": data["midi"]["variety"]["tempo"],
        "midi.variety.sections": data["midi"]["variety"]["sections"],
    }
    for where, pair in pairs.items():
        if pair and pair[0] > pair[1]:
            raise UserError(f"config: data.{where} is {pair}; write the smaller number first")


def _lengths(config: Config) -> None:
    """Chunks that are drawn one by one are long enough to be scored in sub-windows."""
    data, grid = config["data"], config["grid"]
    overlap = SUBWINDOW - HOP
    if data["window"] > int(overlap * data["sample_rate"]):
        return
    drawn = {
        "separation.chunks": config["separation"]["chunks"],
        "grid.chunks": grid["chunks"],
        "grid.validation.chunks": grid["validation"]["chunks"],
        "costs.chunks": config["costs"]["chunks"] if config["costs"]["steps"] else None,
    }
    for key, count in drawn.items():
        if count is not None:
            mend = "leaves that grid out" if key == "grid.validation.chunks" else "scores whole tracks"
            raise UserError(
                f"config: {key} is {count}, but single chunks of {data['window'] / data['sample_rate']:.3g} s cannot "
                f"be scored, since sub-windows of {SUBWINDOW:g} s overlap by {overlap:g} s; make data.window longer "
                f"than {overlap:g} s, or set {key} to null, which {mend}"
            )


def _fad(config: Config) -> None:
    for key in ("checkpoint", "sha256"):
        if config["fad"][key] and config["fad"]["embedding"].startswith("musicnn"):
            raise UserError(
                f"config: fad.{key} is for VGGish and CLAP; musicnn's weights come with the package. Set it to null, "
                "or choose another fad.embedding"
            )
    check_engine(config["fad"])


def _used(config: Config) -> Iterator[tuple[str, str]]:
    yield from (("model.prompts", label) for label in config["model"]["prompts"])
    for name, row in config["separation"]["rows"].items():
        where = f"separation.rows.{name}"
        yield from ((f"{where}.negatives", label) for label in row.get("negatives", ()))
        if label := row.get("constrained"):
            yield f"{where}.constrained", label
    generation = config["generation"]
    for label in generation["negatives"]:
        yield "generation.negatives", label


def _named_labels(config: Config) -> None:
    known = list(config["data"]["classes"])
    for where, label in _used(config):
        if label not in known:
            raise UserError(f"config: {where} names the stem {label!r}; {_of(label, known)}")


def _of(label: Any, known: Any, what: str = "data.classes") -> str:
    near = hint(label, known)
    return near if near.startswith("did") else f"{what} has {', '.join(known)}"


def _rows(config: Config) -> None:
    """The rows of Table 2 are valid, also as changed by the grid and Figure 4; the windows of their filters fit."""
    made, costs = Rows(config), config["costs"]["steps"]
    for row in {**made.table, **made.grid}.values():
        for cell in made.cells(row, row.chosen_on)[:1] if row.is_open else []:
            if why := cell.refusal():
                raise UserError(f"config: grid.solver, for {row.name}: the row {why}")
    for row in made.table.values():
        for steps in costs if row.costed else []:
            if why := row.with_steps(steps).refusal():
                raise UserError(
                    f"config: costs.steps has {steps}, with which separation.rows.{row.name} {why}; or set its costed "
                    "to false"
                )
    for name, row in config["separation"]["rows"].items():
        for key in ("by_power", "wiener"):
            _window(f"config: separation.rows.{name}.{key}", row.get(key), config)
    if extracted := config["generation"]["extracted"]:
        _window("config: generation.extracted.extraction.by_power", extracted["extraction"]["by_power"], config)


def _window(where: str, options: Mapping[str, Any] | None, config: Config) -> None:
    data = config["data"]
    if options and not 2 <= round(options["seconds"] * data["sample_rate"]) < data["window"]:
        raise UserError(
            f"{where}.seconds is {options['seconds']}; it must be longer than one sample and shorter than data.window"
        )


def _solvers(config: Config) -> None:
    """Every solver is valid for its sampler after all overrides."""
    for stack in stacks(config):
        where = ".".join(stack[-1])
        own: Any = config
        for key in stack[-1]:
            own = (own or {}).get(key)
        if own is None:
            continue
        settings = whole(config, stack)
        if "name" not in settings:
            raise UserError(f"config: key 'name' is missing in {where}, and no solver that it changes has one")
        kind = _say(where, partial(sampler, settings["name"]))
        _say(where, partial(refuse_unknown, kind, own, settings["name"]))
        settings = {key: value for key, value in settings.items() if key in options_of(kind)}
        solver: Solver = _say(where, partial(Solver, **settings))
        _say(where, solver.sigmas)
        if settings.get("last") == "estimate" and not _implied(stack[-1], config):
            raise UserError(
                f"config: {where}.last is estimate, which only Extractors and projected Separators can use; write step"
            )


def _implied(path: tuple[str, ...], config: Config) -> bool:
    """Whether the solver's derivative implies an estimate of the stems, as `last: estimate` needs."""
    if path[:2] == ("separation", "rows"):
        return METHODS[config["separation"]["rows"][path[2]]["kind"]].IMPLIES
    return "extraction" in path


def _say(where: str, make: Callable[[], Any]) -> Any:
    """Call a function, and add the place in the configuration to its error."""
    try:
        return make()
    except (UserError, ValueError) as error:
        raise UserError(f"config: {where}: {error}" if where else f"config: {error}") from error


def _guidance(config: Config) -> None:
    rows = {f"separation.rows.{name}": row for name, row in config["separation"]["rows"].items()}
    for section, own in {**{key: config[key] for key in ("separation", "generation")}, **rows}.items():
        low, high = own.get("guidance", {}).get("interval") or (0, math.inf)
        if low > high:
            raise UserError(f"config: {section}.guidance.interval is [{low}, {high}]; write the lower level first")


def _generation(config: Config) -> None:
    generation, known = config["generation"], list(config["data"]["classes"])
    named = {
        "groups": [label for group in generation["groups"] or [] for label in group],
        "sequential.order": (generation["sequential"] or {}).get("order") or [],
    }
    for key, labels in named.items():
        if labels and sorted(labels) != sorted(known):
            raise UserError(
                f"config: generation.{key} has {', '.join(labels)}; name each of data.classes once: {', '.join(known)}"
            )
    for task in ("total", "partial"):
        for key in ("gamma_x", "gamma_y"):
            gamma = generation[task].get(key)
            if isinstance(gamma, dict) and gamma.get("above", 0) >= gamma.get("below", math.inf):
                raise UserError(
                    f"config: generation.{task}.{key}: above must be less than below, or no noise level is left"
                )


def _tasks(config: Config) -> None:
    """The steps of the tasks of Figures 2 and 3 are stable."""
    rows = Rows(config)
    for task in Tasks(config, rows.systems, rows.table[Extractor.GRID]).named.values():
        if why := task.refusal():
            raise UserError(f"config: generation.{task.FAMILY}, with gamma_x, gamma_y and solver as they are: {why}")


def _training_data(config: Config) -> None:
    check_text(config)
    data = config["training_data"]
    if data["kind"] != "jamendo":
        return
    splits = {name: range(first, last + 1) for name, (first, last) in data["shards"].items()}
    for name, shards in splits.items():
        if not shards:
            raise UserError(
                f"config: training_data.shards.{name}: the first shard is after the last; write [first, last]"
            )
    if shared := set(splits["train"]) & set(splits["validation"]):
        raise UserError(f"config: training_data.shards: shard {min(shared)} is in both splits; remove it from one")
    text = config["model"]["config"]["text"]["kind"]
    if config["model"]["train"] and text not in (*CLAPS, "none"):
        raise UserError(
            f"config: model.config.text.kind is {text}, which needs labels, but training_data.kind jamendo has none; "
            "choose clap or none"
        )


def _trainings(config: Config) -> None:
    """Every training is valid after its overrides, and its devices can share its batch."""
    base = config["training"]
    places = {f"{name}.training": config[name] for name in ("demo_training", "clap", "codec")}
    places |= {
        f"baselines.{name}.training": config["baselines"][name] for name in ("msdm", "weak_msdm", "demucs_gibbs")
    }
    for where, settings in {"training": {"training": {}}, **places}.items():
        training = {**base, **settings["training"]}
        _made(where, partial(TrainingSettings.model_validate, training))
        if training["batch"] % training["devices"]:
            raise UserError(
                f"config: {where}.batch is {training['batch']}, not a multiple of its {training['devices']} devices; "
                "change one of them"
            )


def _made(where: str, make: Callable[[], Any]) -> None:
    try:
        make()
    except ValidationError as error:
        why = error.errors()[0].get("ctx", {}).get("why", error.errors()[0]["msg"])
        raise UserError(f"config: {where}: {why}") from error


def _networks(config: Config) -> None:
    """Networks to be trained can be built, and their strides divide the window."""
    model, baselines, window = config["model"], config["baselines"], config["data"]["window"]
    unets: dict[str, Mapping[str, Any]] = {}
    unets |= {"model.config.unet": {}} if model["train"] or config["demo_training"]["enabled"] else {}
    if baselines["train"]:
        diffusion = [name for name in Rows(config).systems if name in ("msdm", "weak_msdm")]
        unets |= {f"baselines.{name}.model.unet": baselines[name]["model"]["unet"] for name in diffusion}
    hop = _codec_hop(config) if model["config"]["kind"] == "latent" else 1
    for where, changes in unets.items():
        settings = {**model["config"]["unet"], **changes}
        _made(where, partial(UNetSettings.model_validate, settings))
        stride = UNetConfig(**settings).stride * (hop if where == "model.config.unet" else 1)
        if window % stride:
            raise UserError(
                f"config: {where}: data.window is {window}, not a multiple of the network's stride {stride}; change "
                "the window, or patch_factor and factors"
            )


def _demucs(config: Config) -> None:
    """A Demucs to be trained is not so deep that a frame of its innermost layer is longer than the window.

    Demucs pads shorter signals (`valid_length` of the package), so a layer too many multiplies the work by its stride.
    """
    if not (config["baselines"]["train"] and "demucs_gibbs" in Rows(config).systems):
        return
    options, window = config["baselines"]["demucs_gibbs"]["model"]["demucs"], config["data"]["window"]
    depth, kernel, stride, resample = (options.get(key, value) for key, value in DEMUCS.items())
    length = 1
    for _ in range(depth):
        length = (length - 1) * stride + kernel
    if length > window * (2 if resample else 1):
        raise UserError(
            f"config: baselines.demucs_gibbs.model.demucs: depth {depth}, kernel_size {kernel} and stride {stride} "
            f"make a frame of the innermost layer longer than data.window, {window}; lower the depth"
        )


def _codec_hop(config: Config) -> int:
    """Samples per frame of the codec that the model is trained on, after checking all codecs."""
    codec = config["codec"]
    made: dict[str, Any] = {}
    for name, changes in codec["variants"].items():
        made[name] = {**codec["config"], **changes}
        _made(f"codec.variants.{name}", partial(CodecSettings.model_validate, made[name]))
    if codec["use"] not in made:
        raise UserError(f"config: codec.use is {codec['use']!r}; {hint(codec['use'], made)}")
    return int(made[codec["use"]]["hop"])


def _channels(config: Config) -> None:
    """Stereo is only for models that others have trained."""
    if config["data"]["channels"] == 1:
        return
    own = {
        "model.train": config["model"]["train"],
        "demo_training.enabled": config["demo_training"]["enabled"],
        "model.folder": _comes_along(config["model"]["folder"]),
    }
    given = next((key for key, wrong in own.items() if wrong), None)
    rows = Rows(config)
    named = {f"separation.rows.{name}": (row.system.kind, row.model) for name, row in rows.table.items()}
    further = further_models(config["generation"])
    named |= {f"generation.models.{name}": (GMSDI, given["model"]) for name, given in further.items()}
    mono = [key for key, (kind, folder) in named.items() if kind != GMSDI or (folder and _comes_along(folder))]
    if given or mono:
        place = given or mono[0]
        mend = {"model.folder": "name a pretrained one", None: "leave it out, by null"}.get(given, "set it to false")
        raise UserError(f"config: data.channels is 2, but the model of {place} has one channel; set it to 1, or {mend}")


def _comes_along(name: str | None) -> bool:
    """Whether a model comes with the package."""
    return model_folder(name).is_relative_to(WEIGHTS)


@dataclass(frozen=True)
class _Untrained:
    """A model that is used without training.

    Attributes:
        where: what names it in the configuration.
        folder: its folder.
        labelled: whether it belongs to another system, whose labels must be those of the data.
        ordered: whether their order must be, too, since it makes all stems at once.
        separates: whether it only separates, for a row of its own.
    """

    where: str
    folder: Path
    labelled: bool = False
    ordered: bool = False
    separates: bool = False

    def takes(self, window: int, known: Mapping[str, Any]) -> bool:
        """Whether it takes chunks of a window that is not its own: it separates, and its windows fill them.

        The text-conditioned model of the study also generates clips, which are as long as its window. MSDM and weakly
        supervised MSDM take their window alone. Demucs + Gibbs takes any length.
        """
        kind = known.get("kind", "diffusion")
        return kind == "gibbs" or (self.separates and kind == "diffusion" and fills(window, known["window"]))


def _untrained(config: Config) -> Iterator[_Untrained]:
    rows = Rows(config)
    if not config["model"]["train"]:
        yield _Untrained("model.folder", model_folder(config["model"]["folder"]))
    if not config["baselines"]["train"]:
        root = Path(config["baselines"]["folder"] or WEIGHTS / "baselines")
        for system in rows.systems.values():
            if system.kind != GMSDI:
                whole = len(system.models) == 1
                for model in system.models:
                    yield _Untrained(f"baselines.folder ({model})", root / model, labelled=True, ordered=whole)
    for name, row in rows.table.items():
        if row.model:
            yield _Untrained(f"separation.rows.{name}.model", model_folder(row.model), separates=True)
    for name, given in further_models(config["generation"]).items():
        yield _Untrained(f"generation.models.{name}.model", model_folder(given["model"]), separates=True)


def _bundled(config: Config) -> None:
    """Sample rate, window and labels of the data match those of models that are used without training."""
    data = config["data"]
    for model in _untrained(config):
        try:
            known = json.loads((model.folder.expanduser() / "config.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue  # the workflow names the missing file
        where, labels = model.where, list(data["classes"])
        own = known.get("labels", labels) if model.labelled else labels
        if sorted(own) != sorted(labels):
            raise UserError(
                f"config: data.classes has {', '.join(labels)}, but the model of {where} was trained with "
                f"{', '.join(own)}; train the systems (baselines.train), or remove their "
                "rows from separation.rows by setting them to null"
            )
        if model.ordered and own != labels:
            raise UserError(
                f"config: data.classes has the order {', '.join(labels)}, but the model of {where} that of "
                f"{', '.join(own)}; list the classes in this order, or train the systems (baselines.train)"
            )
        if data["channels"] > 1:
            raise UserError(f"config: data.channels is 2, but the model of {where} has one channel; set it to 1")
        for key, unit in (("sample_rate", "Hz"), ("window", "samples")):
            if key in known and known[key] != data[key] and not (key == "window" and model.takes(data[key], known)):
                raise UserError(
                    f"config: data.{key} is {data[key]}, but the model of {where} was trained with {known[key]} "
                    f"{unit}; change data.{key}, or train a model (model.train, baselines.train)"
                )
