"""What holds for all jobs that one process runs of a sweep."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from bench.plan.points import Plan


@dataclass(frozen=True, kw_only=True)
class Session:
    """One process's part in a sweep.

    Attributes:
        run_dir: holds ``plan.json``.
        plan: what was planned.
        interleaved: whether it runs round by round, the replicates of a point interleaved with other points';
            a launcher that is not ours takes jobs in an order of its own.
        timeout_s: over the plan's, if not ``None``.
        mixed: the run was resumed with other code or on another machine; its rows say so.
        claim_wait_s: how long to wait for a job that somebody else has claimed, who may be dead.
    """

    run_dir: Path
    plan: Plan
    interleaved: bool
    timeout_s: float | None = None
    mixed: bool = False
    claim_wait_s: float = 0.0
