"""Shared parts of the tests: where the repository is, and how a command is run in it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import hypothesis
import pytest

from bench import ROOT
from tests.support.commands import bench_in_process

hypothesis.settings.register_profile("fuzz", max_examples=20_000, deadline=None)  # make fuzz
Run = Callable[..., subprocess.CompletedProcess[str]]

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as a shell's `&` leaves it, and child processes inherit it
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def root() -> Path:
    return ROOT


@pytest.fixture
def bench() -> Run:
    """Run ``bench/run.py`` with overrides, in this process."""
    return bench_in_process


@pytest.fixture
def bench_process() -> Run:
    """Run ``bench/run.py`` with overrides in a new interpreter, where its start or its end is what is tested."""

    def run(*arguments: str, cwd: Path = ROOT, module: bool = False, env: Mapping[str, str] | None = None):
        command = ["-m", "bench.run"] if module else [str(ROOT / "bench" / "run.py")]
        return subprocess.run(
            [sys.executable, *command, *arguments],
            cwd=cwd,
            capture_output=True,
            text=True,
            timeout=240,
            env={**os.environ, **(env or {})},
            check=False,
        )

    return run
