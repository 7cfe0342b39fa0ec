"""Run a command line of the project inside the test's own process, which spares the start of an interpreter."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import ModuleType
from unittest import mock

from hydra.core.global_hydra import GlobalHydra

from bench import ROOT
from bench import run as bench_run
from bench.cli import main as cli_main

Main = Callable[[], int | None]


def run_in_process(
    main: Main, *arguments: str, script: Path, cwd: Path = ROOT, env: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Call a script's ``main`` and return what a process would have returned.

    Args:
        main: the script's entry point. It may return its exit code or leave by ``sys.exit``.
        arguments: command line without the name of the script.
        script: the script's file, for ``sys.argv[0]``.
        cwd: working directory during the call.
        env: environment variables in addition to the test's own.
    """
    out, err = io.StringIO(), io.StringIO()
    printed = contextlib.redirect_stdout(out), contextlib.redirect_stderr(err)
    with _own_state([str(script), *arguments], env or {}), contextlib.chdir(cwd), printed[0], printed[1]:
        code = _exit_code(main)
    return subprocess.CompletedProcess([str(script), *arguments], code, out.getvalue(), err.getvalue())


def bench_in_process(
    *arguments: str, cwd: Path = ROOT, env: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run ``bench/run.py`` in this process. The processes of its points are real ones."""
    with mock.patch.object(cli_main, "signal"):  # SIGTERM still ends the tests
        return run_in_process(bench_run.main, *arguments, script=ROOT / "bench" / "run.py", cwd=cwd, env=env)


def script_in_process(script: ModuleType, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a module of ``scripts/`` in this process."""
    assert script.__file__ is not None
    return run_in_process(script.main, *arguments, script=Path(script.__file__))


def _exit_code(main: Main) -> int:
    try:
        return main() or 0
    except SystemExit as ended:
        if isinstance(ended.code, str):
            print(ended.code, file=sys.stderr)
            return 1
        return ended.code or 0


@contextlib.contextmanager
def _own_state(argv: list[str], env: Mapping[str, str]) -> Iterator[None]:
    """Restore what a command changes for its whole process: arguments, paths, variables, Hydra, logging."""
    root_log = logging.getLogger()
    saved = (sys.argv, list(sys.path), dict(os.environ), list(root_log.handlers), root_log.level)
    sys.argv = argv
    os.environ.update(env)
    GlobalHydra.instance().clear()
    try:
        yield
    finally:
        GlobalHydra.instance().clear()
        sys.argv, sys.path[:], variables, root_log.handlers[:], level = saved
        root_log.setLevel(level)
        os.environ.clear()
        os.environ.update(variables)
