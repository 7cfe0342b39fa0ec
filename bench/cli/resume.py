"""Checks before a run is resumed: the folder, the points, the code and the machine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.cli.request import SweepRequest
from bench.config import build
from bench.plan.code_hash import CodeHashes
from bench.plan.expand import expand
from bench.plan.points import Plan, read_plan
from bench.plan.question import effective, key_of, resolve
from bench.rows.facts import BLOCKING
from bench.rows.run_folder import RUNS, read_environment
from bench.runner.job import RUN_CONTROL
from bench.runner.machine.environment import record_environment


def find_resumed_run(
    resume: str, run_dir: str | None, config_dirs: Sequence[str] = (), given: Mapping[str, Any] | None = None
) -> tuple[Path, Plan]:
    """Return the run folder to resume, and its plan.

    Args:
        resume: path of the run folder, or ``latest``.
        run_dir: must be ``None``, because the run is resumed in its own folder.
        config_dirs: ``--config-dir`` folders of this command.
        given: the composed configuration of this command.

    Raises:
        ValueError: there is no such run folder, ``run_dir`` is set, or the plan is wrong or from another version.
    """
    if run_dir is not None:
        raise ValueError(
            f"run_dir={run_dir} must not be set with resume={resume}: the run continues in its own folder. Remove it"
        )
    folder = (RUNS / "latest").resolve() if resume == "latest" else Path(resume).absolute()
    if not folder.is_dir():
        raise ValueError(f"resume={resume} must be a run folder or latest: there is no folder {folder}")
    return folder, read_plan(folder, config_dirs, given)


def check_same_points(plan: Plan, request: SweepRequest, device: str) -> dict[str, Any]:
    """Check that the overrides of the command line, if there are any, expand to the points of the plan.

    Returns:
        The run-control values of the command line that replace those of the plan.

    Raises:
        ValueError: the overrides expand to other points.
    """
    given = {argument.partition("=")[0].lstrip("+") for argument in request.arguments}
    overrides = [argument for argument in request.arguments if argument.partition("=")[0] not in RUN_CONTROL]
    if overrides:
        composed = expand(request.loader, request.master, request.params, overrides)
        keys = {key_of(effective(resolve(build(point.values), device))) for point in composed}
        planned = {point.key for point in plan.points}
        if keys != planned:
            raise ValueError(
                f"resume: the overrides must expand to the points of the run. They add {len(keys - planned)} points "
                f"and leave out {len(planned - keys)}. Remove the overrides, or start a new run"
            )
    return {"timeout_s": request.without_axes.timeout_s} if "timeout_s" in given else {}


def check_unchanged(run_dir: Path, plan: Plan, facts: Mapping[str, Any], *, allow: bool) -> bool:
    """Return whether code or machine have changed since the plan was made.

    Args:
        run_dir: the run folder.
        plan: its plan.
        facts: facts about the device of this machine. Empty without tensors.
        allow: whether a change is allowed (``resume_mixed=true``).

    Raises:
        ValueError: one of them has changed, and this is not allowed.
    """
    hashes = CodeHashes()
    changes = [f"the code of point {point.key}" for point in plan.points
               if hashes.of(point.config) != point.code_hash][:1]  # fmt: skip
    before, now = read_environment(run_dir), record_environment(facts, [])
    if before["fingerprint"] != now["fingerprint"]:
        differing = [name for name in BLOCKING if before.get(name) != now.get(name)]
        changes.append(f"the machine ({', '.join(differing)})")
    if changes and not allow:
        raise ValueError(f"resume: {' and '.join(changes)} changed since the run began, so new rows cannot be compared "
                         "with old ones. Start a new run, or mix them with resume_mixed=true")  # fmt: skip
    return bool(changes)
