"""The `gmsdi` command: separate, extract, generate and accompany audio files, import models, plan the workflow.

    gmsdi separate song.wav
    gmsdi separate music/*.mp3 --out stems --format mp3 --skip-existing
    gmsdi separate song.wav --two-stems Bass
    gmsdi extract song.wav --stems Bass --rest "Drums, Piano"
    gmsdi generate --stems bass drums --seconds 12
    gmsdi accompany --given bass=bass.wav drums=drums.wav --stems piano
    gmsdi models
    gmsdi import-msdm msdm.ckpt models/msdm
    gmsdi push results/mine/model me/mine --licence mit
    gmsdi workflow init mine
    gmsdi cost --config config/mini_full.yaml --devices 4

Several values may follow `--stems`, `--rest`, `--given` and `--groups`, up to the next option; they may also be
repeated or, for stems, be separated by commas. Labels are matched to the model's without regard to case.

Exit status: 0 if all is done, 1 after a mistake that is told in one line or a song that failed, 2 for wrong usage, 130
after Ctrl-C.
"""

from __future__ import annotations

import sys
import threading
import warnings
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, replace
from json import dumps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

import gmsdi
from gmsdi.errors import UserError
from gmsdi.types import Labels, file_names

if TYPE_CHECKING:
    from gmsdi.batch import Job, Outcome
    from gmsdi.io.audio import Source
    from gmsdi.models.protocol import Model as AnyModel
    from gmsdi.sampling.solver import Guidance, Solver
    from gmsdi.types import Progress

app = typer.Typer(
    help="Generate, accompany and separate music with a text-conditioned diffusion model trained on mixtures.",
    epilog="Exit status: 0 all done, 1 a mistake or a song that failed, 2 wrong usage, 130 interrupted.",
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)

Songs = Annotated[
    list[Path],
    typer.Argument(
        metavar="FILE...", help="Audio files of any rate and length, or folders of them.", show_default=False
    ),
]
StemNames = Annotated[
    list[str] | None, typer.Option("--stems", help="Labels of the stems.", show_default="all of the model's")
]
Model = Annotated[
    str, typer.Option("--model", "-m", help="Model folder, or the name of a model: mini comes with the package.")
]
Preset = Annotated[
    str | None,
    typer.Option(
        help="best; fast; slow, the mean of four runs; paper-separator; paper-extractor; projected; or one of the "
        "model's own. Other options override it.",
        show_default="best",
    ),
]
Steps = Annotated[int | None, typer.Option(min=1, help="Sampling steps.", show_default="by preset or task")]
Strength = Annotated[float | None, typer.Option("--w", help="Guidance strength w.", show_default="by preset or task")]
Runs = Annotated[
    int | None,
    typer.Option(
        min=1, help="Runs whose mean is taken: better stems for as many times the work.", show_default="by preset"
    ),
]
Seed = Annotated[int, typer.Option(min=0, max=2**63 - 1, help="Seed of the noise.")]
Negative = Annotated[
    list[str] | None,
    typer.Option(help='Negative prompt of a stem, as "Bass=Drums, Guitar"; may be repeated.', show_default="none"),
]
Format = Annotated[str, typer.Option(help="wav, flac or mp3.")]
Bits = Annotated[str | None, typer.Option(help="16, 24 or float.", show_default="float of a WAV, 16 of a FLAC")]
Name = Annotated[str, typer.Option(help="Of the files; {track}, {stem}, {ext} and {model} are filled in.")]
Residual = Annotated[bool, typer.Option("--residual", help="Also write what the stems leave of the song.")]
SkipExisting = Annotated[bool, typer.Option("--skip-existing", help="Leave out songs whose files are there already.")]
AtOnce = Annotated[int, typer.Option("--jobs", "-j", min=1, help="Songs at a time, which share the cores.")]
Json = Annotated[bool, typer.Option("--json", help="Print a report as JSON.")]
Block = Annotated[
    float, typer.Option(help="Seconds of a song that are separated at once, at least; memory grows with them.")
]
Device = Annotated[str, typer.Option("--device", "-d", help="auto (CUDA, MPS or CPU), cuda, mps, cpu, ...")]
Precision = Annotated[str, typer.Option(help="Of the network: auto, bf16 or float32.")]
GammaText = Annotated[
    str | None, typer.Option(help='A number, "inf", or "2*sigma", also "2*sigma above 0.1".', show_default="by task")
]
Out = Annotated[Path, typer.Option("--out", "-o", help="Folder.")]

SPREADING = ("--stems", "--rest", "--given", "--groups")
"""Options that take all values up to the next option."""


@app.command()
def separate(
    songs: Songs,
    stems: StemNames = None,
    two_stems: Annotated[
        str | None,
        typer.Option(help="This stem and the rest of the song alone, as STEM and no_STEM.", show_default="no"),
    ] = None,
    out: Out = Path(),
    preset: Preset = None,
    constrained: Annotated[
        str | None,
        typer.Option(
            help="Eq. 13's Separator, with this stem as the song minus the others.",
            show_default="of paper-separator Drums",
        ),
    ] = None,
    projected: Annotated[
        bool,
        typer.Option("--projected", help="The Separator that projects all stems onto the song."),
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
    """Split songs into stems that sum to them, as the model is best at it; --stems names all that they consist of."""
    settings: dict[str, Any] = {"preset": preset, "constrained": constrained}
    if projected:
        if constrained is not None:
            raise UserError("--constrained and --projected exclude each other; choose one")
        settings["method"] = "projected"
    wanted: Sequence[str] | None = stems
    rest: Sequence[str] | None = ()
    if two_stems is not None:
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


@app.command()
def extract(
    songs: Songs,
    stems: StemNames = None,
    rest: Annotated[
        list[str] | None,
        typer.Option(
            "--rest", help='What else the songs consist of; "none" is nothing.', show_default="all other labels"
        ),
    ] = None,
    out: Out = Path(),
    preset: Preset = None,
    consistent: Annotated[
        bool | None,
        typer.Option(
            "--consistent/--each",
            help="Stems that sum to the song with the rest of it (beyond the paper), or each by itself.",
            show_default="by preset",
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
    """Extract stems from songs (GMSDI Extractor, Eq. 14). --stems names those that are wanted, --rest the others."""
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


def _songs(
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
    json: bool,
    device: tuple[str, str],
    extracting: bool,
    settings: dict[str, Any],
) -> None:
    """Separate songs, or extract from them: all that can be wrong first, then the model, then the work."""
    from gmsdi import batch
    from gmsdi.io.audio import Encoding
    from gmsdi.song import require_extractor, separation

    written = Encoding(*encoding)
    labels, opened = _labels(model, device)
    wanted = labels.chosen(_split(stems), at_least=1)
    where = Path(model).name.replace(":", "_")
    jobs = batch.plan(paths, wanted, out=out, encoding=written, residual=residual, name=name, model=where)
    outcomes = [batch.skipped(job) for job in jobs if skip_existing and job.done]
    jobs = [job for job in jobs if not (skip_existing and job.done)]
    took: dict[str, Any] = {}
    if jobs:
        opened = opened or gmsdi.load(model, device=device[0], precision=device[1])
        told = _pairs(settings.pop("negatives") or [], "--negative") or None
        made = separation(opened, wanted, rest=rest and _split(rest), negatives=told, **settings)
        if extracting:
            require_extractor(made.preset)
        took = {"preset": made.preset.name, "settings": made.preset.as_dict(), "runs": made.average.runs}
        with _Bars(len(jobs)) as bars:
            outcomes += batch.run(jobs, made, written, at_once=at_once, watch=bars.watch, finished=bars.finished)
    if json:
        report = {
            "gmsdi": gmsdi.__version__,
            "model": model,
            **took,
            "songs": [asdict(outcome) for outcome in outcomes],
        }
        typer.echo(dumps(report, indent=1, default=str))
    else:
        for outcome in outcomes:
            for file in outcome.files.values() if outcome.status == "done" else ():
                typer.echo(file)
    failed = [outcome for outcome in outcomes if outcome.status == "failed"]
    for outcome in failed:
        error = str(outcome.error)
        print(f"gmsdi: {error if outcome.song in error else f'{outcome.song}: {error}'}", file=sys.stderr)
    left = sum(outcome.status == "left" for outcome in outcomes)
    if left:
        print(
            f"gmsdi: interrupted with {left} of {len(outcomes)} songs left; go on with the same command and "
            "--skip-existing",
            file=sys.stderr,
        )
        raise typer.Exit(130)
    if failed:
        raise typer.Exit(1)


@app.command()
def generate(
    stems: StemNames = None,
    seconds: Annotated[float | None, typer.Option(help="Length.", show_default="the model's window")] = None,
    out: Out = Path("generated"),
    method: Annotated[
        str,
        typer.Option(
            help="total (Eq. 10); beyond the paper: sequential, one stem after the other, or extracted, a mixture that "
            "is taken apart."
        ),
    ] = "total",
    groups: Annotated[
        list[str] | None,
        typer.Option(
            help='Stems that are generated as one signal (Eq. 11), as "bass, drums" "guitar, piano".',
            show_default="each by itself",
        ),
    ] = None,
    noise: Annotated[
        str, typer.Option(help="Of Eq. 10: independent, or coupled, the stems' noises sum to the mixture's.")
    ] = "independent",
    gamma_x: GammaText = None,
    gamma_y: GammaText = None,
    model: Model = "mini",
    steps: Steps = None,
    w: Strength = None,
    seed: Seed = 0,
    negative: Negative = None,
    format: Format = "wav",
    bits: Bits = None,
    device: Device = "auto",
    precision: Precision = "auto",
) -> None:
    """Generate stems that belong together, and their mixture (total generation, Eq. 10 and 11, and beyond).

    They are as loud as the music that the model was trained on.
    """
    from gmsdi import song as songs
    from gmsdi.presets import preset_of

    labels, opened = _labels(model, (device, precision))
    joint = [labels.spelled(group) for group in groups or []]
    # Groups that come without stems say what they are.
    chosen = labels.chosen(_split(stems) or [label for group in joint for label in group] or None, at_least=1)
    made = [", ".join(group) for group in joint] or chosen
    _require_place(made, out, format, bits)
    opened = opened or gmsdi.load(model, device=device, precision=precision)
    with _bar("generate") as progress:
        result = songs.generate(
            opened,
            chosen,
            method=method,  # type: ignore[arg-type]  # checked there
            groups=joint or None,
            noise=noise,  # type: ignore[arg-type]
            seconds=seconds,
            separation_solver=preset_of(opened, "best").changed(steps=steps).solver,
            progress=progress,
            **_gammas(gamma_x, gamma_y),
            **_sampling(songs.GENERATION, songs.GENERATION_GUIDANCE, steps, w, seed, negative),
        )
    _echo(result.save(out, format=format, bits=bits, mixture=True))


@app.command()
def accompany(
    given: Annotated[
        list[str], typer.Option(help='Given stems, as "bass=bass.wav"; all of one length.', show_default=False)
    ],
    stems: Annotated[
        list[str] | None, typer.Option(help="Labels to generate.", show_default="all that are not given")
    ] = None,
    out: Out = Path("accompaniment"),
    alpha: Annotated[float, typer.Option(help="Scale of the given stems in Eq. 12.")] = 1.0,
    beta: Annotated[float, typer.Option(help="Scale of the generated stems in Eq. 12.")] = 1.0,
    gamma_x: GammaText = None,
    gamma_y: GammaText = None,
    share: Annotated[
        float | None,
        typer.Option(
            help="Beyond the paper, in place of Eq. 12: the accompaniment is heard together with the given stems, and "
            "the whole has this weight, such as 0.4.",
            show_default="Eq. 12",
            min=0,
            max=1,
        ),
    ] = None,
    model: Model = "mini",
    steps: Steps = None,
    w: Strength = None,
    seed: Seed = 0,
    negative: Negative = None,
    format: Format = "wav",
    bits: Bits = None,
    device: Device = "auto",
    precision: Precision = "auto",
) -> None:
    """Generate stems that go with given ones, and all of them together (partial generation, Eq. 12)."""
    from gmsdi import song as songs
    from gmsdi.io.audio import as_source

    labels, opened = _labels(model, (device, precision))
    pairs = _pairs(given, "--given")
    files = {label: as_source(path, None) for label, path in zip(labels.spelled(pairs), pairs.values(), strict=True)}
    if len(files) < len(given):
        raise UserError(f"--given names one stem twice ({', '.join(pairs)}); give each once")
    chosen = labels.chosen(_split(stems) or [x for x in labels if x not in files], at_least=1)
    _require_place(chosen, out, format, bits, list(files.values()))
    opened = opened or gmsdi.load(model, device=device, precision=precision)
    with _bar("accompany") as progress:
        result = songs.accompany(
            opened,
            files,
            chosen,
            alpha=alpha,
            beta=beta,
            share=share,
            progress=progress,
            **_gammas(gamma_x, gamma_y),
            **_sampling(songs.GENERATION, songs.GENERATION_GUIDANCE, steps, w, seed, negative),
        )
    _echo(result.save(out, format=format, bits=bits, mixture=True))


@app.command()
def models(
    model: Annotated[
        list[str] | None,
        typer.Argument(
            help="Model folders, names, or pretrained pipelines.", show_default="those that come with the package"
        ),
    ] = None,
) -> None:
    """List models: what they know, and their presets."""
    from types import SimpleNamespace

    from gmsdi.models import registry

    for where in model or registry.bundled():
        config = registry.config_of(where)
        if config is None:
            _say_pipeline(where)
            continue
        rate, channels = config["sample_rate"], config.get("unet", {}).get("in_channels", 1)
        typer.echo(f"{where}: {rate} Hz, channels {channels}, windows of {config['window'] / rate:.3g} s")
        typer.echo(f"  stems: {', '.join(config.get('labels') or ['any text'])}")
        _say_presets(SimpleNamespace(**{"sigma_data": 0.1, **config}))
    if not model:
        for family in registry.families():
            typer.echo(f"{family}:... (a family; what follows the colon is its own)")


def _say_presets(model: Any) -> None:
    """The presets of a model, a line each."""
    from gmsdi.presets import METHODS, presets_of

    for preset in presets_of(model).values():
        solver = f"{preset.solver.steps} steps of {preset.solver.name}, w = {preset.guidance.w:g}"
        runs = f", mean of {preset.runs}" if preset.runs > 1 else ""
        typer.echo(f"  preset {preset.name}: {METHODS[preset.method]}, {solver}{runs}")


def _say_pipeline(where: str) -> None:
    """What a pipeline of diffusers says of itself before it is opened; of one on the hub small files are fetched.

    Raises:
        UserError: if it is none.
    """
    from types import SimpleNamespace

    from gmsdi.models.described import SIGMA_DATA, describe, is_pipeline
    from gmsdi.study.pretrained import find
    from gmsdi.study.pretrained_cost import weights_of

    found = find("--model", where)
    if found is None or not is_pipeline(found.folder):
        raise UserError(f"{where}: no model folder and no pipeline; others say nothing before they are opened")
    told = describe(found.folder, where)
    most = "any" if told.longest is None else f"up to {told.longest / told.sample_rate:.4g} s"
    typer.echo(f"{where}: {told.kind}, {told.sample_rate} Hz, channels {told.channels}")
    state = "waveforms" if told.latent is None else f"{told.latent} latents for every {told.hop} samples"
    usual = told.usual / told.sample_rate
    typer.echo(f"  windows: {usual:.4g} s unless told otherwise, {most}, in multiples of {told.hop} samples; {state}")
    typer.echo(f"  stems: {'any text' if told.prompted else 'one kind of sound, without text'}")
    if told.parameters:
        parts = ", ".join(f"{part} {count / 1e6:.4g} M" for part, count in told.parameters.items())
        size = weights_of(told.parameters)
        typer.echo(f"  parameters: {parts}; weights on the device: {size / 1e6:.4g} MB in float32")
    else:
        typer.echo("  parameters: its weights are not here yet")
    _say_presets(SimpleNamespace(sigma_data=SIGMA_DATA.get(told.kind, 1.0)))


@app.command("import-msdm")
def import_msdm(
    ckpt: Annotated[Path, typer.Argument(help="Checkpoint or state dict.", show_default=False)],
    out: Annotated[Path, typer.Argument(help="Model folder to write.", show_default=False)],
    stems: Annotated[
        list[str] | None, typer.Option("--stems", help="Labels of the stems.", show_default="MSDM's four")
    ] = None,
    text_encoder: Annotated[
        str | None, typer.Option(help="T5 of a text-conditional model.", show_default="by its width")
    ] = None,
    sample_rate: Annotated[int, typer.Option(min=1, help="Of the training data, in Hz.")] = 22050,
    window: Annotated[int, typer.Option(min=1, help="Training window in samples.")] = 2**18,
) -> None:
    """Turn a checkpoint of MSDM, or of audio-diffusion-pytorch 0.0.43, into a model folder."""
    from gmsdi.models.adapters import adp

    labels = None if stems is None else [part.strip() for name in stems for part in name.split(",") if part.strip()]
    adp.import_msdm(ckpt, out, labels=labels, text_encoder=text_encoder, sample_rate=sample_rate, window=window)
    typer.echo(out)


@app.command()
def cost(
    config: Annotated[
        list[Path] | None,
        typer.Option(help="Overlay of config/config.yaml; may be repeated.", show_default="config/config.yaml alone"),
    ] = None,
    devices: Annotated[int, typer.Option(min=1, help="Devices that jobs spread over.")] = 1,
    chunks: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Chunks of the test split, where the configuration takes all.",
            show_default="counted or assumed",
        ),
    ] = None,
    seconds_per_evaluation: Annotated[
        list[str] | None,
        typer.Option(
            help="Seconds for one signal through the network, or NETWORK=SECONDS; may be repeated.",
            show_default="measured here",
        ),
    ] = None,
    seconds_per_step: Annotated[
        list[str] | None,
        typer.Option(help="The same of a training step.", show_default="by the evaluation"),
    ] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu, cuda, ...", show_default="jobs.device")] = None,
    repetitions: Annotated[int, typer.Option(min=1, help="Timed steps of each kind.")] = 5,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Say what a configuration of the workflow costs: hours, memory, disk and jobs of every table and figure."""
    from gmsdi.study import cost as costing
    from gmsdi.study.study import Study

    overlays = config or []
    resolved = costing.resolved(overlays)
    if seconds_per_evaluation:
        networks = list(Study(resolved).systems)
        costs, measured = costing.given_costs(networks, seconds_per_evaluation, seconds_per_step or []), "not measured"
    elif seconds_per_step:
        raise UserError("--seconds-per-step is given without --seconds-per-evaluation; give both, or none to measure")
    else:
        costs, measured = costing.measure(
            resolved,
            device=device or resolved["jobs"]["device"],
            repetitions=repetitions,
            progress=lambda what: typer.echo(f"measuring {what}", err=True),
        )
    result = costing.estimate(overlays, costs, devices=devices, device=measured, chunks=chunks)
    typer.echo(dumps(result.as_dict(), indent=1) if json else costing.text(result))


@app.command("app")
def page(
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0 is any that is free.")] = 7860,
    host: Annotated[str, typer.Option(help="Address; 0.0.0.0 lets everyone on the network use it.")] = "127.0.0.1",
    model: Model = "mini",
    device: Device = "auto",
    show: Annotated[bool, typer.Option("--open", help="Open it in the browser.")] = False,
) -> None:
    """Serve a page with all of this for the browser, on this machine alone."""
    from gmsdi.app.server import serve

    serve(host=host, port=port, model=model, device=device, show=show, say=lambda line: typer.echo(line))


def _list_models(wanted: bool) -> None:
    if wanted:
        models()
        raise typer.Exit


@app.command()
def push(
    folder: Annotated[str, typer.Argument(help="Model folder, or the name of a bundled model.", show_default=False)],
    repository: Annotated[str, typer.Argument(help="owner/name on the Hugging Face Hub.", show_default=False)],
    licence: Annotated[str, typer.Option(help="Of the weights: mit, cc-by-nc-4.0, ...", show_default=False)],
    results: Annotated[
        Path | None, typer.Option(help="Folder of a run that evaluated it, for the card.", show_default="none")
    ] = None,
    private: Annotated[bool, typer.Option("--private", help="Make the repository private.")] = False,
) -> None:
    """Upload a model folder to the Hugging Face Hub, with a model card. Others then use --model owner/name."""
    from gmsdi.models import hub, registry

    typer.echo(hub.push(registry.folder_of(folder), repository, licence=licence, results=results, private=private))


workflow = typer.Typer(help="The workflow: the paper's tables and figures.", no_args_is_help=True)
app.add_typer(workflow, name="workflow")


@workflow.callback()
def _workflow() -> None:
    pass


@workflow.command()
def init(
    folder: Annotated[Path, typer.Argument(help="To be made; its name is that of the run.", show_default=False)],
    base: Annotated[str, typer.Option(help="Configuration to start from: demo, mini_full, slakh2100, ...")] = "demo",
) -> None:
    """Lay out a folder to run the workflow in: config/config.yaml, and a Snakefile that has it as a module."""
    from gmsdi.study import start

    _echo(start.init(folder, base=base))
    typer.echo(f"Now: cd {folder} && snakemake --cores 8")


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(gmsdi.__version__)
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
    list_models: Annotated[
        bool,
        typer.Option("--list-models", callback=_list_models, is_eager=True, help="See the command models."),
    ] = False,
) -> None:
    pass


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; the exit status is 0, 1 for a `UserError`, 2 for wrong usage."""
    words = spread(sys.argv[1:] if arguments is None else arguments)
    with warnings.catch_warnings():
        warnings.showwarning = lambda message, *_, **__: print(f"gmsdi: warning: {message}", file=sys.stderr)
        try:
            app(words, prog_name="gmsdi")
        except UserError as error:
            print(f"gmsdi: {error}", file=sys.stderr)
            return 1
        except SystemExit as end:
            return end.code if isinstance(end.code, int) else 0
    return 0


def spread(words: Sequence[str]) -> list[str]:
    """Repeat an option of `SPREADING` before each of the values that follow it; files are no labels."""
    result: list[str] = []
    option, values = None, 0
    for word in [*words, "-"]:  # which ends the values of the last
        if option is not None and (word.startswith("-") or (option in ("--stems", "--rest") and Path(word).is_file())):
            if not values:
                result.append(option)  # without a value, for the parser to refuse
            option = None
        if option is not None:
            result += [option, word]
            values += 1
        elif word in SPREADING:
            option, values = word, 0
        else:
            result.append(word)
    return result[:-1]


def _labels(model: str, device: tuple[str, str]) -> tuple[Labels, AnyModel | None]:
    """The labels of a model, and the model, if it has to be opened to be asked."""
    from gmsdi.models import registry

    config = registry.config_of(model)
    if config is not None:
        return Labels(config.get("labels") or ()), None
    opened = gmsdi.load(model, device=device[0], precision=device[1])
    return Labels(opened.labels), opened


def _split(names: Sequence[str] | None) -> list[str] | None:
    """Labels, of which several may be in one text."""
    return None if names is None else [part.strip() for name in names for part in name.split(",") if part.strip()]


def _require_place(
    labels: Sequence[str],
    out: Path,
    format: str,
    bits: str | None,
    given: Sequence[Source] = (),
) -> None:
    """Refuse what cannot be written before it is made: labels and the mixture, in a folder."""
    from gmsdi.io.audio import Encoding
    from gmsdi.io.files import require_writable

    encoding = Encoding(format, bits)
    for source in given:
        encoding.require(source.sample_rate, source.channels, str(out))
    for name in file_names([*labels, "mixture"]).values():
        file = out / f"{name}.{format}"
        require_writable(file)
        if file.exists() and any(file.samefile(source.name) for source in given):
            raise UserError(f"{file}: given, and would be replaced; choose another folder with --out")


def _pairs(items: Sequence[str], option: str) -> dict[str, str]:
    pairs = [item.partition("=") for item in items]
    for item, (key, _, value) in zip(items, pairs, strict=True):
        if not key.strip() or not value.strip():
            raise UserError(f"{option} {item!r}: write LABEL=VALUE")
    found = {key.strip(): value.strip() for key, _, value in pairs}
    if len(found) < len(items):
        raise UserError(f"{option} names one stem twice ({', '.join(key for key, *_ in pairs)}); give each once")
    return found


def _sampling(
    solver: Solver, guidance: Guidance, steps: int | None, w: float | None, seed: int, negative: Sequence[str] | None
) -> dict[str, Any]:
    """The arguments that all tasks share: those of a task, changed as told."""
    return {
        "solver": solver if steps is None else replace(solver, steps=steps),
        "guidance": guidance if w is None else replace(guidance, w=w),
        "seed": seed,
        "negatives": _pairs(negative or [], "--negative"),
    }


def _gammas(gamma_x: str | None, gamma_y: str | None) -> dict[str, Any]:
    """γ as given; what is not given is left to the task."""
    from gmsdi.inference import gamma_from_text

    given = {"gamma_x": gamma_x, "gamma_y": gamma_y}
    return {
        name: gamma_from_text(text, f"--{name.replace('_', '-')}") for name, text in given.items() if text is not None
    }


@contextmanager
def _bar(name: str) -> Iterator[Progress]:
    """A progress bar as a callback; Ctrl-C ends in a line."""
    from tqdm import tqdm

    with tqdm(desc=name, unit="step") as bar:

        def update(step: int, steps: int) -> None:
            bar.total = steps
            bar.update(step - bar.n)

        try:
            yield update
        except KeyboardInterrupt:
            print("gmsdi: interrupted, nothing is written", file=sys.stderr)
            raise typer.Exit(130) from None


class _Bars(ExitStack):
    """A progress bar for each song that is at work, and one for all of several."""

    def __init__(self, songs: int) -> None:
        super().__init__()
        from tqdm import tqdm

        self.bar, self.several, self.lock = tqdm, songs > 1, threading.Lock()
        self.all = self.enter_context(tqdm(total=songs, desc="songs", unit="song", disable=not self.several))
        self.bars: dict[str, Any] = {}

    def watch(self, job: Job) -> Progress:
        """The progress of a song."""
        with self.lock:
            bar = self.bar(desc=job.track, unit="step", leave=not self.several)
            self.bars[job.source.name] = self.enter_context(bar)

        def update(step: int, steps: int) -> None:
            bar.total = steps
            bar.update(step - bar.n)

        return update

    def finished(self, job: Job, outcome: Outcome) -> None:
        """A song has come to its end."""
        with self.lock:
            self.bars.pop(job.source.name).close()
            self.all.update()


def _echo(files: Sequence[Path]) -> None:
    for file in files:
        typer.echo(file)


if __name__ == "__main__":
    sys.exit(main())
