"""The smallest inputs that once ended in a traceback: each is one sentence with exit code 2, and leaves nothing."""

from __future__ import annotations

import gzip
import os
from pathlib import Path

import pytest

from scripts import check_claims
from tests.conftest import Run
from tests.support.commands import script_in_process

LIGHT = ("scenario=notebook", "scenario.num_sequences=10", "scenario.num_sequences_list=[5]")
OVERRIDES = [
    "page_size=range(5,1)", "page_size=glob(*)", "page_size=shuffle()", "page_size=choice()", "page_size=sort()",
    "page_size=interval(1,2)", "impl=glob(nothing*)", "hydra/sweeper=basic", "hydra/sweeper=nope",
    "hydra.launcher._target_=nope.nope", "hydra.launcher._target_=nope", "hydra.launcher._target_=null",
    "hydra/launcher=nope", "impl.target=..x", "impl.target=.", "impl.target=x.", "impl.target=os.path.nope",
    "scenario.target=..x", "scenario.target=nope.X", "scenario.target=os.path.join", "scenario.target=x",
    "scenario.predict=nope", "scenario.predict=os:nope", "policy.target=..x",
    f"seed={'9' * 400}", f"page_size={'9' * 400}", f"timeout_s={'9' * 400}", "timeout_s=nan", "timeout_s=inf",
    f"memory_budget={'9' * 400}", f"num_seqs={'9' * 40}", "memory_budget=1e999GiB", "page_size=[1,2]",
    "page_size={a: 1}",
    "model.dtype=[]", "workload.low={}", "model=null", "impl=null", "scenario=null", "workload=null", "~model", "~impl",
    "scenario=[]", "seed=null", "seed=true", "seed=1.5", "seed=", "seed=${oc.env:NOPE}", "seed=${nowhere}", "seed=${",
    "run_dir=''", "run_dir=' '", "resume=''", "resume=nowhere", "experiment=../../x", "model=/etc/passwd",
    "workload=trace", "plan.predict_oom=maybe", "hydra.mode=RUN", "hydra.mode=nope", "replicates=0", "=", "==", "a b=c",
    "page_size=\x1b[2J", "impl=\x1b]0;x\x07",
]  # fmt: skip


def assert_one_sentence(done, kept: Path) -> None:
    assert done.returncode == 2, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1, done.stderr
    assert "\x1b" not in done.stderr
    assert not list(kept.iterdir()), "nothing is left behind"


@pytest.fixture
def empty(tmp_path: Path) -> Path:
    folder = tmp_path / "empty"
    folder.mkdir()
    return folder


@pytest.mark.parametrize("override", OVERRIDES)
def test_an_override_is_one_sentence(bench: Run, empty: Path, override: str) -> None:
    tensors = ("impl=contiguous", "device=cpu") if override.startswith(("impl.", "policy.")) else LIGHT
    run_dir = () if override.startswith("run_dir") else (f"run_dir={empty / 'run'}",)
    assert_one_sentence(bench("-m", *tensors, *run_dir, override, cwd=empty), empty)


YAML = {"tab": "name: mine\n\ttarget: x.Y\n", "twice": "name: mine\nname: other\n",
    "tag": "name: !!python/name:os.system x\n",
        "list": "- 1\n", "number": "5\n", "open": "a: [\n", "loop": "a: &a [*a]\n", "empty": "", "binary": "\x00\x01",
        "unknown": "name: mine\ntarget: x.Y\npolicies: [paged]\nnope: 1\n"}  # fmt: skip


@pytest.mark.parametrize("kind", YAML)
def test_a_wrong_yaml_file_is_one_sentence(bench: Run, empty: Path, tmp_path: Path, kind: str) -> None:
    (tmp_path / "conf" / "impl").mkdir(parents=True)
    (tmp_path / "conf" / "impl" / "mine.yaml").write_text(YAML[kind])
    done = bench(f"--config-dir={tmp_path / 'conf'}", "-m", "impl=mine", "device=cpu", f"run_dir={empty / 'run'}")
    assert_one_sentence(done, empty)


CLAIMS = ["a: [", "- [1]", "5", "- &a [*a]", "- {id: &a [*a]}", "", "- {}", "- {id: x}", "- {id: x, printed: y}",
          "- {id: x, printed: []}", "- {id: 5, printed: 1}", "- {id: x, printed: 1, answer: 5}", "\t- a",
          "- !!python/name:os.x",
          "- {id: x, printed: [a, b]}", "{a: 1}", "- {id: x, printed: 1, [1]: 2}"]  # fmt: skip


@pytest.mark.parametrize("text", CLAIMS)
def test_wrong_claims_are_one_sentence(empty: Path, tmp_path: Path, text: str) -> None:
    (tmp_path / "claims.yaml").write_text(text)
    assert_one_sentence(script_in_process(check_claims, "--claims", str(tmp_path / "claims.yaml")), empty)


TRACES = {"zeros": b"\x00" * 4096, "deep": b"{" + b'"a":{' * 50_000, "long": b"x" * 2**25, "huge": (
    b"arrival_s,prompt_len,output_len\n0," + b"9" * 400 + b",5\n"), "bytes": b"\xff\xfe\x00" * 9}  # fmt: skip


@pytest.mark.parametrize("kind", [*TRACES, "/dev/zero", "pipe", "folder", "gzip_of_zeros"])
def test_a_wrong_trace_is_one_sentence(bench: Run, empty: Path, tmp_path: Path, kind: str) -> None:
    path = tmp_path / "trace"
    if kind in TRACES:
        path.write_bytes(TRACES[kind])
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind == "gzip_of_zeros":
        with gzip.open(path, "wb", compresslevel=9) as file:
            for _ in range(64):
                file.write(b"0" * 2**20)
    path = Path(kind) if kind.startswith("/") else path
    done = bench("-m", "scenario=lengths", "workload=trace", f"workload.path={path}", f"run_dir={empty / 'run'}")
    assert_one_sentence(done, empty)


VALUES = [
    "",
    "null",
    "true",
    "-1",
    "0",
    "nan",
    "inf",
    "1e400",
    "9" * 50,
    "[]",
    "{}",
    "x",
    "'é\\'",
    "${x}",
    "[1,[2]]",
    "1,",
]
KEYS = ["page_size", "num_seqs", "seed", "replicates", "timeout_s", "memory_budget", "page_layout", "device", "draw",
        "model.num_layers", "model.head_dim", "model.dtype", "policy.watermark", "policy.name", "workload.low",
        "workload.prompt_ratio", "measure.max_s", "measure.timer", "measure.min_samples", "impl.policies",
        "impl.options",
        "hardware.device_memory_bytes", "plan.predict_oom", "scenario.layers_allocated", "cost", "nope"]  # fmt: skip


@pytest.mark.fuzz
@pytest.mark.parametrize("key", KEYS)
def test_no_hostile_value_of_a_key_is_a_bug(bench: Run, empty: Path, key: str, request: pytest.FixtureRequest) -> None:
    for value in VALUES if request.config.option.hypothesis_profile == "fuzz" else VALUES[KEYS.index(key) % 4 :: 4]:
        done = bench("-m", "impl=contiguous", "device=cpu", "num_seqs=2", "dry_run=true",
                     f"{key}={value}", cwd=empty)  # fmt: skip
        assert done.returncode in (0, 2), f"{key}={value}: {done.stderr}"
        assert "Traceback" not in done.stderr, f"{key}={value}: {done.stderr}"
        if done.returncode:
            assert done.stderr.count("\n") == 1, f"{key}={value}: {done.stderr}"
        assert not list(empty.iterdir())
