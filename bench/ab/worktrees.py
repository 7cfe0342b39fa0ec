"""Temporary checkouts of revisions of this repository."""

from __future__ import annotations

import contextlib
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def worktree(repository: Path, revision: str) -> Iterator[Path]:
    """Check out the files of a revision into a temporary folder, which is removed at the end.

    Raises:
        ValueError: the revision does not exist, or git is missing.
    """
    commit = _git(repository, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{revision}^{{commit}}")
    if commit is None:
        raise ValueError(f"{revision} is no revision of {repository}. Name a branch, a tag or a commit")
    with tempfile.TemporaryDirectory(prefix="bench-ab-") as folder:
        place = Path(folder) / commit[:12]
        if _git(repository, "worktree", "add", "--detach", str(place), commit) is None:
            raise ValueError(f"{revision} cannot be checked out into {place}")
        try:
            yield place
        finally:
            _git(repository, "worktree", "remove", "--force", str(place))


def has_changes(repository: Path) -> bool:
    """Return whether tracked files differ from the last commit."""
    return bool(_git(repository, "status", "--short", "--untracked-files=no"))


def _git(repository: Path, *arguments: str) -> str | None:
    """Return the output of git, or ``None`` if it fails."""
    try:
        done = subprocess.run(["git", *arguments], cwd=repository, capture_output=True, text=True, check=False)
    except OSError:
        return None
    return done.stdout.strip() if done.returncode == 0 else None
