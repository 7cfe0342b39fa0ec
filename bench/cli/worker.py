"""Run one job in the worker of a launcher plugin, perhaps on another machine and hours after the plan was made."""

from __future__ import annotations

import sys
import traceback
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from bench.config import build
from bench.plan.code_hash import CodeHashes
from bench.plan.declared import CODE_FIELDS
from bench.plan.points import Plan, Point, read_plan
from bench.plan.predict import extend_import_path
from bench.plan.question import effective, key_of, resolve
from bench.rows.record import is_pending
from bench.runner.execute import Job, run_jobs
from bench.runner.lease import STALE_S, hold_lease
from bench.runner.round import Round
from bench.runner.session import Session


def work(cfg: DictConfig) -> None:
    """Run the job that ``cfg.job`` names. An error is written to its row.

    No exception is raised for it, because an exception would end the whole batch of some launchers.

    Raises:
        ValueError: ``run_dir`` or ``job`` is null, because the command was started by hand.
    """
    if cfg.run_dir is None or cfg.job is None:
        raise ValueError(
            "run_dir and job must be set, which only a sweep does. Start a sweep with: "
            "python bench/run.py -m page_size=4,16,64"
        )
    try:
        session = _session(cfg)
        job = _find_job(session.plan, cfg.job)
        try:
            _check_unchanged(cfg, job.point, mixed=session.mixed)
            run_jobs(session, [job])
        except Exception as error:
            traceback.print_exc()
            _write_crashed(session, job, f"{type(error).__name__}: {error}")
    except Exception:  # no such job in the plan, or the row itself could not be written
        traceback.print_exc(file=sys.stderr)


def _session(cfg: DictConfig) -> Session:
    folders = _config_dirs()
    extend_import_path(folders)
    run_dir, mixed = Path(cfg.run_dir), bool(cfg.resume_mixed)
    given = {group: OmegaConf.to_container(cfg[group], resolve=True) for group in CODE_FIELDS}
    plan = read_plan(run_dir, folders, given)
    if mixed:
        plan = plan.with_present_code()
    # If the scheduler queues a job again, its lease may still belong to its dead process on a lost node: wait for it.
    return Session(
        run_dir=run_dir, plan=plan, interleaved=False, timeout_s=cfg.timeout_s, mixed=mixed, lease_wait_s=STALE_S
    )


def _config_dirs() -> tuple[str, ...]:
    """Return the ``--config-dir`` folders with which the launcher composed this job."""
    if not HydraConfig.initialized():
        return ()
    sources = HydraConfig.get().runtime.config_sources
    return tuple(str(source.path) for source in sources if source.provider == "command-line")


def _find_job(plan: Plan, name: str) -> Job:
    for point, replicate in plan.jobs():
        job = Job(point=point, replicate=replicate)
        if job.name == name:
            return job
    raise ValueError(f"job={name} is not in the plan of the run. Start a new run")


def _check_unchanged(cfg: DictConfig, point: Point, *, mixed: bool) -> None:
    """Check that neither ``conf/`` nor the code changed while the job was queued."""
    values = OmegaConf.to_container(cfg, resolve=True)
    assert isinstance(values, dict)
    config = build({str(name): value for name, value in values.items()})
    key = key_of(effective(resolve(config, config.device)))
    if key != point.key:
        raise ValueError(
            f"the overrides compose point {key} now, not {point.key}: conf/ was edited while the job was queued. "
            "Undo the edit and resume, or start a new run"
        )
    if not mixed and CodeHashes().of(point.config) != point.code_hash:
        raise ValueError(
            f"the code of point {point.key} was edited while the job was queued. Undo the edit and resume, or resume "
            "with resume_mixed=true"
        )


def _write_crashed(session: Session, job: Job, reason: str) -> None:
    with hold_lease(session.run_dir, job.name) as is_ours, Round(session) as this_round:
        if is_ours and is_pending(session.run_dir, job.name):
            this_round.write_crashed(job.point, job.replicate, " ".join(reason.split()))
