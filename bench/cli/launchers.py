"""Choose a launcher, and run jobs with a launcher plugin."""

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
from bench.runner.lease import is_free, lease_path

REMOTE_LAUNCHERS = ("SlurmLauncher", "RayLauncher", "RayAWSLauncher")
"""Launchers whose jobs run on other machines than the one that plans."""

PLUGINS = {"hydra_joblib_launcher": "joblib", "hydra_submitit_launcher": "submitit", "hydra_ray_launcher": "ray"}
"""Package of each launcher plugin, and the extra that installs it."""

IDLE_LIMIT_S = 30.0
"""If no job of a batch holds a lease for this long, the batch has ended."""


@dataclass(frozen=True, kw_only=True)
class LauncherChoice:
    """The launcher of a sweep.

    Attributes:
        target: its class, ``hydra.launcher._target_``.
        make: returns the launcher, given a folder for its files.
        max_batch_size: maximum number of jobs that it gets in one call, if configured.
    """

    target: str
    make: Callable[[Path], Launcher]
    max_batch_size: int | None = None

    @property
    def is_ours(self) -> bool:
        """Whether it is the local launcher of this project, which takes jobs as objects and a running server."""
        return self.target.startswith("hydra_plugins.bench_")

    @property
    def is_remote(self) -> bool:
        """Whether its jobs run on other machines."""
        return self.target.rpartition(".")[2] in REMOTE_LAUNCHERS

    @property
    def is_submitit(self) -> bool:
        """Whether it is a launcher of submitit, whose jobs continue after it raises an exception."""
        return self.target.startswith("hydra_plugins.hydra_submitit_launcher.")

    def batch_size(self, num_jobs: int) -> int:
        """Return how many jobs the launcher gets in one call.

        The default is all jobs. The local launcher of submitit gets one job per core, because it starts all at once.
        """
        if self.max_batch_size is not None:
            return self.max_batch_size
        return os.cpu_count() or 1 if self.is_submitit and not self.is_remote else num_jobs


def require_plugin(target: str) -> None:
    """Check that the plugin of the launcher is installed.

    Args:
        target: ``hydra.launcher._target_``.

    Raises:
        ValueError: it is not installed. The message contains the command that installs it.
    """
    package = target.split(".")[1] if target.startswith("hydra_plugins.") else ""
    if package not in PLUGINS and not _is_launcher(target):
        raise ValueError(
            f"hydra.launcher._target_={target} must be the class of a launcher that is installed. Choose a launcher "
            "with hydra/launcher=local"
        )
    if package in PLUGINS and importlib.util.find_spec(f"hydra_plugins.{package}") is None:
        raise ValueError(
            f"the package {package.replace('_', '-')} of this launcher is not installed. Install it with: "
            f"python -m pip install --editable '.[{PLUGINS[package]}]'"
        )


def _is_launcher(target: str) -> bool:
    """Return whether a target is a class in a module of Hydra or of an installed plugin."""
    module = target.rpartition(".")[0]
    if module.partition(".")[0] not in ("hydra", "hydra_plugins"):
        return False
    try:
        return importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):
        return False


def launch_with_plugin(
    choice: LauncherChoice, run_dir: Path, names: Sequence[str], jobs: Sequence[Sequence[str]]
) -> str | None:
    """Run the jobs in batches with a launcher plugin. Workers write the rows, so its return values are ignored.

    Args:
        choice: the launcher.
        run_dir: the run folder.
        names: ``<key>-<replicate>`` of each job.
        jobs: overrides of each job, in the same order.

    Returns:
        The error of the launcher if it stopped early, else ``None``.
    """
    print(f"{len(jobs)} jobs. Watch them with: python scripts/show_run.py {shlex.quote(str(run_dir))} --watch",
          file=sys.stderr, flush=True)  # fmt: skip
    size = choice.batch_size(len(jobs))
    launcher = choice.make(run_dir / "launcher")
    for start in range(0, len(jobs), size):
        try:
            launcher.launch(jobs[start : start + size], initial_job_idx=start)
        except Exception as error:
            if choice.is_submitit:
                await_running(run_dir, names[start : start + size])
            return f"{type(error).__name__}: {next(iter(str(error).strip().splitlines()), 'no message')}"
    return None


def await_running(run_dir: Path, names: Sequence[str], poll_s: float = 1.0) -> None:
    """Wait for the running jobs of a batch whose launcher stopped because one of the jobs died."""
    last_seen = time.monotonic()
    while time.monotonic() - last_seen < IDLE_LIMIT_S:
        pending = [name for name in names if is_pending(run_dir, name)]
        if not pending:
            return
        if not all(is_free(lease_path(run_dir, name)) for name in pending):
            last_seen = time.monotonic()
        time.sleep(poll_s)
