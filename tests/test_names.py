"""One name, one meaning: no class is defined twice, and a constant that is has the same meaning everywhere."""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterable, Iterator

from tests.conftest import ROOT

SAME_MEANING = {
    "AXES": "columns along which the rows of this figure, or of a comparison, may differ",
    "COMMAND": "what makes the rows of this module's figures",
    "Floats": "array of float64",
    "HEADINGS": "headings of a printed table, in order",
    "MOST_ROWS": "rows that this form of output shows at most",
    "NEAR": "a value within this factor of the best counts as best",
    "POLL_S": "seconds between two looks",
}
"""Constants that several modules define, each for itself, and what they mean in all of them."""


def defined(rooms: Iterable[str], *kinds: type[ast.stmt]) -> dict[str, list[str]]:
    """Return public names of modules that more than one module of these rooms defines, with the modules."""
    places: defaultdict[str, list[str]] = defaultdict(list)
    for room in rooms:
        for path in sorted((ROOT / room).rglob("*.py")):
            for node in ast.parse(path.read_bytes()).body:
                if isinstance(node, kinds):
                    for name in names_of(node):
                        places[name].append(path.relative_to(ROOT).as_posix())
    return {name: found for name, found in places.items() if len(found) > 1 and not name.startswith("_")}


def names_of(node: ast.stmt) -> Iterator[str]:
    if isinstance(node, ast.ClassDef):
        yield node.name
    targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
    yield from (target.id for target in targets if isinstance(target, ast.Name))


def test_class_names_and_names_of_types_are_unique() -> None:
    twice = defined(("bench", "impls", "scripts"), ast.ClassDef, ast.Assign, ast.AnnAssign)
    assert {name: places for name, places in twice.items() if not name.isupper() and name not in SAME_MEANING} == {}


def test_constant_names_are_unique() -> None:
    twice = defined(("bench", "impls"), ast.Assign, ast.AnnAssign)
    assert {name: places for name, places in twice.items() if name not in SAME_MEANING} == {}
