"""The steps that are no sweep, with stub errors: each reports its failure, and the rest continues."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch

from bench.rows.result import Answer
from scripts.visit import facts, tiles
from scripts.visit.cases import ARMS, SHAPES, SMALL_BATCHES, SMALL_SHAPES, make_cache
from scripts.visit.check import shape_of
from scripts.visit.pool import Pool
from scripts.visit.profile import command

ROOT = Path(__file__).resolve().parents[3]
JOBS = "tests.support.jobs"


def test_a_shape_survives_json() -> None:
    for shape in SHAPES:
        assert shape_of(json.loads(json.dumps(asdict(shape)))) == shape


def test_the_shapes_cover_what_the_kernels_claim() -> None:
    semantics = {name for shape in SHAPES for name in shape.semantics}
    assert semantics == {"kv_dtype", "sliding_window", "soft_cap"}
    assert {shape.page_size for shape in SHAPES} == {1, 16, 64, 256}
    assert any(max(shape.lens) > 50 * min(shape.lens) > 0 for shape in SHAPES)
    assert any(shape.options.get("kv_layout") == "HND" for shape in SHAPES)


def test_calls_run_in_parallel_children_whatever_becomes_of_them(tmp_path: Path) -> None:
    answers: dict[str, Answer] = {}

    def then(name: str, answer: Answer, seconds: float) -> None:
        answers[name] = answer

    pool = Pool(2, tmp_path, time.monotonic() + 120)
    for how in ("segfault", "raise", "exit"):
        pool.submit(how, f"{JOBS}:fail", {"how": how}, then)
    pool.submit("fine", f"{JOBS}:behave", {"word": "ü"}, then)
    pool.join()
    assert {name: answer.status for name, answer in answers.items()} == {
        "segfault": "crashed", "raise": "crashed", "exit": "crashed", "fine": "ok"}  # fmt: skip


def test_a_call_that_hangs_is_killed_and_later_ones_do_not_begin(tmp_path: Path) -> None:
    answers: dict[str, Answer] = {}

    def then(name: str, answer: Answer, seconds: float) -> None:
        answers[name] = answer

    pool = Pool(1, tmp_path, time.monotonic() + 15)
    for name in ("hang", "late"):
        pool.submit(name, f"{JOBS}:fail", {"how": "hang"}, then)
    pool.join()
    assert answers["hang"].status == "timeout"
    assert answers["late"].status == "interrupted"


class Broken:
    """A bench of which one option set cannot be launched, and one batch cannot be made."""

    def __init__(self, shape: Any, device: str) -> None:
        if shape.name == "too large":
            raise torch.OutOfMemoryError("full")

    def time(self, options: dict[str, int]) -> dict[str, Any]:
        if options.get("num_warps") == 8:
            raise RuntimeError("out of resource: shared memory")
        return {"us": 1.0, "gbps": 2.0}


def test_a_tile_that_fails_is_a_result(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tiles, "Bench", Broken)
    saved: list[int] = []
    results = tiles.measure(SMALL_BATCHES, "meta", time.monotonic() + 60, lambda found: saved.append(len(found)), {0})
    errors = [result for result in results if "error" in result]
    assert len(results) == 1 + (len(tiles.TILES) - 1) * len(tiles.SPLITS)
    assert errors
    assert {result["options"]["num_warps"] for result in errors} == {8}
    assert saved == list(range(1, len(results) + 1)), "every result is kept at once"


def test_a_batch_that_does_not_fit_and_a_spent_budget_are_said(monkeypatch: pytest.MonkeyPatch) -> None:
    from dataclasses import replace

    monkeypatch.setattr(tiles, "Bench", Broken)
    batches = [replace(SMALL_BATCHES[0], name="too large"), SMALL_BATCHES[0]]
    results = tiles.measure(batches, "meta", time.monotonic() - 1, lambda found: None)
    assert [result["error"] for result in results] == ["OutOfMemoryError: full", "no time was left for the rest"]


def test_tiles_that_crashed_in_the_check_are_left_out(tmp_path: Path) -> None:
    assert tiles.failed_tiles(tmp_path / "tiles") == set()
    (tmp_path / "check").mkdir()
    compiled = {"tile 3": {"status": "crashed"}, "tile 4": {"status": "ok"}, "tile 5": {"status": "interrupted"}}
    (tmp_path / "check" / "check.json").write_text(json.dumps({"compiled": compiled}))
    assert tiles.failed_tiles(tmp_path / "tiles") == {3}


def test_the_options_of_every_tile_are_taken() -> None:
    from impls.kernels.support import tiles_for

    for tile in tiles.TILES:
        (found,) = tiles_for(SHAPES[0].model, dict(tile))
        assert {name: getattr(found, name) for name in tile} == tile


def test_a_fact_that_cannot_be_had_is_a_fact(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(facts, "bandwidth", lambda *arguments: 1 / 0)
    monkeypatch.setattr(sys, "argv", ["facts", "--out", str(tmp_path), "--device", "cpu", "--small"])
    assert facts.main() == 4
    found = json.loads((tmp_path / "facts.json").read_text())
    assert found["bandwidth"] == {"error": "ZeroDivisionError: division by zero"}
    assert found["device"]["torch"] == torch.__version__


@pytest.mark.parametrize("name", ["profile", "sanitizer", "flashinfer_jit"])
def test_a_tool_that_is_not_here_is_absent(tmp_path: Path, name: str) -> None:
    arguments = [] if name == "flashinfer_jit" else ["--out", str(tmp_path), "--device", "cpu"]
    done = subprocess.run([sys.executable, "-m", f"scripts.visit.{name}", *arguments], cwd=ROOT, check=False,
                          capture_output=True, text=True)  # fmt: skip
    assert done.returncode == 3, done.stderr
    assert done.stdout


def test_the_profiler_leaves_the_clocks_alone() -> None:
    words = command("paged_triton", "cuda")
    assert words[words.index("--clock-control") + 1] == "none"


@pytest.mark.parametrize("arm", ARMS)
def test_a_cache_holds_the_batch(arm: str, monkeypatch: pytest.MonkeyPatch) -> None:
    made: dict[str, Any] = {}
    monkeypatch.setattr("importlib.import_module", lambda name: made.setdefault("module", Stub(made)))
    make_cache(SMALL_SHAPES[0], arm, "cpu", num_layers=3)
    policy = made["policy"]
    assert [policy.seq_len(seq_id) for seq_id in range(3)] == list(SMALL_SHAPES[0].lens)
    assert made["num_layers"] == 3


class Stub:
    """Replaces the module of an implementation, and records how the cache is made."""

    def __init__(self, made: dict[str, Any]) -> None:
        self._made = made

    def __getattr__(self, name: str) -> Any:
        return lambda model, policy, **fields: self._made.update(policy=policy, **fields)
