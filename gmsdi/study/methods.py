"""The rows of Table 2, and of the grid of Table 1, as objects: each knows how to separate, to count and to say itself.

A row is settings and what follows from them, so that nothing else asks of which kind it is. It goes through a job's
parameters and `selection.json` as a mapping (`model_dump`), and comes back by `load_row`. Nothing heavy is imported
before a row separates.

The fields that say what they mean (`About`) are the keys of a row in `separation.rows` of the configuration, which
`gmsdi.study.config.rows` makes from them; the others follow from the configuration (`gmsdi.study.rows`).

Adding a method is a class here, one of `AnyRow`, and a test (CONTRIBUTING.md has an example).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self, get_args

from pydantic import Field, TypeAdapter, model_validator

from gmsdi.errors import UserError
from gmsdi.sampling.solver import changed
from gmsdi.settings import About, Count, Flag, Natural, NonNegative, Number, Positive, Share, check
from gmsdi.study.counting import batch_sizes, evaluation_sigmas, filled, passes
from gmsdi.study.setups import DemucsGibbsSetup, Frozen, GmsdiSetup, MsdmSetup, Setup, WeakMsdmSetup

if TYPE_CHECKING:
    from torch import Tensor

    from gmsdi.inference import Consistency
    from gmsdi.sampling.solver import Callback
    from gmsdi.systems.demucs_gibbs import GibbsSeparator
    from gmsdi.systems.gmsdi import Gmsdi
    from gmsdi.systems.msdm import JointMSDM
    from gmsdi.systems.weak_msdm import WeakMSDM

NEGATIVES = (
    "stem label to the text that takes the place of z* in guidance (Section 2.1 of the paper); stems not named use z*"
)
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


# --- GMSDI ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Filter:
    """A Wiener filter, `gmsdi.inference.Wiener`."""

    amount: Annotated[Share, About("part of the filtered stems, the rest is the stems as they were")] = 1
    seconds: Annotated[Positive, About("length of its windows")] = 0.25

    def __post_init__(self) -> None:
        check(self, "wiener")


@dataclass(frozen=True)
class ByPower:
    """How what is missing is shared out, `gmsdi.inference.ShareOut`."""

    amount: Annotated[Share, About("part of it, the rest goes to the stems in equal parts")] = 1
    seconds: Annotated[Positive, About("length of its windows")] = 0.125

    def __post_init__(self) -> None:
        check(self, "by_power")


class Guided(Solved):
    """What the methods of the text-conditioned model share.

    Attributes:
        guidance: settings of `gmsdi.sampling.solver.Guidance` apart from w.
    """

    OPEN: ClassVar[tuple[str, ...]] = ("w",)
    SHARED: ClassVar[bool] = True
    MODELS: ClassVar[int]
    """Signals that are denoised for each stem."""

    system: GmsdiSetup
    model: Annotated[
        str | None,
        About(
            "another model: its folder, or `bundled` for the one that comes with the package; needs w and, of a "
            "separator, constrained"
        ),
    ] = None
    w: Annotated[
        Number | None,
        About("guidance; null takes the best of Table 1 or, of a row that is not published, of the validation grid"),
    ] = None
    guidance: dict[str, Any] = Field(default_factory=dict)
    negatives: Annotated[dict[str, str], About(NEGATIVES)] = Field(default_factory=dict)
    samples: Annotated[Count, About("runs whose mean is taken")] = 1
    inverted: Annotated[Flag, About("every other of these runs takes the mixture with its polarity inverted")] = False
    wiener: Annotated[Filter | None, About("a Wiener filter with the stems' powers, at the end; null is none")] = None

    def refusal(self) -> str | None:
        """See `Row.refusal`."""
        if self.inverted and self.samples < 2:
            return "has inverted, which is for samples of 2 or more; give them, or leave it out"
        if self.model and self.is_open:
            missing = " and ".join(key for key in self.OPEN if key not in self.fixed)
            return f"has a model of its own, of which Table 1 says nothing; give its {missing}"
        return None

    def cells(self, w: Sequence[Number], solver: Mapping[str, Any]) -> list[Self]:
        """See `Row.cells`: one for each w."""
        own = changed(self.solver, solver)
        return [self.model_copy(update={"w": value, "solver": own}) for value in w]

    def together(self, batch: int) -> int:
        """See `Row.together`; the runs of a mixture are sampled side by side."""
        return max(1, batch // self.samples)

    def evaluations_of(self, items: int) -> int:
        """See `Row.evaluations_of`."""
        rows = items * self.samples * self.MODELS * len(self.system.labels)
        return passes(self.solver, self.guidance, self.w) * filled(rows)

    def summary(self) -> str:
        """See `Row.summary`."""
        parts = [f"w = {self.w:g}" if self.w is not None else "w open"]
        parts += [f"{key} {value}" for key, value in self.fixed.items() if key != "w"]
        parts.append(f"{self.step_count()} steps")
        if self.samples > 1:
            parts.append(f"mean of {self.samples} runs")
        if self.inverted:
            parts.append("every other inverted")
        return ", ".join(parts + self._filters())

    def _filters(self) -> list[str]:
        return [] if self.wiener is None else [f"{self.wiener.amount:.0%} filtered"]

    def _options(self) -> dict[str, Any]:
        """What all methods of `gmsdi.systems.gmsdi.Gmsdi` that separate take."""
        from gmsdi.sampling.solver import Guidance, Solver

        assert self.w is not None
        return {
            "solver": Solver(**self.solver),
            "guidance": Guidance(w=self.w, **self.guidance),
            "negatives": self.negatives or None,
            "samples": self.samples,
            "inverted": self.inverted,
        }

    def _filtered(self, stems: Tensor, mixture: Tensor, sample_rate: int) -> Tensor:
        from gmsdi.inference.wiener import Wiener

        if self.wiener is None:
            return stems
        return Wiener(sample_rate, **asdict(self.wiener))(stems, mixture)


class Extractor(Guided):
    """The GMSDI Extractor, Eq. 14: each stem is extracted by itself."""

    GRID: ClassVar[str] = "extractor"
    TITLE: ClassVar[str] = "GMSDI Extractor"
    PAPER: ClassVar[str | None] = "GMSDI Extractor"
    MODELS: ClassVar[int] = 2  # the stem, and the mixture of the others
    IMPLIES: ClassVar[bool] = True

    kind: Literal["extractor"] = "extractor"
    consistent: Annotated[Flag, About("stems are solved for together and sum to the mixture")] = False
    by_power: Annotated[
        ByPower | None,
        About(
            "consistent extractor: in each step, what the estimates lack to the mixture goes to the stems by their "
            "power in its spectrogram; null: in equal parts"
        ),
    ] = None

    def refusal(self) -> str | None:
        """See `Row.refusal`."""
        if self.by_power is not None and not self.consistent:
            return "has by_power, which is for consistent: true; leave it out"
        return super().refusal()

    def separate(
        self,
        system: Gmsdi,
        mixture: Tensor,
        *,
        seeds: Sequence[int],
        levels: Sequence[float] | None = None,
        callback: Callback | None = None,
    ) -> Tensor:
        """See `Row.separate`."""
        given: dict[str, Any] = {"seeds": seeds, "levels": levels, "callback": callback}
        consistent = self.consistency(system.sample_rate)
        stems = system.extract(mixture, consistent=consistent, **given, **self._options())
        return self._filtered(stems, mixture, system.sample_rate)

    def consistency(self, sample_rate: int) -> bool | Consistency:
        """What `gmsdi.inference.extractor` takes, at a rate in Hz."""
        from gmsdi.inference.wiener import ShareOut

        if not self.consistent or self.by_power is None:
            return self.consistent
        return ShareOut(sample_rate, **asdict(self.by_power))

    def _filters(self) -> list[str]:
        shared = [] if self.by_power is None else [f"{self.by_power.amount:.0%} by power"]
        return shared + super()._filters()


class Separator(Guided):
    """The GMSDI Separator, Eq. 13: one stem is the mixture minus the others."""

    GRID: ClassVar[str] = "separator"
    TITLE: ClassVar[str] = "GMSDI Separator"
    PAPER: ClassVar[str | None] = "GMSDI Separator"
    OPEN: ClassVar[tuple[str, ...]] = ("w", "constrained")
    MODELS: ClassVar[int] = 1

    kind: Literal["separator"] = "separator"
    constrained: Annotated[str | None, About(CONSTRAINED)] = None

    def separate(
        self,
        system: Gmsdi,
        mixture: Tensor,
        *,
        seeds: Sequence[int],
        levels: Sequence[float] | None = None,
        callback: Callback | None = None,
    ) -> Tensor:
        """See `Row.separate`."""
        assert self.constrained is not None
        given: dict[str, Any] = {"seeds": seeds, "levels": levels, "callback": callback}
        stems = system.separate(mixture, constrained=self.constrained, **given, **self._options())
        return self._filtered(stems, mixture, system.sample_rate)


class Projected(Guided):
    """The projected Separator, beyond the paper: no stem is constrained, all are projected onto the mixture."""

    GRID: ClassVar[str] = "separator"
    TITLE: ClassVar[str] = "GMSDI Separator, projected"
    MODELS: ClassVar[int] = 1
    IMPLIES: ClassVar[bool] = True

    kind: Literal["projected"] = "projected"

    def separate(
        self,
        system: Gmsdi,
        mixture: Tensor,
        *,
        seeds: Sequence[int],
        levels: Sequence[float] | None = None,
        callback: Callback | None = None,
    ) -> Tensor:
        """See `Row.separate`."""
        given: dict[str, Any] = {"seeds": seeds, "levels": levels, "callback": callback}
        stems = system.separate(mixture, constrained=None, **given, **self._options())
        return self._filtered(stems, mixture, system.sample_rate)


# --- The paper's other systems ----------------------------------------------------------------------------------------


class Constrained(Solved):
    """What MSDM's Dirac separators share: one stem is the mixture minus the others."""

    OPEN: ClassVar[tuple[str, ...]] = ("constrained",)

    constrained: Annotated[str | None, About(CONSTRAINED)] = None

    def cells(self, w: Sequence[Number], solver: Mapping[str, Any]) -> list[Self]:
        """See `Row.cells`: one for each constrained stem; there is no guidance."""
        return [self.model_copy(update={"constrained": label}) for label in self.system.labels]

    def _options(self) -> dict[str, Any]:
        from gmsdi.sampling.solver import Solver

        assert self.constrained is not None
        return {"solver": Solver(**self.solver), "constrained": self.constrained}


class Msdm(Constrained):
    """MSDM with its contextual Dirac separator."""

    GRID: ClassVar[str] = "msdm"
    TITLE: ClassVar[str] = "MSDM"
    PAPER: ClassVar[str | None] = "MSDM"

    kind: Literal["msdm"] = "msdm"
    system: MsdmSetup

    def separate(
        self,
        system: JointMSDM,
        mixture: Tensor,
        *,
        seeds: Sequence[int],
        levels: Sequence[float] | None = None,
        callback: Callback | None = None,
    ) -> Tensor:
        """See `Row.separate`."""
        return system.separate(mixture, seeds=seeds, levels=levels, callback=callback, **self._options())

    def evaluations_of(self, items: int) -> int:
        """See `Row.evaluations_of`; the K stems are one signal."""
        return len(evaluation_sigmas(self.solver)) * filled(items)


class MsdmGaussian(Solved):
    """MSDM with its Gaussian separator."""

    GRID: ClassVar[str] = "msdm"
    TITLE: ClassVar[str] = "MSDM, Gaussian likelihood"

    kind: Literal["msdm_gaussian"] = "msdm_gaussian"
    system: MsdmSetup

    def separate(
        self,
        system: JointMSDM,
        mixture: Tensor,
        *,
        seeds: Sequence[int],
        levels: Sequence[float] | None = None,
        callback: Callback | None = None,
    ) -> Tensor:
        """See `Row.separate`."""
        from gmsdi.sampling.solver import Solver

        solver = Solver(**self.solver)
        return system.separate_gaussian(mixture, solver=solver, seeds=seeds, levels=levels, callback=callback)

    def evaluations_of(self, items: int) -> int:
        """See `Row.evaluations_of`; the K stems are one signal."""
        return len(evaluation_sigmas(self.solver)) * filled(items)


class WeakMsdm(Constrained):
    """Weakly supervised MSDM, Eq. 4."""

    GRID: ClassVar[str] = "weak_msdm"
    TITLE: ClassVar[str] = "Weakly Supervised MSDM"
    PAPER: ClassVar[str | None] = "Weakly Supervised MSDM"

    kind: Literal["weak_msdm"] = "weak_msdm"
    system: WeakMsdmSetup

    def separate(
        self,
        system: WeakMSDM,
        mixture: Tensor,
        *,
        seeds: Sequence[int],
        levels: Sequence[float] | None = None,
        callback: Callback | None = None,
    ) -> Tensor:
        """See `Row.separate`."""
        return system.separate(mixture, seeds=seeds, levels=levels, callback=callback, **self._options())

    def evaluations_of(self, items: int) -> int:
        """See `Row.evaluations_of`; each label has its own network, and so its own calls."""
        return len(evaluation_sigmas(self.solver)) * len(self.system.labels) * filled(items)


class DemucsGibbs(Row):
    """Demucs + Gibbs."""

    GRID: ClassVar[str] = "demucs_gibbs"
    TITLE: ClassVar[str] = "Demucs + Gibbs, {steps} steps"
    PAPER: ClassVar[str | None] = "Demucs + Gibbs (512 steps)"

    kind: Literal["demucs_gibbs"] = "demucs_gibbs"
    system: DemucsGibbsSetup
    steps: Annotated[Natural, About("Gibbs steps after the network's first pass (512 in the paper)")] = 512
    block: Annotated[
        Count | Literal["uniform", "annealed"],
        About("sources resampled in a step: a number of them, uniform or annealed"),
    ] = "uniform"
    noise: Annotated[NonNegative, About("spread of what is resampled relative to the mixture")] = 0

    def refusal(self) -> str | None:
        """See `Row.refusal`."""
        if isinstance(self.block, int) and self.block > len(self.system.labels):
            return f"has block {self.block}; there are {len(self.system.labels)} stems to resample at once"
        return super().refusal()

    def separate(
        self,
        system: GibbsSeparator,
        mixture: Tensor,
        *,
        seeds: Sequence[int],
        levels: Sequence[float] | None = None,
        callback: Callback | None = None,
    ) -> Tensor:
        """See `Row.separate`."""
        given: dict[str, Any] = {"seeds": seeds, "levels": levels, "callback": callback}
        return system.separate(mixture, steps=self.steps, block=self.block, noise=self.noise, **given)

    def step_count(self) -> int:
        """Steps of the chain."""
        return self.steps

    def with_steps(self, steps: int) -> Self:
        """The row with another number of steps of the chain."""
        return self.model_copy(update={"steps": steps})

    def evaluations_of(self, items: int) -> int:
        """See `Row.evaluations_of`."""
        return (self.steps + 1) * filled(items)


# --- Of several rows --------------------------------------------------------------------------------------------------


class Ensemble(Frozen):
    """A row of Table 2 that takes for each stem the best of other rows; it has their scores, and separates nothing.

    Attributes:
        name: in the configuration.
        title: in tables.
        of: the names of these rows.
        paper: as `Row.paper`.
        chosen_on: the split on whose chunks the best are chosen.
    """

    TITLE: ClassVar[str] = "Ensemble"
    PAPER: ClassVar[str] = "Ensemble"

    name: str
    title: str
    of: tuple[str, ...]
    paper: str | None = None
    chosen_on: Literal["test", "validation"] = "test"


AnyRow = Annotated[
    Extractor | Separator | Projected | Msdm | MsdmGaussian | WeakMsdm | DemucsGibbs, Field(discriminator="kind")
]
"""A row of any kind."""
METHODS: dict[str, type[Row]] = {row.kind_name(): row for row in get_args(get_args(AnyRow)[0])}
"""The methods by their kinds."""
TABLE1 = {row.GRID: row.TITLE for row in (Extractor, Separator)}
"""What Table 1 calls the methods of its scores."""
_ROW: TypeAdapter[Any] = TypeAdapter(AnyRow)


def load_row(settings: Mapping[str, Any]) -> Row:
    """A row from what its `model_dump` gave."""
    row: Row = _ROW.validate_python(dict(settings))
    return row


def load_rows(settings: Mapping[str, Mapping[str, Any]]) -> dict[str, Row]:
    """Rows by name, as `selection.json` has them."""
    return {name: load_row(row) for name, row in settings.items()}


def without_steps(rows: Iterable[Row]) -> dict[str, str]:
    """The titles of rows, by name, where their numbers of steps vary: without them, unless two would be the same."""
    import re

    rows = list(rows)
    short = {row.name: re.sub(r",? \(?\d+ steps\)?", "", row.title) for row in rows}
    again = [title for title in short.values() if list(short.values()).count(title) > 1]
    return {row.name: row.title if short[row.name] in again else short[row.name] for row in rows}
