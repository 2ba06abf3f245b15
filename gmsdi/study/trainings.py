"""What the models of a run were trained on, and for how long, as their provenance tells it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

BASELINES = {"msdm": "MSDM", "weak_msdm": "Weakly supervised MSDM", "demucs_gibbs": "Demucs + Gibbs"}
"""The paper's other systems, whose models are named after them, with a label if a system has one model per stem."""
COMPARED = "compared"


@dataclass(frozen=True)
class Training:
    """The training of a model.

    Attributes:
        data: the data set, with its number of tracks; "" if it was not recorded.
        seconds: time of one core or of one GPU; None if it was not recorded.
        gpu: whether it was trained on GPUs.
        at_least: whether earlier parts of the training are not counted.
    """

    data: str
    seconds: float | None
    gpu: bool = False
    at_least: bool = False

    @classmethod
    def recorded(cls, provenance: Mapping[str, Any]) -> Training:
        """Read a model's provenance, in which `earlier_trainings` are those that it continues, oldest first.

        What an earlier one does not say of its hardware is as in the last. If some have no time on record, that of the
        others is the least that it took.
        """
        trainings = [*provenance.get("earlier_trainings", []), provenance]
        hardware = {key: provenance[key] for key in ("hardware", "devices") if key in provenance}
        parts = [_one({**hardware, **training}) for training in trainings]
        if any(part.seconds is not None for part in parts):
            parts = [replace(part, seconds=0, at_least=True) if part.seconds is None else part for part in parts]
        whole = _together(parts, ", then ")
        return replace(whole, at_least=whole.at_least or bool(trainings[0].get("training", {}).get("initial")))

    def __str__(self) -> str:
        """Data and time in words."""
        known = [self.data or "data not recorded"]
        if self.seconds is not None:
            value = f"{self.seconds / 60:.0f} GPU minutes" if self.gpu else f"{self.seconds / 3600:.2f} core hours"
            known.append(f"at least {value}" if self.at_least else value)
        else:
            known.append("time not recorded")
        return "; ".join(known)


def training_facts(models: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """Training data and time of models, those of a system with several models together.

    Args:
        models: provenance of each model, by the name of its folder; the first is the text-conditioned model of the run.

    Returns:
        For each model or system its data and time, and as "compared" which of the paper's other systems were trained
        for fewer core hours than the first model; the last is absent where no system can be compared.
    """
    named: dict[str, list[Training]] = {}
    for name, provenance in models.items():
        named.setdefault(BASELINES.get(_system(name), name), []).append(Training.recorded(provenance))
    together = {name: _together(trainings, " and ") for name, trainings in named.items()}
    facts = {
        name: str(training) + (f" for its {len(named[name])} models together" if len(named[name]) > 1 else "")
        for name, training in together.items()
    }
    own = next(iter(together.values()), None)
    if own is None or own.seconds is None or own.gpu:
        return facts
    known = {
        name: training.seconds
        for name, training in together.items()
        if name in BASELINES.values() and training.seconds is not None and not training.gpu and not training.at_least
    }
    if fewer := [name for name, seconds in known.items() if seconds < own.seconds]:
        facts[COMPARED] = (
            f"{', '.join(fewer)}: fewer core hours than the text-conditioned model "
            f"({min(known[name] for name in fewer) / own.seconds:.0%} to "
            f"{max(known[name] for name in fewer) / own.seconds:.0%} of its), so these rows are not at equal cost"
        )
    return facts


def trainings_note(facts: Mapping[str, str]) -> str:
    """The facts from `training_facts` as a note below Table 2."""
    told = [f"{name}: {text}" for name, text in facts.items() if name != COMPARED]
    return ". ".join([f"Trained on: {'. '.join(told)}", *([facts[COMPARED]] if COMPARED in facts else [])]) + "."


def _system(name: str) -> str:
    """The baseline that a model belongs to, or "" for text-conditioned models."""
    return next((system for system in BASELINES if name == system or name.startswith(f"{system}_")), "")


def _units(hardware: str, devices: int) -> tuple[int, bool] | None:
    """How many cores or GPUs trained, and whether they are GPUs; None if it is not known."""
    if found := re.search(r"(\d+) threads$", hardware):
        return int(found[1]) * devices, False
    return (devices, True) if re.match(r"\d+ x ", hardware) else None


def _one(record: Mapping[str, Any]) -> Training:
    """A training without those before it."""
    data, seconds, gpu = "", None, False
    if source := record.get("data", {}).get("source"):
        own = [] if source["dataset"] == "tracks" else [source["dataset"]]  # "tracks": rendered by the workflow
        counted = [f"{source['tracks']} tracks"] if "tracks" in source else []
        data = ", ".join([*own, *counted])
    spent = record.get("seconds", record.get("seconds_of_last_run"))
    if units := _units(str(record.get("hardware", "")), int(record.get("devices", 1))):
        number, gpu = units
        seconds = None if spent is None else number * float(spent)
    resumed = "seconds" not in record and record.get("resumed", False) in (True, "True")
    return Training(data, seconds, gpu, resumed)


def _together(trainings: list[Training], between: str) -> Training:
    """Several trainings as one; no time is told if some used GPUs and others did not."""
    seconds = [training.seconds for training in trainings]
    mixed = len({training.gpu for training in trainings}) > 1
    return Training(
        between.join(dict.fromkeys(training.data for training in trainings if training.data)),
        None if mixed or None in seconds else sum(value for value in seconds if value is not None),
        any(training.gpu for training in trainings),
        any(training.at_least for training in trainings),
    )
