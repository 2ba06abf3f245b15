"""A SLURM cluster of one node on loopback. Without SLURM, or without being root, its tests are skipped, unless the
environment says GMSDI_SLURM=required."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import re
import secrets
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "scancel", "scontrol", "sinfo", "squeue", "srun")
PLUGIN = "snakemake_executor_plugin_slurm"

# The node claims more than any machine has, so that the profile's own requests are what is tested. All sockets are on
# loopback; a job that is requeued starts again after cred_expire seconds.
SLURM_CONF = """\
ClusterName=gmsdi
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller_port}
SlurmdPort={node_port}
CommunicationParameters=NoInAddrAny,NoCtldInAddrAny
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket,cred_expire=5
SlurmUser=root
SlurmdUser=root
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
JobCompType=jobcomp/filetxt
JobCompLoc={folder}/completed.txt
MpiDefault=none
SwitchType=switch/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SlurmdParameters=config_overrides
MinJobAge=600
KillWait=10
GresTypes=gpu
NodeName={host} NodeAddr=127.0.0.1 CPUs=16 RealMemory=256000 Gres=gpu:fake:2
PartitionName=cpu Nodes={host} Default=YES
PartitionName=gpu Nodes={host}
"""
GRES_CONF = """\
AutoDetect=off
NodeName={host} Name=gpu Type=fake File=/dev/zero
NodeName={host} Name=gpu Type=fake File=/dev/null
"""


def missing() -> str | None:
    """Why no cluster can be started here."""
    programs = [name for name in PROGRAMS if shutil.which(name) is None]
    if programs:
        return f"no {', '.join(programs)}; apt-get install --no-install-recommends slurm-wlm munge"
    if os.geteuid():
        return "SLURM's daemons start jobs as root alone"
    if importlib.util.find_spec(PLUGIN) is None:
        return "snakemake-executor-plugin-slurm is not installed; make cluster"
    return None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = [item for item in items if item.path.parent == Path(__file__).parent]
    reason = missing()
    if not here or not reason:
        return
    if os.environ.get("GMSDI_SLURM") == "required":
        raise pytest.UsageError(reason)
    for item in here:
        item.add_marker(pytest.mark.skip(reason=reason))


@dataclass(frozen=True)
class Cluster:
    """A cluster that runs, and the environment of its commands."""

    folder: Path
    environ: dict[str, str]

    def run(self, *command: str) -> str:
        """The output of one of SLURM's commands."""
        return subprocess.run(command, env=self.environ, check=True, capture_output=True, text=True, timeout=60).stdout

    def jobs(self) -> list[dict[str, str]]:
        """What the controller knows of every job, ended ones included, in the order of their submission."""
        shown = self.run("scontrol", "--oneliner", "show", "jobs")
        found = [dict(re.findall(r"(\w+)=(\S*)", line)) for line in shown.splitlines() if line.startswith("JobId=")]
        return sorted(found, key=lambda job: int(job["JobId"]))

    def wait_until_up(self) -> None:
        started = time.monotonic()
        while time.monotonic() - started < 60:
            with contextlib.suppress(subprocess.CalledProcessError, subprocess.TimeoutExpired):
                if self.run("sinfo", "--noheader", "--Node", "--format=%T").split() == ["idle", "idle"]:
                    return
            time.sleep(0.1)
        logs = [f"{path.name}: {path.read_text()[-1000:]}" for path in sorted(self.folder.glob("*.log"))]
        raise AssertionError("the node did not come up\n" + "\n".join(logs))

    def cancel_all(self) -> None:
        """End what still runs: the processes of jobs outlive the daemons."""
        self.run("scancel", "--user=root")
        started = time.monotonic()
        while self.run("squeue", "--noheader") and time.monotonic() - started < 60:
            time.sleep(0.2)


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """The partitions `cpu` and `gpu` on one node with two pretended GPUs, all of it in a temporary folder."""
    folder = tmp_path_factory.mktemp("slurm")
    for name in ("state", "spool", "bin"):
        (folder / name).mkdir()
    host = socket.gethostname().split(".")[0]
    values = {"folder": folder, "host": host, "controller_port": _free_port(), "node_port": _free_port()}
    config = folder / "slurm.conf"
    config.write_text(SLURM_CONF.format(**values))
    (folder / "gres.conf").write_text(GRES_CONF.format(**values))
    key = folder / "munge.key"
    key.touch(mode=0o600)
    key.write_bytes(secrets.token_bytes(128))
    # The plugin removes SLURM_CONF from the environment of the srun within a job.
    srun = folder / "bin" / "srun"
    srun.write_text(f'#!/bin/sh\nSLURM_CONF={config} exec {shutil.which("srun")} "$@"\n')
    srun.chmod(0o755)
    environ = {**os.environ, "SLURM_CONF": str(config), "PATH": f"{srun.parent}{os.pathsep}{os.environ['PATH']}"}
    made = Cluster(folder, environ)
    munge = [f"--{name}-file={folder}/munge.{name}" for name in ("key", "pid", "log", "seed")]
    daemons = [
        ["munged", "--foreground", "--force", f"--socket={folder}/munge.socket", *munge],
        ["slurmctld", "-D", "-c", "-L", f"{folder}/slurmctld.log"],
        ["slurmd", "-D", "-c", "-L", f"{folder}/slurmd.log"],
    ]
    running: list[subprocess.Popen[bytes]] = []
    try:
        for command in daemons:
            quiet = subprocess.DEVNULL
            running.append(subprocess.Popen(command, env=environ, stdin=quiet, stdout=quiet, stderr=quiet))
        made.wait_until_up()
        yield made
        made.cancel_all()
    finally:
        for process in reversed(running):
            process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(30)
            process.kill()
