"""Going on with a run: which folder, and whether it is still the same question to the same code."""

from __future__ import annotations

from collections.abc import Mapping
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


def resumed_folder(resume: str, run_dir: str | None) -> tuple[Path, Plan]:
    """The run folder to go on with, and its plan.

    Raises:
        ValueError: there is none, ``run_dir`` names another, or its plan is from an older version.
    """
    if run_dir is not None:
        raise ValueError(f"resume={resume} goes on in its own folder; leave out run_dir={run_dir}")
    folder = (RUNS / "latest").resolve() if resume == "latest" else Path(resume).absolute()
    if not folder.is_dir():
        raise ValueError(f"resume={resume}: there is no folder {folder}")
    return folder, read_plan(folder)


def check_same(plan: Plan, request: SweepRequest, device: str) -> dict[str, Any]:
    """Overrides, if given, must ask the same; returns the run-control values that were given.

    Raises:
        ValueError: they expand to other keys.
    """
    given = {argument.partition("=")[0].lstrip("+") for argument in request.arguments}
    asked = [argument for argument in request.arguments if argument.partition("=")[0] not in RUN_CONTROL]
    if asked:
        composed = expand(request.loader, request.master, request.params, asked)
        keys = {key_of(effective(resolve(build(point.values), device))) for point in composed}
        planned = {point.key for point in plan.points}
        if keys != planned:
            raise ValueError(
                f"resume: the overrides ask {len(keys - planned)} points that the run did not plan, and leave out "
                f"{len(planned - keys)} that it did; leave the overrides out, or start a new run"
            )
    return {"timeout_s": request.without_axes.timeout_s} if "timeout_s" in given else {}


def check_unchanged(run_dir: Path, plan: Plan, facts: Mapping[str, Any], *, allow: bool) -> bool:
    """Whether code or machine have changed since the plan was made.

    Raises:
        ValueError: they have, and mixing was not allowed.
    """
    hashes = CodeHashes()
    changes = [f"the code that answers {point.key}" for point in plan.points
               if hashes.of(point.config) != point.code_hash][:1]  # fmt: skip
    before, now = read_environment(run_dir), record_environment(facts, [])
    if before["fingerprint"] != now["fingerprint"]:
        differing = [name for name in BLOCKING if before.get(name) != now.get(name)]
        changes.append(f"the machine ({', '.join(differing)})")
    if changes and not allow:
        raise ValueError(f"resume: {' and '.join(changes)} changed since the run began; rows would not be alike. "
                         "Start a new run, or mix them with resume_mixed=true")  # fmt: skip
    return bool(changes)
