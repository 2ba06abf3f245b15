"""The jobs of a configuration as Snakemake plans them: the work of each, and which jobs wait for which."""

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
from gmsdi.study.config import load, validate
from gmsdi.study.config.files import HOME
from gmsdi.study.names import Config
from gmsdi.study.work import PAGE, Amount, Work, Works

Overlay = str | Path | Mapping[str, Any]
"""A configuration file, or the content of one."""

SNAKEFILE = HOME / "workflow" / "Snakefile"


@dataclass(frozen=True)
class Job:
    """A job of the workflow.

    Attributes:
        rule: name of its rule.
        name: unique name of the job.
        work: the work that its rule states.
        after: names of the jobs with a network that it waits for, directly or indirectly.
        amount: the amount of work, once it is counted.
    """

    rule: str
    name: str
    work: Work
    after: tuple[str, ...] = ()
    amount: Amount = field(default_factory=Amount)


def resolved(overlays: Sequence[Overlay]) -> Config:
    """The workflow's configuration after these overlays, with every default filled in.

    Raises:
        UserError: if a file is missing or invalid, or the workflow's own files are missing.
    """
    if not SNAKEFILE.is_file():
        raise UserError(f"{SNAKEFILE}: missing; reinstall gmsdi from a wheel or from a complete checkout")
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
    """All jobs of a configuration, done or not, as Snakemake plans them, each after the jobs that it waits for.

    Raises:
        UserError: if Snakemake is missing, or cannot plan the jobs; with its reason.
    """
    try:
        from snakemake.api import SnakemakeApi
        from snakemake.exceptions import WorkflowError
        from snakemake.settings.types import ConfigSettings, DAGSettings, OutputSettings, Quietness, ResourceSettings
    except ImportError as error:
        raise UserError("counting costs needs Snakemake: pip install snakemake") from error
    data = resolved(overlays)["data"]  # reports mistakes before Snakemake starts
    known = Path(".snakemake").exists()
    # The costs do not depend on the initial weights, which another run may still have to make.
    overlays = [*overlays, {"training": {"initial": None}}]
    try:
        settings = OutputSettings(quiet={Quietness.ALL}, dryrun=True)
        # If data.root is not set yet, an empty folder stands for the tracks.
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
    """Snakemake's jobs, each after the jobs that it waits for."""
    names = {job: _name(job) for job in dependencies}
    behind: dict[Any, tuple[str, ...]] = {}  # the jobs with a network that dependents of this job wait for
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
