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
