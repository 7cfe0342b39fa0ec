"""Files that may be wrong or hostile: one sentence that names the file, whatever the bytes are."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bench.plan.points import read_jobs, read_plan
from bench.rows.json_file import remove_leftovers, replacing, write_json
from bench.rows.json_input import check_shape, read_bytes, read_json
from bench.rows.owner import owner_token
from bench.rows.record import read_row
from bench.rows.run_folder import create_run_folder, earlier_seconds, read_environment
from bench.rows.table import load_rows
from tests.conftest import ROOT

DEEP = "[" * 50_000 + "]" * 50_000
HUGE = "9" * 400
BAD_TEXTS = ["", "{}", "[]", "5", "null", "{", '{"a": 1, "a": 2}', "NaN", '{"a": NaN}', '{"a": 1e999}', DEEP, HUGE,
             '{"schema_version": 1, "key": "../x", "replicate": 0, "status": "ok"}',
             '{"schema_version": 1, "key": "k", "replicate": "0", "status": "ok"}',
             '{"schema_version": true}', '{"points": {}, "replicates": 1}', '{"points": [{}], "replicates": 1}',
             '{"points": [{"key": "k"}], "replicates": "10"}', '{"points": [{"key": "k"}], "replicates": 1e9}',
             '{"points": [{"key": "k"}], "replicates": 999999999999}', '{"points": [], "replicates": -1}',
             '{"points": [{"key": "../../X/x"}], "replicates": 1}',
             '{"points": [], "replicates": 1, "plan_version": 99}',
             '{"fingerprint": 5}', "\\ud800", '"\\ud800"']  # fmt: skip


@pytest.mark.parametrize("text", BAD_TEXTS)
def test_a_wrong_file_is_one_sentence_of_every_reader(tmp_path: Path, text: str) -> None:
    for name, read in READERS.items():
        path = tmp_path / name
        path.write_text(text)
        _assert_sentence(read, path)


def _plan(path: Path) -> Any:
    return read_plan(path.parent)


def _environment(path: Path) -> Any:
    return read_environment(path.parent)


READERS = {"row.json": read_row, "plan.json": _plan, "environment.json": _environment}


def _assert_sentence(read: Any, path: Path) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011  the sentence is checked below
        read(path)
    sentence = str(caught.value)
    assert "\n" not in sentence
    assert len(sentence) < 600
    assert path.name in sentence or path.parent.name in sentence


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(
        st.sampled_from(("schema_version", "key", "replicate", "status", "points", "replicates", "question", "values",
                         "fingerprint", "config_dirs", "plan_version")), inner, max_size=6),
    max_leaves=12,
)  # fmt: skip


@pytest.mark.fuzz
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.binary(max_size=200) | JSON_VALUES.map(lambda value: json.dumps(value).encode()))
def test_any_bytes_are_read_or_refused_with_a_sentence(tmp_path: Path, content: bytes) -> None:
    for name, read in {**READERS, "plan.json": lambda path: read_jobs(path.parent)}.items():
        path = tmp_path / name
        path.write_bytes(content)
        with contextlib.suppress(ValueError):
            read(path)


@pytest.mark.parametrize("path", ["/dev/zero", "/dev/stdin", "."])
def test_only_regular_files_are_read(path: str) -> None:
    with pytest.raises((ValueError, OSError)):
        read_json(Path(path))


def test_a_pipe_without_a_writer_does_not_block(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "plan.json")
    with pytest.raises(ValueError, match="must be a regular file, not a folder, a pipe or a device"):
        read_jobs(tmp_path)


def test_a_file_above_the_limit_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"x" * 11)
    with pytest.raises(ValueError, match="must have at most 10 bytes"):
        read_bytes(tmp_path / "a", 10)


@pytest.mark.parametrize(
    ("shape", "sentence"),
    [
        ({"a": str}, "f: a=1 must be text"),
        ({"b": str}, "f: it has no b"),
        ({"a": (str, None)}, "f: a=1 must be text or null"),
        ({"a": [int]}, "f: a=1 must be a list"),
        ({"a": {"x": int}}, "f: a=1 must be an object with names"),
        ([int], "f must hold a list"),
    ],
)
def test_a_wrong_shape_names_field_value_and_what_is_allowed(shape: Any, sentence: str) -> None:
    with pytest.raises(ValueError, match=f"^{sentence}$"):
        check_shape({"a": 1}, shape, "f")
    check_shape({"a": 1}, {"a": int, "b?": str}, "f")


def test_a_bad_row_of_another_run_is_no_obstacle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bench.rows.run_folder.RUNS", tmp_path)
    (tmp_path / "other" / "points").mkdir(parents=True)
    for number, text in enumerate(BAD_TEXTS):
        (tmp_path / "other" / "points" / f"k-{number}.json").write_text(text)
    assert earlier_seconds(["k"]) == {}


def test_a_truncated_row_names_the_file_to_delete(tmp_path: Path) -> None:
    (tmp_path / "points").mkdir()
    write_json(tmp_path / "plan.json", {"points": [{"key": "k"}], "replicates": 1})
    (tmp_path / "points" / "k-0.json").write_text('{"schema_version": 1, "ke')
    with pytest.raises(ValueError, match=r"points/k-0\.json is not a whole row"):
        load_rows(tmp_path)


def test_what_a_killed_process_left_is_removed_and_what_a_live_one_writes_is_kept(tmp_path: Path) -> None:
    code = ("import sys, os; from pathlib import Path; from bench.rows.json_file import replacing\n"
            "with replacing(Path(sys.argv[1])) as fresh:\n fresh.write_text('a')\n os.abort()")  # fmt: skip
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "table.csv")], cwd=ROOT, check=False)
    (left,) = tmp_path.iterdir()
    other = tmp_path / f".mine.{owner_token()}.tmp"
    other.write_text("of the user")
    with replacing(tmp_path / "table.csv") as fresh:
        fresh.write_text("whole")
        remove_leftovers(tmp_path)
        assert fresh.exists()
        assert not left.exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([other.name, "table.csv"])


@pytest.mark.parametrize("run_dir", ["", " "])
def test_an_empty_name_makes_no_files(run_dir: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=r"run_dir='.*' must be the path of a folder that is absent or empty"):
        create_run_folder(run_dir)
    assert not list(tmp_path.iterdir())


def test_a_folder_with_other_files_is_refused_and_unchanged(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("mine")
    with pytest.raises(ValueError, match=r"must be absent or empty.* It holds config\.yaml"):
        create_run_folder(str(tmp_path))
    assert [path.name for path in tmp_path.iterdir()] == ["config.yaml"]


def test_one_of_many_gets_a_folder(tmp_path: Path) -> None:
    code = "import sys; from bench.rows.run_folder import create_run_folder; create_run_folder(sys.argv[1])"
    command = [sys.executable, "-c", code, str(tmp_path / "run")]
    processes = [subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL) for _ in range(6)]
    assert sorted(process.wait() for process in processes) == [0, 1, 1, 1, 1, 1]
