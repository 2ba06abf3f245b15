"""The `gmsdi` command: separate, extract, generate and accompany audio files, import models, plan the workflow.

    gmsdi separate song.wav --stems bass drums guitar piano
    gmsdi extract song.wav --stems "Bass, Drums" --out parts
    gmsdi generate --stems bass drums --seconds 12
    gmsdi accompany --given bass=bass.wav drums=drums.wav --stems piano
    gmsdi import-msdm msdm.ckpt models/msdm
    gmsdi push results/mine/model me/mine --licence mit
    gmsdi workflow init mine
    gmsdi cost --config config/mini_full.yaml --devices 4

Several values may follow `--stems`, `--given` and `--groups`, up to the next option; they may also be repeated or, for
stems, be separated by commas. Labels are matched to the model's without regard to case.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from json import dumps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

import gmsdi
from gmsdi.errors import UserError
from gmsdi.types import file_names

if TYPE_CHECKING:
    from gmsdi.models.protocol import Model as AnyModel
    from gmsdi.sampling.solver import Guidance, Solver
    from gmsdi.types import Progress

app = typer.Typer(
    help="Generate, accompany and separate music with a text-conditioned diffusion model trained on mixtures.",
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)

Song = Annotated[Path, typer.Argument(help="Audio file of any rate and length.", show_default=False)]
StemNames = Annotated[
    list[str] | None, typer.Option("--stems", help="Labels of the stems.", show_default="all of the model's")
]
Model = Annotated[str, typer.Option(help="Model folder, or the name of a model: mini comes with the package.")]
Steps = Annotated[int | None, typer.Option(min=1, help="Sampling steps.", show_default="by task")]
Strength = Annotated[float | None, typer.Option("--w", help="Guidance strength w.", show_default="by task")]
Runs = Annotated[int, typer.Option(min=1, help="Runs whose mean is taken: better stems for as many times the work.")]
Seed = Annotated[int, typer.Option(min=0, help="Seed of the noise.")]
Negative = Annotated[
    list[str] | None,
    typer.Option(help='Negative prompt of a stem, as "Bass=Drums, Guitar"; may be repeated.', show_default="none"),
]
Format = Annotated[str, typer.Option(help="flac (16 bits) or wav (float).")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, ...")]
Precision = Annotated[str, typer.Option(help="Of the network: auto, bf16 or float32.")]
GammaText = Annotated[
    str | None, typer.Option(help='A number, "inf", or "2*sigma", also "2*sigma above 0.1".', show_default="by task")
]

SPREADING = ("--stems", "--given", "--groups")
"""Options that take all values up to the next option."""


@app.command()
def separate(
    song: Song,
    stems: StemNames = None,
    out: Annotated[Path | None, typer.Option(help="Folder.", show_default="the song's name")] = None,
    constrained: Annotated[
        str | None, typer.Option(help="The stem that is the song minus the others.", show_default="Drums")
    ] = None,
    projected: Annotated[
        bool, typer.Option("--projected", help="Constrain no stem; project all onto the song (beyond the paper).")
    ] = False,
    samples: Runs = 1,
    model: Model = "mini",
    steps: Steps = None,
    w: Strength = None,
    seed: Seed = 0,
    negative: Negative = None,
    format: Format = "flac",
    device: Device = "auto",
    precision: Precision = "auto",
) -> None:
    """Split a song into stems that sum to it (GMSDI Separator, Eq. 13)."""
    from gmsdi import song as songs
    from gmsdi.tasks import Average

    _require_format(format)
    opened = gmsdi.load(model, device=device, precision=precision)
    with _bar("separate") as progress:
        result = songs.separate(
            opened,
            song,
            _stems(stems, opened),
            constrained=None if constrained is None else _label(constrained, opened),
            projected=projected,
            average=Average(samples),
            progress=progress,
            **_sampling(songs.SEPARATION, songs.SEPARATION_GUIDANCE, steps, w, seed, negative, opened),
        )
    _echo(result.save(out or Path(song.stem), format=format))


@app.command()
def extract(
    song: Song,
    stems: StemNames = None,
    out: Annotated[Path | None, typer.Option(help="Folder.", show_default="the song's name")] = None,
    consistent: Annotated[
        bool, typer.Option("--consistent", help="Stems that sum to the song (beyond the paper).")
    ] = False,
    samples: Runs = 1,
    model: Model = "mini",
    steps: Steps = None,
    w: Strength = None,
    seed: Seed = 0,
    negative: Negative = None,
    format: Format = "flac",
    device: Device = "auto",
    precision: Precision = "auto",
) -> None:
    """Extract the stems of a song (GMSDI Extractor, Eq. 14). --stems names all that the song consists of."""
    from gmsdi import song as songs
    from gmsdi.tasks import Average

    _require_format(format)
    opened = gmsdi.load(model, device=device, precision=precision)
    with _bar("extract") as progress:
        result = songs.extract(
            opened,
            song,
            _stems(stems, opened),
            consistent=consistent,
            average=Average(samples),
            progress=progress,
            **_sampling(songs.SEPARATION, songs.SEPARATION_GUIDANCE, steps, w, seed, negative, opened),
        )
    _echo(result.save(out or Path(song.stem), format=format))


@app.command()
def generate(
    stems: StemNames = None,
    seconds: Annotated[float | None, typer.Option(help="Length.", show_default="the model's window")] = None,
    out: Annotated[Path, typer.Option(help="Folder.")] = Path("generated"),
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
    format: Format = "flac",
    device: Device = "auto",
    precision: Precision = "auto",
) -> None:
    """Generate stems that belong together, and their mixture (total generation, Eq. 10 and 11, and beyond)."""
    from gmsdi import song as songs

    _require_format(format)
    opened = gmsdi.load(model, device=device, precision=precision)
    joint = [_stems([group], opened) or [] for group in groups or []]
    # Groups that come without stems say what they are.
    chosen = _stems(stems, opened) or ([label for group in joint for label in group] or None)
    with _bar("generate") as progress:
        result = songs.generate(
            opened,
            chosen,
            method=method,  # type: ignore[arg-type]  # checked there
            groups=joint or None,
            noise=noise,  # type: ignore[arg-type]
            seconds=seconds,
            separation_solver=songs.SEPARATION if steps is None else replace(songs.SEPARATION, steps=steps),
            progress=progress,
            **_gammas(gamma_x, gamma_y),
            **_sampling(songs.GENERATION, songs.GENERATION_GUIDANCE, steps, w, seed, negative, opened),
        )
    _echo(result.save(out, format=format, mixture=True))


@app.command()
def accompany(
    given: Annotated[
        list[str], typer.Option(help='Given stems, as "bass=bass.wav"; all of one length.', show_default=False)
    ],
    stems: Annotated[
        list[str] | None, typer.Option(help="Labels to generate.", show_default="all that are not given")
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder.")] = Path("accompaniment"),
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
    format: Format = "flac",
    device: Device = "auto",
    precision: Precision = "auto",
) -> None:
    """Generate stems that go with given ones, and all of them together (partial generation, Eq. 12)."""
    from gmsdi import song as songs

    _require_format(format)
    opened = gmsdi.load(model, device=device, precision=precision)
    files = {_label(label, opened): Path(path) for label, path in _pairs(given, "--given").items()}
    with _bar("accompany") as progress:
        result = songs.accompany(
            opened,
            files,
            _stems(stems, opened),
            alpha=alpha,
            beta=beta,
            share=share,
            progress=progress,
            **_gammas(gamma_x, gamma_y),
            **_sampling(songs.GENERATION, songs.GENERATION_GUIDANCE, steps, w, seed, negative, opened),
        )
    _echo(result.save(out, format=format, mixture=True))


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
    """Repeat an option of `SPREADING` before each of the values that follow it."""
    result: list[str] = []
    option = None
    for word in words:
        if word.startswith("-"):
            option = word if word in SPREADING else None
            if option is None:
                result.append(word)
        elif option is not None:
            result += [option, word]
        else:
            result.append(word)
    return result


def _label(name: str, model: AnyModel) -> str:
    """The model's own spelling of a label; other text stays as it is."""
    name = name.strip()
    return {label.lower(): label for label in model.labels}.get(name.lower(), name)


def _stems(names: Sequence[str] | None, model: AnyModel) -> list[str] | None:
    if not names:
        return None
    labels = [_label(part, model) for name in names for part in name.split(",") if part.strip()]
    file_names(labels)  # what cannot be written is said before it is made
    return labels


def _pairs(items: Sequence[str], option: str) -> dict[str, str]:
    pairs = [item.partition("=") for item in items]
    for item, (key, _, value) in zip(items, pairs, strict=True):
        if not key.strip() or not value.strip():
            raise UserError(f"{option} {item!r}: write LABEL=VALUE")
    return {key.strip(): value.strip() for key, _, value in pairs}


def _sampling(
    solver: Solver,
    guidance: Guidance,
    steps: int | None,
    w: float | None,
    seed: int,
    negative: Sequence[str] | None,
    model: AnyModel,
) -> dict[str, Any]:
    """The arguments that all tasks share: those of a task, changed as told."""
    return {
        "solver": solver if steps is None else replace(solver, steps=steps),
        "guidance": guidance if w is None else replace(guidance, w=w),
        "seed": seed,
        "negatives": {_label(key, model): value for key, value in _pairs(negative or [], "--negative").items()},
    }


def _gammas(gamma_x: str | None, gamma_y: str | None) -> dict[str, Any]:
    """γ as given; what is not given is left to the task."""
    from gmsdi.inference import gamma_from_config

    result: dict[str, Any] = {}
    for name, text in (("gamma_x", gamma_x), ("gamma_y", gamma_y)):
        if text is None:
            continue
        number, star, rest = text.partition("*sigma")
        words = rest.split()
        try:
            value = float(number)
            limits = {key: float(level) for key, level in zip(words[::2], words[1::2], strict=True)}
        except ValueError:
            raise UserError(
                f'--{name.replace("_", "-")} {text!r}: write a number, "inf", or "2*sigma" (also "2*sigma above 0.1")'
            ) from None
        result[name] = gamma_from_config({"sigma": value, **limits} if star else value)
    return result


def _require_format(format: str) -> None:
    if format not in ("flac", "wav"):
        raise UserError(f"--format is {format!r}; choose flac or wav")


@contextmanager
def _bar(name: str) -> Iterator[Progress]:
    """A progress bar as a callback."""
    from tqdm import tqdm

    with tqdm(desc=name, unit="step") as bar:

        def update(step: int, steps: int) -> None:
            bar.total = steps
            bar.update(step - bar.n)

        yield update


def _echo(files: Sequence[Path]) -> None:
    for file in files:
        typer.echo(file)


if __name__ == "__main__":
    sys.exit(main())
