"""What every method of Table 2 can do: separate, count its evaluations, and describe itself."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self

from pydantic import model_validator

from gmsdi.errors import UserError
from gmsdi.settings import About, Flag, Number
from gmsdi.study.counting import Taken, batch_sizes
from gmsdi.study.setups import Frozen, Setup

if TYPE_CHECKING:
    from torch import Tensor

    from gmsdi.sampling.solver import Callback, Solver

CONSTRAINED = "the stem that is the mixture minus the others; null means the best on the grid"


class Row(Frozen, ABC):
    """A method with its settings.

    Attributes:
        GRID: name of the method in the tables of grids.
        OPEN: the settings that the grid chooses where they are None.
        TITLE: default title in tables.
        PAPER: name of the method in the paper's Table 2, or None.
        SHARED: whether Table 1 is the row's grid; otherwise the row has its own grid.
        IMPLIES: whether the derivative implies an estimate of the stems at which a solver can end (see
            `gmsdi.sampling.solver.Euler`).
        kind: name of the method in the configuration.
        name: name of the row in the configuration and in file names.
        title: title in tables.
        paper: the row of the paper's Table 2 whose numbers stand beside it; None if there is none.
        system: the system that it runs on.
        model: folder or name of the row's own model; None means the system's model.
        chosen_on: the split on whose grid open settings are chosen.
        chosen_by: how they were chosen; None before that.
        twin: the row from which this one differs only in `chosen_on`. If both end up with the same settings, one
            separation serves both.
    """

    GRID: ClassVar[str]
    OPEN: ClassVar[tuple[str, ...]] = ()
    TITLE: ClassVar[str]
    PAPER: ClassVar[str | None] = None
    SHARED: ClassVar[bool] = False
    IMPLIES: ClassVar[bool] = False

    kind: str
    name: str
    title: str
    paper: str | None = None
    published: Annotated[
        Flag,
        About(
            "the row is the paper's method with the paper's settings, and Table 2 compares all rows with it; at most "
            "one row of each kind"
        ),
    ] = False
    system: Setup
    model: str | None = None
    chosen_on: Literal["test", "validation"] = "test"
    chosen_by: str | None = None
    twin: str | None = None
    costed: Annotated[Flag, About("show the row in Figure 4")] = True

    @model_validator(mode="after")
    def _sound(self) -> Self:
        if why := self.refusal():
            raise UserError(f"{self.name} {why}")
        return self

    def refusal(self) -> str | None:
        """What is wrong with the combination of settings, and what to do; None if nothing is."""
        return None

    @classmethod
    def kind_name(cls) -> str:
        """The kind of all rows of this class."""
        return str(cls.model_fields["kind"].default)

    @classmethod
    def system_name(cls) -> str:
        """The kind of the system that all rows of this class run on."""
        return str(cls.model_fields["system"].annotation.model_fields["kind"].default)  # type: ignore[union-attr]

    # --- Open settings, and the grid that chooses them ----------------------------------------------------------------

    @property
    def fixed(self) -> dict[str, Any]:
        """The settings in `OPEN` that have a value."""
        return {key: value for key in self.OPEN if (value := getattr(self, key)) is not None}

    @property
    def is_open(self) -> bool:
        """Whether the grid has to choose a setting."""
        return len(self.fixed) < len(self.OPEN)

    def cells(self, w: Sequence[Number], solver: Mapping[str, Any]) -> list[Self]:
        """The row with each combination of settings in its part of the grid.

        Args:
            w: the guidance strengths of the grid.
            solver: keys of the solver that the grid overrides.
        """
        raise NotImplementedError(f"{self.kind} has nothing to choose")

    @property
    def grid(self) -> str:
        """Name of the rows, in a grid's table, that decide this row's open settings."""
        return self.GRID if self.SHARED else self.name

    def cell(self) -> dict[str, Any]:
        """This row's values in the columns w, model and constrained of a grid's table."""
        return {"w": 0, "model": self.grid, "constrained": ""} | {key: getattr(self, key) for key in self.OPEN}

    def bare(self) -> Self:
        """The row without what only tables and figures say of it, so that no job that separates depends on that."""
        names = ("paper", "published", "costed", "chosen_by", *(() if self.is_open else ("chosen_on",)))
        return self.model_copy(update={"title": "", **{name: type(self).model_fields[name].default for name in names}})

    def same_as(self, other: Row) -> bool:
        """Whether both rows separate in the same way."""
        first, second = (row.bare().model_dump(exclude={"name", "chosen_on", "twin"}) for row in (self, other))
        return first == second

    # --- Running ------------------------------------------------------------------------------------------------------

    def together(self, batch: int) -> int:
        """Number of mixtures to separate at once if `batch` signals are sampled together."""
        return batch

    @abstractmethod
    def separate(
        self,
        system: Any,
        mixture: Tensor,
        *,
        seeds: Sequence[int],
        levels: Sequence[float] | None = None,
        callback: Callback | None = None,
    ) -> Tensor:
        """Separate mixtures.

        Args:
            system: the opened system, from `system.open`; each method names its class.
            mixture: `[B, C, T]`.
            seeds: one per mixture.
            levels: level of the track that each mixture comes from (see `gmsdi.systems.base.Separate`).
            callback: called with (step, steps).

        Returns:
            `[B, K, C, T]` float32 on the CPU, in the order of the labels.
        """

    # --- Counting -----------------------------------------------------------------------------------------------------

    @abstractmethod
    def step_count(self) -> int:
        """Number of steps of the solver, or of the Gibbs chain."""

    @abstractmethod
    def with_steps(self, steps: int) -> Self:
        """The row with another number of steps."""

    @abstractmethod
    def taken_of(self, items: int, *, coded: bool = False) -> Taken:
        """What mixtures that are separated together take.

        Args:
            items: number of mixtures.
            coded: whether the model's states are latents that do not add up (`gmsdi.study.counting`).
        """

    def taken(self, items: int, batch: int, *, coded: bool = False) -> Taken:
        """What a job takes.

        Args:
            items: number of mixtures.
            batch: number of signals sampled together.
            coded: see `taken_of`.
        """
        parts = batch_sizes(items, self.together(batch))
        return sum((self.taken_of(count, coded=coded) for count in parts), Taken())

    # --- Describing ---------------------------------------------------------------------------------------------------

    def summary(self) -> str:
        """The settings in a few words, for notes below tables."""
        return ", ".join([*(f"{key} {value}" for key, value in self.fixed.items()), f"{self.step_count()} steps"])

    def numbers(self) -> dict[str, int]:
        """The numbers that its title may name in braces: steps, and samples, the runs that are averaged."""
        return {"steps": self.step_count(), "samples": 1}

    def titled(self) -> Self:
        """The row with its numbers in its title."""
        return self.model_copy(update={"title": self.title.format(**self.numbers())})


class Solved(Row):
    """A row whose method integrates a derivative with a solver.

    Attributes:
        solver: settings of `gmsdi.sampling.solver.Solver`.
    """

    solver: dict[str, Any]

    def refusal(self) -> str | None:
        """See `Row.refusal`: a solver that is not valid, or has too few steps for the method."""
        from gmsdi.sampling.solver import Solver

        try:
            solver = Solver(**self.solver)
        except UserError as error:
            return f"has a solver that cannot be used: {error}"
        why = self.too_few(solver)
        return super().refusal() if why is None else f"is unstable: {why}"

    def too_few(self, solver: Solver) -> str | None:
        """Why the steps of a solver are too few for the method to be stable; None if they are not.

        A Separator's are refused from `LOST` on: grids and Figure 4 also measure what too few steps cost.
        """
        return None

    def warning(self, sigma_data: float) -> str | None:
        """What the steps of the solver leave of noise, and what to do; None where that is little, or not known.

        Args:
            sigma_data: level of the music that the model knows.
        """
        return None

    def step_count(self) -> int:
        """Number of steps of the solver."""
        return int(self.solver["steps"])

    def with_steps(self, steps: int) -> Self:
        """The row with another number of steps, and the same churn per step."""
        own = {**self.solver, "steps": steps}
        if "s_churn" in own:
            own["s_churn"] *= steps / self.solver["steps"]
        return self.model_copy(update={"solver": own})
