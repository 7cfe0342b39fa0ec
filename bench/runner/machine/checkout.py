"""Read the state of the git checkout."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

from bench.rows.redact import hashed, redacted_remote


def git_state(root: Path) -> dict[str, Any]:
    """Return commit, whether files differ from it, a hash of the difference, and the remotes.

    Args:
        root: root of the repository. All values are null if it is no git repository, or if git is not installed.
    """
    commit, patch, status = _git(root, "rev-parse", "HEAD"), _git(root, "diff", "HEAD"), _git(root, "status", "--short")
    remotes = (_git(root, "remote", "--verbose") or "").splitlines()
    return {
        "commit": commit,
        "dirty": bool(status) if commit else None,
        "patch_hash": hashed(patch) if patch else None,
        "remotes": sorted({redacted_remote(line.partition("\t")[2].rpartition(" (")[0]) for line in remotes}),
    }


def _git(root: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(["git", *arguments], cwd=root, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
