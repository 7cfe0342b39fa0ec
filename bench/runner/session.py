"""Settings that all jobs of one process share."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from bench.plan.points import Plan


@dataclass(frozen=True, kw_only=True)
class Session:
    """The part of a run that one process does.

    Attributes:
        run_dir: the run folder.
        plan: the plan of the run.
        interleaved: whether jobs run round by round, so that replicates of a point alternate with other points. With
            a launcher plugin they may run in another order.
        timeout_s: replaces the timeout of the configuration if not ``None``.
        mixed: whether the run was resumed with changed code or on another machine. The rows record it.
        lease_wait_s: seconds to wait for the lease of another process, which may be dead.
    """

    run_dir: Path
    plan: Plan
    interleaved: bool
    timeout_s: float | None = None
    mixed: bool = False
    lease_wait_s: float = 0.0
