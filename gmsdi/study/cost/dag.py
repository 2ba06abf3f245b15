"""The jobs of a configuration, as Snakemake plans them: what they work, and which wait for which."""

from __future__ import annotations

import io
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from gmsdi.errors import UserError
from gmsdi.study.config import Config, load, validate
from gmsdi.study.config.files import HOME
from gmsdi.study.work import PAGE, Amount, Work, Works

Overlay = str | Path | Mapping[str, Any]
"""A configuration file, or what one would hold."""

SNAKEFILE = HOME / "workflow" / "Snakefile"


@dataclass(frozen=True)
class Job:
    """A job of the workflow.

    Attributes:
        rule: its rule.
        name: unique.
        work: what its rule says.
        after: names of the jobs that run a network and that it waits for, directly or not.
        amount: how much it is, where that is counted.
    """

    rule: str
    name: str
    work: Work
    after: tuple[str, ...] = ()
    amount: Amount = field(default_factory=Amount)


def resolved(overlays: Sequence[Overlay]) -> Config:
    """The configuration of the workflow with these overlays, every default filled in.

    Raises:
        UserError: if a file is missing or wrong, or the workflow's own are not there.
    """
    if not SNAKEFILE.is_file():
        raise UserError(f"{SNAKEFILE}: not there; install gmsdi anew, from a wheel or from a whole checkout")
    with _files(overlays) as files:
        return validate(load(*files))


@contextmanager
def _files(overlays: Sequence[Overlay]) -> Iterator[list[Path]]:
    """The overlays as files."""
    with tempfile.TemporaryDirectory() as folder:
        files = []
        for number, overlay in enumerate(overlays):
            if isinstance(overlay, Mapping):
                files.append(Path(folder) / f"{number}.yaml")
                files[-1].write_text(yaml.safe_dump(dict(overlay)), encoding="utf-8")
            else:
                files.append(Path(overlay))
        yield files


def jobs(overlays: Sequence[Overlay]) -> list[Job]:
    """All jobs of a configuration, done or not, as Snakemake plans them; each comes after those that it waits for.

    Raises:
        UserError: if Snakemake is missing, or cannot plan them, with its reason.
    """
    try:
        from snakemake.api import SnakemakeApi
        from snakemake.exceptions import WorkflowError
        from snakemake.settings.types import ConfigSettings, DAGSettings, OutputSettings, Quietness, ResourceSettings
    except ImportError as error:
        raise UserError("costs are counted by Snakemake, which is missing: pip install 'gmsdi[workflow]'") from error
    data = resolved(overlays)["data"]  # mistakes are named before Snakemake starts
    known = Path(".snakemake").exists()
    try:
        settings = OutputSettings(quiet={Quietness.ALL}, dryrun=True)
        # Tracks that are still to come are counted too, as those of a folder without any.
        to_come = data["kind"] == "stems" and not data["root"]
        Works.to_come = to_come
        with (
            tempfile.TemporaryDirectory() as empty,
            _files([*overlays, {"data": {"root": empty}}] if to_come else overlays) as files,
            redirect_stderr(io.StringIO()),
            SnakemakeApi(settings) as api,
        ):
            workflow = api.workflow(
                resource_settings=ResourceSettings(cores=1),
                config_settings=ConfigSettings(configfiles=files),
                snakefile=SNAKEFILE,
            )
            workflow.dag(DAGSettings()).execute_workflow(executor="dryrun")
            dag = workflow._workflow.dag
            return _ordered({job: list(dag.dependencies[job]) for job in dag.jobs})
    except SystemExit as end:  # the Snakefile's own checks
        raise UserError(str(end.code)) from end
    except WorkflowError as error:
        raise UserError(" ".join(str(error).split())) from error
    finally:
        Works.to_come = False
        if not known:
            shutil.rmtree(".snakemake", ignore_errors=True)


def _ordered(dependencies: Mapping[Any, Sequence[Any]]) -> list[Job]:
    """Snakemake's jobs in an order in which none comes before what it waits for."""
    names = {job: _name(job) for job in dependencies}
    behind: dict[Any, tuple[str, ...]] = {}  # jobs that run a network, to be waited for by what needs this one
    found: list[Job] = []

    def visit(job: Any) -> tuple[str, ...]:
        if job not in behind:
            others = sorted(dependencies[job], key=names.__getitem__)
            after = tuple(dict.fromkeys(name for other in others for name in visit(other)))
            work = job.params.get("work", Work(PAGE))
            found.append(Job(job.rule.name, names[job], work, after))
            behind[job] = (names[job],) if work.network else after
        return behind[job]

    for job in sorted(dependencies, key=names.__getitem__):
        visit(job)
    return found


def _name(job: Any) -> str:
    words = "/".join(value for key, value in job.wildcards_dict.items() if key != "shards")
    return f"{job.rule.name} {words}".strip()
