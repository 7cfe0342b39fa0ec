"""Every test asserts something, and what only prints is a benchmark by name."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path

from tests.conftest import ROOT

RAISING = ("raises", "warns", "fail")
"""Functions of pytest that fail a test."""

Function = ast.FunctionDef


@cache
def functions() -> Mapping[str, list[tuple[Path, Function]]]:
    """Every function of the tests by its name."""
    found: dict[str, list[tuple[Path, Function]]] = {}
    for path in sorted((ROOT / "tests").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, Function):
                found.setdefault(node.name, []).append((path, node))
    return found


def named(prefix: str) -> Iterator[tuple[Path, Function]]:
    """Yield the functions of test modules whose name begins with the prefix."""
    for name, places in functions().items():
        yield from (place for place in places if name.startswith(prefix) and place[0].name.startswith("test_"))


def asserts(function: ast.AST, seen: frozenset[str] = frozenset()) -> bool:
    """Return whether a function asserts, calls one that does, or runs a process that must succeed."""
    for node in ast.walk(function):
        if isinstance(node, ast.Assert):
            return True
        if isinstance(node, ast.Call):
            name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if name in RAISING or name.startswith(("check", "assert_")) or _must_succeed(node):
                return True
            helpers = [helper for _, helper in functions().get(name, [])] if name not in seen else []
            if any(asserts(helper, seen | {name}) for helper in helpers):
                return True
    return False


def _must_succeed(call: ast.Call) -> bool:
    """Return whether the call is ``subprocess.run(…, check=True)``."""
    return any(word.arg == "check" and getattr(word.value, "value", False) is True for word in call.keywords)


def test_every_test_asserts_something() -> None:
    tests = list(named("test_"))
    assert [f"{path.relative_to(ROOT)}: {test.name}" for path, test in tests if not asserts(test)] == []
    assert len(tests) > 800


def test_a_benchmark_asserts_nothing_and_runs_on_request_only() -> None:
    benchmarks = list(named("benchmark_"))
    assert [f"{path.relative_to(ROOT)}: {one.name}" for path, one in benchmarks if _has_assert(one)] == []
    assert {path.parent for path, _ in benchmarks} == {ROOT / "tests" / "perf"}
    for path in {path for path, _ in benchmarks}:
        assert "\npytestmark = " in path.read_text()
        assert "pytest.mark.perf" in path.read_text()


def _has_assert(function: Function) -> bool:
    return any(isinstance(node, ast.Assert) for node in ast.walk(function))


def test_a_test_without_an_assertion_is_found() -> None:
    silent, loud = ast.parse("def test_silent():\n    print(1)\n\n\ndef test_loud():\n    assert 1\n").body
    assert not asserts(silent)
    assert asserts(loud)
