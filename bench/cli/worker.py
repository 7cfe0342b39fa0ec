"""One job in the worker of a launcher that is not ours: it may run elsewhere, hours after the plan was made."""

from __future__ import annotations

import sys
import traceback
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from bench.config import build
from bench.plan.code_hash import CodeHashes
from bench.plan.points import Plan, Point, read_plan
from bench.plan.question import effective, key_of, resolve
from bench.rows.record import is_pending
from bench.runner.execute import Job, run_jobs
from bench.runner.lease import STALE_S, claimed
from bench.runner.round import Round
from bench.runner.session import Session


def work(cfg: DictConfig) -> None:
    """Run the job that the overrides name; what goes wrong becomes its row, never an exception.

    An exception would end the whole batch of some launchers.

    Raises:
        ValueError: started by hand, without ``run_dir`` and ``job``.
    """
    if cfg.run_dir is None or cfg.job is None:
        raise ValueError("job is set by the sweep; start a run with: python bench/run.py -m page_size=4,16,64")
    try:
        session = _session(Path(cfg.run_dir), mixed=cfg.resume_mixed, timeout_s=cfg.timeout_s)
        job = _find(session.plan, cfg.job)
        try:
            _refuse_changed(cfg, job.point, mixed=session.mixed)
            run_jobs(session, [job])
        except Exception as error:
            traceback.print_exc()
            _write_crashed(session, job, f"{type(error).__name__}: {error}")
    except Exception:  # no such job in the plan, or the row itself could not be written
        traceback.print_exc(file=sys.stderr)


def _session(run_dir: Path, *, mixed: bool, timeout_s: float) -> Session:
    plan = read_plan(run_dir)
    if mixed:
        plan = plan.with_present_code()
    # A job that the scheduler queued again finds the claim of its dead self, on a node that cannot be asked.
    return Session(
        run_dir=run_dir, plan=plan, interleaved=False, timeout_s=timeout_s, mixed=mixed, claim_wait_s=STALE_S
    )


def _find(plan: Plan, name: str) -> Job:
    for point, replicate in plan.jobs():
        job = Job(point=point, replicate=replicate)
        if job.name == name:
            return job
    raise ValueError(f"job={name} is not in the plan")


def _refuse_changed(cfg: DictConfig, point: Point, *, mixed: bool) -> None:
    """What was queued must still be what was planned."""
    values = OmegaConf.to_container(cfg, resolve=True)
    assert isinstance(values, dict)
    config = build({str(name): value for name, value in values.items()})
    key = key_of(effective(resolve(config, config.device)))
    if key != point.key:
        raise ValueError(f"the overrides ask {key} now, not {point.key}: conf/ was edited while the job was queued")
    if not mixed and CodeHashes().of(point.config) != point.code_hash:
        raise ValueError("the code that answers was edited while the job was queued")


def _write_crashed(session: Session, job: Job, reason: str) -> None:
    with claimed(session.run_dir, job.name) as ours, Round(session) as this_round:
        if ours and is_pending(session.run_dir, job.name):
            this_round.refuse(job.point, job.replicate, " ".join(reason.split()))
