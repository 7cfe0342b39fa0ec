"""Secrets and home folders are planted in every place that a run records, and no file of the run contains them."""

from __future__ import annotations

import json
import shlex
import subprocess
from pathlib import Path

import pandas as pd
import pytest

from bench.rows.json_file import write_json
from bench.rows.json_input import read_json
from bench.rows.redact import recorded_variables, redacted, redacted_remote, restored
from bench.runner.machine.checkout import git_state
from tests.conftest import ROOT, Run

SECRET = "hunter2hunter2hunter2"
FOREIGN = str(ROOT / "tests" / "cli" / "foreign")


def texts_of(run_dir: Path) -> dict[str, str]:
    """Return the content of every file of a run, tables as text."""
    texts = {}
    for path in (path for path in run_dir.rglob("*") if path.is_file() and path.suffix != ".png"):
        table = pd.read_parquet(path).to_csv() if path.suffix == ".parquet" else ""
        texts[str(path.relative_to(run_dir))] = table + path.read_bytes().decode("utf-8", "replace")
    return texts


def test_no_file_of_a_run_holds_a_planted_secret(bench: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home, run_dir = tmp_path / "homes" / "alice", tmp_path / "run"
    trace = home / "date=2026" / "trace.csv"
    trace.parent.mkdir(parents=True)
    trace.write_text("arrival_s,prompt_len,output_len\n0,5,5\n1,7,5\n")
    planted = {"HOME": str(home), "CUDA_CACHE_PATH": f"{home}/cuda", "TRITON_CACHE_DIR": "/home/carol/triton",
               "NVIDIA_API_KEY": SECRET, "CUDA_TOKEN": SECRET, "HF_TOKEN": SECRET}  # fmt: skip
    for name, value in planted.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("bench.runner.machine.environment.git_state", lambda root: {
        "remotes": [f"https://x:{SECRET}/@{SECRET}@example.org/a?private_token={SECRET}"]})  # fmt: skip
    done = bench("-m", "scenario=lengths", "workload=trace", f"workload.path='{trace}'", "num_seqs=2", "draw=false",
                 "model.max_seq_len=2048", f"run_dir={run_dir}")  # fmt: skip
    assert done.returncode == 0, done.stderr
    texts = texts_of(run_dir)
    assert {"plan.json", "config.yaml", "environment.json", "table.csv", "table.parquet"} <= set(texts)
    for name, text in texts.items():
        assert SECRET not in text, name
        assert str(home) not in text, name
        assert "carol" not in text, name
    (row,) = (run_dir / "points").glob("*.json")
    command = json.loads(row.read_text())["repro_command"]
    again = bench(*shlex.split(command)[2:], f"run_dir={tmp_path / 'again'}", "draw=false")
    assert again.returncode == 0, again.stderr
    assert [path.name for path in (tmp_path / "again" / "points").iterdir()] == [row.name]
    row.unlink()
    resumed = bench(f"resume={run_dir}", "draw=false")
    assert resumed.returncode == 0, resumed.stderr
    assert row.exists()


def test_the_log_of_a_crash_holds_no_home(bench: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(ROOT))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))  # libraries must not write below this home
    small = ("measure=quick", "num_seqs=2", "workload=fixed", "workload.length=9", "model.max_seq_len=16", "device=cpu")
    bench("--config-dir", FOREIGN, "-m", "impl=mine", "impl.options.fault=raise", *small, "draw=false",
          f"run_dir={tmp_path / 'run'}")  # fmt: skip
    texts = texts_of(tmp_path / "run")
    assert any("Traceback" in text for name, text in texts.items() if name.endswith(".log"))
    assert [name for name, text in texts.items() if str(ROOT) in text] == []


@pytest.mark.parametrize(
    "text",
    [
        f"https://me:{SECRET}@example.org/x.git",
        f"https://me:pa/ss{SECRET}@w0rd@example.org/x.git",
        f"https://{SECRET}@example.org/x",
        f"https://example.org/x.git?access_token={SECRET}&page=2",
        f"https://example.org/x?X-Amz-Signature={SECRET}",
        f"+impl.options.api_key={SECRET}",
        f"password={SECRET}",
        f"git clone ghp_{SECRET}",
        f"hf_{SECRET}",
    ],
)
def test_a_secret_is_removed(text: str) -> None:
    assert SECRET not in redacted(text)


@pytest.mark.parametrize("text", ["workload.block_tokens=16", "shared_prefix_tokens=256", "prompt_tokens=4",
                                  "see https://example.org/a/b", "page_size=4", "me@example.org"])  # fmt: skip
def test_other_text_is_kept(text: str) -> None:
    assert redacted(text) == text


def test_a_remote_keeps_its_host_and_path_only(tmp_path: Path) -> None:
    for command in (["init", "-q"], ["remote", "add", "o", f"https://x:{SECRET} a@example.org/x?private={SECRET}"]):
        subprocess.run(["git", *command], cwd=tmp_path, check=True)
    assert SECRET not in json.dumps(git_state(tmp_path))
    assert redacted_remote(f"https://example.org/x.git?a={SECRET}#{SECRET}") == "https://example.org/x.git"
    assert redacted_remote("git@example.org:x.git") == "git@example.org:x.git"


def test_only_listed_variables_are_recorded() -> None:
    environ = {"CUDA_SECRET_PATH": SECRET, "OMP_NUM_THREADS": "2", "TRITON_CACHE_DIR": "/Users/bob/x", "CUDA_X": "1"}
    assert recorded_variables(environ) == {"OMP_NUM_THREADS": "2", "TRITON_CACHE_DIR": "~other/x"}


def test_a_home_is_replaced_where_a_path_has_it_and_comes_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    content = {"path": f"{tmp_path}/x", "override": f"workload.path='{tmp_path}/x'", "other": f"{tmp_path}-not/x"}
    write_json(tmp_path / "a.json", content)
    read = read_json(tmp_path / "a.json")
    assert read == {"path": "~/x", "override": "workload.path='~/x'", "other": f"{tmp_path}-not/x"}
    assert restored(read) == content


def test_a_user_without_a_home_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_home() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("HOME")
    monkeypatch.setattr(Path, "home", no_home)
    assert redacted("/root/x") == "/root/x"
    assert restored("~/x") == "~/x"
