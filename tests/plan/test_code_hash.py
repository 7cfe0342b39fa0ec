"""``code_hash`` covers all code that can change a point's answer, and none of another scenario."""

from __future__ import annotations

import ast
import json
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
import yaml

from bench.config import Config, build
from bench.plan.code_hash import ALWAYS, CEILING, OURS, CodeHashes, Sources, dynamic_import, sources_hash
from bench.plan.question import effective, resolve
from tests.conftest import ROOT
from tests.support.points import Composed, plan_of, values

BY_NAME = {
    "bench/runner/process/child.py": "the processes of scenario.processes",
    "bench/runner/process/forkserver.py": "modules that it imports before the processes do",
    "bench/config/building.py": "scenario.target",
    "bench/scenarios/tensors/filled.py": "impl.target",
    "impls/policies/__init__.py": "policy.target",
    "impls/caches/paged_vllm.py": "modules of vLLM",
    "bench/measure/machine/nvml.py": "pynvml",
    "bench/measure/timers/cupti.py": "cupti",
}
"""Modules that import by a name that is no literal, or one of a third-party package."""


def config_of(*overrides: str) -> Config:
    return resolve(build(values(*overrides)), "cpu")


DECODE, PREFILL = ("impl=paged_torch",), ("impl=paged_torch", "scenario=prefill")
SERVING, CHURN = ("scenario=serving",), ("scenario=churn",)


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("copy")
    for package in OURS:
        shutil.copytree(ROOT / package, root / package, ignore=shutil.ignore_patterns("__pycache__"))
    return root


def edited(root: Path, name: str, old: str, new: str) -> None:
    path = root / name
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def changed_by_edit(root: Path, name: str, *points: tuple[str, ...]) -> list[bool]:
    """For each point, whether its hash changes when a comment is added to a file."""
    configs = [config_of(*point) for point in points]
    before = [CodeHashes(root).of(config) for config in configs]
    path = root / name
    text = path.read_text()
    path.write_text(text + "# edited\n")
    after = [CodeHashes(root).of(config) for config in configs]
    path.write_text(text)
    return [one != other for one, other in zip(before, after, strict=True)]


def test_serving_code_changes_the_hash_of_serving_alone(copy: Path) -> None:
    points = [config_of(*point) for point in (SERVING, DECODE, CHURN)]
    before = [CodeHashes(copy).of(config) for config in points]
    rule = 'self.preemption == "swap"'
    edited(copy, "bench/config/serving.py", rule, f"not {rule}")
    after = [CodeHashes(copy).of(config) for config in points]
    edited(copy, "bench/config/serving.py", f"not {rule}", rule)
    assert [one != other for one, other in zip(before, after, strict=True)] == [True, False, False]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("bench/scenarios/serving/engines/events.py", [False, False, True, False]),
        ("bench/scenarios/tensors/decode.py", [True, False, False, False]),
        ("bench/config/scenarios.py", [True, True, True, True]),  # filling a policy knows what a cache scenario is
        ("bench/measure/ceiling.py", [True, True, False, False]),
        ("bench/config/units.py", [True, True, True, True]),
        ("bench/measure/turns.py", [True, True, False, False]),  # only timed samples are taken in turns
        ("bench/runner/process/child.py", [True, True, True, True]),
        ("bench/runner/process/forkserver.py", [True, True, True, True]),
        ("impls/caches/paged_torch.py", [True, True, False, False]),
        ("impls/caches/contiguous.py", [False, False, False, False]),
        ("impls/policies/reserved.py", [True, True, True, True]),
        ("bench/runner/round.py", [False, False, False, False]),
        ("bench/plan/points.py", [False, False, False, False]),
    ],
)
def test_a_file_counts_where_it_is_imported(copy: Path, name: str, expected: list[bool]) -> None:
    assert changed_by_edit(copy, name, DECODE, PREFILL, SERVING, CHURN) == expected


IMPORTED = """
import importlib, json, sys
argument = json.loads(sys.argv[1])
import bench.runner.process.forkserver, bench.runner.process.child
for call in argument["config"]["scenario"]["processes"]:
    module, _, function = call.partition(":")
    found = getattr(importlib.import_module(module), function)(argument)
    assert found.status == "ok", found
files = [module.__file__ for name, module in sys.modules.items() if name.partition(".")[0] in ("bench", "impls")]
print(json.dumps(files))
"""


@pytest.mark.parametrize(
    "point",
    [
        ("impl=paged_torch", "measure=quick", "num_seqs=2"),
        ("scenario=serving", "num_seqs=20"),
        ("scenario=lengths",),
        ("scenario=capacity", "policy=prefix"),
    ],
)
def test_everything_that_a_process_imports_is_covered(point: tuple[str, ...]) -> None:
    config = config_of(*point)
    argument = json.dumps({"config": config.to_json(), "ceiling_gbps": None})
    done = subprocess.run(
        [sys.executable, "-c", IMPORTED, argument], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    imported = {Path(path).relative_to(ROOT).as_posix() for path in json.loads(done.stdout.splitlines()[-1])}
    scenario = config.scenario
    names = ["bench.runner.process.forkserver", *scenario.processes, scenario.target.rpartition(".")[0]]
    names += [config.impl.target.rpartition(".")[0]] if scenario.tensors else []
    assert imported <= set(Sources(ROOT, names).files())


def test_every_import_by_name_is_known() -> None:
    registered = [yaml.safe_load(path.read_text()) for path in ROOT.glob("conf/*/*.yaml")]
    names = [call for entry in registered for call in entry.get("processes", [])]
    names += [entry["target"].rpartition(".")[0] for entry in registered if "target" in entry]
    files = Sources(ROOT, [*ALWAYS, CEILING, *names]).files()
    found = {
        name
        for name, path in files.items()
        if any(isinstance(node, ast.Call) and dynamic_import(node) for node in ast.walk(ast.parse(path.read_bytes())))
    }
    assert found == set(BY_NAME)


@pytest.fixture
def foreign(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An implementation from elsewhere, a helper beside it, its kernel, and a file that it does not import."""
    (tmp_path / "their_cache.py").write_text(
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import their_types\n"
        "class Mine:\n    def decode(self):\n        from their_parts import helper\n"
    )
    (tmp_path / "their_parts").mkdir()
    (tmp_path / "their_parts" / "__init__.py").write_text("")
    (tmp_path / "their_parts" / "helper.py").write_text("from . import deeper\nfrom .deeper import DEPTH\n")
    (tmp_path / "their_parts" / "deeper.py").write_text("DEPTH = 1\n")
    (tmp_path / "their_parts" / "kernel.cu").write_text("// one\n")
    (tmp_path / "their_types.py").write_text("")
    (tmp_path / "their_parts" / "unused.py").write_text("")
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("their_cache.py", True),
        ("their_parts/__init__.py", True),
        ("their_parts/helper.py", True),
        ("their_parts/deeper.py", True),
        ("their_parts/kernel.cu", True),
        ("their_parts/unused.py", False),
        ("their_types.py", False),
    ],
)
def test_a_foreign_implementation_is_hashed_with_its_imports(foreign: Path, name: str, expected: bool) -> None:
    config = resolve(build(values(impl={"target": "their_cache.Mine"})), "cpu")
    before = CodeHashes().of(config)
    path = foreign / name
    path.write_text(path.read_text() + "\n\n")
    assert (CodeHashes().of(config) != before) is expected


@pytest.mark.parametrize(("scenario", "expected"), [("churn", True), ("decode", True), ("lengths", False)])
def test_a_foreign_policy_is_hashed_if_it_has_an_effect(foreign: Path, scenario: str, expected: bool) -> None:
    policy = {"name": "mine", "target": "their_cache.Mine", "kind": "paged"}
    config = resolve(build(values(f"scenario={scenario}", "policy=paged", policy=policy)), "cpu")
    before = CodeHashes().of(config)
    (foreign / "their_cache.py").write_text("class Mine: pass\n")
    assert (CodeHashes().of(config) != before) is expected


def test_the_target_and_the_kind_of_a_policy_are_not_in_the_key() -> None:
    policy = {"name": "mine", "target": "their_cache.Mine", "kind": "paged", "watermark": 0.0, "arena": "first_fit"}
    first = effective(resolve(build(values("scenario=churn", policy=policy)), "cpu"))
    other = effective(resolve(build(values("scenario=churn", policy={**policy, "target": "m.Other"})), "cpu"))
    assert first == other
    assert first["policy"] == {"name": "mine"}


def test_a_foreign_default_policy_must_be_named() -> None:
    config = build(values(impl={"policies": ["mine"]}))
    with pytest.raises(ValueError, match="policy=auto must be policy=mine: it is the default of impl="):
        resolve(config, "cpu")


def test_a_missing_implementation_is_one_sentence() -> None:
    config = resolve(build(values(impl={"target": "nowhere_to_be_found.Mine"})), "cpu")
    with pytest.raises(ValueError, match="the module nowhere_to_be_found cannot be found on the import path"):
        CodeHashes().of(config)


@pytest.mark.parametrize("change", [{"loads_dead_slots": True}, {"target": "impls.caches.paged_torch.Other"}])
def test_registry_fields_outside_the_key_change_the_hash(change: dict[str, object]) -> None:
    (base, changed) = plan_of(Composed()).points[0], plan_of(Composed(impl=change)).points[0]
    assert base.key == changed.key
    assert base.code_hash != changed.code_hash


def test_files_are_named_by_their_folders_and_not_by_their_names_alone(copy: Path) -> None:
    before = CodeHashes(copy).of(config_of(*SERVING))
    one, other = copy / "bench" / "scenarios" / "__init__.py", copy / "bench" / "measure" / "__init__.py"
    texts = one.read_text(), other.read_text()
    one.write_text(texts[1])
    other.write_text(texts[0])
    after = CodeHashes(copy).of(config_of(*SERVING))
    one.write_text(texts[0])
    other.write_text(texts[1])
    assert before != after


def test_the_points_of_a_plan_share_the_work(monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[Sequence[str]] = []

    def counted(root: Path, names: Sequence[str]) -> Sources:
        read.append(names)
        return Sources(root, names)

    monkeypatch.setattr("bench.plan.code_hash.Sources", counted)
    hashes = CodeHashes()
    assert len({hashes.of(config_of(*DECODE)) for _ in range(3)}) == 1
    assert len(read) == 1
    hashes.of(config_of(*CHURN))
    assert len(read) == 2


def test_the_sources_of_a_whole_checkout_have_a_hash(copy: Path) -> None:
    before = sources_hash(copy)
    assert before == sources_hash(ROOT)
    edited(copy, "bench/run.py", "main()", "main( )")
    assert sources_hash(copy) != before
    edited(copy, "bench/run.py", "main( )", "main()")
