"""A Slurm of two nodes on this host, without systemd: ``munged``, ``slurmctld`` and a ``slurmd`` per node.

Plumbing only: the nodes over-subscribe the host's cores, so nothing may be timed here.
"""

from __future__ import annotations

import contextlib
import os
import platform
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import psutil

INSTALL = "apt-get install -y --no-install-recommends slurm-wlm munge"
PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch")
NODES = ("n1", "n2")
START_TIMEOUT_S = 60.0

# linuxproc, not pgid: with pgid each batch job that calls srun takes 3 s longer.
CONFIG = """\
ClusterName=bench
SlurmctldHost={host}(127.0.0.1)
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.sock
CredType=cred/munge
SlurmctldPort={ports[0]}
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
JobCompType=jobcomp/filetxt
JobCompLoc={folder}/jobcomp.log
MpiDefault=none
SwitchType=switch/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SchedulerParameters=batch_sched_delay=0,sched_interval=1,sched_min_interval=0,bf_interval=1
SlurmdParameters=config_overrides
ReturnToService=2
SlurmctldTimeout=30
SlurmdTimeout=30
KillWait=5
MinJobAge=3600
DefMemPerCPU=500
NodeName=n1 NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[1]} CPUs=2 RealMemory=8000 State=UNKNOWN
NodeName=n2 NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[2]} CPUs=2 RealMemory=8000 State=UNKNOWN
PartitionName=bench Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""


def missing() -> list[str]:
    """Programs of Slurm that are not installed."""
    path = os.pathsep.join([os.environ["PATH"], "/usr/sbin", "/sbin"])
    return [name for name in PROGRAMS if shutil.which(name, path=path) is None]


class Cluster:
    """The daemons, their folder, and the environment of their clients.

    Args:
        folder: state, logs and sockets. Its path must be short (a socket's name is at most 107 bytes).
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.daemons: dict[str, subprocess.Popen[bytes]] = {}
        stand_ins = Path(__file__).parent / "bin"  # sacct needs accounting, which this cluster has not
        self.env = {
            **os.environ,
            "SLURM_CONF": str(folder / "slurm.conf"),
            "PATH": os.pathsep.join([str(stand_ins), os.environ["PATH"], "/usr/sbin", "/sbin"]),
        }

    def start(self) -> None:
        """Start everything and wait until both nodes are idle."""
        user = psutil.Process().username()
        text = CONFIG.format(host=platform.node().split(".")[0], user=user, folder=self.folder, ports=_free_ports(3))
        (self.folder / "slurm.conf").write_text(text)
        (self.folder / "state").mkdir()
        (self.folder / "munge.key").write_bytes(os.urandom(1024))
        (self.folder / "munge.key").chmod(0o400)
        names = {"key-file": "munge.key", "socket": "munge.sock", "pid-file": "munged.pid", "log-file": "munged.log",
                 "seed-file": "munged.seed"}  # fmt: skip
        options = [f"--{name}={self.folder / file}" for name, file in names.items()]
        self._daemon("munged", ["munged", "--foreground", "--force", *options])
        self._daemon("slurmctld", ["slurmctld", "-D", "-c"])
        for node in NODES:
            self.start_node(node)
        self.await_nodes("idle", NODES)

    def start_node(self, node: str) -> None:
        """Start a node's daemon."""
        (self.folder / f"spool-{node}").mkdir(exist_ok=True)
        self._daemon(node, ["slurmd", "-D", "-c", "-N", node])

    def kill_node(self, node: str) -> int:
        """Kill the daemon and every process of its jobs at once, like a power failure. Return their number."""
        mine = self._processes_of(node)
        self.daemons[node].kill()
        self.daemons.pop(node).wait()
        for process in mine:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        return len(mine)

    def jobs(self, *options: str) -> list[str]:
        """Return the output of ``squeue``, a line per job."""
        return self.call("squeue", "--noheader", *options).split("\n")[:-1]

    def cancel_all(self) -> None:
        """Cancel every job and wait until none is queued."""
        self.call("scancel", "--user", psutil.Process().username())
        _wait(lambda: not self.jobs("--states=pending,running,configuring"), "the jobs to be cancelled")

    def await_nodes(self, state: str, nodes: Sequence[str]) -> None:
        """Wait until ``sinfo`` calls the nodes so."""
        _wait(lambda: all(self.call("sinfo", "-h", "-n", node, "-o", "%t").strip() == state for node in nodes),
              f"{', '.join(nodes)} to be {state}")  # fmt: skip

    def call(self, *command: str) -> str:
        """The output of a command of Slurm's, empty while the controller does not answer."""
        done = subprocess.run(command, env=self.env, capture_output=True, text=True, timeout=60, check=False)
        return done.stdout

    def stop(self) -> None:
        """End everything."""
        if "slurmctld" in self.daemons:
            self.call("scancel", "--user", psutil.Process().username())
        for name in [*(node for node in NODES if node in self.daemons)]:
            self.kill_node(name)
        for daemon in reversed(self.daemons.values()):
            daemon.send_signal(signal.SIGTERM)
            try:
                daemon.wait(20)
            except subprocess.TimeoutExpired:
                daemon.kill()
                daemon.wait()

    def _daemon(self, name: str, command: Sequence[str]) -> None:
        with (self.folder / f"{name}.out").open("ab") as out:
            # The controller waits for munge. A daemon that receives signals of the terminal would end with the test.
            self.daemons[name] = subprocess.Popen(command, env=self.env, stdin=subprocess.DEVNULL, stdout=out,
                                                  stderr=out, start_new_session=True)  # fmt: skip
        if name == "munged":
            _wait((self.folder / "munge.sock").exists, "munged")

    def _processes_of(self, node: str) -> set[psutil.Process]:
        """Processes of our jobs on the node, and the ``slurmstepd`` above them."""
        found: set[psutil.Process] = set()
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                env = process.environ()
                if (env.get("SLURM_CONF"), env.get("SLURMD_NODENAME")) == (self.env["SLURM_CONF"], node):
                    found |= {process, *(one for one in process.parents() if "slurmstepd" in one.name())}
        return found


@contextlib.contextmanager
def running(folder: Path) -> Iterator[Cluster]:
    """A cluster for the time of the block."""
    cluster = Cluster(folder)
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()


def _wait(condition: object, what: str) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while not condition():  # type: ignore[operator]
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {START_TIMEOUT_S:g} s for {what}")
        time.sleep(0.2)


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


if __name__ == "__main__":  # a cluster to play with, until Enter is pressed
    with running(Path(sys.argv[1])) as by_hand:
        print(f"export SLURM_CONF={by_hand.env['SLURM_CONF']} PATH={by_hand.env['PATH']}")
        input("Enter ends it: ")
