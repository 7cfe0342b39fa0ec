"""Run planned jobs on this machine: rounds of replicates; points without tensors on all cores."""

from __future__ import annotations

import os
import queue
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.measure.turns import VARIABLE
from bench.plan.points import Plan, Point
from bench.rows.record import is_pending
from bench.runner.lease import claimed
from bench.runner.machine.gpu_lock import one_gpu, visible_gpus
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
        """What files and claims of it are called."""
        return f"{self.point.key}-{self.replicate}"

    @property
    def tensors(self) -> bool:
        """Whether it touches a device."""
        return self.point.config.scenario.tensors


def pending_jobs(plan: Plan, run_dir: Path) -> list[Job]:
    """Return the jobs of a plan that have no row yet, or one that is worth another try, round by round."""
    jobs = [Job(point=point, replicate=replicate) for point, replicate in plan.jobs()]
    return [job for job in jobs if is_pending(run_dir, job.name)]


def run_jobs(session: Session, jobs: Sequence[Job], server: Server | None = None) -> None:
    """Run jobs of the session's plan, except those that have a row already or that another process works on.

    Args:
        session: the run.
        jobs: those to run, round by round.
        server: a tensor server that runs already, for the first round.
    """
    jobs = [job for job in jobs if is_pending(session.run_dir, job.name)]
    with Progress(len(jobs)) as progress:
        for batch in _rounds([job for job in jobs if not job.tensors]):
            _run_light(batch, session, progress)
        _run_tensors([job for job in jobs if job.tensors], session, progress, server)


def _rounds(jobs: Sequence[Job]) -> list[list[Job]]:
    """The jobs by replicate: each round has servers of its own, so that replicates share nothing."""
    return [[job for job in jobs if job.replicate == number] for number in sorted({job.replicate for job in jobs})]


def _run_tensors(jobs: Sequence[Job], session: Session, progress: Progress, server: Server | None) -> None:
    """One after the other, round by round, alone on the device."""
    if not jobs:
        return
    on_cuda = any(job.point.config.device == "cuda" for job in jobs)
    with one_gpu(visible_gpus() if on_cuda else [], session.run_dir) as uuid:
        env = {"CUDA_VISIBLE_DEVICES": uuid} if uuid else {}
        if uuid and server is not None:
            server.close()  # it was started before the device was chosen
            server = None
        for batch in _rounds(jobs):
            with Round(session, env=env, server=server) as this_round:
                for job in batch:
                    _run_claimed(job, session, this_round, progress)
            server = None


def _run_light(jobs: Sequence[Job], session: Session, progress: Progress) -> None:
    """One round, in as many processes as there are cores, nothing being timed against anything else; or in turn."""
    waiting: queue.SimpleQueue[Job] = queue.SimpleQueue()
    for job in jobs:
        waiting.put(job)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if VARIABLE in os.environ:
        cores = 1  # the other side's times are compared with ours, one point at a time
    stop = threading.Event()
    problems: list[BaseException] = []

    def work() -> None:
        try:
            with Round(session) as this_round:
                while not stop.is_set():
                    _run_claimed(waiting.get_nowait(), session, this_round, progress)
        except queue.Empty:
            return
        except BaseException as problem:
            problems.append(problem)
            stop.set()

    workers = [threading.Thread(target=work) for _ in range(min(cores, len(jobs)))]
    for worker in workers:
        worker.start()
    try:
        for worker in workers:
            worker.join()
    except KeyboardInterrupt:
        stop.set()
        for worker in workers:
            worker.join()
        raise
    if problems:
        raise problems[0]


def _run_claimed(job: Job, session: Session, this_round: Round, progress: Progress) -> None:
    with claimed(session.run_dir, job.name, session.claim_wait_s) as ours:
        if ours and is_pending(session.run_dir, job.name):
            progress.begin(job.point)
            progress.end(job.point, this_round.run(job.point, job.replicate))
