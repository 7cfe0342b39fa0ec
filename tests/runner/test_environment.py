"""The record of a run: whole, comparable, and without secrets."""

from __future__ import annotations

import doctest
import json
import platform
import subprocess
from pathlib import Path

import pytest

from bench.rows import redact
from bench.rows.facts import BLOCKING, fingerprint
from bench.rows.redact import recorded_variables, redacted
from bench.runner.machine.checkout import git_state
from bench.runner.machine.environment import find_calibration, record_environment


def test_secrets_are_not_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    secret = "hunter2-hunter2"
    for name in ("NVIDIA_API_KEY", "CUDA_TOKEN", "AWS_SECRET_ACCESS_KEY", "HF_TOKEN", "PGPASSWORD", "OMP_AUTH"):
        monkeypatch.setenv(name, secret)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    monkeypatch.setenv("TRITON_CACHE_DIR", f"{Path.home()}/cache")
    facts = record_environment({}, ["bench/run.py", f"run_dir={Path.home()}/runs"])
    text = json.dumps(facts)
    assert secret not in text
    assert platform.node() not in text or len(platform.node()) < 4
    assert facts["variables"]["CUDA_VISIBLE_DEVICES"] == "0"
    assert facts["variables"]["TRITON_CACHE_DIR"] == "~/cache"
    assert facts["argv"] == ["bench/run.py", "run_dir=~/runs"]


def test_credentials_of_remotes_are_left_out(tmp_path: Path) -> None:
    for command in (["init", "-q"], ["remote", "add", "origin", "https://me:secret@example.org/x.git"]):
        subprocess.run(["git", *command], cwd=tmp_path, check=True)
    state = git_state(tmp_path)
    assert state["remotes"] == ["https://example.org/x.git"]
    assert state["commit"] is None
    assert redacted("ssh://git@example.org/x") == "ssh://example.org/x"
    assert doctest.testmod(redact).failed == 0


def test_without_a_repository_the_git_state_is_null(tmp_path: Path) -> None:
    assert git_state(tmp_path / "missing") == {"commit": None, "dirty": None, "patch_hash": None, "remotes": []}


def test_only_allowed_variables_are_recorded() -> None:
    environ = {"PYTORCH_ALLOC_CONF": "x", "OMP_NUM_THREADS": "2", "PATH": "/bin", "PYTHONHASHSEED": "0", "CUDA": "y"}
    assert recorded_variables(environ) == {"OMP_NUM_THREADS": "2", "PYTHONHASHSEED": "0", "PYTORCH_ALLOC_CONF": "x"}


def test_the_fingerprint_is_of_the_blocking_facts_alone() -> None:
    facts = dict.fromkeys(BLOCKING, "a") | {"load_average": [1.0]}
    assert fingerprint(facts) == fingerprint(facts | {"load_average": [9.0], "argv": []})
    assert len({fingerprint(facts | {name: "b"}) for name in BLOCKING}) == len(BLOCKING)
    assert record_environment({}, [])["fingerprint"] == record_environment({}, ["other"])["fingerprint"]


def test_the_record_names_tool_and_schema() -> None:
    facts = record_environment({"gpu": None}, [])
    assert facts["tool_version"]
    assert isinstance(facts["schema_version"], int)
    assert facts["packages"]["numpy"]
    assert facts["gpu"] is None


def test_a_calibration_of_this_machine_is_cited_by_its_hash(tmp_path: Path) -> None:
    assert find_calibration("abc", tmp_path) is None
    (tmp_path / "abc.json").write_text("{}")
    citation = find_calibration("abc", tmp_path)
    assert citation is not None
    assert (citation["file"], len(citation["sha256"])) == ("abc.json", 64)
