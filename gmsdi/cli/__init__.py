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

`--stems`, `--rest`, `--given` and `--groups` take all values up to the next option; they may also be repeated, and
stems may be separated by commas. Labels may be written in upper or lower case.

Exit status: 0 for success, 1 for an error (one line says what) or a song that failed, 2 for wrong usage, 130 after
Ctrl-C, 143 after SIGTERM, 129 after SIGHUP (a terminal that is closed); none of these leaves half-written files.
"""

from __future__ import annotations

import errno
import os
import signal
import sys
import threading
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import Annotated, Any

import typer

import gmsdi
from gmsdi.cli import models, music, songs, study
from gmsdi.cli.options import Device, Model, Precision
from gmsdi.cli.output import say, tell
from gmsdi.cli.values import require_values, spread
from gmsdi.errors import UserError

app = typer.Typer(
    help="Separate, generate and accompany music with a text-conditioned diffusion model trained on mixtures.",
    epilog="Exit status: 0 success, 1 an error or a song that failed, 2 wrong usage, 129, 130 or 143 interrupted.",
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)


def page(
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0 takes any that is free.")] = 7860,
    host: Annotated[
        str, typer.Option(help="Address to listen on; with 0.0.0.0, everyone on the network can use the page.")
    ] = "127.0.0.1",
    model: Model = "mini",
    device: Device = "auto",
    precision: Precision = "auto",
    show: Annotated[bool, typer.Option("--open", help="Also open the page in the browser.")] = False,
) -> None:
    """Serve a page for the browser that does all of this, by default for this machine alone."""
    from gmsdi.app.server import serve

    serve(
        host=host,
        port=port,
        model=model,
        device=device,
        precision=precision,
        show=show,
        say=tell,
    )


def _list_models(wanted: bool) -> None:
    if wanted:
        models.models()
        raise typer.Exit


def _version(wanted: bool) -> None:
    if wanted:
        tell(gmsdi.__version__)
        raise typer.Exit


def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
    list_models: Annotated[
        bool,
        typer.Option("--list-models", callback=_list_models, is_eager=True, help="The same as the command models."),
    ] = False,
) -> None:
    pass


workflow = typer.Typer(help="The workflow that makes the paper's tables and figures.", no_args_is_help=True)
workflow.callback()(lambda: None)  # so that `init` is a command of its own, though it is the only one
workflow.command()(study.init)

app.callback()(_root)
app.command()(songs.separate)
app.command()(songs.extract)
app.command()(music.generate)
app.command()(music.accompany)
app.command("app")(page)
app.command()(models.models)
app.command("import-msdm")(models.import_msdm)
app.command()(models.push)
app.command()(study.cost)
app.add_typer(workflow, name="workflow")


_OF_THE_SYSTEM = (
    *(errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ELOOP),
    *(errno.ENAMETOOLONG, errno.ENOSPC, errno.EDQUOT, errno.EIO),
)
"""Errors of a file that a user can do something about."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; the exit status is 0, 1 for a `UserError`, 2 for wrong usage, 128 + n for signal n."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # closed by whoever has started this
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115  # for as long as the process
    with warnings.catch_warnings(), _ended() as ended:
        warnings.showwarning = lambda message, *_, **__: say(f"warning: {message}")
        try:
            words = sys.argv[1:] if arguments is None else arguments
            require_values(words, _valued(words))
            app(spread(words), prog_name="gmsdi")
        except UserError as error:
            say(str(error))
            return 1
        except OSError as error:
            if error.errno not in _OF_THE_SYSTEM or error.filename is None:
                raise
            say(f"{error.filename}: {error.strerror}")
            return 1
        except SystemExit as end:
            status = end.code if isinstance(end.code, int) else 0
            return 128 + ended[0] if ended and status == 130 else status
    return 0


def _valued(words: Sequence[str]) -> set[str]:
    """The options of the command that take a value."""
    command: Any = typer.main.get_command(app)
    for word in words:
        command = getattr(command, "commands", {}).get(word, command)
    return {
        name
        for option in command.params
        if option.param_type_name == "option" and not option.is_flag
        for name in option.opts
    }


@contextmanager
def _ended() -> Iterator[list[int]]:
    """Have a request to end, and a terminal that is closed, be like Ctrl-C; which signals have come."""
    came: list[int] = []

    def handle(number: int, frame: FrameType | None) -> None:
        came.append(number)
        raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():
        yield came
        return
    numbers = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
    before = {number: signal.getsignal(number) for number in numbers}
    for number, handler in before.items():
        if handler is signal.SIG_DFL:  # not one that nohup has had ignored
            signal.signal(number, handle)
    try:
        yield came
    finally:
        for number, handler in before.items():
            if handler is signal.SIG_DFL:
                signal.signal(number, handler)
