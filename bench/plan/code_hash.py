"""The hash of all code that can change a point's answer, and of no other code.

**What is covered.** Everything that the processes of a point can import, found without importing it: the static
import closure of

- ``bench.runner.process.forkserver`` and ``bench.runner.process.child``, which run in each of these processes,
- the modules of ``scenario.processes``, and the class ``scenario.target`` of their parameters,
- ``bench.measure.ceiling``, where the point is timed against a ceiling,
- the module of ``impl.target``, where the point has tensors,
- the module of ``policy.target``, where the policy is not one of this repository's and has an effect,

restricted to ``bench``, ``impls`` and the folder of an implementation or scenario from elsewhere. Imports inside
functions count, those under ``if TYPE_CHECKING:`` do not. A package's ``__init__`` counts for each of its modules.
Files in a compiled language count if they are in the folder of a covered module. The names above are part of the
hash, and so is ``impl.loads_dead_slots``: a YAML file decides them, and they are not in the key.

**Modules that are chosen by name while a point runs** are visible here in one of two ways: their name is one of the
configuration's (above), or a literal argument of ``importlib.import_module``. A test keeps it so. This is why
``bench.config`` does not import the parameters of the scenarios: otherwise an edit of one scenario would change
the hash of all.

**What is not covered.** The harness outside these processes: expansion, plan, rounds, turns' server, assembly of
rows, columns. It decides which question a point asks, and the question is in the key. It adds identity and facts of
the run to a row, and copies the answer without changing it. Third-party packages are part of the environment and
its fingerprint.
"""

from __future__ import annotations

import ast
import hashlib
import json
import sysconfig
from collections.abc import Iterator, Sequence
from functools import lru_cache
from importlib.machinery import PathFinder
from pathlib import Path

from bench import ROOT
from bench.config import Config

OURS = ("bench", "impls")
"""Packages of this repository that a point's process can import."""
ALWAYS = ("bench.runner.process.forkserver", "bench.runner.process.child")
"""Modules that run in every process of a point."""
CEILING = "bench.measure.ceiling:measure_ceiling"
"""Measures the ceiling that timed points are compared with."""
COMPILED = (".c", ".cc", ".cpp", ".cu", ".cuh", ".h", ".hpp")
"""Sources that a module can compile when it is imported or called."""


class CodeHashes:
    """Hashes of the points of one plan: sources are read when first needed, and each set of modules once.

    Args:
        root: folder of ``bench`` and ``impls``.
    """

    def __init__(self, root: Path = ROOT) -> None:
        self._root = root
        self._known: dict[str, str] = {}

    def of(self, config: Config) -> str:
        """The hash of one point, 12 hexadecimal digits.

        Raises:
            ValueError: a module of the point cannot be found.
        """
        names = _names(config)
        question = json.dumps([names, config.impl.loads_dead_slots if config.scenario.tensors else None])
        if question not in self._known:
            self._known[question] = self._hash(names, question)
        return self._known[question]

    def _hash(self, names: Sequence[str], question: str) -> str:
        digest = hashlib.sha256(question.encode())
        for name, path in sorted(Sources(self._root, names).files().items()):
            digest.update(name.encode() + b"\0" + hashlib.sha256(path.read_bytes()).digest())
        return digest.hexdigest()[:12]


def _names(config: Config) -> list[str]:
    """``module``, ``module:function`` or ``module:Class`` of all that is chosen by name."""
    scenario = config.scenario
    names = [*ALWAYS, *scenario.processes, _colon(scenario.target)]
    if scenario.tensors:
        names += [CEILING] * ("measure" not in scenario.ignores)
        names.append(_colon(config.impl.target))
    if config.policy.target and "policy" not in scenario.ignores:
        names.append(_colon(config.policy.target))
    return names


def _colon(target: str) -> str:
    module, _, name = target.rpartition(".")
    return f"{module}:{name}"


def sources_hash(root: Path = ROOT) -> str:
    """Hash of all Python sources of ``bench`` and ``impls``, for the record of a run's environment."""
    digest = hashlib.sha256()
    for path in sorted(path for package in OURS for path in (root / package).rglob("*.py")):
        digest.update(path.relative_to(root).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()[:12]


class Sources:
    """Finds the files of modules: ours below ``root``, those from elsewhere in the folder of what was named.

    Args:
        root: folder of ``bench`` and ``impls``.
        names: ``module`` or ``module:attribute`` of what runs, some of which may be from elsewhere.
    """

    def __init__(self, root: Path, names: Sequence[str]) -> None:
        self._modules = [name.partition(":")[0] for name in names]
        self._folders = dict.fromkeys(OURS, root)  # by top-level name
        self._foreign: list[Path] = []  # all modules of these count
        for top in {module.partition(".")[0] for module in self._modules} - set(OURS):
            folder = _folder_of(top)
            if folder is not None and _is_installed(folder):
                self._folders[top] = folder
            elif folder is not None:
                self._foreign.append(folder)

    def find(self, module: str) -> tuple[str, Path] | None:
        """Name and path of a module's file, or ``None`` where it is none of those that count."""
        top = module.partition(".")[0]
        for folder in [self._folders[top]] if top in self._folders else self._foreign:
            base = folder.joinpath(*module.split("."))
            for path in (base / "__init__.py", base.with_suffix(".py")):
                if path.is_file():
                    return path.relative_to(folder).as_posix(), path
        return None

    def files(self) -> dict[str, Path]:
        """All files of the import closure, by their names relative to the folder of their top-level package.

        Raises:
            ValueError: a module that was named cannot be found.
        """
        for module in self._modules:
            if self.find(module) is None:
                raise ValueError(f"the module {module} cannot be found on the import path")
        pending, seen = list(self._modules), set[str]()
        files: dict[str, Path] = {}
        while pending:
            for name in _with_packages(pending.pop()):
                found = None if name in seen else self.find(name)
                seen.add(name)
                if found is None:
                    continue
                files |= {found[0]: found[1], **_compiled_beside(*found)}
                package = name if found[1].name == "__init__.py" else name.rpartition(".")[0]
                pending += _imports(found[1].read_bytes(), package)
        return files


def _folder_of(top: str) -> Path | None:
    """The folder on the import path that holds a top-level module or package."""
    spec = PathFinder.find_spec(top)
    if spec is None:
        return None
    place = spec.origin or next(iter(spec.submodule_search_locations or ()), None)
    if place is None:
        return None
    path = Path(place)
    return path.parent.parent if path.name == "__init__.py" else path.parent


def _is_installed(folder: Path) -> bool:
    """Whether packages of other projects are in that folder, too."""
    return folder in {Path(path) for path in sysconfig.get_paths().values()}


def _with_packages(module: str) -> Iterator[str]:
    """``a``, ``a.b``, ``a.b.c``: importing a module runs all packages that hold it."""
    parts = module.split(".")
    return (".".join(parts[:count]) for count in range(1, len(parts) + 1))


def _compiled_beside(name: str, path: Path) -> dict[str, Path]:
    """Files in a compiled language in the folder of a module."""
    folder = name.rpartition("/")[0]
    return {f"{folder}/{other.name}": other for other in path.parent.iterdir() if other.suffix in COMPILED}


@lru_cache(maxsize=1024)
def _imports(source: bytes, package: str) -> tuple[str, ...]:
    """Names that a module imports; of ``from a import b``, both ``a`` and ``a.b``, of which the latter may be none.

    Args:
        source: text of the module.
        package: the package that relative imports start from.
    """
    found = dict.fromkeys(name for node in _nodes(ast.parse(source)) for name in _imported(node, package))
    return tuple(found)


def _nodes(tree: ast.AST) -> Iterator[ast.AST]:
    """All nodes, but for those that only a type checker reads."""
    pending = [tree]
    while pending:
        node = pending.pop()
        yield node
        children = node.orelse if isinstance(node, ast.If) and _is_type_checking(node.test) else None
        pending += ast.iter_child_nodes(node) if children is None else children


def _is_type_checking(test: ast.expr) -> bool:
    name = test.attr if isinstance(test, ast.Attribute) else getattr(test, "id", None)
    return name == "TYPE_CHECKING"


def _imported(node: ast.AST, package: str) -> Iterator[str]:
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        parents = package.split(".")[: 1 - node.level or None] if node.level else []
        module = ".".join([*parents, *([node.module] if node.module else [])])
        yield module
        yield from (f"{module}.{alias.name}" for alias in node.names)
    elif isinstance(node, ast.Call) and dynamic_import(node):
        argument = node.args[0] if node.args else None
        if isinstance(argument, ast.Constant) and isinstance(argument.value, str):
            yield argument.value


def dynamic_import(node: ast.Call) -> bool:
    """Whether a call imports a module by its name."""
    function = node.func
    name = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", None)
    return name in ("import_module", "__import__")
