"""The hash of all code that can change the result of a point, and of no other code.

**What is covered.** All modules that the processes of a point can import. They are found by reading the sources,
without importing them. The modules are the static import closure of

- ``bench.runner.process.forkserver`` and ``bench.runner.process.child``, which run in each of these processes,
- the modules of ``scenario.processes``, and the class ``scenario.target`` of their parameters,
- ``bench.measure.ceiling``, if the point is compared with a bandwidth ceiling,
- the module of ``impl.target``, if the point has tensors,
- the module of ``policy.target``, if the policy has one and has an effect.

Only modules in ``bench``, in ``impls`` and in the folder of an implementation, policy or scenario from outside count.
Imports inside functions count. Imports under ``if TYPE_CHECKING:`` do not. The ``__init__`` of a package counts with
each of its modules. Sources in a compiled language count if they are in the folder of a covered module. The names
listed above are part of the hash. ``impl.loads_dead_slots`` is, too. YAML files set all of these, and the key does
not contain them.

**Modules that a point imports by name** are found in two ways. Either the configuration contains the name (see
above), or it is a literal argument of ``importlib.import_module``. A test checks that there is no third way. For this
reason ``bench.config`` does not import the parameters of the scenarios. Otherwise an edit of one scenario would
change the hashes of all points.

**What is not covered.** The harness outside these processes: expansion, plan, rounds, the turn server, and the
columns and assembly of rows. This code decides which parameters a point has, and the key contains them. It adds the
identity of the point and facts about the run to a row, and copies the result without changing it. Third-party
packages belong to the environment and its fingerprint.
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
"""Packages of this repository that the process of a point can import."""
ALWAYS = ("bench.runner.process.forkserver", "bench.runner.process.child")
"""Modules that run in every process of a point."""
CEILING = "bench.measure.ceiling:measure_ceiling"
"""Function that measures the bandwidth ceiling with which timed points are compared."""
COMPILED = (".c", ".cc", ".cpp", ".cu", ".cuh", ".h", ".hpp")
"""Suffixes of sources that a module can compile when it is imported or called."""


class CodeHashes:
    """Computes the code hashes of the points of one plan. It reads the sources of each set of modules once.

    Args:
        root: folder of ``bench`` and ``impls``.
    """

    def __init__(self, root: Path = ROOT) -> None:
        self._root = root
        self._hashes: dict[str, str] = {}  # by set of modules

    def of(self, config: Config) -> str:
        """Return the hash of one point, 12 hexadecimal digits.

        Raises:
            ValueError: a module of the point cannot be found.
        """
        names = _names(config)
        declared = json.dumps([names, config.impl.loads_dead_slots if config.scenario.tensors else None])
        if declared not in self._hashes:
            self._hashes[declared] = self._hash(names, declared)
        return self._hashes[declared]

    def _hash(self, names: Sequence[str], declared: str) -> str:
        digest = hashlib.sha256(declared.encode())
        for name, path in sorted(Sources(self._root, names).files().items()):
            digest.update(name.encode() + b"\0" + hashlib.sha256(path.read_bytes()).digest())
        return digest.hexdigest()[:12]


def _names(config: Config) -> list[str]:
    """Return ``module``, ``module:function`` or ``module:Class`` of everything that a point imports by name."""
    scenario = config.scenario
    names = [*ALWAYS, *scenario.processes, _with_colon(scenario.target)]
    if scenario.tensors:
        names += [CEILING] * ("measure" not in scenario.ignores)
        names.append(_with_colon(config.impl.target))
    if config.policy.target and "policy" not in scenario.ignores:
        names.append(_with_colon(config.policy.target))
    return names


def _with_colon(target: str) -> str:
    """Return ``package.module:Class`` for ``package.module.Class``."""
    module, _, name = target.rpartition(".")
    return f"{module}:{name}"


def sources_hash(root: Path = ROOT) -> str:
    """Return the hash of all Python sources of ``bench`` and ``impls``, for ``environment.json``."""
    digest = hashlib.sha256()
    for path in sorted(path for package in OURS for path in (root / package).rglob("*.py")):
        digest.update(path.relative_to(root).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()[:12]


class Sources:
    """Finds the source files of modules, those of this repository and those from outside.

    Args:
        root: folder of ``bench`` and ``impls``.
        names: ``module`` or ``module:attribute`` of the code that runs. A name may be from outside the repository.
            Then all modules in its folder count.
    """

    def __init__(self, root: Path, names: Sequence[str]) -> None:
        self._modules = [name.partition(":")[0] for name in names]
        self._folders = dict.fromkeys(OURS, root)  # by top-level name
        self._outside: list[Path] = []  # folders outside the repository of which all modules count
        for top in {module.partition(".")[0] for module in self._modules} - set(OURS):
            folder = _folder_of(top)
            if folder is not None and _is_installed(folder):
                self._folders[top] = folder
            elif folder is not None:
                self._outside.append(folder)

    def find(self, module: str) -> tuple[str, Path] | None:
        """Return name and path of the file of a module, or ``None`` if the module does not count."""
        top = module.partition(".")[0]
        for folder in [self._folders[top]] if top in self._folders else self._outside:
            base = folder.joinpath(*module.split("."))
            for path in (base / "__init__.py", base.with_suffix(".py")):
                if path.is_file():
                    return path.relative_to(folder).as_posix(), path
        return None

    def files(self) -> dict[str, Path]:
        """Return all files of the import closure, by their paths relative to the folder of the top-level package.

        Raises:
            ValueError: one of the names cannot be found.
        """
        for module in self._modules:
            if self.find(module) is None:
                raise ValueError(
                    f"the module {module} cannot be found on the import path. Check the name in the YAML file, and "
                    "give the folder of the module with --config-dir"
                )
        pending, seen = list(self._modules), set[str]()
        files: dict[str, Path] = {}
        while pending:
            for name in _parents_and_self(pending.pop()):
                found = None if name in seen else self.find(name)
                seen.add(name)
                if found is None:
                    continue
                files |= {found[0]: found[1], **_compiled_beside(*found)}
                package = name if found[1].name == "__init__.py" else name.rpartition(".")[0]
                pending += _imports(found[1].read_bytes(), package)
        return files


def _folder_of(top: str) -> Path | None:
    """Return the folder on the import path that contains a top-level module or package."""
    spec = PathFinder.find_spec(top)
    if spec is None:
        return None
    location = spec.origin or next(iter(spec.submodule_search_locations or ()), None)
    if location is None:
        return None
    path = Path(location)
    return path.parent.parent if path.name == "__init__.py" else path.parent


def _is_installed(folder: Path) -> bool:
    """Return whether the folder is one into which packages of other projects are installed, too."""
    return folder in {Path(path) for path in sysconfig.get_paths().values()}


def _parents_and_self(module: str) -> Iterator[str]:
    """Yield ``a``, ``a.b`` and ``a.b.c`` for ``a.b.c``: importing a module also runs the packages around it."""
    parts = module.split(".")
    return (".".join(parts[:count]) for count in range(1, len(parts) + 1))


def _compiled_beside(name: str, path: Path) -> dict[str, Path]:
    """Return the sources in a compiled language that are in the folder of a module."""
    folder = name.rpartition("/")[0]
    return {f"{folder}/{other.name}": other for other in path.parent.iterdir() if other.suffix in COMPILED}


@lru_cache(maxsize=1024)
def _imports(source: bytes, package: str) -> tuple[str, ...]:
    """Return the names that a module imports. ``from a import b`` gives ``a`` and ``a.b``, which may be no module.

    Args:
        source: text of the module.
        package: package at which relative imports start.
    """
    found = dict.fromkeys(name for node in _nodes(ast.parse(source)) for name in _imported(node, package))
    return tuple(found)


def _nodes(tree: ast.AST) -> Iterator[ast.AST]:
    """Yield all nodes except those that only a type checker reads."""
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
    """Return whether a call imports a module by its name."""
    function = node.func
    name = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", None)
    return name in ("import_module", "__import__")
