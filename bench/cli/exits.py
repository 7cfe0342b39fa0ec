"""Every exit code of every command. A number has one meaning per kind of command; README lists them.

0, 1, 2, 130 and 141 mean the same everywhere. 3 and above depend on the command.
"""

from __future__ import annotations

from typing import Final

EXIT_OK: Final = 0
EXIT_INTERNAL: Final = 1
"""A mistake of this project; never a verdict."""
EXIT_BAD_INPUT: Final = 2
EXIT_INTERRUPTED: Final = 130
EXIT_BROKEN_PIPE: Final = 141
"""The reader of the output went away, as a shell reports a process that SIGPIPE ended."""

# bench/run.py, scripts/show_run.py and scripts/paper.py
EXIT_POINTS_FAILED: Final = 4
"""A row failed or is missing, or none is ok."""

# scripts/compare_runs.py, ab.py and aa.py
EXIT_REGRESSED: Final = 3
EXIT_INCOMPLETE: Final = 4
"""A point is missing or failed on one side, or there is no base."""
EXIT_NOT_COMPARABLE: Final = 5
EXIT_INCONCLUSIVE: Final = 6
"""Only with ``--fail-on-inconclusive``."""

# scripts/check_claims.py --fail
EXIT_CLAIM_DIFFERS: Final = 3
EXIT_CLAIM_NOT_RUN: Final = 4

# scripts/fetch_traces.py
EXIT_TRACES_MISSING: Final = 4

# scripts/update_docs.py --check
EXIT_STALE: Final = 1
