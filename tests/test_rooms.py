"""The rooms: imports go one way, no module is in a circle, and no room imports what it must not.

Type-checking imports and imports inside functions count like all others.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

from scripts.update_docs import ROOMS
from tests.conftest import ROOT

FLOORS = ("spec", "interface", "reference", "policies", "storage", "kernels", "launch", "cpu", "external", "caches")
"""The same inside ``impls/``."""

FORBIDDEN = {
    "bench/config": ("torch", "triton"),
    "bench/rows": ("torch", "triton", "hydra"),
    "bench/workload": ("torch", "triton", "hydra"),
    "bench/measure": ("triton", "hydra"),
    "bench/scenarios": ("triton", "hydra"),
    "bench/plan": ("torch", "triton"),
    "bench/runner": ("triton", "hydra"),
    "bench/reports": ("torch", "triton", "hydra", "bench.scenarios"),
    "bench/cli": ("triton",),
    "bench/compare": ("torch", "triton", "hydra", "bench.scenarios"),
    "bench/ab": ("torch", "triton"),
    "impls": ("hydra", "bench"),
    "impls/policies": ("torch", "triton", "hydra", "bench"),
}
"""What a folder must not import, in whatever module and function."""

OTHER_TESTS = {"kernels", "policies", "proofs", "perf", "cluster", "golden", "support"}
"""Folders of tests that are no room: parts of ``impls/``, proofs and benchmarks, launchers, schedules, and helpers."""

MOST_ENTRIES = 12
"""Entries of a folder; ``__init__.py`` and ``ruff.toml`` are not counted."""


@cache
def modules() -> dict[str, Path]:
    """Every module by its dotted name."""
    files = [path for top in ("bench", "impls", "scripts") for path in sorted((ROOT / top).rglob("*.py"))]
    return {_name(path.relative_to(ROOT)): path for path in files}


def _name(path: Path) -> str:
    return ".".join(path.with_suffix("").parts).removesuffix(".__init__")


def imported(path: Path) -> Iterator[str]:
    """Dotted names that a file imports: modules of ours where it names one, else as written."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}: a relative import"
            base = node.module or ""
            yield from (f"{base}.{a.name}" if f"{base}.{a.name}" in modules() else base for a in node.names)


@cache
def arrows() -> frozenset[tuple[str, str]]:
    """(importing, imported) of every pair of our modules."""
    pairs = {(name, other) for name, path in modules().items() for other in imported(path)}
    return frozenset((name, other) for name, other in pairs if other in modules() and other != name)


def room(module: str) -> str:
    parts = module.split(".")
    return parts[1] if parts[0] == "bench" and len(parts) > 1 else parts[0]


def upward(order: tuple[str, ...], pairs: list[tuple[str, str, str]]) -> list[str]:
    """Return pairs whose second place comes after the first in ``order``, each with its words."""
    return sorted(words for source, target, words in pairs if order.index(target) > order.index(source))


def test_every_folder_is_a_room_in_the_list() -> None:
    assert {room(name) for name in modules()} - {"bench"} == set(ROOMS)


def test_no_room_imports_a_room_above_it() -> None:
    pairs = [(room(a), room(b), f"{a} -> {b}") for a, b in arrows() if "bench" not in (room(a), room(b))]
    assert len(pairs) > 500
    assert upward(ROOMS, pairs) == []


def test_no_part_of_the_implementations_imports_a_part_above_it() -> None:
    inside = [(a, b) for a, b in arrows() if a.startswith("impls.") and b.startswith("impls.")]
    pairs = [(a.split(".")[1], b.split(".")[1], f"{a} -> {b}") for a, b in inside]
    assert upward(FLOORS, pairs) == []


def test_an_upward_arrow_is_found() -> None:
    assert upward(("low", "high"), [("high", "low", "down"), ("low", "high", "up"), ("low", "low", "level")]) == ["up"]


def test_no_module_is_in_a_circle_of_imports() -> None:
    graph: dict[str, set[str]] = {}
    for name, other in arrows():
        graph.setdefault(name, set()).add(other)
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(f"circle of imports: {' -> '.join(error.args[1])}")


def test_implementations_do_not_import_each_other() -> None:
    assert [pair for pair in arrows() if all(name.startswith("impls.caches.") for name in pair)] == []


@pytest.mark.parametrize("folder", FORBIDDEN)
def test_a_room_does_not_import_forbidden_modules(folder: str) -> None:
    found = [
        f"{path.relative_to(ROOT)} imports {name}"
        for path in sorted((ROOT / folder).rglob("*.py"))
        if "plugins" not in path.parts
        for name in imported(path)
        for heavy in FORBIDDEN[folder]
        if name == heavy or name.startswith(f"{heavy}.")
        if not (heavy == "triton" and path.parent.name == "kernels")
    ]
    assert found == []


def test_no_folder_shows_more_than_about_twelve_entries() -> None:
    folders = {path.parent for path in modules().values() if "scripts" not in path.relative_to(ROOT).parts}
    shown = {
        folder.relative_to(ROOT).as_posix(): sum(
            entry.name not in ("__init__.py", "__pycache__", "ruff.toml") and not entry.name.startswith(".")
            for entry in folder.iterdir()
        )
        for folder in folders
    }
    assert {folder: count for folder, count in shown.items() if count > MOST_ENTRIES} == {}
    assert len(shown) > 20


def test_the_folders_of_the_tests_mirror_the_rooms() -> None:
    folders = {path.name for path in (ROOT / "tests").iterdir() if path.is_dir() and path.name[0] not in "._"}
    assert folders == {room for room in ROOMS if room != "run"} | OTHER_TESTS
    assert {path.name for path in (ROOT / "impls").iterdir()} >= {"kernels", "policies"}


def test_no_test_module_imports_a_test_module() -> None:
    files = sorted((ROOT / "tests").rglob("*.py"))
    found = [f"{path.relative_to(ROOT)} imports {name}" for path in files for name in imported(path)
             if name.startswith("tests.") and name.rpartition(".")[2].startswith("test_")]  # fmt: skip
    assert found == []
    assert len(files) > 90
