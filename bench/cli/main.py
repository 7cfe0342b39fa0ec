"""Hydra's command line around a sweep: import paths, exit codes, one sentence for bad input."""

from __future__ import annotations

import os
import re
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from bench import ROOT
from bench.cli.command import run_command
from bench.cli.exits import EXIT_OK

if TYPE_CHECKING:
    from omegaconf import DictConfig


def task(cfg: DictConfig) -> None:
    """One planned job, as a launcher that is not ours runs it (in a worker, from overrides)."""
    from bench.cli.worker import work

    work(cfg)


def main() -> None:
    """Run Hydra; exit 0, 2 (bad input), 4 (points failed) or 130 (interrupted)."""
    _make_importable(ROOT, ROOT / "bench" / "cli" / "plugins")
    os.environ.setdefault("HYDRA_FULL_ERROR", "1")  # Hydra raises, so that we choose the exit code
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # a scheduler's end is like Ctrl-C
    sys.exit(run_command(_run))


def _run() -> int:
    """Run Hydra, which returns from ``--help`` and leaves a sweep by ``sys.exit``.

    Raises:
        ValueError: bad input, in one sentence.
    """
    import hydra
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    _prefer_our_presets()
    command = hydra.main(version_base="1.3", config_path=str(ROOT / "conf"), config_name="config")(task)
    try:
        command()
    except SystemExit as ended:
        return int(ended.code or EXIT_OK)
    except (HydraException, OmegaConfBaseException, ValueError) as error:
        raise ValueError(explain(error)) from error
    return EXIT_OK


def _make_importable(*folders: Path) -> None:
    """For this process and for the workers that launchers start."""
    inherited = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    paths = [str(folder) for folder in folders]
    sys.path[:0] = [path for path in paths if path not in sys.path]
    os.environ["PYTHONPATH"] = os.pathsep.join([*paths, *(p for p in inherited if p and p not in paths)])


def _prefer_our_presets() -> None:
    """Drop the plugins' own presets of the same names: Hydra would merge the two and warn of it in every worker."""
    from hydra.core.config_store import ConfigStore
    from hydra.core.plugins import Plugins

    Plugins.instance()  # reads the plugins, which register their presets
    theirs = ConfigStore.instance().repo.get("hydra", {}).get("launcher", {})
    for preset in (ROOT / "conf" / "hydra" / "launcher").glob("*.yaml"):
        theirs.pop(preset.name, None)


_MISSING_OPTION = re.compile(r"Could not find '([^']+)/([^']+)'(?:.|\n)*?Available options in '[^']+':\n((?:\t.+\n?)+)")


def explain(error: Exception) -> str:
    """One sentence for an exception of Hydra's, OmegaConf's or ours."""
    from bench.config import known_keys, unknown_key

    text = str(error) if str(error) or error.__cause__ is None else str(error.__cause__)
    missing_key = re.search(r"Could not override '([^']+)'", text)
    if missing_key:
        return unknown_key(missing_key[1], known_keys())
    missing_option = _MISSING_OPTION.search(text)
    if missing_option:
        options = ", ".join(missing_option[3].split())
        return f"{missing_option[1]}={missing_option[2]} is not known. Choose one of {options}"
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__
