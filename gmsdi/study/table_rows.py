"""Makes the rows of Tables 1 and 2 from `separation.rows` of the configuration.

A row in the configuration has the keys of its method (`gmsdi.study.config.rows`). Its solver and guidance override keys
of `separation.solver` and `separation.guidance`. What follows from the rest of the configuration is added here: the
system that the row runs on, and the split on which its open settings are chosen.
"""

from __future__ import annotations

import re
import string
from collections.abc import Iterator, Mapping
from typing import Any, Literal

from gmsdi.errors import UserError
from gmsdi.models.clap import CLAPS
from gmsdi.sampling.solver import changed
from gmsdi.study.methods import METHODS, Ensemble, Extractor, Guided, MeanOfRows, Row, Separator
from gmsdi.study.names import Config, slug
from gmsdi.study.setups import GMSDI, SETUPS, GmsdiSetup, Setup

UNSUPERVISED = ", unsupervised (CLAP)"
"""Ending of titles if the model saw no labels: the paper's word, although LAION's CLAP was trained on captions."""
LABELLED_CLAP = ", by a CLAP that has seen labels"
"""Ending of titles if the model saw no labels, but embeddings by a CLAP that was trained on labels."""
NAME = "[a-z][a-z0-9_]{0,99}"
VALIDATED = ", chosen on validation chunks"
"""Ending of titles of rows that repeat another row, with settings chosen on validation chunks."""


class Rows:
    """The rows of a configuration, and the systems that they run on.

    Args:
        config: with every default filled in.

    Attributes:
        systems: the systems that run, by name: the text-conditioned model and those that have a row.
        grid: the rows of Table 1 by name.
        table: the rows of Table 2 that separate, by name, in order.
        averages: the rows whose stems are the means of others' stems, by name.
        ensembles: the rows that take the best of others for each stem, by name.

    Raises:
        UserError: if settings contradict each other.
    """

    def __init__(self, config: Config) -> None:
        self.config = config
        self.labels = tuple(config["data"]["classes"])
        self.given: dict[str, dict[str, Any]] = config["separation"]["rows"]
        self.validation = config["grid"]["validation"]["chunks"] is not None
        self.systems = self._systems()
        self.table = {name: self._row(name, METHODS[row["kind"]]) for name, row in self._of(*METHODS)}
        self._check_published()
        self.grid = {row.name: row for row in self._grid()}
        self.table |= {name: self._twin(name, row) for name, row in self._of("validated")}
        self.table = {name: self.table[name] for name in self.given if name in self.table}
        self.averages = {name: self._average(name, row) for name, row in self._of("average")}
        self.ensembles = {name: self._ensemble(name, row) for name, row in self._of("ensemble")}
        self._check_names()
        self._check_grid()

    def _of(self, *kinds: str) -> Iterator[tuple[str, dict[str, Any]]]:
        yield from ((name, row) for name, row in self.given.items() if row["kind"] in kinds)

    def _systems(self) -> dict[str, Setup]:
        data = self.config["data"]
        own = {"prompts": self.config["model"]["prompts"], "seconds": data["window"] / data["sample_rate"]}
        systems: dict[str, Setup] = {GMSDI: GmsdiSetup(labels=self.labels, **own)}
        for _, row in self._of(*METHODS):
            if (name := METHODS[row["kind"]].system_name()) not in systems:
                systems[name] = SETUPS[name].configured(self.labels, self.config["baselines"][name])
        return systems

    @property
    def unsupervised(self) -> str:
        """Ending of the titles of rows whose model this run trains on CLAP embeddings; empty otherwise."""
        model = self.config["model"]
        if not (model["train"] and model["config"]["text"]["kind"] in CLAPS):
            return ""
        return LABELLED_CLAP if self.config["clap"]["train"] else UNSUPERVISED

    @property
    def _beyond(self) -> str:
        """The split on which the settings of rows beyond the paper are chosen."""
        return "validation" if self.validation else "test"

    def _row(self, name: str, method: type[Row]) -> Row:
        separation, own = self.config["separation"], dict(self.given[name])
        if "solver" in own:
            own["solver"] = changed(separation["solver"], own["solver"])
        if "guidance" in own:
            own["guidance"] = {**separation["guidance"], **own["guidance"]}
        unsupervised = self.unsupervised if method.system_name() == GMSDI and own["model"] is None else ""
        title, stands, published = own.pop("title"), own.pop("paper", None), own.get("published", False)
        if stands is None:
            stands = published and not unsupervised
        own |= {"name": name, "system": self.systems[method.system_name()], "paper": method.PAPER if stands else None}
        own["title"] = title or f"{method.TITLE}{unsupervised}"
        own["chosen_on"] = self._beyond if method.SHARED and not published else "test"
        try:
            row = method(**own)
        except UserError as error:
            raise UserError(f"config: separation.rows.{error}") from error
        return self._titled(row)

    def _titled(self, row: Row) -> Row:
        """Put the row's numbers into its title, and refuse a title with other numbers."""
        where = f"config: separation.rows.{row.name}.title"
        numbers = row.numbers()
        try:
            found = {field for _, field, _, _ in string.Formatter().parse(row.title) if field is not None}
        except ValueError:
            found = {""}
        if unknown := sorted(found - set(numbers)):
            raise UserError(f"{where} has {{{unknown[0]}}}; only {{steps}} and {{samples}} are replaced")
        for key, pattern in (("steps", r"(\d+) steps"), ("samples", r"mean of (\d+)")):
            for said in re.findall(pattern, row.title):
                if int(said) != numbers[key]:
                    raise UserError(
                        f"{where} says {said}, but the row has {numbers[key]} {key}; write {{{key}}} for the actual "
                        f"number"
                    )
        return row.titled()

    def _check_published(self) -> None:
        """Table 1 needs the paper's two methods, and only one row may stand for each method of the paper."""
        for method in (Extractor, Separator):
            row = self.table.get(method.GRID)
            if not (isinstance(row, method) and row.published):
                raise UserError(
                    f"config: separation.rows needs the row {method.GRID}, from which Table 1 is made: "
                    f"{method.GRID}: {{kind: {method.kind_name()}, published: true}}"
                )
        kinds = {row.name: row.kind for row in self.table.values() if row.published}
        papers = {row.name: row.paper for row in self.table.values() if row.paper}
        for what, values in (("has published: true", kinds), ("has the paper's numbers", papers)):
            first = {value: name for name, value in reversed(values.items())}
            for name, value in values.items():
                if (other := first[value]) != name:
                    raise UserError(
                        f"config: separation.rows.{name} {what}, and so does {other}; only one row of a method may"
                    )

    def _grid(self) -> Iterator[Row]:
        yield self.table[Extractor.GRID]
        separator = self.table[Separator.GRID]
        for label in self.labels:
            own = {"name": f"separator_{slug(label)}", "constrained": label, "chosen_on": self._beyond}
            yield separator.model_copy(update={**own, "published": False})

    def _twin(self, name: str, given: Mapping[str, Any]) -> Row:
        where, twin = f"config: separation.rows.{name}", self.table.get(given["twin"])
        if not (isinstance(twin, Guided) and twin.published):
            raise UserError(
                f"{where}.twin is {given['twin']!r}; it must be a published row, {Separator.GRID} or {Extractor.GRID}"
            )
        if not self.validation:
            raise UserError(f"{where} is chosen on validation chunks; set grid.validation.chunks, or leave the row out")
        own = {"name": name, "title": given["title"] or f"{twin.title}{VALIDATED}", "twin": twin.name, "paper": None}
        own |= {"chosen_on": "validation", "published": False, "costed": False}
        return self._titled(twin.model_copy(update=own))

    def _members(self, name: str, given: Mapping[str, Any]) -> list[Row]:
        """The rows that another row combines."""
        for other in given["of"]:
            if other not in self.table:
                raise UserError(
                    f"config: separation.rows.{name}.of has {other!r}; choose from the rows that separate: "
                    f"{', '.join(self.table)}"
                )
        return [self.table[other] for other in given["of"]]

    def _average(self, name: str, given: Mapping[str, Any]) -> MeanOfRows:
        titles = {row.name: row.title for row in self._members(name, given)}
        title = given["title"] or f"Mean of {' and '.join(titles.values())}"
        return MeanOfRows(name=name, title=title, of=titles, wiener=given["wiener"])

    def _ensemble(self, name: str, given: Mapping[str, Any]) -> Ensemble:
        where, rows = f"config: separation.rows.{name}", self._members(name, given)
        if len({row.twin is None for row in rows}) > 1:
            raise UserError(
                f"{where}.of mixes validated rows with others, whose scores come from different splits; use one sort"
            )
        chosen_on: Literal["test", "validation"] = "validation" if rows[0].twin else "test"
        title = given["title"] or Ensemble.TITLE + (VALIDATED if rows[0].twin else "")
        its = {row.paper for row in rows} == {Separator.PAPER, Extractor.PAPER}
        return Ensemble(
            name=name, title=title, of=given["of"], paper=Ensemble.PAPER if its else None, chosen_on=chosen_on
        )

    def _check_names(self) -> None:
        """Names, which are also file names, and titles have to be unique."""
        papers = {Ensemble.PAPER, *(method.PAPER for method in METHODS.values())}
        taken: dict[str, str] = {}
        every: dict[str, Row | MeanOfRows | Ensemble] = {**self.table, **self.averages, **self.ensembles}
        for name, row in every.items():
            where = f"config: separation.rows.{name}"
            if not re.fullmatch(NAME, name) or (name in self.grid and name != Extractor.GRID):
                raise UserError(f"{where}: a name must be like {NAME} and not that of a row of Table 1; choose another")
            title = row.title
            if not title.strip() or not title.isprintable():
                raise UserError(f"{where}.title is {title!r}; it must be one line of text")
            if title in papers and row.paper != title and not isinstance(row, Ensemble):
                raise UserError(f"{where}.title is {title!r}, which is the paper's name for a method; choose another")
            if not isinstance(row, Row) and (field := re.search(r"\{(steps|samples)\}", title)):
                raise UserError(f"{where}.title has {field[0]}, a number that a row of other rows lacks; leave it out")
            if other := taken.get(title.strip()):
                raise UserError(f"{where}.title is {title!r}, and so is that of {other}; give each row its own title")
            taken[title.strip()] = name

    def cells(self, row: Row, split: str) -> list[Row]:
        """A row with each combination of settings in its part of a split's grid."""
        grid = self.config["grid"]
        values = grid["w"] if split == "test" else grid["validation"]["w"] or grid["w"]
        return list(row.cells(values, grid["solver"]))

    def _check_grid(self) -> None:
        """The grid has a cell for each row that needs one to choose from."""
        for row in self.table.values():
            if not (row.twin or (row.is_open and row.fixed)):
                continue
            if not any(cell.fixed.items() >= row.fixed.items() for cell in self.cells(row, row.chosen_on)):
                raise UserError(
                    f"config: separation.rows.{row.name} has w {row.fixed['w']}, which the grid on {row.chosen_on} "
                    f"chunks does not cover; add it to grid.{'validation.' * (row.chosen_on == 'validation')}w"
                )
