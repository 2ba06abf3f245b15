"""Commands about the workflow: cost and workflow init."""

from __future__ import annotations

import sys
from json import dumps
from pathlib import Path
from shlex import quote
from shutil import which
from typing import Annotated

import typer

from gmsdi.cli.output import echo, tell
from gmsdi.errors import UserError


def cost(
    config: Annotated[
        list[Path] | None,
        typer.Option(help="Overlay of config/config.yaml; may be repeated.", show_default="config/config.yaml alone"),
    ] = None,
    devices: Annotated[int, typer.Option(min=1, help="Number of devices that the jobs are spread over.")] = 1,
    chunks: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Number of chunks in the test split, if the configuration takes all of them.",
            show_default="counted or assumed",
        ),
    ] = None,
    seconds_per_evaluation: Annotated[
        list[str] | None,
        typer.Option(
            help="Seconds that the network takes for one signal, or NETWORK=SECONDS; may be repeated.",
            show_default="measured here",
        ),
    ] = None,
    seconds_per_step: Annotated[
        list[str] | None,
        typer.Option(help="The same for a training step.", show_default="derived from the evaluation"),
    ] = None,
    device: Annotated[
        str | None, typer.Option(help="Device to measure on: auto, cpu, cuda, ...", show_default="jobs.device")
    ] = None,
    repetitions: Annotated[int, typer.Option(min=1, help="Timed steps of each kind.")] = 5,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Estimate what a configuration of the workflow costs: hours, memory, disk and jobs of every table and figure."""
    from gmsdi.study import cost as costing
    from gmsdi.study.study import Study

    overlays = config or []
    resolved = costing.resolved(overlays)
    if seconds_per_evaluation:
        networks = list(Study(resolved).networks)
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
    tell(dumps(result.as_dict(), indent=1) if json else costing.text(result))


def init(
    folder: Annotated[
        Path, typer.Argument(help="Folder to create; its name becomes the name of the run.", show_default=False)
    ],
    base: Annotated[str, typer.Option(help="Configuration to start from: demo, mini_full, slakh2100, ...")] = "demo",
) -> None:
    """Create a folder to run the workflow in: config/config.yaml, and a Snakefile that has the workflow as a module."""
    from gmsdi.study import start

    echo(start.init(folder, base=base))
    beside = Path(sys.executable).with_name("snakemake")  # of an environment that is not activated
    snakemake = str(beside) if which("snakemake") is None and beside.is_file() else "snakemake"
    tell(f"Now: cd {quote(str(folder))} && {quote(snakemake)} --cores 8")
