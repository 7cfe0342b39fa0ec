"""How a command ends: interrupted, with its reader gone, after --help, and how little --cfg imports."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd

from tests.support.rows import rows_of

POINTS = 300
"""More than a fast machine runs before Ctrl-C reaches the sweep."""


def test_ctrl_c_leaves_whole_rows_and_exits_130(root: Path, tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    process = subprocess.Popen(
        [sys.executable, "bench/run.py", "-m", "scenario=notebook", f"seed=range({POINTS})", "draw=false",
         f"run_dir={run_dir}"],
        cwd=root, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    deadline = time.monotonic() + 120
    while not list(run_dir.glob("points/*.json")) and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    rows = rows_of(run_dir)
    assert 0 < len(rows) < POINTS
    assert {row["status"] for row in rows} == {"ok"}
    assert f"{POINTS - len(rows)} of {POINTS} planned rows are missing" in out
    assert len(pd.read_csv(run_dir / "table.csv")) == len(rows)
    assert "Traceback" not in err


def test_cfg_job_imports_no_heavy_package(root: Path) -> None:
    script = (
        "import sys, runpy; sys.argv = ['bench/run.py', '--cfg', 'job']\n"
        "try:\n    runpy.run_path('bench/run.py', run_name='__main__')\n"
        "finally:\n    assert not {'torch', 'scipy', 'pandas'} & set(sys.modules), 'heavy imports'"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "page_size: 16" in done.stdout


def test_a_closed_pipe_is_no_error(root: Path) -> None:
    """As in ``python scripts/make_figures.py --list | head -1``."""
    command = [sys.executable, root / "scripts" / "make_figures.py", "--list"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == ""
    assert process.returncode == 141


def test_help_describes_the_command_and_its_exit_codes(root: Path) -> None:
    done = subprocess.run([sys.executable, root / "bench" / "run.py", "--help"], capture_output=True, text=True)
    assert done.returncode == 0
    assert done.stdout.startswith("Benchmark paged attention")
    assert "Exit codes: 0" in done.stdout
    assert "Traceback" not in done.stderr
