"""The four tasks on songs: files or arrays of any rate, number of channels and length.

A song is resampled to the model's rate and back. A model of one channel separates the channels of a song one by one,
with the same noise. A song that is louder or softer by a factor gives stems that are, if the model knows its `level`;
and where the song is silent, so are they.

Songs of any length are separated in little memory: in blocks of `BLOCK` seconds, each of which is sampled as a whole,
and which overlap as windows do and are cross-faded. A `Separation` reads a song block by block and hands its stems out
in the same way; `separate` and `extract` collect them.

`model` is a `gmsdi.models.protocol.Model`, what `gmsdi.load` takes, or a `Session`, whose model and batch are used.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
import torch
from numpy.typing import ArrayLike

from gmsdi import level, tasks
from gmsdi.errors import UserError
from gmsdi.inference import Gamma, ShareOut, Wiener, natural_gamma
from gmsdi.inference.stability import check_separator
from gmsdi.io.audio import Audio, Samples, Source, as_source, fit, resample, resampled, rounded
from gmsdi.io.memory import require_memory
from gmsdi.models import registry
from gmsdi.models.protocol import Model, Waveform
from gmsdi.presets import METHODS, Method, Preset, preset_of
from gmsdi.sampling.session import OVERLAP, Batch, Session
from gmsdi.sampling.solver import Guidance, Solver
from gmsdi.tasks import Average, GivenNoise, TotalNoise
from gmsdi.types import Labels, Negatives, Progress, Stems, total_of

AnySource: TypeAlias = str | Path | Audio | Source | ArrayLike
AnyModel: TypeAlias = Model | Session | str | Path
GenerationMethod: TypeAlias = Literal["total", "sequential", "extracted"]

BLOCK = 30.0
"""Seconds of a song that are separated at once, at least."""
GENERATION = Solver("dpmpp_2m", steps=25, sigma_min=0.015, sigma_max=8.0, rho=7.0)
GENERATION_GUIDANCE = Guidance(w=1.0)
_ARRAYS = 28
"""Times that sampling holds a state of all rows at once, at most, with what becomes of it (by `benchmarks.songs`)."""


@dataclass(frozen=True)
class Separation:
    """How songs are separated: all that is settled before the first of them is read.

    Made by `separation`. Called with a song, it yields its stems `[K, C, n]` block by block, all of one length
    together; `labels` are theirs.

    Attributes:
        session: the model and how it is sampled.
        prompts: of all that the song consists of, the stems first.
        labels: of the stems.
        preset: what is run.
        seed: of the noise.
        negatives: label to negative text.
        consistent: how the stems of the consistent Extractor are made to sum to the song.
        average: of how many runs.
        wiener: filter of the song by the result.
        block: seconds.
    """

    session: Session
    prompts: Sequence[str]
    labels: Sequence[str]
    preset: Preset
    seed: int = 0
    negatives: Mapping[str, str] = field(default_factory=dict)
    consistent: bool | ShareOut = False
    average: Average = field(default_factory=Average)
    wiener: Wiener | None = None
    block: float = BLOCK

    def __call__(self, source: Source, progress: Progress | None = None) -> Iterator[Samples]:
        """Separate a song.

        Args:
            source: the song.
            progress: called with (step, steps), over all of its blocks.

        Yields:
            The stems, float32 `[K, C, n]` at the song's rate; in all as long as the song.

        Raises:
            UserError: if the song is damaged, or the sampling diverged.
        """
        model = self.session.model
        meter, peak, frames = level.Meter(model.sample_rate), 0.0, 0
        at_once = round(min(source.seconds, self.block) * model.sample_rate)
        signals = len(self.prompts) * self.average.runs * (source.channels if model.channels == 1 else 1)
        _require_memory(self.session, signals, at_once, f"{source.name}, {self.block:g} s of it at once,")

        def watched() -> Iterator[Samples]:
            nonlocal peak, frames
            for block in source.blocks():
                peak, frames = max(peak, float(np.abs(block).max())), frames + block.shape[1]
                yield block

        for block in self._heard(source, watched()):
            meter.add(torch.from_numpy(block))
        found = self._blocks(self._heard(source, source.blocks()), meter.length, meter.level(), progress)
        channels, left = self.channels(source), frames
        flat = (part.reshape(-1, part.shape[-1]) for part in found)
        rows = len(self.labels) * channels
        for part in resampled(flat, model.sample_rate, source.sample_rate, rows):
            if not left or not part.size:
                continue
            stems = part.reshape(len(self.labels), channels, -1)[..., :left]
            left -= stems.shape[-1]
            level.require_plausible(dict(zip(self.labels, stems, strict=True)), peak=peak, what="its mixture has")
            yield stems
        if left:
            yield np.zeros((len(self.labels), channels, left), np.float32)

    def channels(self, source: Source) -> int:
        """Channels of a song's stems: its own for a model of one channel, else the model's."""
        return source.channels if self.session.model.channels == 1 else self.session.model.channels

    def mixture(self, source: Source) -> Iterator[Samples]:
        """A song with the channels of its stems, block by block."""
        return (_as_channels(block, self.channels(source)) for block in source.blocks())

    def collected(self, source: Source, progress: Progress | None = None) -> Stems:
        """A song's stems as a whole."""
        parts = np.concatenate(list(self(source, progress)), axis=-1)
        return Stems(dict(zip(self.labels, parts, strict=True)), source.whole().samples, source.sample_rate)

    def _heard(self, source: Source, blocks: Iterable[Samples]) -> Iterator[Samples]:
        """A song as the model hears it."""
        channels = self.channels(source)
        heard = (_as_channels(block, channels) for block in blocks)
        return resampled(heard, source.sample_rate, self.session.model.sample_rate, channels)

    def _blocks(
        self, heard: Iterator[Samples], length: int, song_level: float, progress: Progress | None
    ) -> Iterator[Samples]:
        """The stems `[K, C, n]` at the model's rate, block by block, cross-faded."""
        session = self.session
        rate, overlap = session.model.sample_rate, max(1, round(OVERLAP * session.model.window))
        size = session.padded(max(1, round(self.block * rate)))
        hop = size - overlap
        number = 1 if length <= size else math.ceil((length - overlap) / hop)
        steps, fade = number * session.solver.steps, (np.arange(overlap, dtype=np.float32) + 0.5) / overlap
        waiting, tail = np.zeros((0, 0), np.float32), None
        for k in range(number):
            wanted = length - k * hop if k == number - 1 else size
            pieces = [waiting]
            while sum(piece.shape[1] for piece in pieces) < wanted:
                pieces.append(next(heard))
            whole = np.concatenate([piece for piece in pieces if piece.size], axis=1)
            block, waiting = whole[:, :wanted], whole[:, hop:]
            found = self._separated(block, song_level, k, _from(progress, k * session.solver.steps, steps))
            if tail is not None:
                found[..., :overlap] = tail * (1 - fade) + found[..., :overlap] * fade
            tail = found[..., hop:].copy()
            yield found if k == number - 1 else found[..., :hop]

    def _separated(self, block: Samples, song_level: float, number: int, progress: Progress | None) -> Samples:
        """The stems `[K, C, n]` of one block `[C, n]`."""
        session, mono = self.session, self.session.model.channels == 1
        items = torch.from_numpy(fit(block, session.padded(block.shape[1]))).unsqueeze(1 if mono else 0)
        seed = self.seed if number == 0 else int(np.random.SeedSequence([self.seed, number, 1]).generate_state(1)[0])
        common: dict[str, Any] = {
            "average": self.average,
            "wiener": self.wiener,
            "seeds": [seed] * len(items),
            "levels": [song_level] * len(items),
            "negatives": self.negatives,
            "progress": progress,
        }
        if self.preset.method in ("separator", "projected"):
            constrained = self.preset.constrained if self.preset.method == "separator" else None
            found = tasks.separate(session, items, self.prompts, constrained=constrained, **common)
        else:
            found = tasks.extract(session, items, self.prompts, consistent=self.consistent, **common)
        kept = found[:, : len(self.labels)].transpose(0, 1).flatten(1, 2)  # [K, B * C, T]: one of B and C is 1
        return kept[..., : block.shape[1]].numpy().copy()


def separation(
    model: AnyModel,
    stems: Sequence[str] | str | None = None,
    *,
    rest: Sequence[str] | str | None = (),
    preset: str | Preset | None = None,
    method: Method | None = None,
    constrained: str | None = None,
    consistent: bool | ShareOut | None = None,
    average: Average | None = None,
    wiener: Wiener | None = None,
    solver: Solver | None = None,
    guidance: Guidance | None = None,
    steps: int | None = None,
    w: float | None = None,
    runs: int | None = None,
    batch: Batch | None = None,
    seed: int = 0,
    negatives: Negatives = None,
    block: float = BLOCK,
) -> Separation:
    """How songs are to be separated: a preset of the model, and what is to be done otherwise.

    Args:
        model: see `gmsdi.song`.
        stems: labels of the stems that are wanted; None is all that the model knows.
        rest: labels of what else the songs consist of, which is sampled as one signal; None is all else that the model
            knows.
        preset: the model's preset of that name (`gmsdi.presets`), or one of your own; None is "best", or for the method
            "separator" or "projected" the preset for it.
        method: in place of the preset's, as the rest of the arguments.
        constrained: of the method "separator": the stem that is the song minus the others.
        consistent: of the methods "extractor" and "consistent": which of them, or how the stems are made to sum to the
            song.
        average: the same, with polarities.
        wiener: filter the song by the result, at the model's rate.
        solver: how to integrate.
        guidance: strength and kind of the guidance.
        steps: of the solver.
        w: of the guidance.
        runs: of which the mean is taken.
        batch: how many signals the model denoises at once.
        seed: of the noise.
        negatives: label to negative text.
        block: seconds of a song that are separated at once, at least. Memory grows with it.

    Raises:
        UserError: for unusable stems or settings, or steps that are too few.
    """
    opened = _opened(model)
    inner = opened.model if isinstance(opened, Session) else opened
    if constrained is not None and method is None and preset is None:
        method = "separator"
    names = {"separator": "paper-separator", "projected": "projected"}
    chosen = preset_of(inner, preset or names.get(method or "", "best"))
    if consistent is not None and chosen.method in ("extractor", "consistent"):
        method = "consistent" if consistent else "extractor"
    chosen = chosen.changed(
        method=method, constrained=constrained, solver=solver, guidance=guidance, steps=steps, w=w, runs=runs
    )
    if consistent is not None and chosen.method not in ("extractor", "consistent"):
        raise UserError(f"preset {chosen.name!r} is {METHODS[chosen.method]}; consistent is for the Extractor")
    labels = Labels(inner.labels)
    wanted = labels.chosen(stems, at_least=1)
    others = [x for x in labels if x not in wanted] if rest is None else labels.spelled(rest)
    if twice := set(wanted) & set(others):
        raise UserError(f"{min(twice)!r} is named both as a stem and as the rest; name it once")
    prompts = [*wanted, *([labels.join(others).text] if others else [])]
    if len(prompts) < 2:
        raise UserError(
            f"the song consists of {', '.join(prompts)} alone, but at least 2 stems are needed; name the others, or "
            "what the rest of it is"
        )
    if chosen.method == "separator":
        if chosen.constrained is None:
            chosen = replace(chosen, constrained="Drums" if "Drums" in prompts else prompts[-1])
        (constrained,) = labels.spelled([chosen.constrained or ""])
        chosen = replace(chosen, constrained=constrained)
        if constrained not in prompts:
            raise UserError(f"constrained stem {constrained!r} is not among the stems {', '.join(prompts)}")
        check_separator(chosen.solver, len(prompts))
    if negatives is None:
        told = {label: text for label, text in chosen.negatives.items() if label in prompts}
    else:
        told = labels.negatives(negatives, prompts)
    # A prompt that the model cannot take is refused here.
    joint = [labels.join(prompts[:k] + prompts[k + 1 :]).text for k in range(len(prompts))]
    inner.embed([*prompts, *told.values(), *joint])
    if not (isinstance(block, int | float) and 0 < block < math.inf):
        raise UserError(f"block is {block!r}; it must be a positive number of seconds")
    rate, waveform = inner.sample_rate, isinstance(inner.space, Waveform)
    longest = inner.window / rate / 2  # of a spectrogram's windows
    how = consistent if isinstance(consistent, ShareOut) else chosen.method == "consistent"
    if how is True and chosen.by_power and waveform:
        how = ShareOut(rate, chosen.by_power, min(ShareOut.seconds, longest))
    if wiener is None and chosen.filtered:
        wiener = Wiener(rate, chosen.filtered, min(Wiener.seconds, longest))
    return Separation(
        session=_session(opened, chosen.solver, chosen.guidance, batch),
        prompts=prompts,
        labels=wanted,
        preset=chosen,
        seed=seed,
        negatives=told,
        consistent=how,
        average=average or Average(chosen.runs, chosen.inverted),
        wiener=wiener,
        block=block,
    )


def separate(
    model: AnyModel,
    source: AnySource,
    stems: Sequence[str] | str | None = None,
    *,
    sample_rate: int | None = None,
    preset: str | Preset | None = None,
    constrained: str | None = None,
    projected: bool = False,
    progress: Progress | None = None,
    **settings: Any,
) -> Stems:
    """Separate a song into all that it consists of, by default as the model is best at it (`gmsdi.presets`).

    The stems sum to the song, unless the preset is Eq. 14's: at the model's rate exactly, and otherwise in the band
    that the model hears.

    Args:
        model: see `gmsdi.song`.
        source: a file, `Audio`, or an array `[T]` or `[C, T]` with `sample_rate`.
        stems: labels of what the song consists of; None is all that the model knows.
        sample_rate: of an array, in Hz.
        preset: "best", "fast", "slow", "paper-separator", "paper-extractor", "projected", or a model's own; None is
            "best", or what `constrained` or `projected` ask for.
        constrained: the Separator of Eq. 13, with this stem as the song minus the others.
        projected: the Separator that constrains no stem and projects all onto the song (`inference.Projected`).
        progress: called with (step, steps).
        settings: what is to be done otherwise than in the preset, see `separation`.

    Returns:
        The stems at the song's rate and length.

    Raises:
        UserError: for unusable audio, stems or settings, or if the sampling diverged.
    """
    if projected and constrained is not None:
        raise UserError(f"constrained {constrained!r} and projected exclude each other; choose one")
    if projected:
        settings["method"] = "projected"
    song = as_source(source, sample_rate)
    return separation(model, stems, preset=preset, constrained=constrained, **settings).collected(song, progress)


def extract(
    model: AnyModel,
    source: AnySource,
    stems: Sequence[str] | str | None = None,
    *,
    rest: Sequence[str] | str | None = None,
    sample_rate: int | None = None,
    preset: str | Preset | None = None,
    progress: Progress | None = None,
    **settings: Any,
) -> Stems:
    """Extract stems from a song with the GMSDI Extractor (Eq. 14), by default as the model is best at it.

    What else the song consists of is sampled as one signal, so that one stem costs half of what four do.

    Args:
        model: see `gmsdi.song`.
        source: a file, `Audio`, or an array `[T]` or `[C, T]` with `sample_rate`.
        stems: labels of the stems that are wanted; None is all that the model knows.
        rest: labels of what else the song consists of; None is all else that the model knows, and `()` nothing.
        sample_rate: of an array, in Hz.
        preset: see `separate`; "paper-extractor" takes each stem by itself, as the paper does.
        progress: called with (step, steps).
        settings: what is to be done otherwise than in the preset, see `separation`; `consistent=False` is Eq. 14.

    Returns:
        The stems at the song's rate and length; the residual is the rest of it.

    Raises:
        UserError: see `separate`.
    """
    song = as_source(source, sample_rate)
    made = separation(model, stems, rest=rest, preset=preset, **settings)
    require_extractor(made.preset)
    return made.collected(song, progress)


def require_extractor(preset: Preset) -> None:
    """Refuse to extract by a preset that separates.

    Raises:
        UserError: if it is no Extractor.
    """
    if preset.method not in ("extractor", "consistent"):
        raise UserError(f"preset {preset.name!r} is {METHODS[preset.method]}, which takes a song apart; use separate")


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
        separation_solver: of the Extractor of "extracted"; None is that of the model's best preset.
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
    if seconds is not None and not 0 < seconds < math.inf:
        raise UserError(f"seconds is {seconds}; it must be a positive number")
    samples = session.model.window if seconds is None else max(1, round(seconds * rate))
    joint = None if groups is None else [session.labels.spelled(group) for group in groups]
    if method not in ("total", "sequential", "extracted"):
        raise UserError(f"method is {method!r}; choose total, sequential or extracted")
    if method != "total" and (groups is not None or gamma_x is not None or gamma_y != math.inf):
        raise UserError(f"groups, gamma_x and gamma_y belong to method total, not to {method}; choose one")
    _require_memory(session, len(labels) + 1, samples, f"{samples / rate:.4g} s of {len(labels)} stems")
    common: dict[str, Any] = {
        "seeds": [seed],
        "negatives": session.labels.negatives(negatives, labels),
        "length": session.padded(samples),
        "progress": progress,
    }
    if method == "sequential":
        generated, _ = tasks.generate_sequential(session, labels, **common)
    elif method == "extracted":
        best = preset_of(session.model, "best").changed(solver=separation_solver)
        separation = session.using(best.solver, best.guidance)
        generated, _ = tasks.generate_extracted(session, labels, separation=separation, **common)
    else:
        generated, _ = tasks.generate(
            session,
            labels,
            groups=joint if joint is None else Labels(labels).indices(joint),
            gamma_x=gamma_x,
            gamma_y=gamma_y,
            noise=noise,
            consistent=gamma_y == math.inf,
            **common,
        )
        labels = labels if joint is None else [", ".join(group) for group in joint]
    parts = dict(zip(labels, generated[0, :, :, :samples].numpy(), strict=True))
    _require_plausible(parts, session.level)
    return Stems(parts, total_of(parts.values()), rate)


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
    sources = {label: as_source(source, sample_rate, label) for label, source in given.items()}
    reference = _alike(sources)
    session = _session(model, solver, guidance, batch)
    sources = dict(zip(session.labels.spelled(sources), sources.values(), strict=True))
    if len(sources) < len(given):
        raise UserError(f"given stems {', '.join(given)}: each can be given once")
    audios = {label: source.whole() for label, source in sources.items()}
    names = [x for x in session.labels if x not in audios] if stems is None else stems
    labels = session.labels.chosen(names, at_least=1)
    if twice := set(labels) & set(audios):
        raise UserError(f"stem {min(twice)!r} is both given and to be generated; leave it out of one")
    rows, rate = len(labels) + len(audios) + 1, session.model.sample_rate
    samples = math.ceil(reference.seconds * rate)
    _require_memory(session, rows, samples, f"an accompaniment of {reference.seconds:.4g} s")
    for name, value in (("alpha", alpha), ("beta", beta)):
        if not math.isfinite(value):
            raise UserError(f"{name} is {value}; it must be a number")
    heard = np.stack([_at_model_rate(session, audio) for audio in audios.values()])
    whole = torch.from_numpy(heard)[None]
    told = session.labels.negatives(negatives, [*audios, *labels])
    common: dict[str, Any] = {"seeds": [seed], "negatives": told, "progress": progress}
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


def _opened(model: AnyModel) -> Model | Session:
    return registry.load(model) if isinstance(model, str | Path) else model


def _session(model: AnyModel, solver: Solver, guidance: Guidance, batch: Batch | None) -> Session:
    opened = _opened(model)
    return opened.using(solver, guidance) if isinstance(opened, Session) else Session(opened, solver, guidance, batch)


def _alike(sources: Mapping[str, Source]) -> Source:
    """The first of given stems, which all have one rate, length and number of channels."""
    first, reference = next(iter(sources.items()))
    for label, source in sources.items():
        shapes = [f"{x.channels} channels of {x.frames} samples at {x.sample_rate} Hz" for x in (source, reference)]
        if shapes[0] != shapes[1]:
            raise UserError(f"given stem {label} has {shapes[0]}, but {first} has {shapes[1]}; make them alike")
    return reference


def _require_memory(session: Session, rows: int, samples: int, what: str) -> None:
    """Refuse a state of so many signals that does not fit."""
    needed = 4 * _ARRAYS * rows * session.model.channels * samples
    require_memory(needed, what, "ask for less at a time")


def _require_plausible(parts: Mapping[str, Samples], about: float | None) -> None:
    """Refuse generated stems whose peaks are out of all proportion to a level in dB; None is none known."""
    peak = math.inf if about is None else 10 ** ((about + level.CREST) / 20)
    level.require_plausible(parts, peak=peak, what="but music of this level reaches")


def _as_channels(samples: Samples, channels: int) -> Samples:
    """`[C, T]` averaged to one channel and repeated, if another number of channels is wanted."""
    return samples if len(samples) == channels else samples.mean(axis=0, keepdims=True).repeat(channels, axis=0)


def _from(progress: Progress | None, before: int, whole: int) -> Progress | None:
    """The progress of one of several runs that together have `whole` steps."""
    return None if progress is None else lambda step, steps: progress(before + step, whole)


def _at_model_rate(session: Session, audio: Audio) -> Samples:
    """`[C, T]` at the model's rate and with its channels, padded with zeros to whole windows."""
    heard = _as_channels(audio.samples, session.model.channels)
    samples = resample(heard, audio.sample_rate, session.model.sample_rate)
    return fit(samples, session.padded(samples.shape[1]))


def _at_rate_of(session: Session, audio: Source, samples: Samples) -> Samples:
    """`[C, T]` from the model's rate and padded length to those of `audio`."""
    return fit(resample(samples, session.model.sample_rate, audio.sample_rate), audio.frames)
