"""Jobs as overrides for a launcher plugin, and the command that resumes a run."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.plan.quoting import hydra_quoted

RUN_CONTROL = ("run_dir", "job", "resume", "resume_mixed", "dry_run", "draw", "timeout_s", "replicates")
"""Root keys that control a run and are no parameters of a point."""


@dataclass(frozen=True, kw_only=True)
class LauncherJob:
    """One planned job for a launcher plugin.

    Attributes:
        run_dir: its run folder, an absolute path.
        name: ``<key>-<replicate>``.
        control: values of run-control keys that replace those of the point.
    """

    run_dir: Path
    name: str
    control: Mapping[str, Any] = field(default_factory=dict)

    def overrides(self, of_point: Sequence[str]) -> list[str]:
        """Return the overrides of the point with run folder and job added, quoted for Hydra's grammar."""
        replaced = ("run_dir", "job", "resume", *self.control)
        kept = [override for override in of_point if override.partition("=")[0] not in replaced]
        control = [f"{key}={str(value).lower()}" for key, value in self.control.items()]
        return [*kept, *control, f"run_dir={hydra_quoted(str(self.run_dir))}", f"job={self.name}"]


def resume_command(run_dir: Path, config_dirs: Sequence[str] = ()) -> str:
    """Return the command that resumes a run.

    Args:
        run_dir: the run folder.
        config_dirs: ``--config-dir`` folders of the run. Each must be given again, because a run folder is data.
    """
    folders = [f"--config-dir={folder}" for folder in config_dirs]
    return shlex.join(["python", "bench/run.py", *folders, f"resume={hydra_quoted(str(run_dir))}"])
