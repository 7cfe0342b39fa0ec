"""Handing a sweep's jobs to the launcher that was chosen, and living with how it ends."""

from __future__ import annotations

import importlib.util
import os
import shlex
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from hydra.plugins.launcher import Launcher

from bench.rows.record import is_pending
from bench.runner.lease import is_free

LEAVING = ("SlurmLauncher", "RayLauncher", "RayAWSLauncher")
"""Their jobs run on machines that the one that plans knows nothing of."""

PLUGINS = {"hydra_joblib_launcher": "joblib", "hydra_submitit_launcher": "submitit", "hydra_ray_launcher": "ray"}
"""Plugins by the extra that installs them."""

QUIET_S = 30.0
"""No job of a batch at work for so long: nobody is working any more."""


@dataclass(frozen=True, kw_only=True)
class LauncherChoice:
    """The launcher of a sweep.

    Attributes:
        target: its class, ``hydra.launcher._target_``.
        make: makes it, given the folder for files of its own.
        max_batch_size: jobs to hand over at once, if asked for.
    """

    target: str
    make: Callable[[Path], Launcher]
    max_batch_size: int | None = None

    @property
    def is_ours(self) -> bool:
        """Whether it takes all jobs of a sweep as one piece of work, and a server that runs already."""
        return self.target.startswith("hydra_plugins.bench_")

    @property
    def leaves_the_machine(self) -> bool:
        """Whether its jobs run elsewhere."""
        return self.target.rpartition(".")[2] in LEAVING

    @property
    def by_submitit(self) -> bool:
        """Whether its jobs are processes that live on when it gives up."""
        return self.target.startswith("hydra_plugins.hydra_submitit_launcher.")

    def batch_size(self, jobs: int) -> int:
        """Jobs to hand over at once: all, but submitit's local launcher starts whatever it gets."""
        if self.max_batch_size is not None:
            return self.max_batch_size
        return os.cpu_count() or 1 if self.by_submitit and not self.leaves_the_machine else jobs


def require_plugin(target: str) -> None:
    """Check that the launcher's plugin is installed.

    Args:
        target: ``hydra.launcher._target_``.

    Raises:
        ValueError: it is not; says how to install it.
    """
    package = target.split(".")[1] if target.startswith("hydra_plugins.") else ""
    if package in PLUGINS and importlib.util.find_spec(f"hydra_plugins.{package}") is None:
        raise ValueError(
            f"this launcher needs {package.replace('_', '-')}; install it with: "
            f"python -m pip install --editable '.[{PLUGINS[package]}]'"
        )


def launch_foreign(
    choice: LauncherChoice, run_dir: Path, names: Sequence[str], jobs: Sequence[Sequence[str]]
) -> str | None:
    """Run the jobs, in batches, by a launcher that is not ours; whatever it returns, the answers are rows.

    Args:
        choice: which one.
        run_dir: the run folder.
        names: ``<key>-<replicate>`` of each job.
        jobs: their overrides.

    Returns:
        Why the launcher gave up, or ``None``.
    """
    print(f"{len(jobs)} jobs; watch them with: python scripts/show_run.py {shlex.quote(str(run_dir))} --watch",
          file=sys.stderr, flush=True)  # fmt: skip
    at_once = choice.batch_size(len(jobs))
    launcher = choice.make(run_dir / "launcher")
    for start in range(0, len(jobs), at_once):
        try:
            launcher.launch(jobs[start : start + at_once], initial_job_idx=start)
        except Exception as error:
            if choice.by_submitit:
                await_others(run_dir, names[start : start + at_once])
            return f"{type(error).__name__}: {next(iter(str(error).strip().splitlines()), 'no message')}"
    return None


def await_others(run_dir: Path, names: Sequence[str], poll_s: float = 1.0) -> None:
    """Wait while jobs of a batch go on although the launcher has given up for one that died."""
    last_seen = time.monotonic()
    while time.monotonic() - last_seen < QUIET_S:
        pending = [name for name in names if is_pending(run_dir, name)]
        if not pending:
            return
        if not all(is_free(run_dir / "claims" / f"{name}.json") for name in pending):
            last_seen = time.monotonic()
        time.sleep(poll_s)
