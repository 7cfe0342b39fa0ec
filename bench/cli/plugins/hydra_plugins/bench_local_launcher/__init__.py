"""The local launcher that Hydra finds; what it does is in ``bench.runner.execute``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from hydra.core.utils import JobReturn
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

if TYPE_CHECKING:
    from bench.runner.process.server import Server


class LocalLauncher(Launcher):
    """Runs the jobs of one run folder on this machine, each in a process of its own."""

    server: Server | None = None  # the sweep's own fork server, for the first round

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Called by Hydra; everything that is needed stands in the jobs' overrides."""

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Run the jobs; the answers are the rows in the run folder."""
        from bench.plan.points import read_plan
        from bench.runner.execute import run_jobs
        from bench.runner.job import LauncherJob
        from bench.runner.session import Session

        jobs = [LauncherJob.parse(overrides) for overrides in job_overrides]
        first = jobs[0]
        plan = read_plan(first.run_dir)
        session = Session(
            run_dir=first.run_dir,
            plan=plan.with_present_code() if first.mixed else plan,
            interleaved=True,
            timeout_s=first.timeout_s,
            mixed=first.mixed,
        )
        run_jobs(session, [job.name for job in jobs], self.server)
        return []
