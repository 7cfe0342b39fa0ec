"""The exit codes of all commands. The README has a table of them.

0, 1, 2, 130 and 141 have one meaning for all commands. The meaning of 3 to 6 depends on the command.
"""

from __future__ import annotations

from typing import Final

EXIT_OK: Final = 0
EXIT_INTERNAL: Final = 1
"""An unexpected exception, which is a bug of this project. It is never the result of a comparison."""
EXIT_BAD_INPUT: Final = 2
"""An argument, override or file is wrong. Nothing was run."""
EXIT_INTERRUPTED: Final = 130
"""Ctrl-C or SIGTERM."""
EXIT_BROKEN_PIPE: Final = 141
"""The reader of the output ended early. A shell reports the same code for a process that SIGPIPE ended."""

# bench/run.py, scripts/show_run.py and scripts/paper.py
EXIT_POINTS_FAILED: Final = 4
"""A row failed or is missing, or no row has status ok."""

# scripts/compare_runs.py, ab.py and aa.py
EXIT_REGRESSED: Final = 3
EXIT_INCOMPLETE: Final = 4
"""A point is missing or failed on one side, or there is no base."""
EXIT_NOT_COMPARABLE: Final = 5
"""The two sides differ in machine or settings, so that their rows cannot be compared."""
EXIT_INCONCLUSIVE: Final = 6
"""No decision is possible. Used only with ``--fail-on-inconclusive``."""

# scripts/check_claims.py --fail
EXIT_CLAIM_DIFFERS: Final = 3
EXIT_CLAIM_NOT_RUN: Final = 4

# scripts/fetch_traces.py
EXIT_TRACES_MISSING: Final = 4

# scripts/gpu_session.py, visit_to_reference.py and the steps of a visit in scripts/visit/
EXIT_TOOL_ABSENT: Final = 3
"""A step needs a tool or a package that this machine lacks. Nothing was run."""
EXIT_VISIT_INCOMPLETE: Final = 4
"""A step failed, was cut or was not run, or a row was refused."""

# scripts/gpu_rehearsal.py
EXIT_REHEARSAL_FAILED: Final = 1

# scripts/update_docs.py --check
EXIT_STALE: Final = 1
