"""Commands that take songs apart: separate and extract."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from json import dumps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

import gmsdi
from gmsdi.cli.options import (
    AtOnce,
    Bits,
    Block,
    Device,
    ExtractPreset,
    Format,
    Json,
    Model,
    Name,
    Negative,
    Out,
    Precision,
    Preset,
    Residual,
    Runs,
    Seed,
    SkipExisting,
    Songs,
    StemNames,
    Steps,
    Strength,
)
from gmsdi.cli.output import Bars, echo, say, tell
from gmsdi.cli.values import known_of, labels_known, listed, pairs_of
from gmsdi.errors import UserError
from gmsdi.types import Labels

if TYPE_CHECKING:
    from gmsdi.batch import Outcome


def separate(
    songs: Songs,
    stems: StemNames = None,
    two_stems: Annotated[
        str | None,
        typer.Option(help="Write only this stem and the rest of the song, as STEM and no_STEM.", show_default="off"),
    ] = None,
    out: Out = Path(),
    preset: Preset = None,
    constrained: Annotated[
        str | None,
        typer.Option(
            help="Use the Separator of Eq. 13, in which this stem is the song minus the others.",
            show_default="Drums, with the preset paper-separator",
        ),
    ] = None,
    projected: Annotated[
        bool,
        typer.Option("--projected", help="Use the Separator that projects all stems onto the song."),
    ] = False,
    samples: Runs = None,
    model: Model = "mini",
    steps: Steps = None,
    w: Strength = None,
    seed: Seed = 0,
    negative: Negative = None,
    format: Format = "wav",
    bits: Bits = None,
    name: Name = "{track}/{stem}.{ext}",
    residual: Residual = False,
    skip_existing: SkipExisting = False,
    at_once: AtOnce = 1,
    block: Block = 30.0,
    json: Json = False,
    device: Device = "auto",
    precision: Precision = "auto",
) -> None:
    """Separate songs into stems that sum to the song, by default with the method that suits the model best.

    --stems names everything that the songs consist of. Above half the model's sample rate, stems are silent; --residual
    writes what is there.
    """
    settings: dict[str, Any] = {"preset": preset, "constrained": constrained}
    if projected:
        if constrained is not None:
            raise UserError("--constrained and --projected exclude each other; choose one")
        settings["method"] = "projected"
    wanted: Sequence[str] | None = stems
    rest: Sequence[str] | None = ()
    if two_stems is not None:
        if len(listed([two_stems]) or []) != 1:
            raise UserError(f"--two-stems {two_stems!r}: one stem is to be named, the rest is the other")
        wanted, rest, residual = [two_stems], stems, True
    _songs(
        songs,
        wanted,
        out=out,
        rest=rest,
        residual=(f"no_{two_stems}" if two_stems else "residual") if residual else None,
        model=model,
        encoding=(format, bits),
        name=name,
        skip_existing=skip_existing,
        at_once=at_once,
        json=json,
        device=(device, precision),
        extracting=False,
        settings={
            **settings, "runs": samples, "steps": steps, "w": w, "seed": seed, "negatives": negative, "block": block,
        },
    )  # fmt: skip


def extract(
    songs: Songs,
    stems: StemNames = None,
    rest: Annotated[
        list[str] | None,
        typer.Option(
            "--rest", help='What else the songs consist of; "none" means nothing else.', show_default="all other labels"
        ),
    ] = None,
    out: Out = Path(),
    preset: ExtractPreset = None,
    consistent: Annotated[
        bool | None,
        typer.Option(
            "--consistent/--each",
            help="Make the stems and the rest sum to the song (beyond the paper), or extract each stem on its own.",
            show_default="set by preset",
        ),
    ] = None,
    samples: Runs = None,
    model: Model = "mini",
    steps: Steps = None,
    w: Strength = None,
    seed: Seed = 0,
    negative: Negative = None,
    format: Format = "wav",
    bits: Bits = None,
    name: Name = "{track}/{stem}.{ext}",
    residual: Residual = False,
    skip_existing: SkipExisting = False,
    at_once: AtOnce = 1,
    block: Block = 30.0,
    json: Json = False,
    device: Device = "auto",
    precision: Precision = "auto",
) -> None:
    """Extract some stems from songs with the Extractor (Eq. 14), made to sum to the song unless --each is given.

    --stems names those that you want, --rest what else the songs consist of.
    """
    _songs(
        songs,
        stems,
        out=out,
        rest=[] if rest == ["none"] else rest,
        residual="residual" if residual else None,
        model=model,
        encoding=(format, bits),
        name=name,
        skip_existing=skip_existing,
        at_once=at_once,
        json=json,
        device=(device, precision),
        extracting=True,
        settings={
            "preset": preset, "consistent": consistent, "runs": samples, "steps": steps, "w": w, "seed": seed,
            "negatives": negative, "block": block,
        },
    )  # fmt: skip


def _songs(paths: Sequence[Path], stems: Sequence[str] | None, *, model: str, json: bool, **options: Any) -> None:
    """Separate songs, or extract from them, and report on it; `options` are those of `_outcomes`."""
    report: dict[str, Any] = {"gmsdi": gmsdi.__version__, "model": model}
    try:
        took, outcomes = _outcomes(paths, stems, model=model, **options)
    except UserError as error:
        if json:
            tell(dumps({**report, "songs": [], "error": str(error)}, indent=1))
        raise
    if json:
        report |= {**took, "songs": [asdict(outcome) for outcome in outcomes]}
        tell(dumps(report, indent=1, default=str))
    else:
        for outcome in outcomes:
            echo(outcome.files.values() if outcome.status == "done" else ())
    failed = [outcome for outcome in outcomes if outcome.status == "failed"]
    for outcome in failed:
        reason = str(outcome.error)
        say(reason if outcome.song in reason else f"{outcome.song}: {reason}")
    left = sum(outcome.status == "left" for outcome in outcomes)
    if left:
        say(
            f"interrupted with {left} of {len(outcomes)} songs left; to continue, repeat the command with "
            "--skip-existing"
        )
        raise typer.Exit(130)
    if failed:
        raise typer.Exit(1)


def _outcomes(
    paths: Sequence[Path],
    stems: Sequence[str] | None,
    *,
    out: Path,
    rest: Sequence[str] | None,
    residual: str | None,
    model: str,
    encoding: tuple[str, str | None],
    name: str,
    skip_existing: bool,
    at_once: int,
    device: tuple[str, str],
    extracting: bool,
    settings: dict[str, Any],
) -> tuple[dict[str, Any], list[Outcome]]:
    """Separate songs, or extract from them; whatever can be checked is checked before the model is loaded.

    Returns:
        What the report says of the settings, and how the songs ended.
    """
    from gmsdi import batch
    from gmsdi.io.audio import Encoding
    from gmsdi.sampling.solver import Guidance
    from gmsdi.song import require_seconds, separation

    # What needs no model is refused before one is opened.
    require_seconds(settings["block"], "--block")
    if settings["w"] is not None:
        Guidance(w=settings["w"])
    written, where = Encoding(*encoding), Path(model).name.replace(":", "_")
    places: dict[str, Any] = {
        "out": out, "encoding": written, "residual": residual, "name": name, "model": where, "again": not skip_existing,
    }  # fmt: skip
    told = pairs_of(settings.pop("negatives") or [], "--negative") or None
    if not labels_known(model):  # before a download: that the songs and places can be used
        batch.plan(paths, listed(stems) or ["stem"], **places, unusable=lambda *_: None)
    known, named = known_of(model, device)
    wanted = Labels(known.labels).chosen(listed(stems), at_least=1)
    if not extracting and not rest and rest is not None and len(wanted) == 1:
        raise UserError(
            f"the song consists of {wanted[0]} alone, but at least 2 stems are needed; name the others, too, or use "
            f"--two-stems {wanted[0]!r}, or the command extract"
        )
    refused: list[batch.Outcome] = []
    jobs = batch.plan(
        paths,
        wanted,
        **places,
        unusable=lambda path, error: refused.append(batch.Outcome(str(path), "failed", error=str(error))),
    )
    outcomes = [batch.skipped(job) for job in jobs if skip_existing and job.done]
    jobs = [job for job in jobs if not (skip_existing and job.done)]
    took: dict[str, Any] = {}
    if jobs:
        others = rest and listed(rest)
        made = separation(named, wanted, rest=others, negatives=told, extracting=extracting, **settings)
        took = {"preset": made.preset.name, "settings": made.preset.as_dict(), "runs": made.average.runs}
        if residual is None and any(job.source.sample_rate > known.sample_rate for job in jobs):
            say(
                f"note: {model} works at {known.sample_rate / 1000:g} kHz, so the stems have nothing above "
                f"{known.sample_rate / 2000:g} kHz; --residual writes what they leave of the song"
            )
        with Bars(len(jobs)) as bars:
            outcomes += batch.run(jobs, made, written, at_once=at_once, watch=bars.watch, finished=bars.finished)
    return took, outcomes + refused
