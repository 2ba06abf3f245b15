"""The jobs of a dry run of the workflow: rule, wildcards, inputs, outputs and GPUs of each.

Usage: python dag.py REPOSITORY CONFIGFILE... prints them as JSON.
"""

import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from snakemake.api import SnakemakeApi
from snakemake.settings.types import ConfigSettings, DAGSettings, OutputSettings, Quietness, ResourceSettings


def jobs(repository: str | Path, configs: Iterable[str | Path]) -> list[dict[str, Any]]:
    """The jobs that the configuration files ask for, in the current folder."""
    with SnakemakeApi(OutputSettings(quiet={Quietness.ALL}, dryrun=True)) as api:
        workflow = api.workflow(
            resource_settings=ResourceSettings(cores=1),
            config_settings=ConfigSettings(configfiles=[Path(file) for file in configs]),
            snakefile=Path(repository) / "workflow" / "Snakefile",
        )
        workflow.dag(DAGSettings()).execute_workflow(executor="dryrun")
        return [
            {
                "rule": job.rule.name,
                "wildcards": dict(job.wildcards_dict),
                "input": list(job.input),
                "output": list(job.output),
                "gpu": job.resources.get("gpu", 0),
            }
            for job in workflow._workflow.dag.jobs
        ]


if __name__ == "__main__":
    print(json.dumps(jobs(sys.argv[1], sys.argv[2:])))
