"""Hydra plugin ``hydra/launcher=local``. It calls ``bench.runner.execute``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from hydra.core.utils import JobReturn
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

if TYPE_CHECKING:
    from bench.runner.execute import Job
    from bench.runner.process.server import Server
    from bench.runner.session import Session


class LocalLauncher(Launcher):
    """Runs the jobs of one run folder on this machine, each in its own process."""

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Do nothing. ``run`` gets everything as arguments."""

    def run(self, session: Session, jobs: Sequence[Job], server: Server | None) -> None:
        """Run planned jobs and write their rows to the run folder.

        Args:
            session: the run to which the jobs belong.
            jobs: jobs to run.
            server: a tensor server that is already running, for the first round.
        """
        from bench.runner.execute import run_jobs

        run_jobs(session, jobs, server)

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Refuse jobs of another sweeper than ``bench``.

        Raises:
            ValueError: always.
        """
        raise ValueError("hydra/launcher=local runs planned jobs only. Set hydra/sweeper=bench")
