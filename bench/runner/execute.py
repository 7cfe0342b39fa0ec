"""Run planned jobs on this machine, round by round.

Jobs with tensors run one after the other. Jobs without tensors run on all cores.
"""

from __future__ import annotations

import os
import queue
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.measure.turns import VARIABLE
from bench.plan.points import Plan, Point
from bench.rows.record import is_pending
from bench.runner.lease import hold_lease
from bench.runner.machine.gpu_lock import hold_gpu, visible_gpus
from bench.runner.process.server import Server
from bench.runner.progress import Progress
from bench.runner.round import Round
from bench.runner.session import Session


@dataclass(frozen=True, kw_only=True)
class Job:
    """One replicate of one planned point."""

    point: Point
    replicate: int

    @property
    def name(self) -> str:
        """Name of its files and its lease."""
        return f"{self.point.key}-{self.replicate}"

    @property
    def tensors(self) -> bool:
        """Whether it uses torch and a device."""
        return self.point.config.scenario.tensors


def pending_jobs(plan: Plan, run_dir: Path) -> list[Job]:
    """Return the jobs of a plan that have no row, or a row whose status is tried again, round by round."""
    jobs = [Job(point=point, replicate=replicate) for point, replicate in plan.jobs()]
    return [job for job in jobs if is_pending(run_dir, job.name)]


def run_jobs(session: Session, jobs: Sequence[Job], server: Server | None = None) -> None:
    """Run jobs, except those that have a row already and those that another process is running.

    Args:
        session: the run to which the jobs belong.
        jobs: jobs to run, round by round.
        server: a tensor server that is already running. The first round uses it and closes it.
    """
    jobs = [job for job in jobs if is_pending(session.run_dir, job.name)]
    with Progress([job.point for job in jobs]) as progress:
        for batch in _rounds([job for job in jobs if not job.tensors]):
            _run_without_tensors(batch, session, progress)
        _run_with_tensors([job for job in jobs if job.tensors], session, progress, server)


def _rounds(jobs: Sequence[Job]) -> list[list[Job]]:
    """Group the jobs by replicate. Each round has its own servers, so that replicates share no process."""
    return [[job for job in jobs if job.replicate == number] for number in sorted({job.replicate for job in jobs})]


def _run_with_tensors(jobs: Sequence[Job], session: Session, progress: Progress, server: Server | None) -> None:
    """Run jobs with tensors one after the other, with a lock on the GPU if they use one."""
    if not jobs:
        return
    on_cuda = any(job.point.config.device == "cuda" for job in jobs)
    with hold_gpu(visible_gpus() if on_cuda else [], session.run_dir) as uuid:
        env = {"CUDA_VISIBLE_DEVICES": uuid} if uuid else {}
        if uuid and server is not None:
            server.close()  # it was started before the GPU was chosen
            server = None
        for batch in _rounds(jobs):
            with Round(session, env=env, server=server) as this_round:
                for job in batch:
                    _run_leased(job, session, this_round, progress)
            server = None


def _run_without_tensors(jobs: Sequence[Job], session: Session, progress: Progress) -> None:
    """Run one round of jobs without tensors: one worker per core, or one worker during A/B turns."""
    waiting: queue.SimpleQueue[Job] = queue.SimpleQueue()
    for job in jobs:
        waiting.put(job)
    stop = threading.Event()
    problems: list[BaseException] = []

    def work() -> None:
        try:
            with Round(session) as this_round:
                while not stop.is_set():
                    _run_leased(waiting.get_nowait(), session, this_round, progress)
        except queue.Empty:
            return
        except BaseException as problem:
            problems.append(problem)
            stop.set()

    _run_threads(work, min(_num_workers(), len(jobs)), stop)
    if problems:
        raise problems[0]


def _num_workers() -> int:
    if VARIABLE in os.environ:
        return 1  # during A/B turns, only the point whose turn it is may run
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _run_threads(work: Callable[[], None], count: int, stop: threading.Event) -> None:
    """Run a function in some threads and wait until all end. Ctrl-C sets ``stop`` and waits for their present jobs.

    It waits for events. ``Thread.join`` of Python 3.11 and 3.12 returns at once if it was interrupted before, and the
    row of a running job would be lost.
    """
    ended = [threading.Event() for _ in range(count)]

    def run(event: threading.Event) -> None:
        try:
            work()
        finally:
            event.set()

    for event in ended:
        threading.Thread(target=run, args=(event,)).start()
    try:
        for event in ended:
            event.wait()
    except KeyboardInterrupt:
        stop.set()
        for event in ended:
            event.wait()
        raise


def _run_leased(job: Job, session: Session, this_round: Round, progress: Progress) -> None:
    with hold_lease(session.run_dir, job.name, session.lease_wait_s) as is_ours:
        if is_ours and is_pending(session.run_dir, job.name):
            progress.begin(job.point)
            progress.end(job.point, this_round.run(job.point, job.replicate))
