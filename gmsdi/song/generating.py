"""Stems that are generated: all of them, or some to go with given ones."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
import torch

from gmsdi import level, tasks
from gmsdi.errors import UserError
from gmsdi.inference import Gamma, natural_gamma, require_share
from gmsdi.io.audio import Audio, Source, as_source, rounded
from gmsdi.models.protocol import Traits
from gmsdi.presets import Preset, preset_of
from gmsdi.sampling.noise import require_seed
from gmsdi.sampling.session import Batch, require_range
from gmsdi.sampling.solver import Guidance, Solver
from gmsdi.settings import require_kinds
from gmsdi.song.separating import shared_out, wiener_of
from gmsdi.song.signals import (
    AnyModel,
    AnySource,
    Known,
    as_channels,
    at_model_rate,
    at_rate_of,
    opened_after,
    require_plausible,
    require_prompts,
    require_room,
    require_seconds,
    session_of,
)
from gmsdi.stability import check_noise, check_steps, coupling_of, noise_warning, positive
from gmsdi.tasks import Average, GivenNoise, TotalNoise
from gmsdi.types import Labels, Negatives, Progress, Stems, total_of

GenerationMethod: TypeAlias = Literal["total", "sequential", "extracted"]
GENERATION = Solver("dpmpp_2m", steps=25, sigma_min=0.015, sigma_max=8.0, rho=7.0)
GENERATION_GUIDANCE = Guidance(w=2.0)
ACCOMPANIMENT_GUIDANCE = Guidance(w=1.0)
EXTRACTED_W_FACTOR = 2.0
"""How many times as strong as in its best preset a model's guidance is where it separates a mixture that it has
generated: with less, such stems have too much in common (docs/tuning/generation.md)."""


def generate(
    model: AnyModel,
    stems: Sequence[str] | None = None,
    *,
    method: GenerationMethod | None = None,
    groups: Sequence[Sequence[str]] | None = None,
    seconds: float | None = None,
    gamma_x: Gamma | None = None,
    gamma_y: Gamma = math.inf,
    noise: TotalNoise | None = None,
    solver: Solver = GENERATION,
    separation_solver: Solver | None = None,
    guidance: Guidance = GENERATION_GUIDANCE,
    batch: Batch | None = None,
    seed: int = 0,
    negatives: Negatives = None,
    progress: Progress | None = None,
) -> Stems:
    """Generate coherent stems (Eq. 10), at the model's rate and the level of its training mixtures.

    Args:
        model: see `gmsdi.song`.
        stems: the labels; None means all that the model knows.
        method: "total" (Eq. 10 and 11), or beyond the paper "extracted" (`tasks.generate_extracted`, consistent, with
            the model's best preset, its w doubled) or "sequential" (`tasks.generate_sequential`). None is
            "total" if `groups`, `gamma_x`, `gamma_y` or `noise` is given, otherwise "extracted", whose mixture is the
            most like real music, or of one stem "sequential".
        groups: Eq. 11: labels that are generated as one signal, which then has their joint name.
        seconds: length; None means the model's window.
        gamma_x: γ of the stems; None is √(K + 1)·σ, see `gmsdi.inference.check_stability`.
        gamma_y: γ of the mixture; with ∞ the stems are drawn towards a mixture that is sampled on its own, and end up
            as its parts (`consistent` of `inference.Total`).
        noise: of the rows of Eq. 10, see `tasks.generate`; None is "coupled", beyond the paper, since stems from
            "independent" noise are much farther from real ones (docs/tuning/generation.md).
        solver: how to integrate.
        separation_solver: of the Extractor of "extracted"; None is that of the model's best preset.
        guidance: strength and kind of the guidance.
        batch: how many signals the model denoises at once.
        seed: of the noise.
        negatives: label to negative text; None is none or, for "extracted", those of the preset.
        progress: called with (step, steps).

    Returns:
        The stems and their sum.

    Raises:
        UserError: for unusable stems, or if the steps are unstable with these γ, leave noise in extracted stems, or the
            sampling diverged.
    """
    if seconds is not None:
        require_seconds(seconds, "seconds")
    require_seed(seed)
    require_kinds(
        solver=(solver, Solver), guidance=(guidance, Guidance), batch=(batch, Batch), groups=(groups, Sequence)
    )
    coupled = groups is not None or gamma_x is not None or gamma_y != math.inf or noise is not None
    if method is None and coupled:
        method = "total"
    if method is not None and method not in get_args(GenerationMethod):
        raise UserError(f"method is {method!r}; choose {', '.join(get_args(GenerationMethod))}")
    if method != "total" and coupled:
        raise UserError(f"groups, gamma_x, gamma_y and noise belong to method total, not to {method}; choose one")
    if noise is not None and noise not in get_args(TotalNoise):
        raise UserError(f"noise is {noise!r}; choose {' or '.join(get_args(TotalNoise))}")

    def decided(
        known: Known,
    ) -> tuple[list[str], GenerationMethod, list[list[str]] | None, int, dict[str, str], Preset]:
        own, rate = Labels(known.labels), known.sample_rate
        labels = own.chosen(stems, at_least=1)
        how = method or ("extracted" if len(labels) > 1 else "sequential")
        if how == "extracted" and len(labels) == 1:
            raise UserError(f"method extracted takes at least 2 stems, not {labels[0]} alone; choose sequential")
        joint = None if groups is None else [own.spelled(group) for group in groups]
        if joint is not None:
            Labels(labels).indices(joint)
        told, best = own.negatives(negatives, labels), preset_of(known, "best")
        best = best.changed(solver=separation_solver, w=EXTRACTED_W_FACTOR * best.guidance.w)
        require_range(solver, known.sigma_range)
        if how == "total":
            _check_gammas(len(joint or labels), gamma_x, gamma_y, solver)
        if how == "extracted":
            require_range(best.solver, known.sigma_range)
            check_noise(best.solver, 2, Traits.of(known).sigma_data)
            if negatives is None:
                told = {label: text for label, text in best.negatives.items() if label in labels}
        samples = known.window if seconds is None else max(1, round(seconds * rate))
        require_room(known, len(labels) + 1, samples, f"{samples / rate:.4g} s of {len(labels)} stems")
        require_prompts(known, [own.join(labels).text, *labels, *told.values()])
        return labels, how, joint, samples, told, best

    opened, (labels, how, joint, samples, told, best) = opened_after(model, decided)
    session = session_of(opened, solver, guidance, batch)
    common: dict[str, Any] = {
        "seeds": [seed],
        "negatives": told,
        "length": session.padded(samples),
        "progress": progress,
    }
    if how == "sequential":
        generated, _ = tasks.generate_sequential(session, labels, **common)
    elif how == "extracted":
        if noisy := noise_warning(best.solver, 2, Traits.of(session.model).sigma_data):
            warnings.warn(noisy, stacklevel=2)
        generated, _ = tasks.generate_extracted(
            session,
            labels,
            separation=session.using(best.solver, best.guidance),
            consistent=shared_out(best, session.model),
            average=Average(best.runs, best.inverted),
            wiener=wiener_of(best, session.model),
            **common,
        )
    else:
        generated, _ = tasks.generate(
            session,
            labels,
            groups=joint if joint is None else Labels(labels).indices(joint),
            gamma_x=gamma_x,
            gamma_y=gamma_y,
            noise="coupled" if noise is None else noise,
            consistent=gamma_y == math.inf,
            **common,
        )
        labels = labels if joint is None else [", ".join(group) for group in joint]
    parts = dict(zip(labels, generated[0, :, :, :samples].numpy(), strict=True))
    require_plausible(parts, session.level)
    return Stems(parts, total_of(parts.values()), session.model.sample_rate)


def accompany(
    model: AnyModel,
    given: Mapping[str, AnySource],
    stems: Sequence[str] | None = None,
    *,
    sample_rate: int | None = None,
    gamma_x: Gamma | None = None,
    gamma_y: Gamma | None = None,
    alpha: float = 1.0,
    beta: float = 1.0,
    given_noise: GivenNoise | None = None,
    share: float | None = None,
    solver: Solver = GENERATION,
    guidance: Guidance = ACCOMPANIMENT_GUIDANCE,
    batch: Batch | None = None,
    seed: int = 0,
    negatives: Negatives = None,
    progress: Progress | None = None,
) -> Stems:
    """Generate stems that go with given ones (Eq. 12, or beyond the paper with `share`).

    The given stems are converted to the model's rate and number of channels (stereo is averaged for a model of one
    channel). The result has the rate and length of the given stems. What is generated is rounded to 16 bits, so that,
    in float and in 16-bit files alike, the mixture minus the generated stems gives 16-bit given stems back bit for bit.
    Its loudness fits the given stems, which count as their share of the whole (`gmsdi.level.accompanied`), if
    the model knows its `level`.

    Args:
        model: see `gmsdi.song`.
        given: label to a file, `Audio`, or an array `[T]` or `[C, T]` with `sample_rate`; all of one length and rate.
        stems: labels to generate; None means all that the model knows and that are not given.
        sample_rate: of arrays, in Hz.
        gamma_x: γ of the stems; None is √(K + 1)·σ, with `share` √K·σ.
        gamma_y: γ of the mixture; None is √(K + 1)·σ.
        alpha: scale of the given stems in the mixture that is sampled (not in the result).
        beta: scale of the generated ones there.
        given_noise: see `tasks.accompany`; None is "coupled".
        share: beyond the paper, in place of Eq. 12 with its γ_y, α, β and given noise: also denoise the sum of given
            and generated stems, and give it this weight (see `tasks.accompany_conditioned`).
        solver: how to integrate.
        guidance: strength and kind of the guidance.
        batch: how many signals the model denoises at once.
        seed: of the noise.
        negatives: label to negative text.
        progress: called with (step, steps).

    Returns:
        The generated stems, and as `mixture` the sum of the given and the generated ones.

    Raises:
        UserError: for unusable audio or stems, or if the steps are unstable with these γ or the sampling diverged.
    """
    if not given:
        raise UserError("no stem is given; to generate all of them use generate")
    if not isinstance(given, Mapping):
        raise UserError("given stems come as a mapping of labels to audio, such as {'Bass': 'bass.wav'}")
    sources = {label: as_source(source, sample_rate, label) for label, source in given.items()}
    reference = _alike(sources)
    require_seed(seed)
    require_kinds(solver=(solver, Solver), guidance=(guidance, Guidance), batch=(batch, Batch))
    for name, value in (("alpha", alpha), ("beta", beta)):
        if not (isinstance(value, int | float) and math.isfinite(value)):
            raise UserError(f"{name} is {value!r}; it must be a number")
    if share is not None:
        if gamma_y is not None or given_noise is not None or (alpha, beta) != (1.0, 1.0):
            raise UserError("gamma_y, alpha, beta and given_noise belong to Eq. 12, share takes its place; choose one")
        require_share(share)
    if given_noise is not None and given_noise not in get_args(GivenNoise):
        raise UserError(f"given_noise is {given_noise!r}; choose {', '.join(get_args(GivenNoise))}")

    whole = [source.whole() for source in sources.values()]

    def decided(known: Known) -> tuple[dict[str, Audio], list[str], dict[str, str]]:
        own = Labels(known.labels)
        heard = dict(zip(own.spelled(sources), whole, strict=True))
        if len(heard) < len(given):
            raise UserError(f"given stems {', '.join(given)}: each can be given once")
        labels = own.chosen(own.others(heard) if stems is None else stems, at_least=1)
        if twice := set(labels) & set(heard):
            raise UserError(f"stem {min(twice)!r} is both given and to be generated; leave it out of one")
        told = own.negatives(negatives, [*heard, *labels])
        require_range(solver, known.sigma_range)
        J = len(labels)
        if share is None:
            _check_gammas(J, gamma_x, natural_gamma(J) if gamma_y is None else gamma_y, solver, beta=beta)
        else:
            several = J + (J > 1)  # the generated stems, and if they are several, their sum
            _check_gammas(several - 1, natural_gamma(J - 1) if gamma_x is None else gamma_x, math.inf, solver)
        samples = math.ceil(reference.seconds * known.sample_rate)
        require_room(known, J + len(heard) + 1, samples, f"an accompaniment of {reference.seconds:.4g} s")
        require_prompts(known, [own.join([*heard, *labels]).text, *heard, *labels, *told.values()])
        return heard, labels, told

    opened, (audios, labels, told) = opened_after(model, decided)
    session = session_of(opened, solver, guidance, batch)
    heard = np.stack([at_model_rate(session, audio) for audio in audios.values()])
    given_stems = torch.from_numpy(heard)[None]
    common: dict[str, Any] = {"seeds": [seed], "negatives": told, "progress": progress}
    if share is not None:
        generated, _ = tasks.accompany_conditioned(
            session, given_stems, list(audios), labels, share=share, gamma_x=gamma_x, **common
        )
    else:
        natural = natural_gamma(len(labels))
        generated, _ = tasks.accompany(
            session,
            given_stems,
            list(audios),
            labels,
            gamma_x=natural if gamma_x is None else gamma_x,
            gamma_y=natural if gamma_y is None else gamma_y,
            alpha=alpha,
            beta=beta,
            given_noise="coupled" if given_noise is None else given_noise,
            **common,
        )
    found = {
        label: at_rate_of(session, reference, part) for label, part in zip(labels, generated[0].numpy(), strict=True)
    }
    (heard_level,) = level.levels_of(given_stems.sum(dim=1), session.model.sample_rate)
    known = session.level
    require_plausible(found, None if known is None else heard_level if heard_level >= level.SILENCE else known)
    parts = {label: rounded(part) for label, part in found.items()}
    channels = session.model.channels
    own = (audio.samples if channels == 1 else as_channels(audio.samples, channels) for audio in audios.values())
    together = total_of([*own, *parts.values()])
    return Stems(parts, together, reference.sample_rate)


def _check_gammas(stems: int, gamma_x: Gamma | None, gamma_y: Gamma, solver: Solver, *, beta: float = 1.0) -> None:
    """Refuse γ that are none, or with which the steps of this many coupled stems would diverge."""
    widths = positive("gamma_x", natural_gamma(stems) if gamma_x is None else gamma_x), positive("gamma_y", gamma_y)
    check_steps(lambda sigma: coupling_of(sigma, stems, *widths, beta), stems + 1, solver.sigmas(), step=solver.step)


def _alike(sources: Mapping[str, Source]) -> Source:
    """The first given stem. All must have the same rate, length and number of channels."""
    first, reference = next(iter(sources.items()))
    for label, source in sources.items():
        shapes = [f"{x.channels} channels of {x.frames} samples at {x.sample_rate} Hz" for x in (source, reference)]
        if shapes[0] != shapes[1]:
            raise UserError(f"given stem {label} has {shapes[0]}, but {first} has {shapes[1]}; make them alike")
    return reference
