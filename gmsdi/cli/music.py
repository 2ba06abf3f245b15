"""Commands that make music: generate and accompany."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gmsdi.cli.options import (
    Bits,
    Device,
    Format,
    GammaX,
    GammaY,
    Model,
    Negative,
    Out,
    Precision,
    Seed,
    StemNames,
    Steps,
    Strength,
)
from gmsdi.cli.output import bar, echo
from gmsdi.cli.values import gammas, known_of, listed, pairs_of, require_place, sampling
from gmsdi.errors import UserError
from gmsdi.types import Labels


def generate(
    stems: StemNames = None,
    seconds: Annotated[float | None, typer.Option(help="Length in seconds.", show_default="the model's window")] = None,
    out: Out = Path("generated"),
    method: Annotated[
        str | None,
        typer.Option(
            help="total (Eq. 10), or beyond the paper: extracted (a mixture that is then separated) or sequential (one "
            "stem after the other).",
            show_default="extracted; of one stem, sequential; total with --groups, --gamma-x, --gamma-y or --noise",
        ),
    ] = None,
    groups: Annotated[
        list[str] | None,
        typer.Option(
            help='Stems to generate as one signal (Eq. 11), such as "bass, drums" "guitar, piano".',
            show_default="each on its own",
        ),
    ] = None,
    noise: Annotated[
        str | None,
        typer.Option(
            help="Noise of Eq. 10: coupled (the noises of the stems sum to that of the mixture), or independent (the "
            "plainest reading of the paper, which does not say; the stems are much farther from real ones).",
            show_default="coupled",
        ),
    ] = None,
    gamma_x: GammaX = None,
    gamma_y: GammaY = None,
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
    """Generate stems that belong together, and their mixture: by default a mixture that is then separated.

    They are as loud as the music that the model was trained on.
    """
    from gmsdi import song as songs
    from gmsdi.presets import preset_of

    settings = gammas(gamma_x, gamma_y)
    settings |= sampling(songs.GENERATION, songs.GENERATION_GUIDANCE, steps, w, seed, negative)
    if seconds is not None:
        songs.require_seconds(seconds, "--seconds")
    known, named = known_of(model, (device, precision))
    labels = Labels(known.labels)
    joint = [labels.spelled(group) for group in groups or []]
    # Groups that come without stems say what they are.
    chosen = labels.chosen(listed(stems) or [label for group in joint for label in group] or None, at_least=1)
    made = [", ".join(group) for group in joint] or chosen
    samples = known.window if seconds is None else max(1, round(seconds * known.sample_rate))
    written = [(label, known.channels) for label in [*made, "mixture"]]
    require_place(written, samples, known.sample_rate, out, format, bits)
    with bar("generate") as progress:
        result = songs.generate(
            named,
            chosen,
            method=method,  # type: ignore[arg-type]  # checked there
            groups=joint or None,
            noise=noise,  # type: ignore[arg-type]
            seconds=seconds,
            separation_solver=preset_of(known, "best").changed(steps=steps).solver,
            progress=progress,
            **settings,
        )
    echo(result.save(out, format=format, bits=bits, mixture=True))


def accompany(
    given: Annotated[
        list[str],
        typer.Option(help='Given stems, such as "bass=bass.wav"; all of the same length.', show_default=False),
    ],
    stems: Annotated[
        list[str] | None, typer.Option(help="Stems to generate, by label.", show_default="all that are not given")
    ] = None,
    out: Out = Path("accompaniment"),
    alpha: Annotated[float, typer.Option(help="Scale α of the given stems in Eq. 12.")] = 1.0,
    beta: Annotated[float, typer.Option(help="Scale β of the generated stems in Eq. 12.")] = 1.0,
    gamma_x: GammaX = None,
    gamma_y: GammaY = None,
    share: Annotated[
        float | None,
        typer.Option(
            help="Instead of Eq. 12 (beyond the paper): also denoise the sum of given and generated stems, and give it "
            "this weight, such as 0.4.",
            show_default="use Eq. 12",
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
    """Generate stems that go with given ones, and the mixture of all (partial generation, Eq. 12)."""
    from gmsdi import song as songs
    from gmsdi.io.audio import as_source

    settings = gammas(gamma_x, gamma_y)
    settings |= sampling(songs.GENERATION, songs.ACCOMPANIMENT_GUIDANCE, steps, w, seed, negative)
    pairs = pairs_of(given, "--given")
    sources = [as_source(path, None) for path in pairs.values()]
    known, named = known_of(model, (device, precision))
    labels = Labels(known.labels)
    files = dict(zip(labels.spelled(pairs), sources, strict=True))
    if len(files) < len(given):
        raise UserError(f"--given names one stem twice ({', '.join(pairs)}); give each once")
    chosen = labels.chosen(listed(stems) or labels.others(files), at_least=1)
    first = next(iter(files.values()))
    written = [(label, known.channels) for label in chosen]
    written.append(("mixture", first.channels if known.channels == 1 else known.channels))
    require_place(written, first.frames, first.sample_rate, out, format, bits, list(files.values()))
    with bar("accompany") as progress:
        result = songs.accompany(
            named,
            files,
            chosen,
            alpha=alpha,
            beta=beta,
            share=share,
            progress=progress,
            **settings,
        )
    echo(result.save(out, format=format, bits=bits, mixture=True))
