"""The section `generation`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, TypeAlias

from annotated_types import Len
from pydantic import Field

from gmsdi.settings import Bounded, Count, Flag, Natural, NonNegative, Number, Positive, Share
from gmsdi.study import tasks
from gmsdi.study.config.base import (
    Changes,
    GuidanceSettings,
    Model,
    SolverChanges,
    SolverSettings,
    Unique,
    about,
    choice,
    model_of,
    section,
)
from gmsdi.study.config.separation import ChangesOf
from gmsdi.study.methods import NEGATIVES, ByPower

if TYPE_CHECKING:
    ByPowerSection: TypeAlias = Any
else:
    ByPowerSection = model_of(ByPower)


def own(task: type[tasks.Task], key: str) -> Any:
    """A task's default for one of its settings."""
    return task.model_fields[key].default


OWN_W = "guidance strength; null means generation.w"
FEWEST_CLIPS = 4
"""Per bar: an extrapolated distance (`metrics.frechet.fad_inf`) is computed from three numbers of clips."""
Clips = Annotated[int, Bounded(whole=True, ge=FEWEST_CLIPS)]


class SigmaGamma(Changes):
    """A standard deviation of the likelihood that is proportional to the noise level."""

    sigma: Positive = about("the factor c in gamma = c * sigma")
    above: NonNegative = choice(None, "lowest noise level at which the term is used")
    below: Positive = choice(None, "noise level from which on the term is dropped")


Gamma = Annotated[float, Bounded(gt=0, infinite=True)] | SigmaGamma
GAMMA = (
    "standard deviation of the likelihood: a number, .inf to drop the term, or {sigma: c} for gamma = c * sigma; "
    "{sigma: c, above: s, below: t} drops the term outside the noise levels s to t. If left out, the method's default"
)


class Single(Model):
    """One stem from its label alone (Figure 2)."""

    solver: SolverChanges = section(SolverChanges, ChangesOf)
    w: Annotated[list[Number], Len(1), Unique] | None = choice(
        None,
        "guidance strengths; each gives a pair of bars, with and without negative prompts; null means generation.w",
    )
    w_curve: Annotated[list[Number], Unique] = choice(
        [], "guidance strengths for the curve over w, with and without negative prompts; an empty list leaves it out"
    )
    curve_clips: Clips = choice(
        16, "number of clips per stem and w on the curve; distances from different numbers of clips are not comparable"
    )


class Total(Model):
    """All stems together, Eq. 10."""

    absent: ClassVar[frozenset[str]] = frozenset({"gamma_x", "gamma_y"})

    solver: SolverChanges = section(SolverChanges, ChangesOf)
    w: Number | None = choice(None, OWN_W)
    gamma_x: Gamma = choice(None, GAMMA)
    gamma_y: Gamma = choice(None, GAMMA)
    noise: Literal["independent", "coupled"] = choice(
        own(tasks.Total, "noise"),
        "noise of the stems and of the mixture: independent; or coupled (beyond the paper), so that the stems' noises "
        "sum to the mixture's",
    )
    consistent: Flag = choice(
        own(tasks.Total, "consistent"),
        "beyond the paper, for gamma_y of .inf: make the final stems sum exactly to the generated mixture",
    )
    negatives: Flag = choice(True, "use the negative prompts of generation.negatives")


class Sequential(Model):
    """One stem after the other."""

    solver: SolverChanges = section(SolverChanges, ChangesOf)
    w: Number | None = choice(None, OWN_W)
    order: Annotated[list[str], Unique] | None = choice(
        None, "order of the stems, which names all of data.classes; null draws an order for each clip"
    )
    share: Share = choice(
        own(tasks.Sequential, "share"), "weight of the mixture's estimate; that of the stem alone gets the rest"
    )
    lags: Natural | None = choice(
        own(tasks.Sequential, "lags"),
        "reach, in samples to either side, of the filter that finds and removes copies of the stems already generated; "
        "null keeps copies",
    )
    negatives: Flag = choice(True, "use the negative prompts of generation.negatives")


class Extraction(Model):
    """How a generated mixture is separated."""

    solver: SolverChanges = section(SolverChanges, "overrides keys of the solver of the row extractor")
    w: Number = choice(1, "guidance strength")
    by_power: ByPowerSection | None = choice(
        None,
        "in each step, the residual (the mixture minus the sum of the estimates) is divided among the stems in "
        "proportion to their spectrogram power; null divides it equally",
    )
    samples: Count | None = choice(None, "number of runs to average; null means as many as the row extractor")


class Extracted(Model):
    """A mixture generated from the joint prompt, then separated."""

    solver: SolverChanges = section(SolverChanges, ChangesOf)
    w: Number | None = choice(None, "guidance strength for the mixture; null means generation.w")
    extraction: Extraction = section(
        Extraction,
        "how the mixture is separated; what has no key here (wiener, inverted, negatives) is as in the row extractor",
    )
    negatives: Flag = choice(
        False, "let the Extractor use the negative prompts of generation.negatives, not those of the row extractor"
    )


class Partial(Model):
    """An accompaniment to every subset of given stems, Eq. 12."""

    absent: ClassVar[frozenset[str]] = frozenset({"gamma_x", "gamma_y"})

    solver: SolverChanges = section(SolverChanges, ChangesOf)
    w: Number | None = choice(None, OWN_W)
    gamma_x: Gamma = choice(None, GAMMA)
    gamma_y: Gamma = choice(None, GAMMA)
    alpha: Number = choice(own(tasks.Partial, "alpha"), "weight alpha of the given stems")
    beta: Number = choice(own(tasks.Partial, "beta"), "weight beta of the generated stems")
    given_noise: Literal["fixed", "redrawn", "coupled"] = choice(
        own(tasks.Partial, "given_noise"),
        "noise of the given stems. fixed: drawn once; redrawn: drawn anew in every evaluation; coupled: drawn once, "
        "so that the noises of all stems sum to the mixture's",
    )
    negatives: Flag = choice(True, "use the negative prompts of generation.negatives")


class Conditioned(Model):
    """An accompaniment, denoised together with the clean given stems."""

    solver: SolverChanges = section(SolverChanges, ChangesOf)
    w: Number | None = choice(None, OWN_W)
    share: Share = choice(
        own(tasks.Conditioned, "share"),
        "weight of the mixture's estimate; that of the accompaniment alone gets the rest",
    )
    lags: Natural | None = choice(
        own(tasks.Conditioned, "lags"),
        "reach, in samples to either side, of the filter that finds and removes copies of the given stems; null keeps "
        "copies",
    )
    negatives: Flag = choice(True, "use the negative prompts of generation.negatives")


class FurtherModel(Model):
    """A further model in Figures 2 and 3."""

    model: Annotated[str, Len(1)] = about("its folder, or the name of one that comes with the package, such as `mini`")
    title: Annotated[str, Len(1)] | None = choice(
        None, 'ends the names of its series, such as "of waveforms"; null means "model" and its key'
    )
    w: Number | None = choice(
        None, "guidance strength of all its tasks; null means that of each task, for single stems the first"
    )


class Generation(Model):
    """Figures 2 and 3."""

    clips: Clips = choice(16, "number of clips per bar of the figures")
    solver: SolverSettings = section(dict, "how the derivative is integrated from sigma_max to 0")
    guidance: GuidanceSettings = section(GuidanceSettings, "classifier-free guidance, apart from its strength w")
    w: Number = choice(1, "guidance strength of tasks that do not give their own")
    negatives: dict[str, str] = choice({}, NEGATIVES)
    single: Single = section(Single, "one stem from its label alone (Figure 2)")
    total: Total = section(Total, 'all stems together, Eq. 10 (the bar "All" of Figure 3)')
    sequential: Sequential | None = choice(
        None,
        "beyond the paper: one stem after the other, each generated to fit the stems before it, as in `conditioned` "
        "(its own bar in Figure 3); null leaves it out",
    )
    extracted: Extracted | None = choice(
        None,
        "beyond the paper: a mixture is generated from the joint prompt, then separated by the consistent Extractor "
        "(its own bar in Figure 3); null leaves it out",
    )
    groups: Annotated[list[Annotated[list[str], Len(1)]], Len(2)] | None = choice(
        None,
        "Eq. 11, with the settings of `total`: groups of stems, each generated as one signal, such as [[Bass, Drums], "
        "[Guitar, Piano]]; they name all of data.classes (its own bar in Figure 3); null leaves it out",
    )
    partial: Partial = section(Partial, "accompaniments to every subset of given stems, Eq. 12 (Figure 3)")
    conditioned: Conditioned | None = choice(
        None,
        "beyond the paper: like `partial`, but the accompaniment is denoised together with the clean given stems (its "
        "own bars in Figure 3); null leaves it out",
    )
    models: dict[Annotated[str, Field(pattern="^[a-z][a-z0-9_]*$")], FurtherModel | None] = choice(
        {},
        "maps a short name to each further model, which does `single`, `total` and `partial` with the same settings, "
        "in series of its own; null removes one",
    )
