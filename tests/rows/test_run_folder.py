"""The run folder under bad circumstances: full or read-only disks, clocks, odd paths, twins."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.rows import run_folder
from bench.rows.record import read_row
from tests.conftest import ROOT, Run

LIGHT = ("scenario=notebook", "scenario.num_sequences=10", "scenario.num_sequences_list=[5]", "draw=false")


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(run_folder, "RUNS", tmp_path / "runs")
    return tmp_path / "runs"


def test_run_folders_differ_within_a_second_and_after_the_clock_goes_back(
    runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(time, "strftime", lambda _: "20260101-000000-")
    folders = [run_folder.create_run_folder(None) for _ in range(20)]
    assert len(set(folders)) == 20
    monkeypatch.setattr(time, "strftime", lambda _: "20250101-000000-")
    earlier = run_folder.create_run_folder(None)
    run_folder.point_latest_at(earlier)
    assert (runs / "latest").resolve() == earlier, "the newest run, whatever its name"


def test_latest_moves_for_default_folders_only(runs: Path, tmp_path: Path) -> None:
    default = run_folder.create_run_folder(None)
    run_folder.point_latest_at(default)
    run_folder.point_latest_at(run_folder.create_run_folder(str(tmp_path / "mine")))
    assert os.readlink(runs / "latest") == default.name  # noqa: PTH115
    assert [path.name for path in runs.iterdir() if path.name.startswith(".")] == []


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(disk)]
    if (
        sys.platform != "linux"
        or os.geteuid() != 0
        or subprocess.run(mount, check=False, capture_output=True).returncode
    ):
        pytest.skip("needs root on Linux: mount -t tmpfs")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


def test_a_full_disk_ends_the_run_with_whole_rows(bench: Run, small_disk: Path) -> None:
    done = bench("-m", *LIGHT, "seed=range(60)", f"run_dir={small_disk / 'run'}")
    assert done.returncode == 4, done.stderr
    assert "No space left on device" in done.stderr
    assert "Traceback" not in done.stderr
    assert "resume=" in done.stderr
    rows = [read_row(path) for path in (small_disk / "run" / "points").glob("*.json")]
    assert 0 < len(rows) < 60
    assert {row["status"] for row in rows} == {"ok"}


def test_a_disk_without_room_for_the_plan_is_bad_input(bench: Run, small_disk: Path) -> None:
    (small_disk / "ballast").write_bytes(b"0" * 230_000)
    done = bench("-m", *LIGHT, "seed=range(60)", f"run_dir={small_disk / 'run'}")
    assert done.returncode == 2
    assert "cannot be written: No space left on device" in done.stderr


def test_a_folder_that_cannot_be_made_is_bad_input(bench: Run, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    done = bench("-m", *LIGHT, f"run_dir={tmp_path / 'file' / 'run'}")
    assert done.returncode == 2
    assert "cannot be written: Not a directory" in done.stderr


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere; run as another user")
def test_a_read_only_folder_is_bad_input(bench: Run, tmp_path: Path) -> None:
    (tmp_path / "locked").mkdir(mode=0o500)
    done = bench("-m", *LIGHT, f"run_dir={tmp_path / 'locked' / 'run'}")
    assert done.returncode == 2
    assert "cannot be written: Permission denied" in done.stderr


def test_a_path_may_have_quotes_and_foreign_letters(bench: Run, tmp_path: Path) -> None:
    folder = tmp_path / "it's a «tést» 測"
    quoted = str(folder).replace("'", "\\'")
    done = bench("-m", *LIGHT, f"run_dir='{quoted}'")
    assert done.returncode == 0, done.stderr
    assert len(list((folder / "points").iterdir())) == 1
    assert ROOT not in folder.parents
