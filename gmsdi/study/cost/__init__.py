"""What a configuration costs before it is run: network evaluations, device hours, memory, disk and jobs.

`jobs` asks Snakemake for all jobs of the workflow and for which of them wait for which; each rule states the work of
its jobs (`gmsdi.study.work`). `sizes_of` finds out how large the data are. `measure` times an evaluation and a training
step of each network on this machine. `estimate` multiplies them, and lays the jobs out over devices; `text` prints the
result. Only `measure` needs torch.
"""

from gmsdi.study.cost.dag import Job, jobs, resolved
from gmsdi.study.cost.estimates import Costs, Part, estimate, given_costs, layout
from gmsdi.study.cost.networks import Cost, Seconds
from gmsdi.study.cost.sizes import counted, sizes_of, track_frames
from gmsdi.study.cost.summary import text
from gmsdi.study.cost.timing import measure

__all__ = [
    "Cost",
    "Costs",
    "Job",
    "Part",
    "Seconds",
    "counted",
    "estimate",
    "given_costs",
    "jobs",
    "layout",
    "measure",
    "resolved",
    "sizes_of",
    "text",
    "track_frames",
]
