"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Songs = Annotated[
    list[Path],
    typer.Argument(
        metavar="FILE...", help="Audio files of any rate and length, or folders of them.", show_default=False
    ),
]
StemNames = Annotated[
    list[str] | None, typer.Option("--stems", help="Stems, by label.", show_default="all that the model knows")
]
Model = Annotated[
    str,
    typer.Option(
        "--model",
        "-m",
        help="A model folder, or the name of a model; mini comes with the package, general with gmsdi-general.",
    ),
]
Preset = Annotated[
    str | None,
    typer.Option(
        help="How to separate: best, fast, slow (the mean of four runs), paper-separator, paper-extractor, projected, "
        "or a preset of the model's own. Other options override parts of it.",
        show_default="best",
    ),
]
ExtractPreset = Annotated[
    str | None,
    typer.Option(
        help="How to extract: best, fast, slow (the mean of four runs), paper-extractor, or a preset of the model's "
        "own that extracts. Other options override parts of it.",
        show_default="best",
    ),
]
Steps = Annotated[
    int | None, typer.Option(min=1, help="Number of sampling steps.", show_default="set by preset or task")
]
Strength = Annotated[
    float | None, typer.Option("--w", help="Guidance strength w.", show_default="set by preset or task")
]
Runs = Annotated[
    int | None,
    typer.Option(
        min=1, help="Average this many runs: better stems, at as many times the cost.", show_default="set by preset"
    ),
]
Seed = Annotated[int, typer.Option(min=0, max=2**63 - 1, help="Seed of the random noise.")]
Negative = Annotated[
    list[str] | None,
    typer.Option(help='Negative prompt of a stem, such as "Bass=Drums, Guitar"; may be repeated.', show_default="none"),
]
Format = Annotated[str, typer.Option(help="File format: wav, flac or mp3.")]
Bits = Annotated[
    str | None, typer.Option(help="Sample format: 16, 24 or float.", show_default="float for WAV, 16 for FLAC")
]
Name = Annotated[str, typer.Option(help="Name of each file; {track}, {stem}, {ext} and {model} are filled in.")]
Residual = Annotated[bool, typer.Option("--residual", help="Also write the residual, the song minus its stems.")]
SkipExisting = Annotated[bool, typer.Option("--skip-existing", help="Skip songs whose files already exist.")]
AtOnce = Annotated[int, typer.Option("--jobs", "-j", min=1, help="Songs to process at a time; they share the cores.")]
Json = Annotated[bool, typer.Option("--json", help="Print a report as JSON, also of songs that failed.")]
Block = Annotated[
    float, typer.Option(help="Separate in blocks of at least this many seconds; longer blocks need more memory.")
]
Device = Annotated[
    str, typer.Option("--device", "-d", help="Device: auto (CUDA, else MPS, else the CPU), cuda, mps, cpu, ...")
]
Precision = Annotated[str, typer.Option(help="Precision of the network: auto, bf16 or float32.")]
_GAMMA = 'a number, "inf", or a multiple of σ such as "2*sigma" or "2*sigma above 0.1".'
GammaX = Annotated[str | None, typer.Option(help=f"γ of the stems: {_GAMMA}", show_default="set by the task")]
GammaY = Annotated[str | None, typer.Option(help=f"γ of the mixture: {_GAMMA}", show_default="set by the task")]
Out = Annotated[Path, typer.Option("--out", "-o", help="Folder to write to.")]
