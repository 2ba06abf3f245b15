"""Print the jobs of a dry run of the workflow as JSON: rule, wildcards, outputs and GPUs of each.

Usage: python dag.py REPOSITORY CONFIGFILE...
"""

import json
import sys
from pathlib import Path

from snakemake.api import SnakemakeApi
from snakemake.settings.types import ConfigSettings, DAGSettings, OutputSettings, Quietness, ResourceSettings

with SnakemakeApi(OutputSettings(quiet={Quietness.ALL}, dryrun=True)) as api:
    workflow = api.workflow(
        resource_settings=ResourceSettings(cores=1),
        config_settings=ConfigSettings(configfiles=[Path(file) for file in sys.argv[2:]]),
        snakefile=Path(sys.argv[1]) / "workflow" / "Snakefile",
    )
    workflow.dag(DAGSettings()).execute_workflow(executor="dryrun")
    jobs = [
        {
            "rule": job.rule.name,
            "wildcards": dict(job.wildcards_dict),
            "output": list(job.output),
            "gpu": job.resources.get("gpu", 0),
        }
        for job in workflow._workflow.dag.jobs
    ]
print(json.dumps(jobs))
