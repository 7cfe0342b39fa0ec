"""Shared parts of the tests: where the repository is, and how a command is run in it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import hypothesis
import pytest

ROOT = Path(__file__).resolve().parent.parent
hypothesis.settings.register_profile("fuzz", max_examples=20_000, deadline=None)  # make fuzz
Run = Callable[..., subprocess.CompletedProcess[str]]

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as a shell's `&` leaves it, and child processes inherit it
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def root() -> Path:
    return ROOT


@pytest.fixture
def bench(tmp_path: Path) -> Run:
    """Run ``bench/run.py`` with overrides, rows under the test's own folder unless given otherwise."""

    def run(
        *arguments: str,
        cwd: Path = ROOT,
        module: bool = False,
        timeout_s: float = 240,
        env: dict[str, str] | None = None,
    ):
        command = ["-m", "bench.run"] if module else [str(ROOT / "bench" / "run.py")]
        return subprocess.run(
            [sys.executable, *command, *arguments],
            cwd=cwd,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            env={**os.environ, **(env or {})},
            check=False,
        )

    return run
