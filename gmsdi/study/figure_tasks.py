"""Makes the tasks of Figures 2 and 3 from the section `generation` of the configuration."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from gmsdi.errors import UserError
from gmsdi.sampling.solver import changed
from gmsdi.study.methods import Extractor, Row
from gmsdi.study.names import Config, slug
from gmsdi.study.setups import GMSDI, Setup
from gmsdi.study.tasks import (
    Conditioned,
    Extracted,
    Groups,
    Partial,
    PartialMsdm,
    Sequential,
    Single,
    SingleWeakMsdm,
    Task,
    Total,
    TotalMsdm,
)
from gmsdi.study.tasks.gmsdi import Guided

OF_ALL_MODELS = ("single", "single_negative", "total", "partial")
"""Names of the tasks that `generation.models` does, too."""


def further_models(generation: Config) -> dict[str, Config]:
    """The entries of `generation.models`, without those that are removed."""
    return {name: given for name, given in generation["models"].items() if given}


class Tasks:
    """The tasks of a configuration.

    Args:
        config: with every default filled in.
        systems: the systems that run, by name.
        extractor: the row of the paper's Extractor, from which the task of extracted stems takes its settings.

    Attributes:
        named: all tasks by name, in the order of Figures 2 and 3.
    """

    def __init__(self, config: Config, systems: Mapping[str, Setup], extractor: Row) -> None:
        self.systems, self.extractor = systems, extractor
        self.generation, self.baselines = config["generation"], config["baselines"]
        every = [*self._single(), *self._several(), *self._of_further_models(), *self._of_other_systems()]
        self.named: dict[str, Task] = {task.name: task for task in every}

    def _shared(self, key: str, system: str = GMSDI) -> dict[str, Any]:
        """Arguments of every task."""
        solver = changed(self.generation["solver"], self.generation[key]["solver"])
        return {"system": self.systems[system], "solver": solver, "clips": self.generation["clips"]}

    def _mixed(self, key: str) -> dict[str, Any]:
        """Arguments of the text-conditioned model's tasks that generate several stems."""
        own = dict(self.generation[key])
        w = own.pop("w", None)
        negatives = self.generation["negatives"] if own.pop("negatives", False) else {}
        guidance = {**self.generation["guidance"], "w": self.generation["w"] if w is None else w}
        return {**own, **self._shared(key), "guidance": guidance, "negatives": negatives}

    def _single(self) -> Iterator[Task]:
        """Single stems: the bars of Figure 2, and the curve over w."""
        generation, negatives = self.generation, self.generation["negatives"]
        for curve, values in (
            (False, generation["single"]["w"] or [generation["w"]]),
            (True, generation["single"]["w_curve"]),
        ):
            for number, w in enumerate(values):
                for negative in (False, True) if negatives else (False,):
                    first = number == 0 and not curve
                    ending = "" if first else f"_w{slug(f'{w:g}')}"
                    name = f"single{'_negative' * negative}{'_curve' * curve}{ending}"
                    own = {**self._shared("single"), "guidance": {**generation["guidance"], "w": float(w)}}
                    if curve:
                        own["clips"] = generation["single"]["curve_clips"]
                    said: dict[str, Any] = {"negative": negative, "curve": curve, "shown": first}
                    yield Single(**own, **said, name=name, negatives=negatives if negative else {})

    def _several(self) -> Iterator[Task]:
        """Total and partial generation: the bars of Figure 3."""
        generation = self.generation
        yield Total(**self._mixed("total"), name="total")
        if generation["sequential"]:
            yield Sequential(**self._mixed("sequential"), name="total_sequential")
        if generation["extracted"]:
            yield self._extracted()
        if generation["groups"]:
            yield Groups(**self._mixed("total"), groups=generation["groups"], name="total_groups")
        yield Partial(**self._mixed("partial"), name="partial")
        if generation["conditioned"]:
            yield Conditioned(**self._mixed("conditioned"), name="partial_conditioned")

    def _extracted(self) -> Task:
        """A generated mixture taken apart as the row of the paper's Extractor does, but consistently."""
        base, own = self.extractor.model_dump(), self._mixed("extracted")
        if base["model"]:
            raise UserError(
                "config: generation.extracted separates as the row extractor does, which has a model of its own; leave "
                "that model out, or set generation.extracted to null"
            )
        given = {**own.pop("extraction"), "name": "extraction", "consistent": True, "published": False}
        if given["samples"] is None:
            given["samples"] = base["samples"]
        try:
            extraction = Extractor(**{**base, **given, "solver": changed(base["solver"], given["solver"])})
        except UserError as error:
            raise UserError(f"config: generation.extracted, with the settings of the row extractor: {error}") from error
        return Extracted(**own, extraction=extraction, name="total_extracted")

    def _of_further_models(self) -> Iterator[Task]:
        """The paper's tasks, for each further model: single stems at one w, total, and partial generation."""
        every = [*self._single(), *self._several()]
        paper = [task for task in every if isinstance(task, Guided) and task.name in OF_ALL_MODELS]
        for name, given in further_models(self.generation).items():
            for task in paper:
                own = {"name": f"{task.name}_of_{name}", "title": given["title"] or f"model {name}", "shown": False}
                w = task.guidance["w"] if given["w"] is None else float(given["w"])
                own |= {"model": given["model"], "guidance": {**task.guidance, "w": w}}
                yield task.model_copy(update=own)

    def _of_other_systems(self) -> Iterator[Task]:
        """The tasks of the paper's other systems, if they run."""
        if "weak_msdm" in self.systems:
            yield SingleWeakMsdm(**self._changed("single", "weak_msdm"), name="single_weak_msdm")
        if "msdm" in self.systems:
            yield TotalMsdm(**self._changed("total", "msdm"), name="total_msdm")
            best = self.baselines["msdm"]["generation"]["best_of"]
            yield PartialMsdm(**self._changed("partial", "msdm"), best_of=best, name="partial_msdm")

    def _changed(self, key: str, system: str) -> dict[str, Any]:
        """Arguments of another system's task, whose section overrides keys of the solver."""
        own, given = self._shared(key, system), self.baselines[system]["generation"]
        solver = changed(own["solver"], given["solver"], given.get(key, {}).get("solver", {}))
        return {**own, "solver": solver, "shown": False}
