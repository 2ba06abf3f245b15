"""The sections `separation`, `baselines`, `grid` and `costs`."""

from __future__ import annotations

from typing import Annotated, Literal

from annotated_types import Len

from gmsdi.settings import Bounded, Count, Deviation, Flag, Natural, NonNegative, Number, Positive
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

ChangesOf = "overrides keys of the solver"
Strengths = Annotated[list[Number], Len(1), Unique]


class Separation(Model):
    """Table 2."""

    chunks: Count | None = choice(
        None,
        "number of test chunks with two or more active stems, spread over the tracks; null means the whole test split",
    )
    bss_eval: Flag = choice(False, "also compute a table of BSS Eval's SDR, SIR and SAR with the package museval")
    solver: SolverSettings = section(dict, "how the derivative is integrated from sigma_max to 0")
    guidance: GuidanceSettings = section(GuidanceSettings, "classifier-free guidance, apart from its strength w")
    rows: dict[str, AnyRowSection] = choice(
        {},
        "the rows of Table 2 in their order: maps names of lower-case letters, digits and underscores to settings; "
        "the rows separator and extractor, from which Table 1 is made, are required",
    )


class DiffusionModel(Model):
    """The diffusion model of one of the paper's other systems."""

    sigma_data: Deviation = choice(0.1, "standard deviation of the data")
    unet: UNetChanges = section(UNetChanges, "overrides keys of `model.config.unet`")


class TaskSolver(Model):
    """Settings of one task."""

    solver: SolverChanges = section(SolverChanges, ChangesOf)


class JointGeneration(Model):
    """How the joint model generates."""

    solver: SolverChanges = section(SolverChanges, "overrides keys of `generation.solver`")
    best_of: Count = choice(1, "number of samples from which partial generation keeps the one with the largest norm")
    partial: TaskSolver = section(TaskSolver, "settings of partial generation")


CLAMP = "limit the denoised signal to [-clamp, clamp] whenever the model is sampled; null: no limit"


class JointMSDM(Model):
    """A joint model of all stems."""

    model: DiffusionModel = section(DiffusionModel, "its network")
    training: TrainingChanges = section(TrainingChanges, "overrides keys of `training`")
    clamp: Positive | None = choice(None, CLAMP)
    generation: JointGeneration = section(JointGeneration, "how it generates")


class WeakMSDM(Model):
    """One unconditional model per stem."""

    model: DiffusionModel = section(DiffusionModel, "its networks")
    training: TrainingChanges = section(TrainingChanges, "overrides keys of `training`")
    clamp: Positive | None = choice(None, CLAMP)
    generation: TaskSolver = section(TaskSolver, "how it generates")


class DemucsOptions(Changes):
    """Options of the class Demucs in the package demucs; keys not given have its defaults."""

    channels: Count = choice(None, "width of the first layer")
    growth: Positive = choice(None, "factor by which the width grows from layer to layer")
    depth: Count = choice(None, "number of layers")
    rewrite: Flag = choice(None, "add a convolution of width 1 to each layer")
    lstm_layers: Natural = choice(None, "number of LSTM layers in the bottleneck")
    kernel_size: Count = choice(None, "kernel size of each layer")
    stride: Count = choice(None, "stride of each layer")
    context: Natural = choice(None, "context of the decoder's convolutions, in samples to either side")
    gelu: Flag = choice(None, "use GELU instead of ReLU")
    glu: Flag = choice(None, "use gated linear units")
    norm_starts: Natural = choice(None, "first layer with group normalisation")
    norm_groups: Count = choice(None, "number of groups in group normalisation")
    dconv_mode: Annotated[int, Bounded(whole=True, ge=0, le=3)] = choice(
        None, "where residual branches are: 0 nowhere, 1 encoder, 2 decoder, 3 both"
    )
    dconv_depth: Count = choice(None, "depth of the residual branches")
    dconv_comp: Count = choice(None, "factor by which the residual branches are narrower")
    dconv_attn: Natural = choice(None, "first layer whose residual branches have attention")
    dconv_lstm: Natural = choice(None, "first layer whose residual branches have an LSTM")
    dconv_init: Positive = choice(None, "initial scale of the residual branches")
    resample: Flag = choice(None, "upsample the input and downsample the output by 2")
    rescale: NonNegative = choice(None, "reference scale of the initial weights")
    segment: Positive = choice(None, "segment length in seconds; it has no effect here")


class GibbsModel(Model):
    """The network of Demucs + Gibbs."""

    loss: Literal["l1", "snr"] = choice(
        "l1", "training loss: mean absolute error (l1), or negative signal-to-noise ratio (snr)"
    )
    demucs: DemucsOptions = section(
        DemucsOptions, "options of the class Demucs in the package demucs; keys not given have its defaults"
    )


class DemucsGibbs(Model):
    """A supervised separator that also takes known sources, with block Gibbs sampling."""

    model: GibbsModel = section(GibbsModel, "its network")
    training: TrainingChanges = section(TrainingChanges, "overrides keys of `training`")


class Baselines(Model):
    """The paper's other systems."""

    train: Flag = choice(False, "train their models, and use them instead of those in `folder`")
    folder: str | None = choice(None, "folder that holds the folders of their models; null means that of the package")
    msdm: JointMSDM = section(JointMSDM, "a joint model of all stems")
    weak_msdm: WeakMSDM = section(WeakMSDM, "one unconditional model per stem")
    demucs_gibbs: DemucsGibbs = section(
        DemucsGibbs, "a supervised separator that also takes known sources, with block Gibbs sampling"
    )


class ValidationGrid(Model):
    """The grid on validation chunks."""

    chunks: Count | None = choice(
        None, "number of validation chunks; null leaves this grid out, so that Table 1 chooses the settings of all rows"
    )
    w: Strengths | None = choice(None, "guidance strengths; null means grid.w")


class Grid(Model):
    """Table 1."""

    w: Strengths = choice([3, 7.5, 15, 24], "guidance strengths")
    chunks: Count | None = choice(
        8,
        "number of test chunks with two or more active stems, spread over the tracks; null means the whole test split",
    )
    solver: SolverChanges = section(SolverChanges, "overrides keys of each method's solver, in the grid only")
    validation: ValidationGrid = section(
        ValidationGrid,
        "the same grid on validation chunks, for rows of Table 2 whose settings are not to be chosen on the test split",
    )
    select_by: Literal["active", "protocol"] = choice(
        "active",
        "score by which w and the constrained stem are chosen for Table 2: active (over active stems) or protocol "
        "(MSDM's protocol)",
    )


class Costs(Model):
    """Figure 4: SI-SDR improvement against network evaluations."""

    steps: Annotated[list[Count], Unique] = choice([], "numbers of solver steps; an empty list leaves the figure out")
    chunks: Count | None = choice(
        8,
        "number of test chunks with two or more active stems, spread over the tracks; null means the whole test split",
    )
