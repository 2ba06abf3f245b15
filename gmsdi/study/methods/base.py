"""What every method of Table 2 can do: separate, count its evaluations, and describe itself."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self

from pydantic import model_validator

from gmsdi.errors import UserError
from gmsdi.settings import About, Flag, Number
from gmsdi.study.counting import batch_sizes
from gmsdi.study.setups import Frozen, Setup

if TYPE_CHECKING:
    from torch import Tensor

    from gmsdi.sampling.solver import Callback

CONSTRAINED = "the stem that is the mixture minus the others; null takes the best of the grid"


class Row(Frozen, ABC):
    """A method with its settings.

    Attributes:
        GRID: the method, among those of Table 1 and the paper's other systems.
        OPEN: the settings that None leaves to the grid.
        TITLE: what tables call the method where nothing else is said.
        PAPER: what the paper's Table 2 calls it, if it has it.
        SHARED: whether Table 1 is the grid; otherwise the row has a grid of its own.
        IMPLIES: whether the derivative implies signals at which a solver can end, see `gmsdi.sampling.solver.Euler`.
        kind: the method.
        name: of the row's files.
        title: in tables.
        paper: the row of the paper's Table 2 beside which it stands; None is a row beyond the paper.
        system: what it runs on.
        model: folder of a model of its own, or "bundled"; None is its system's.
        chosen_on: the split whose grid settles what is open.
        chosen_by: how that was done; None before it is.
        twin: the row of which this one differs only in `chosen_on`. Where both come to the same settings, one
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
            "it is the method of the paper with the paper's settings: Table 2 compares all rows with it; one of a kind"
        ),
    ] = False
    system: Setup
    model: str | None = None
    chosen_on: Literal["test", "validation"] = "test"
    chosen_by: str | None = None
    twin: str | None = None
    costed: Annotated[Flag, About("the figure of costs has it")] = True

    @model_validator(mode="after")
    def _sound(self) -> Self:
        if why := self.refusal():
            raise UserError(f"{self.name} {why}")
        return self

    def refusal(self) -> str | None:
        """What is wrong with the settings together, and what to do; None if they go together."""
        return None

    @classmethod
    def kind_name(cls) -> str:
        """The kind of all rows of this class."""
        return str(cls.model_fields["kind"].default)

    @classmethod
    def system_name(cls) -> str:
        """The kind of the system that all rows of this class run on."""
        return str(cls.model_fields["system"].annotation.model_fields["kind"].default)  # type: ignore[union-attr]

    # --- What is open, and the grid that settles it -------------------------------------------------------------------

    @property
    def fixed(self) -> dict[str, Any]:
        """The settings of `OPEN` that are settled."""
        return {key: value for key in self.OPEN if (value := getattr(self, key)) is not None}

    @property
    def is_open(self) -> bool:
        """Whether a setting is left to the grid."""
        return len(self.fixed) < len(self.OPEN)

    def cells(self, w: Sequence[Number], solver: Mapping[str, Any]) -> list[Self]:
        """The row with every setting of its part of the grid.

        Args:
            w: the strengths of guidance of the grid.
            solver: keys of the solver that differ in it.
        """
        raise NotImplementedError(f"{self.kind} has nothing to choose")

    @property
    def grid(self) -> str:
        """What a grid's table calls its rows that settle what is open here."""
        return self.GRID if self.SHARED else self.name

    def cell(self) -> dict[str, Any]:
        """What a grid's table says of this row: the columns w, model and constrained."""
        return {"w": 0, "model": self.grid, "constrained": ""} | {key: getattr(self, key) for key in self.OPEN}

    def same_as(self, other: Row) -> bool:
        """Whether both separate alike."""
        names = ("name", "title", "paper", "published", "chosen_on", "chosen_by", "twin", "costed")
        first, second = (row.model_dump(exclude=set(names)) for row in (self, other))
        return first == second

    # --- Running ------------------------------------------------------------------------------------------------------

    def together(self, batch: int) -> int:
        """How many mixtures are separated at once where `batch` signals are sampled together."""
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
            system: what `system.open` gives.
            mixture: `[B, C, T]`.
            seeds: one per item.
            levels: of the piece that each item is from, see `gmsdi.systems.base.Separate`.
            callback: called with (step, steps).

        Returns:
            `[B, K, C, T]` float32 on the CPU, in the order of the labels.
        """

    # --- Counting -----------------------------------------------------------------------------------------------------

    @abstractmethod
    def step_count(self) -> int:
        """Steps of the solver, or of the Gibbs chain."""

    @abstractmethod
    def with_steps(self, steps: int) -> Self:
        """The row with another number of steps."""

    @abstractmethod
    def evaluations_of(self, items: int) -> int:
        """Signals that the network denoises for mixtures that are separated together, the rows that fill up a call too.

        Args:
            items: their number.
        """

    def evaluations(self, items: int, batch: int) -> int:
        """Signals that the network denoises in a job.

        Args:
            items: mixtures.
            batch: signals that are sampled together.
        """
        return sum(map(self.evaluations_of, batch_sizes(items, self.together(batch))))

    # --- Saying -------------------------------------------------------------------------------------------------------

    def summary(self) -> str:
        """What a reader has to know of the settings."""
        return ", ".join([*(f"{key} {value}" for key, value in self.fixed.items()), f"{self.step_count()} steps"])

    def titled(self) -> Self:
        """The row with the numbers that its title leaves to its settings: `{steps}` and `{samples}`."""
        samples = getattr(self, "samples", 1)
        return self.model_copy(update={"title": self.title.format(steps=self.step_count(), samples=samples)})


class Solved(Row):
    """A row whose method integrates a derivative.

    Attributes:
        solver: settings of `gmsdi.sampling.solver.Solver`.
    """

    solver: dict[str, Any]

    def step_count(self) -> int:
        """Steps of the solver."""
        return int(self.solver["steps"])

    def with_steps(self, steps: int) -> Self:
        """The row with another number of steps, and as much churn in each."""
        own = {**self.solver, "steps": steps}
        if "s_churn" in own:
            own["s_churn"] *= steps / self.solver["steps"]
        return self.model_copy(update={"solver": own})
