"""Start Hydra for a sweep: import paths, exit codes, and one error message for bad input."""

from __future__ import annotations

import os
import re
import shlex
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from bench import ROOT
from bench.cli.command import run_command
from bench.cli.exits import EXIT_OK

if TYPE_CHECKING:
    from collections.abc import Sequence

    from omegaconf import DictConfig


def task(cfg: DictConfig) -> None:
    """Run one planned job in the worker of a launcher plugin."""
    from bench.cli.worker import work

    work(cfg)


def main() -> None:
    """Run Hydra, and exit with 0, 2 (bad input), 4 (points failed) or 130 (interrupted). See ``bench.cli.exits``."""
    _make_importable(ROOT, ROOT / "bench" / "cli" / "plugins")
    os.environ.setdefault("HYDRA_FULL_ERROR", "1")  # Hydra then raises errors instead of exiting with its own code
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # schedulers end a job with SIGTERM: treat it as Ctrl-C
    sys.exit(run_command(_run))


def _run() -> int:
    """Run Hydra and return the exit code. A sweep ends with ``SystemExit``, and ``--help`` returns.

    Raises:
        ValueError: the input is wrong.
    """
    import hydra
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException
    from yaml import YAMLError

    _check_hydra_settings(sys.argv[1:])
    _prefer_our_presets()
    command = hydra.main(version_base="1.3", config_path=str(ROOT / "conf"), config_name="config")(task)
    try:
        command()
    except SystemExit as ended:
        return int(ended.code or EXIT_OK)
    except (HydraException, OmegaConfBaseException, ValueError) as error:
        raise ValueError(explain(error)) from error
    except YAMLError as error:
        raise ValueError(f"a YAML file is wrong: {' '.join(str(error).split())}") from error
    except RecursionError as error:
        raise ValueError(
            "a YAML file is wrong: it contains itself through an alias, or it is nested too deeply"
        ) from error
    return EXIT_OK


FIXED_SETTINGS = {"hydra/sweeper": "bench", "hydra.mode": "MULTIRUN"}
"""Settings of Hydra without which no run is planned."""


def _check_hydra_settings(arguments: Sequence[str]) -> None:
    """Check that no argument replaces a setting that every run needs.

    Raises:
        ValueError: one does.
    """
    for argument in arguments:
        key, _, value = argument.partition("=")
        required = FIXED_SETTINGS.get(key.lstrip("+"))
        if required is not None and value != required:
            raise ValueError(
                f"{argument} must be {key}={required}: every run is planned by the sweeper of this project"
            )


def _make_importable(*folders: Path) -> None:
    """Add folders to the import path of this process and of the workers that launchers start."""
    inherited = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    paths = [str(folder) for folder in folders]
    sys.path[:0] = [path for path in paths if path not in sys.path]
    os.environ["PYTHONPATH"] = os.pathsep.join([*paths, *(p for p in inherited if p and p not in paths)])


def _prefer_our_presets() -> None:
    """Remove the plugins' presets that ``conf/`` replaces. Hydra would merge both and warn in each worker."""
    from hydra.core.config_store import ConfigStore
    from hydra.core.plugins import Plugins

    Plugins.instance()  # imports the plugins, which register their presets
    presets = ConfigStore.instance().repo.get("hydra", {}).get("launcher", {})
    for path in (ROOT / "conf" / "hydra" / "launcher").glob("*.yaml"):
        presets.pop(path.name, None)


_MISSING_OPTION = re.compile(r"Could not find '([^']+)/([^']+)'(?:.|\n)*?Available options in '[^']+':\n((?:\t.+\n?)+)")


def explain(error: Exception) -> str:
    """Return one sentence for an exception of Hydra, OmegaConf or this project."""
    from hydra.errors import OverrideParseException

    from bench.config import known_keys, unknown_key

    text = str(error) if str(error) or error.__cause__ is None else str(error.__cause__)
    if isinstance(error, OverrideParseException):
        return _unparsed(error.override, text)
    missing_key = re.search(r"Could not override '([^']+)'", text)
    if missing_key:
        return unknown_key(missing_key[1], known_keys())
    missing_option = _MISSING_OPTION.search(text)
    if missing_option:
        options = ", ".join(missing_option[3].split())
        return f"{missing_option[1]}={missing_option[2]} is not known. Choose one of {options}"
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__


def _unparsed(override: str, problem: str) -> str:
    """Return one sentence for an override that is not in Hydra's grammar."""
    from bench.plan.quoting import hydra_quoted

    key, _, value = override.partition("=")
    reason = next((line.strip() for line in problem.splitlines() if line.strip()), "no reason")
    quoted = shlex.quote(f"{key}={hydra_quoted(value)}")
    return f"{override} cannot be read ({reason}). Put the value in quotes: {quoted}"
