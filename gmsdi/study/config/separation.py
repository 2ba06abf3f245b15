"""The sections `separation`, `baselines`, `grid` and `costs`."""

from __future__ import annotations

from typing import Annotated, Literal

from annotated_types import Len

from gmsdi.settings import Bounded, Count, Flag, Natural, NonNegative, Number, Positive
from gmsdi.study.config.base import (
    Changes,
    GuidanceSettings,
    Model,
    SolverChanges,
    SolverSettings,
    TrainingChanges,
    UNetChanges,
    Unique,
    choice,
    section,
)
from gmsdi.study.config.rows import AnyRowSection

ChangesOf = "keys of the solver that differ"
Strengths = Annotated[list[Number], Len(1), Unique]


class Separation(Model):
    """Table 2."""

    chunks: Count | None = choice(
        None, "chunks with two active stems or more, spread over the tracks; null is the whole test split"
    )
    bss_eval: Flag = choice(False, "also a table of BSS Eval's SDR, SIR and SAR by the package museval")
    solver: SolverSettings = section(dict, "how the derivative is integrated from sigma_max to 0")
    guidance: GuidanceSettings = section(GuidanceSettings, "classifier-free guidance apart from its strength w")
    rows: dict[str, AnyRowSection] = choice(
        {},
        "the rows of Table 2 and their settings, by a name of small letters, digits and underscores, in their order; "
        "Table 1 is made of the rows separator and extractor, which are needed",
    )


class DiffusionModel(Model):
    """The model of a system of diffusion models."""

    sigma_data: Positive = choice(0.1, "standard deviation of the data")
    unet: UNetChanges = section(UNetChanges, "keys of `model.config.unet` that differ")


class TaskSolver(Model):
    """What differs in a task."""

    solver: SolverChanges = section(SolverChanges, ChangesOf)


class JointGeneration(Model):
    """How the joint model generates."""

    solver: SolverChanges = section(SolverChanges, "keys of `generation.solver` that differ")
    best_of: Count = choice(4, "samples of which partial generation keeps the one of the highest norm")
    partial: TaskSolver = section(TaskSolver, "what differs in partial generation")


CLAMP = "clip the denoised signal to [-clamp, clamp] wherever it samples; null does not"


class JointMSDM(Model):
    """Joint model of all stems."""

    model: DiffusionModel = section(DiffusionModel, "its network")
    training: TrainingChanges = section(TrainingChanges, "keys of `training` that differ")
    clamp: Positive | None = choice(None, CLAMP)
    generation: JointGeneration = section(JointGeneration, "how it generates")


class WeakMSDM(Model):
    """One unconditional model per stem."""

    model: DiffusionModel = section(DiffusionModel, "its networks")
    training: TrainingChanges = section(TrainingChanges, "keys of `training` that differ")
    clamp: Positive | None = choice(None, CLAMP)
    generation: TaskSolver = section(TaskSolver, "how it generates")


class DemucsOptions(Changes):
    """Options of the class Demucs of the package demucs that a run may set; keys not given have its defaults."""

    channels: Count = choice(None, "width of the first layer")
    growth: Positive = choice(None, "factor of the width from a layer to the next")
    depth: Count = choice(None, "layers")
    rewrite: Flag = choice(None, "a convolution of width 1 in each layer")
    lstm_layers: Natural = choice(None, "of the bottleneck")
    kernel_size: Count = choice(None, "of each layer")
    stride: Count = choice(None, "of each layer")
    context: Natural = choice(None, "of the decoder's convolutions")
    gelu: Flag = choice(None, "GELU instead of ReLU")
    glu: Flag = choice(None, "gated linear units")
    norm_starts: Natural = choice(None, "layer from which on there is group normalisation")
    norm_groups: Count = choice(None, "groups of the group normalisations")
    dconv_mode: Annotated[int, Bounded(whole=True, ge=0, le=3)] = choice(
        None, "residual branches: 1 encoder, 2 decoder, 3 both"
    )
    dconv_depth: Count = choice(None, "of the residual branches")
    dconv_comp: Count = choice(None, "compression of the residual branches")
    dconv_attn: Natural = choice(None, "layer from which on they have attention")
    dconv_lstm: Natural = choice(None, "layer from which on they have an LSTM")
    dconv_init: Positive = choice(None, "initial scale of the residual branches")
    resample: Flag = choice(None, "up-sample the input and down-sample the output by 2")
    rescale: NonNegative = choice(None, "of the initial weights")
    segment: Positive = choice(None, "length of a piece in seconds, which a run does not depend on")


class GibbsModel(Model):
    """The network of Demucs + Gibbs."""

    loss: Literal["l1", "snr"] = choice(
        "l1", "loss of its training: mean absolute error, or negative signal-to-noise ratio"
    )
    demucs: DemucsOptions = section(
        DemucsOptions, "options of the class Demucs of the package demucs; those not given have its defaults"
    )


class DemucsGibbs(Model):
    """Supervised separator that also takes known sources, with block Gibbs sampling."""

    model: GibbsModel = section(GibbsModel, "its network")
    training: TrainingChanges = section(TrainingChanges, "keys of `training` that differ")


class Baselines(Model):
    """The paper's other systems."""

    train: Flag = choice(False, "train their models and use those instead of `folder`")
    folder: str | None = choice(None, "folder of their model folders; null is that of the package")
    msdm: JointMSDM = section(JointMSDM, "joint model of all stems")
    weak_msdm: WeakMSDM = section(WeakMSDM, "one unconditional model per stem")
    demucs_gibbs: DemucsGibbs = section(
        DemucsGibbs, "supervised separator that also takes known sources, with block Gibbs sampling"
    )


class ValidationGrid(Model):
    """The grid on validation chunks."""

    chunks: Count | None = choice(None, "as above; null is no such grid, and Table 1 chooses for all rows")
    w: Strengths | None = choice(None, "values of the guidance strength; null takes grid.w")


class Grid(Model):
    """Table 1."""

    w: Strengths = choice([3, 7.5, 15, 24], "values of the guidance strength")
    chunks: Count | None = choice(
        8, "chunks with two active stems or more, spread over the tracks; null is the whole test split"
    )
    solver: SolverChanges = section(SolverChanges, "changes to every method's solver, for the grid alone")
    validation: ValidationGrid = section(
        ValidationGrid,
        "the same on validation chunks, for rows of Table 2 whose settings the test split shall not have seen",
    )
    select_by: Literal["active", "protocol"] = choice(
        "active",
        "score that decides which w and which constrained stem Table 2 uses: over active stems, or the protocol's",
    )


class Costs(Model):
    """Figure of the SI-SDR improvement against network evaluations."""

    steps: Annotated[list[Count], Unique] = choice([], "numbers of solver steps; an empty list leaves the figure out")
    chunks: Count | None = choice(
        8, "chunks with two active stems or more, spread over the tracks; null is the whole test split"
    )
