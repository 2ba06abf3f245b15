"""The section `generation`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, TypeAlias

from annotated_types import Len

from gmsdi.settings import Bounded, Count, Flag, Natural, NonNegative, Number, Positive, Share
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
OWN_W = "null takes generation.w"
Clips = Annotated[int, Bounded(whole=True, ge=4)]


class SigmaGamma(Changes):
    """A standard deviation of the likelihood that is proportional to the noise level."""

    sigma: Positive = about("c of gamma = c * sigma")
    above: NonNegative = choice(None, "least noise level at which the term acts")
    below: Positive = choice(None, "noise level from which on it does not")


Gamma = Annotated[float, Bounded(gt=0, infinite=True)] | SigmaGamma
GAMMA = (
    "standard deviation of the likelihood: a number, .inf to drop the term, or {sigma: c} for gamma = c * sigma; "
    "{sigma: c, above: s, below: t} drops the term outside of the noise levels from s to t; not given, it is the "
    "method's"
)


class Single(Model):
    """One stem from its label alone (Figure 2)."""

    solver: SolverChanges = section(SolverChanges, ChangesOf)
    w: Annotated[list[Number], Len(1), Unique] | None = choice(
        None,
        "guidance, the same with and without negative prompts: a pair of bars for each; null takes generation.w",
    )
    w_curve: Annotated[list[Number], Unique] = choice(
        [], "guidance of a table over w, of both alike; empty leaves it out"
    )
    curve_clips: Clips = choice(
        16, "clips of each stem at each w of the curve; distances of other numbers of clips are not comparable"
    )


class Total(Model):
    """All stems together, Eq. 10."""

    absent: ClassVar[frozenset[str]] = frozenset({"gamma_x", "gamma_y"})

    solver: SolverChanges = section(SolverChanges, ChangesOf)
    w: Number | None = choice(None, OWN_W)
    gamma_x: Gamma = choice(None, GAMMA)
    gamma_y: Gamma = choice(None, GAMMA)
    noise: Literal["independent", "coupled"] = choice(
        "independent",
        "of the stems and their mixture: independent, or beyond the paper coupled, so that the stems' noises sum to "
        "the mixture's",
    )
    consistent: Flag = choice(
        False,
        "beyond the paper: the stems end where they sum to the generated mixture exactly, for gamma_y of .inf",
    )
    negatives: Flag = choice(True, "use generation.negatives")


class Sequential(Model):
    """One stem after the other."""

    solver: SolverChanges = section(SolverChanges, ChangesOf)
    w: Number | None = choice(None, OWN_W)
    order: Annotated[list[str], Unique] | None = choice(
        None, "of the stems, all of data.classes; null draws an order for each clip"
    )
    share: Share = choice(0.3, "weight of the whole mixture against the stem alone")
    lags: Natural | None = choice(
        16,
        "samples over which copies of the stems that are there are looked for, to leave them out; null leaves them in",
    )
    negatives: Flag = choice(True, "use generation.negatives")


class Extraction(Model):
    """How a generated mixture is taken apart."""

    solver: SolverChanges = section(SolverChanges, "keys that differ from the solver of the row extractor")
    w: Number = choice(1, "guidance")
    by_power: ByPowerSection | None = choice(
        None,
        "in each step, what the estimates lack to the mixture goes to the stems by their power in its spectrogram; "
        "null: in equal parts",
    )
    samples: Count = choice(1, "runs whose mean is taken")


class Extracted(Model):
    """A mixture from the joint prompt alone, taken apart."""

    solver: SolverChanges = section(SolverChanges, ChangesOf)
    w: Number | None = choice(None, "of the mixture; null takes generation.w")
    extraction: Extraction = section(Extraction, "how it is taken apart; for the rest as the row extractor")
    negatives: Flag = choice(False, "use generation.negatives, for the Extractor")


class Partial(Model):
    """An accompaniment to every subset of given stems, Eq. 12."""

    absent: ClassVar[frozenset[str]] = frozenset({"gamma_x", "gamma_y"})

    solver: SolverChanges = section(SolverChanges, ChangesOf)
    w: Number | None = choice(None, OWN_W)
    gamma_x: Gamma = choice(None, GAMMA)
    gamma_y: Gamma = choice(None, GAMMA)
    alpha: Number = choice(1, "weight of the given stems")
    beta: Number = choice(1, "weight of the generated stems")
    given_noise: Literal["fixed", "redrawn", "coupled"] = choice(
        "fixed",
        "of the given stems: drawn once, in every evaluation, or once so that the noises of all stems sum to the "
        "mixture's",
    )
    negatives: Flag = choice(True, "use generation.negatives")


class Conditioned(Model):
    """An accompaniment that is heard together with the clean given stems."""

    solver: SolverChanges = section(SolverChanges, ChangesOf)
    w: Number | None = choice(None, OWN_W)
    share: Share = choice(0.5, "weight of the whole mixture against the accompaniment alone")
    lags: Natural | None = choice(
        16, "samples over which copies of the given stems are looked for, to leave them out; null leaves them in"
    )
    negatives: Flag = choice(True, "use generation.negatives")


class Generation(Model):
    """Figures 2 and 3."""

    clips: Clips = choice(16, "clips of each bar")
    solver: SolverSettings = section(dict, "how the derivative is integrated from sigma_max to 0")
    guidance: GuidanceSettings = section(GuidanceSettings, "classifier-free guidance apart from its strength w")
    w: Number = choice(1, "guidance where a task has none of its own")
    negatives: dict[str, str] = choice({}, NEGATIVES)
    single: Single = section(Single, "one stem from its label alone (Figure 2)")
    total: Total = section(Total, 'all stems together, Eq. 10 (Figure 3, "All")')
    sequential: Sequential | None = choice(
        None,
        "beyond the paper: one stem after the other, each to go with those that are there, as in `conditioned` (a bar "
        "of its own in Figure 3); null leaves it out",
    )
    extracted: Extracted | None = choice(
        None,
        "beyond the paper: a mixture from the joint prompt alone, taken apart by the consistent Extractor (a bar of "
        "its own in Figure 3); null leaves it out",
    )
    groups: Annotated[list[Annotated[list[str], Len(1)]], Len(2)] | None = choice(
        None,
        "Eq. 11, with the settings of `total`: stems that are generated as one signal, such as [[Bass, Drums], "
        "[Guitar, Piano]], all of data.classes (a bar of its own in Figure 3); null leaves it out",
    )
    partial: Partial = section(Partial, "an accompaniment to every subset of given stems, Eq. 12 (Figure 3)")
    conditioned: Conditioned | None = choice(
        None,
        "the same beyond the paper: the accompaniment is heard together with the clean given stems (bars of their "
        "own in Figure 3); null leaves it out",
    )
