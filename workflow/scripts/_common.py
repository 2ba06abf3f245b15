"""What all scripts share: log, progress bar, and one-line errors."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from gmsdi.errors import UserError
from gmsdi.io.files import atomic, remove_partials

if TYPE_CHECKING:
    import pandas as pd

    from gmsdi.study.methods import Row
    from gmsdi.study.setups import Setup
    from gmsdi.study.sheets import Sheet


@contextmanager
def job(snakemake: Any) -> Iterator[None]:
    """Copy all output to the rule's log, and end with one line and status 1 if the user can fix an error.

    Partial outputs of a job that was killed are deleted first.
    """
    path = Path(snakemake.log[0])
    if os.environ.get("LOCAL_RANK", "0") == "0":  # further processes of a training append to its log
        path.write_text("", encoding="utf-8")
    for output in snakemake.output:
        remove_partials(output)
    with path.open("a", encoding="utf-8") as log:
        terminals = sys.stdout, sys.stderr
        sys.stdout, sys.stderr = (Tee(terminal, log) for terminal in terminals)
        try:
            yield
        except UserError as error:
            print(f"error: {error}", file=sys.stderr)
            sys.exit(1)
        except Exception:
            traceback.print_exc()
            sys.exit(1)
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            sys.stdout, sys.stderr = terminals


class Tee:
    """A text stream to a terminal and a log; if a line is overwritten, the log gets its last state."""

    def __init__(self, terminal: TextIO, log: TextIO) -> None:
        self.terminal, self.log, self.line = terminal, log, ""

    def write(self, text: str) -> int:
        self.terminal.write(text)
        *complete, self.line = (self.line + text).split("\n")
        for line in complete:
            self.log.write(line.rstrip("\r").rsplit("\r", 1)[-1] + "\n")
        self.line = self.line[-4096:]
        return len(text)

    def flush(self) -> None:
        self.terminal.flush()
        self.log.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.terminal, name)


@contextmanager
def progress(description: str) -> Iterator[Callable[[float, float], None]]:
    """Show a progress bar; yields a function that takes the amount done and the total."""
    from tqdm import tqdm

    bar_format = "{desc}: {percentage:3.0f}%|{bar:30}| {elapsed}<{remaining}"
    with tqdm(desc=description, bar_format=bar_format, file=sys.stderr, total=1.0) as bar:

        def update(done: float, total: float) -> None:
            bar.total = total
            bar.n = min(done, total)
            bar.update(0)

        yield update


def open_system(snakemake: Any, setup: Setup) -> Any:
    """Open the system of the rule's row or task, using the rule's threads.

    Results do not depend on how the work is divided into jobs. They depend on the precision, which is therefore a
    parameter of the rule.
    """
    import torch

    from gmsdi.study.counting import CALL

    torch.set_num_threads(snakemake.threads)
    options = {"device": snakemake.config["jobs"]["device"], "precision": snakemake.params.precision}
    folders = model_folders(snakemake.input.model, snakemake.params.bundled)
    system = setup.open(folders, **options, max_batch=CALL, fixed_batch=True)
    rate = snakemake.config["data"]["sample_rate"]
    if system.sample_rate != rate:
        raise UserError(
            f"{', '.join(map(str, folders))}: the model works at {system.sample_rate} Hz, but data.sample_rate is "
            f"{rate}; change one of them"
        )
    channels = snakemake.config["data"]["channels"]
    if (known := getattr(system, "channels", 1)) != channels:
        raise UserError(
            f"{', '.join(map(str, folders))}: the model has {known} channels, but data.channels is "
            f"{channels}; change it"
        )
    return system


def chosen_rows(snakemake: Any) -> dict[str, Row]:
    """The rows of the rule's parameters, with open settings chosen by the rule's files of the grid."""
    from gmsdi.io.tables import read_table
    from gmsdi.study.methods import load_rows
    from gmsdi.study.selection import choose_settings

    grids = {
        split: [read_table(file, missing=False) for file in files]
        for split, files in (("test", snakemake.input.test), ("validation", snakemake.input.validation))
        if files
    }
    return choose_settings(grids, load_rows(snakemake.params.rows), by=snakemake.params.by)


def model_folders(files: Any, bundled: Iterable[str]) -> list[Path | str]:
    """The folders of models: those of the rule's input files, and those that come with the package.

    For pretrained models, they are arguments of `gmsdi.load`.
    """
    from gmsdi import errors  # a light module, imported to locate the package

    folders = dict.fromkeys(Path(file).parent for file in ([files] if isinstance(files, str) else files))
    weights, mark = Path(errors.__file__).parent / "weights", "pretrained:"
    named = (name.removeprefix(mark) if name.startswith(mark) else weights / name for name in bundled)
    return [*folders, *named]


def workflow_file(name: str) -> Path:
    """A file in the workflow's folder, wherever that is; the rule must name it in `code`."""
    return Path(__file__).resolve().parents[1] / name


def windows_folder(files: Any) -> Path:
    """The windows folder of the rule's input files."""
    return Path(files if isinstance(files, str) else files[0]).parent


def write_table(outputs: Any, table: pd.DataFrame, sheets: Sequence[Sheet]) -> None:
    """Write a table to the rule's .csv, .md and .tex outputs."""
    from gmsdi.study.sheets import latex, markdown

    texts = {".csv": table.to_csv(index=False, float_format="%.6g"), ".md": markdown(sheets), ".tex": latex(sheets)}
    for output in map(Path, outputs):
        with atomic(output) as path:
            path.write_text(texts[output.suffix], encoding="utf-8")
