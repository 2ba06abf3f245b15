"""Songs separated into stems, by the Separator, the Extractor, or as a preset says."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from gmsdi.errors import UserError
from gmsdi.inference import ShareOut, Wiener
from gmsdi.io.audio import as_source
from gmsdi.models.protocol import Model, Traits, Waveform
from gmsdi.presets import METHODS, Method, Preset, preset_of
from gmsdi.sampling.noise import require_seed
from gmsdi.sampling.session import Batch, Session, require_range
from gmsdi.sampling.solver import Guidance, Solver
from gmsdi.settings import require_kinds
from gmsdi.song.blocks import BLOCK, Separation
from gmsdi.song.signals import (
    AnyModel,
    AnySource,
    Known,
    opened_after,
    require_prompts,
    require_seconds,
    session_of,
)
from gmsdi.stability import check_noise, check_separator, noise_warning
from gmsdi.tasks import Average
from gmsdi.types import Labels, Negatives, Progress, Stems


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
    extracting: bool = False,
) -> Separation:
    """How songs are to be separated: a preset of the model, and settings that replace its own.

    A model that is named is loaded last, after all that its outline can refuse.

    Args:
        model: see `gmsdi.song`.
        stems: labels of the stems to return; None means all that the model knows.
        rest: labels of what else the songs consist of, which is sampled as one signal; None means everything else
            that the model knows.
        preset: the model's preset of that name (`gmsdi.presets`), or one of your own; None is "best", or for the method
            "separator" or "projected" the preset for it.
        method: in place of the preset's, as are the other arguments.
        constrained: for the method "separator": the stem that is the song minus the others.
        consistent: chooses between the methods "extractor" and "consistent", or says how the stems are made to sum to
            the song.
        average: the same as `runs`, and whether every other run has its polarity inverted.
        wiener: filters the song with the result, at the model's rate.
        solver: how to integrate.
        guidance: strength and kind of the guidance.
        steps: number of steps of the solver.
        w: strength of the guidance.
        runs: how many runs are averaged.
        batch: how many signals the model denoises at once.
        seed: of the noise.
        negatives: label to negative text.
        block: seconds of a song that are separated at a time, at least; longer blocks need more memory.
        extracting: refuse a preset that is no Extractor.

    Raises:
        UserError: for unusable stems or settings, or steps that are too few.
    """
    require_seconds(block, "block")
    require_seed(seed)
    require_kinds(
        solver=(solver, Solver),
        guidance=(guidance, Guidance),
        average=(average, Average),
        wiener=(wiener, Wiener),
        batch=(batch, Batch),
        preset=(preset, str | Preset),
        consistent=(consistent, bool | ShareOut),
    )
    if constrained is not None and method is None and preset is None:
        method = "separator"
    names = {"separator": "paper-separator", "projected": "projected"}

    def decided(known: Known) -> _Decision:
        chosen = preset_of(known, names.get(method or "", "best") if preset is None else preset)
        kind = method
        if consistent is not None and chosen.method in ("extractor", "consistent"):
            kind = "consistent" if consistent else "extractor"
        chosen = chosen.changed(
            method=kind, constrained=constrained, solver=solver, guidance=guidance, steps=steps, w=w, runs=runs
        )
        if consistent is not None and chosen.method not in ("extractor", "consistent"):
            raise UserError(f"preset {chosen.name!r} is {METHODS[chosen.method]}; consistent is for the Extractor")
        if extracting:
            _require_extractor(chosen)
        return _decided(known, chosen, stems, rest, negatives)

    opened, (chosen, prompts, wanted, told) = opened_after(model, decided)
    inner = opened.model if isinstance(opened, Session) else opened
    rows = len(prompts) if chosen.method == "separator" else 2
    if noisy := noise_warning(chosen.solver, rows, Traits.of(inner).sigma_data):
        warnings.warn(noisy, stacklevel=2)
    how = consistent if isinstance(consistent, ShareOut) else chosen.method == "consistent"
    if how is True:
        how = shared_out(chosen, inner)
    return Separation(
        session=session_of(opened, chosen.solver, chosen.guidance, batch),
        prompts=prompts,
        labels=wanted,
        preset=chosen,
        seed=seed,
        negatives=told,
        consistent=how,
        average=average or Average(chosen.runs, chosen.inverted),
        wiener=wiener or wiener_of(chosen, inner),
        block=block,
    )


class _Decision(NamedTuple):
    """What is decided about a separation from what is known of a model, see `Separation`."""

    preset: Preset
    prompts: list[str]
    labels: list[str]
    negatives: dict[str, str]


def _decided(
    known: Known,
    preset: Preset,
    stems: Sequence[str] | str | None,
    rest: Sequence[str] | str | None,
    negatives: Negatives,
) -> _Decision:
    """Decide which stems are separated, and refuse what the model cannot do; see `separation`."""
    labels = Labels(known.labels)
    wanted = labels.chosen(stems, at_least=1)
    others = [x for x in labels if x not in wanted] if rest is None else labels.spelled(rest)
    if len(set(others)) < len(others):
        raise UserError(f"the rest names {', '.join(others)}: each can be named once")
    if twice := set(wanted) & set(others):
        raise UserError(f"{min(twice)!r} is named both as a stem and as the rest; name it once")
    prompts = [*wanted, *([labels.join(others).text] if others else [])]
    if len(prompts) < 2:
        raise UserError(
            f"the song consists of {', '.join(prompts)} alone, but at least 2 stems are needed; name the others, or "
            "what the rest of it is"
        )
    if preset.method == "separator":
        if preset.constrained is None:
            preset = replace(preset, constrained="Drums" if "Drums" in prompts else prompts[-1])
        (constrained,) = labels.spelled([preset.constrained or ""])
        preset = replace(preset, constrained=constrained)
        if constrained not in prompts:
            raise UserError(f"constrained stem {constrained!r} is not among the stems {', '.join(prompts)}")
        check_separator(preset.solver, len(prompts))
    else:
        check_noise(preset.solver, 2, Traits.of(known).sigma_data)
    require_range(preset.solver, known.sigma_range)
    if negatives is None:
        told = {label: text for label, text in preset.negatives.items() if label in prompts}
    else:
        told = labels.negatives(negatives, prompts)
    joint = [labels.join(prompts[:k] + prompts[k + 1 :]).text for k in range(len(prompts))]
    require_prompts(known, [*prompts, *told.values(), *joint])
    return _Decision(preset, prompts, wanted, told)


def shared_out(preset: Preset, model: Model) -> bool | ShareOut:
    """How a preset of a consistent Extractor makes stems sum to the song, see `inference.Extractor`."""
    if not preset.by_power or not isinstance(model.space, Waveform):
        return True
    return ShareOut(model.sample_rate, preset.by_power, min(ShareOut.seconds, _half_a_window(model)))


def wiener_of(preset: Preset, model: Model) -> Wiener | None:
    """How a preset filters the song with the stems; None if it does not."""
    if not preset.filtered:
        return None
    return Wiener(model.sample_rate, preset.filtered, min(Wiener.seconds, _half_a_window(model)))


def _half_a_window(model: Model) -> float:
    """Seconds: the longest that the windows of a spectrogram can be."""
    return model.window / model.sample_rate / 2


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
    """Separate a song into all of its stems, by default with the model's best preset (`gmsdi.presets`).

    The stems sum to the song, unless the preset is Eq. 14's: at the model's rate exactly, and otherwise in the band
    that the model hears.

    Args:
        model: see `gmsdi.song`.
        source: a file, `Audio`, or an array `[T]` or `[C, T]` with `sample_rate`.
        stems: labels of what the song consists of; None is all that the model knows.
        sample_rate: of an array, in Hz.
        preset: "best", "fast", "slow", "paper-separator", "paper-extractor", "projected", or a model's own; None means
            "best", or what `constrained` or `projected` ask for.
        constrained: the Separator of Eq. 13, with this stem as the song minus the others.
        projected: the Separator that constrains no stem and projects all onto the song (`inference.Projected`).
        progress: called with (step, steps).
        settings: replace those of the preset, see `separation`.

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
    """Extract stems from a song with the GMSDI Extractor (Eq. 14), by default with the model's best preset.

    What else the song consists of is sampled as one signal, so that one stem costs half of what four do.

    Args:
        model: see `gmsdi.song`.
        source: a file, `Audio`, or an array `[T]` or `[C, T]` with `sample_rate`.
        stems: labels of the stems to return; None means all that the model knows.
        rest: labels of what else the song consists of; None means everything else that the model knows, `()` nothing.
        sample_rate: of an array, in Hz.
        preset: see `separate`; "paper-extractor" takes each stem by itself, as the paper does.
        progress: called with (step, steps).
        settings: replace those of the preset, see `separation`; `consistent=False` is Eq. 14.

    Returns:
        The stems at the song's rate and length; the residual is the rest of the song.

    Raises:
        UserError: see `separate`.
    """
    song = as_source(source, sample_rate)
    return separation(model, stems, rest=rest, preset=preset, extracting=True, **settings).collected(song, progress)


def _require_extractor(preset: Preset) -> None:
    """Refuse a preset that separates, where stems are to be extracted.

    Raises:
        UserError: if it is no Extractor.
    """
    if preset.method not in ("extractor", "consistent"):
        raise UserError(
            f"preset {preset.name!r} is {METHODS[preset.method]}, which separates all of a song; use separate"
        )
