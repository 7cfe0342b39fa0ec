"""A job as a launcher that is not ours sees it: the point's overrides, and where it belongs."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

RUN_CONTROL = ("run_dir", "job", "resume", "resume_mixed", "dry_run", "draw", "timeout_s", "replicates")
"""Root keys that say how a run is made, not what it asks."""


@dataclass(frozen=True, kw_only=True)
class LauncherJob:
    """One planned job.

    Attributes:
        run_dir: its run folder, absolute.
        name: ``<key>-<replicate>``.
        control: run-control keys of a resumed run.
    """

    run_dir: Path
    name: str
    control: Mapping[str, Any] = field(default_factory=dict)

    def overrides(self, asked: Sequence[str]) -> list[str]:
        """The point's overrides with the job in them, quoted for Hydra's grammar."""
        replaced = ("run_dir", "job", "resume", *self.control)
        kept = [override for override in asked if override.partition("=")[0] not in replaced]
        folder = str(self.run_dir).replace("\\", "\\\\").replace("'", "\\'")
        control = [f"{key}={str(value).lower()}" for key, value in self.control.items()]
        return [*kept, *control, f"run_dir='{folder}'", f"job={self.name}"]


def resume_command(run_dir: Path) -> str:
    """What goes on with a run."""
    return shlex.join(["python", "bench/run.py", f"resume={hydra_quoted(str(run_dir))}"])


def hydra_quoted(value: str) -> str:
    """A value as Hydra's grammar takes it: few characters may stand bare."""
    plain = value.isascii() and all(character.isalnum() or character in "/-_.:+" for character in value)
    return value if plain else "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"
