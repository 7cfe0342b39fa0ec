"""The kind of a policy is declared once by name. It is the only way to distinguish policies."""

from __future__ import annotations

import ast
from typing import Any

import pytest

from bench.config import PolicyConfig
from impls.interface import POLICY_KINDS, Policy, PolicyKind, Unsupported
from impls.policies import finds_prefixes, is_paged, is_reserved, make_policy, require_pages, require_regions
from impls.spec import ModelSpec
from tests.conftest import ROOT
from tests.support.points import values

CLASSES = {"Reserved", "PagePool", "PrefixPool"}


def policy_of(name: str) -> Policy:
    model = ModelSpec(**values()["model"])
    return make_policy(name, model=model, budget_bytes=2**26, page_size=16)


@pytest.mark.parametrize("name", POLICY_KINDS)
def test_a_policy_is_of_the_kind_that_its_name_has(name: str) -> None:
    kind = POLICY_KINDS[name]
    assert policy_of(name).kind is kind
    assert PolicyConfig(name=name).has_pages is kind.has_pages


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("reserved_max", (False, True, False)),
        ("reserved_oracle", (False, True, False)),
        ("paged", (True, False, False)),
        ("prefix", (True, False, True)),
    ],
)
def test_kinds_decide_what_a_policy_can_do(name: str, expected: tuple[bool, bool, bool]) -> None:
    policy = policy_of(name)
    assert (is_paged(policy), is_reserved(policy), finds_prefixes(policy)) == expected


def test_a_policy_of_another_class_counts_by_its_kind() -> None:
    class Wrapped:
        kind = PolicyKind.PAGED

    wrapped: Any = Wrapped()
    assert require_pages(wrapped, "mine") is wrapped


def test_a_kind_that_does_not_fit_is_one_sentence() -> None:
    with pytest.raises(Unsupported, match=r"mine requires policy=paged or policy=prefix \(got a reserved policy\)"):
        require_pages(policy_of("reserved_max"), "mine")
    with pytest.raises(Unsupported, match=r"mine requires policy=reserved_max or .* \(got policy=prefix\)"):
        require_regions(policy_of("prefix"), "mine")


@pytest.mark.parametrize("name", ["auto", "pagd"])
def test_a_name_without_a_kind_is_one_sentence(name: str) -> None:
    with pytest.raises(ValueError, match=rf"policy.name={name} is not known"):
        _ = PolicyConfig(name=name).has_pages


def test_no_code_distinguishes_policies_by_class_or_by_part_of_their_name() -> None:
    found = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for room in ("bench", "impls")
        for path in (ROOT / room).rglob("*.py")
        for node in ast.walk(ast.parse(path.read_bytes()))
        if isinstance(node, ast.Call) and _distinguishes_by_class_or_name(node)
    ]
    assert found == []


def _distinguishes_by_class_or_name(call: ast.Call) -> bool:
    if isinstance(call.func, ast.Name) and call.func.id == "isinstance":
        return bool(CLASSES & {name.id for name in ast.walk(call.args[1]) if isinstance(name, ast.Name)})
    return (
        isinstance(call.func, ast.Attribute)
        and call.func.attr == "startswith"
        and any(isinstance(text, ast.Constant) and str(text.value).startswith("reserved") for text in call.args)
    )
