"""Closed or full output, an ASCII locale, a user without a home and a memory limit do not end in a traceback."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT

SWEEP = ("-m", "scenario=notebook", "scenario.num_sequences=10", "scenario.num_sequences_list=[5]", "draw=false")


def shell(text: str, run_dir: Path, **env: str) -> subprocess.CompletedProcess[str]:
    command = shlex.join([sys.executable, "bench/run.py", *SWEEP, f"run_dir={run_dir}"])
    return subprocess.run(["bash", "-c", text.format(command)], cwd=ROOT, env={**os.environ, **env}, check=False,
                          capture_output=True, text=True)  # fmt: skip


@pytest.mark.parametrize("text", ["{} >&-", "{} >&- 2>&- <&-", "{} > /dev/full",
                                  "LC_ALL=C PYTHONUTF8=0 PYTHONCOERCECLOCALE=0 {}"])  # fmt: skip
def test_a_run_is_whole_without_its_output(tmp_path: Path, text: str) -> None:
    done = shell(text, tmp_path / "run")
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    assert len(list((tmp_path / "run" / "points").iterdir())) == 1
    assert (tmp_path / "run" / "table.csv").exists()


@pytest.mark.parametrize("limit", [200_000])
def test_a_memory_limit_is_one_sentence_and_no_folder(tmp_path: Path, limit: int) -> None:
    done = shell(f"ulimit -v {limit}; {{}}", tmp_path / "run")
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith("error: the memory limit of this process is too small")
    assert not (tmp_path / "run").exists()


def test_a_user_without_a_home_can_run(tmp_path: Path) -> None:
    code = ("import pwd, sys\ndef unknown(*number): raise KeyError(number)\npwd.getpwuid = unknown\n"
            "from bench.cli.main import main\nmain()")  # fmt: skip
    env = {name: value for name, value in os.environ.items() if name != "HOME"}
    done = subprocess.run([sys.executable, "-c", code, *SWEEP, f"run_dir={tmp_path / 'run'}"], cwd=ROOT, env=env,
                          check=False, capture_output=True, text=True)  # fmt: skip
    assert done.returncode == 0, done.stderr
