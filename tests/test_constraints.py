"""The constraint files agree with pyproject.toml, and the workflow's legs exist."""

from __future__ import annotations

import re
import tomllib

import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

from tests.conftest import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
DECLARED = [Requirement(text) for text in (*PROJECT["dependencies"], *PROJECT["optional-dependencies"]["dev"])]


def pinned(name: str) -> dict[str, Version]:
    """Version by package, of a constraints file."""
    lines = (line.partition("#")[0].strip() for line in (ROOT / name).read_text().splitlines())
    pairs = (line.split("==") for line in lines if line)
    return {canonicalize_name(package): Version(version) for package, version in pairs}


def test_the_oldest_constraints_are_the_lower_bounds() -> None:
    oldest = pinned("constraints-oldest.txt")
    for requirement in DECLARED:
        for bound in requirement.specifier:
            if bound.operator == ">=":
                found = oldest[canonicalize_name(requirement.name)]
                parts = len(Version(bound.version).release)
                assert found.release[:parts] == Version(bound.version).release, requirement


def test_the_constraints_are_within_the_declared_bounds() -> None:
    for name in ("constraints.txt", "constraints-oldest.txt"):
        found = pinned(name)
        for requirement in DECLARED:
            package = canonicalize_name(requirement.name)
            assert package not in found or requirement.specifier.contains(found[package]), (name, requirement)


def test_the_workflow_runs_every_python_and_both_ends_of_the_dependencies() -> None:
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "test.yml").read_text())
    assert workflow["permissions"] == {"contents": "read"}
    assert {"push", "pull_request"} <= set(workflow[True])  # YAML 1.1 reads the key `on` as true
    legs = workflow["jobs"]["test"]["strategy"]["matrix"]["include"]
    allowed = SpecifierSet(PROJECT["requires-python"])
    pythons = {f"3.{minor}" for minor in range(30) if f"3.{minor}" in allowed}
    assert {leg["python"] for leg in legs if leg["dependencies"] == "pinned"} == pythons
    assert {leg["dependencies"] for leg in legs} == {"pinned", "oldest", "newest"}
    targets = set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
    assert {leg["target"] for leg in legs} <= targets
    assert all(leg["constraints"] == "/dev/null" or (ROOT / leg["constraints"]).is_file() for leg in legs)
