"""The four tasks on songs: files or arrays of any rate, number of channels and length.

A song is resampled to the model's rate and back. A model of one channel separates the channels of a song one by one,
with the same noise. A song that is louder or softer by a factor gives stems that are, if the model knows its `level`;
and where the song is silent, so are they.

`model` is a `gmsdi.models.protocol.Model`, what `gmsdi.load` takes, or a `Session`, whose model and batch are used.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from gmsdi import level, tasks
from gmsdi.errors import UserError
from gmsdi.inference import Gamma, ShareOut, Wiener, natural_gamma
from gmsdi.io.audio import Audio, Samples, as_audio, fit, resample, rounded
from gmsdi.models import registry
from gmsdi.models.protocol import Model
from gmsdi.sampling.session import Batch, Session
from gmsdi.sampling.solver import Guidance, Solver
from gmsdi.tasks import Average, GivenNoise, TotalNoise
from gmsdi.types import Labels, Negatives, Progress, Stems, total_of

Source: TypeAlias = str | Path | Audio | ArrayLike
AnyModel: TypeAlias = Model | Session | str | Path
GenerationMethod: TypeAlias = Literal["total", "sequential", "extracted"]

SEPARATION = Solver("euler", steps=25, sigma_min=2e-3, sigma_max=2.0, rho=7.0, s_churn=8.0)
SEPARATION_GUIDANCE = Guidance(w=2.0)
GENERATION = Solver("dpmpp_2m", steps=25, sigma_min=0.015, sigma_max=8.0, rho=7.0)
GENERATION_GUIDANCE = Guidance(w=1.0)


def separate(
    model: AnyModel,
    source: Source,
    stems: Sequence[str] | None = None,
    *,
    sample_rate: int | None = None,
    constrained: int | str | None = None,
    projected: bool = False,
    average: Average | None = None,
    wiener: Wiener | None = None,
    solver: Solver = SEPARATION,
    guidance: Guidance = SEPARATION_GUIDANCE,
    batch: Batch | None = None,
    seed: int = 0,
    negatives: Negatives = None,
    progress: Progress | None = None,
) -> Stems:
    """Separate a song with the GMSDI Separator (Eq. 13).

    The stems sum to the song: exactly at the model's rate, and otherwise in the band that the model hears.

    Args:
        model: see `gmsdi.song`.
        source: a file, `Audio`, or an array `[T]` or `[C, T]` with `sample_rate`.
        stems: labels of what the song consists of; None is all that the model knows.
        sample_rate: of an array, in Hz.
        constrained: the stem that is the song minus the others; None is Drums, the paper's choice, or the last.
        projected: constrain no stem, project all onto the song (`inference.Projected`).
        average: of how many runs; None is one.
        wiener: filter the song by the result, at the model's rate; None leaves the stems as they are.
        solver: how to integrate.
        guidance: strength and kind of the guidance.
        batch: how many signals the model denoises at once.
        seed: of the noise.
        negatives: label to negative text.
        progress: called with (step, steps).

    Returns:
        The stems at the song's rate and length.

    Raises:
        UserError: for unusable audio or stems, or if the sampling diverged.
    """
    if projected and constrained is not None:
        raise UserError(f"constrained {constrained!r} and projected exclude each other; choose one")
    session = _session(model, solver, guidance, batch)
    labels = session.labels.chosen(stems)
    if constrained is None and not projected:
        constrained = "Drums" if "Drums" in labels else labels[-1]
    audio, mixture, song_level = _song(session, source, sample_rate)
    found = tasks.separate(
        session,
        mixture,
        labels,
        constrained=constrained,
        average=average,
        wiener=wiener,
        seeds=[seed] * len(mixture),
        levels=[song_level] * len(mixture),
        negatives=negatives,
        progress=progress,
    )
    return _separated(session, found, labels, audio)


def extract(
    model: AnyModel,
    source: Source,
    stems: Sequence[str] | None = None,
    *,
    sample_rate: int | None = None,
    consistent: bool | ShareOut = False,
    average: Average | None = None,
    wiener: Wiener | None = None,
    solver: Solver = SEPARATION,
    guidance: Guidance = SEPARATION_GUIDANCE,
    batch: Batch | None = None,
    seed: int = 0,
    negatives: Negatives = None,
    progress: Progress | None = None,
) -> Stems:
    """Separate a song with the GMSDI Extractor (Eq. 14).

    Args:
        model: see `gmsdi.song`.
        source: a file, `Audio`, or an array `[T]` or `[C, T]` with `sample_rate`.
        stems: labels of what the song consists of; None is all that the model knows.
        sample_rate: of an array, in Hz.
        consistent: solve for the stems together, so that they sum to the song; otherwise each by itself.
        average: see `separate`.
        wiener: see `separate`.
        solver: how to integrate.
        guidance: strength and kind of the guidance.
        batch: how many signals the model denoises at once.
        seed: of the noise.
        negatives: label to negative text.
        progress: called with (step, steps).

    Returns:
        The stems at the song's rate and length.

    Raises:
        UserError: for unusable audio or stems, or if the sampling diverged.
    """
    session = _session(model, solver, guidance, batch)
    labels = session.labels.chosen(stems)
    audio, mixture, song_level = _song(session, source, sample_rate)
    found = tasks.extract(
        session,
        mixture,
        labels,
        consistent=consistent,
        average=average,
        wiener=wiener,
        seeds=[seed] * len(mixture),
        levels=[song_level] * len(mixture),
        negatives=negatives,
        progress=progress,
    )
    return _separated(session, found, labels, audio)


def generate(
    model: AnyModel,
    stems: Sequence[str] | None = None,
    *,
    method: GenerationMethod = "total",
    groups: Sequence[Sequence[str]] | None = None,
    seconds: float | None = None,
    gamma_x: Gamma | None = None,
    gamma_y: Gamma = math.inf,
    noise: TotalNoise = "independent",
    solver: Solver = GENERATION,
    separation_solver: Solver = SEPARATION,
    guidance: Guidance = GENERATION_GUIDANCE,
    batch: Batch | None = None,
    seed: int = 0,
    negatives: Negatives = None,
    progress: Progress | None = None,
) -> Stems:
    """Generate coherent stems (Eq. 10), at the model's rate and the level of its training mixtures.

    Args:
        model: see `gmsdi.song`.
        stems: the labels; None is all that the model knows.
        method: "total", Eq. 10 and 11; or beyond the paper "sequential" (`tasks.generate_sequential`) or "extracted"
            (`tasks.generate_extracted`, with the settings of `extract`, consistent).
        groups: Eq. 11: labels that are generated as one signal, which then has their joint name.
        seconds: length; None is the model's window.
        gamma_x: γ of the stems; None is √(K + 1)·σ, see `gmsdi.inference.check_stability`.
        gamma_y: γ of the mixture; with ∞ the stems are drawn to a mixture that is sampled as if it were alone, and end
            as its parts (`consistent` of `inference.Total`).
        noise: see `tasks.generate`.
        solver: how to integrate.
        separation_solver: of the Extractor of "extracted".
        guidance: strength and kind of the guidance.
        batch: how many signals the model denoises at once.
        seed: of the noise.
        negatives: label to negative text.
        progress: called with (step, steps).

    Returns:
        The stems and their sum.

    Raises:
        UserError: for unusable stems, or if the steps are unstable with these γ or the sampling diverged.
    """
    session = _session(model, solver, guidance, batch)
    labels, rate = session.labels.chosen(stems, at_least=1), session.model.sample_rate
    samples = session.model.window if seconds is None else round(seconds * rate)
    if samples < 1:
        raise UserError(f"seconds is {seconds}; it must be positive")
    if method not in ("total", "sequential", "extracted"):
        raise UserError(f"method is {method!r}; choose total, sequential or extracted")
    if method != "total" and (groups is not None or gamma_x is not None or gamma_y != math.inf):
        raise UserError(f"groups, gamma_x and gamma_y belong to method total, not to {method}; choose one")
    common: dict[str, Any] = {
        "seeds": [seed],
        "negatives": negatives,
        "length": session.padded(samples),
        "progress": progress,
    }
    if method == "sequential":
        generated, _ = tasks.generate_sequential(session, labels, **common)
    elif method == "extracted":
        separation = session.using(separation_solver, SEPARATION_GUIDANCE)
        generated, _ = tasks.generate_extracted(session, labels, separation=separation, **common)
    else:
        generated, _ = tasks.generate(
            session,
            labels,
            groups=None if groups is None else Labels(labels).indices(groups),
            gamma_x=gamma_x,
            gamma_y=gamma_y,
            noise=noise,
            consistent=gamma_y == math.inf,
            **common,
        )
        labels = labels if groups is None else [", ".join(group) for group in groups]
    parts = dict(zip(labels, generated[0, :, :, :samples].numpy(), strict=True))
    _require_plausible(parts, session.level)
    return Stems(parts, total_of(parts.values()), rate)


def accompany(
    model: AnyModel,
    given: Mapping[str, Source],
    stems: Sequence[str] | None = None,
    *,
    sample_rate: int | None = None,
    gamma_x: Gamma | None = None,
    gamma_y: Gamma | None = None,
    alpha: float = 1.0,
    beta: float = 1.0,
    given_noise: GivenNoise = "coupled",
    share: float | None = None,
    solver: Solver = GENERATION,
    guidance: Guidance = GENERATION_GUIDANCE,
    batch: Batch | None = None,
    seed: int = 0,
    negatives: Negatives = None,
    progress: Progress | None = None,
) -> Stems:
    """Generate stems that go with given ones (Eq. 12, or beyond the paper with `share`).

    The model hears the given stems at its own rate and number of channels (stereo is averaged for a model of one
    channel). The result has the rate and length of the given stems. What is generated is rounded to 16 bits, so that,
    in float and in 16-bit files alike, the mixture minus the generated stems gives 16-bit given stems back bit for bit.
    It is as loud as goes with the given stems, which count as their share of the whole (`gmsdi.level.accompanied`), if
    the model knows its `level`.

    Args:
        model: see `gmsdi.song`.
        given: label to a file, `Audio`, or an array `[T]` or `[C, T]` with `sample_rate`; all of one length and rate.
        stems: labels to generate; None is all that the model knows and that are not given.
        sample_rate: of arrays, in Hz.
        gamma_x: γ of the stems; None is √(K + 1)·σ, with `share` √K·σ.
        gamma_y: γ of the mixture; None is √(K + 1)·σ.
        alpha: scale of the given stems in the mixture that the model imagines (not in the result).
        beta: scale of the generated ones there.
        given_noise: see `tasks.accompany`.
        share: beyond the paper, in place of Eq. 12 with its γ_y, α, β and given noise: hear the accompaniment together
            with the given stems, the whole with this weight (see `tasks.accompany_conditioned`).
        solver: how to integrate.
        guidance: strength and kind of the guidance.
        batch: how many signals the model denoises at once.
        seed: of the noise.
        negatives: label to negative text.
        progress: called with (step, steps).

    Returns:
        The generated stems, and as `mixture` the given stems and the generated ones together.

    Raises:
        UserError: for unusable audio or stems, or if the steps are unstable with these γ or the sampling diverged.
    """
    if not given:
        raise UserError("no stem is given; to generate all of them use generate")
    audios = {label: as_audio(source, sample_rate, label) for label, source in given.items()}
    reference = _alike(audios)
    session = _session(model, solver, guidance, batch)
    names = [x for x in session.labels if x not in audios] if stems is None else stems
    labels = session.labels.chosen(names, at_least=1)
    heard = np.stack([_at_model_rate(session, audio) for audio in audios.values()])
    whole = torch.from_numpy(heard)[None]
    common: dict[str, Any] = {"seeds": [seed], "negatives": negatives, "progress": progress}
    if share is not None:
        if gamma_y is not None or (alpha, beta) != (1.0, 1.0):
            raise UserError("gamma_y, alpha and beta belong to Eq. 12, share takes its place; choose one")
        generated, _ = tasks.accompany_conditioned(
            session, whole, list(audios), labels, share=share, gamma_x=gamma_x, **common
        )
    else:
        natural = natural_gamma(len(labels))
        generated, _ = tasks.accompany(
            session,
            whole,
            list(audios),
            labels,
            gamma_x=natural if gamma_x is None else gamma_x,
            gamma_y=natural if gamma_y is None else gamma_y,
            alpha=alpha,
            beta=beta,
            given_noise=given_noise,
            **common,
        )
    found = {
        label: _at_rate_of(session, reference, part) for label, part in zip(labels, generated[0].numpy(), strict=True)
    }
    (heard_level,) = level.levels_of(whole.sum(dim=1), session.model.sample_rate)
    known = session.level
    _require_plausible(found, None if known is None else heard_level if heard_level >= level.SILENCE else known)
    parts = {label: rounded(part) for label, part in found.items()}
    together = total_of([*(audio.samples for audio in audios.values()), *parts.values()])
    return Stems(parts, together, reference.sample_rate)


def _session(model: AnyModel, solver: Solver, guidance: Guidance, batch: Batch | None) -> Session:
    if isinstance(model, Session):
        return model.using(solver, guidance)
    opened = registry.load(model) if isinstance(model, str | Path) else model
    return Session(opened, solver, guidance, batch)


def _alike(audios: Mapping[str, Audio]) -> Audio:
    """The first of given stems, which all have one rate and shape."""
    first, reference = next(iter(audios.items()))
    for label, audio in audios.items():
        if audio.sample_rate != reference.sample_rate or audio.samples.shape != reference.samples.shape:
            raise UserError(
                f"given stem {label} has {audio.samples.shape[0]} channels of {audio.samples.shape[1]} samples at "
                f"{audio.sample_rate} Hz, but {first} has {reference.samples.shape[0]} of "
                f"{reference.samples.shape[1]} at {reference.sample_rate} Hz; make them alike"
            )
    return reference


def _song(session: Session, source: Source, sample_rate: int | None) -> tuple[Audio, Tensor, float]:
    """A song, as a batch of items `[B, C, T]` for the model, and its level."""
    audio, model = as_audio(source, sample_rate), session.model
    heard = audio if model.channels == 1 else _as_model_channels(audio, model.channels)
    samples = torch.from_numpy(resample(heard.samples, heard.sample_rate, model.sample_rate))
    (song_level,) = level.levels_of(samples.unsqueeze(0), model.sample_rate)
    items = torch.nn.functional.pad(samples, (0, session.padded(samples.shape[1]) - samples.shape[1]))
    return audio, items.unsqueeze(1 if model.channels == 1 else 0), song_level


def _separated(session: Session, separated: Tensor, labels: Sequence[str], audio: Audio) -> Stems:
    """`[B, K, C, T]` back at the song's rate and length."""
    parts = separated.transpose(0, 1).flatten(1, 2).numpy()  # [K, B * C, T]: one of B and C is 1
    stems = {label: _at_rate_of(session, audio, part) for label, part in zip(labels, parts, strict=True)}
    level.require_plausible(stems, peak=float(np.abs(audio.samples).max()), what="its mixture has")
    return Stems(stems, audio.samples, audio.sample_rate)


def _require_plausible(parts: Mapping[str, Samples], about: float | None) -> None:
    """Refuse generated stems whose peaks are out of all proportion to a level in dB; None is none known."""
    peak = math.inf if about is None else 10 ** ((about + level.CREST) / 20)
    level.require_plausible(parts, peak=peak, what="but music of this level reaches")


def _as_model_channels(audio: Audio, channels: int) -> Audio:
    """Average to one channel and repeat it, if the model has another number of channels."""
    samples = audio.samples
    if len(samples) != channels:
        samples = samples.mean(axis=0, keepdims=True).repeat(channels, axis=0)
    return Audio(samples, audio.sample_rate)


def _at_model_rate(session: Session, audio: Audio) -> Samples:
    """`[C, T]` at the model's rate and with its channels, padded with zeros to whole windows."""
    heard = _as_model_channels(audio, session.model.channels)
    samples = resample(heard.samples, heard.sample_rate, session.model.sample_rate)
    return fit(samples, session.padded(samples.shape[1]))


def _at_rate_of(session: Session, audio: Audio, samples: Samples) -> Samples:
    """`[C, T]` from the model's rate and padded length to those of `audio`."""
    return fit(resample(samples, session.model.sample_rate, audio.sample_rate), audio.samples.shape[1])
