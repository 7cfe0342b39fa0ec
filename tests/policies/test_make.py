"""Every policy by name: sizes from bytes, admission, growth, release."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from impls.interface import Admission, Policy, PoolExhausted
from impls.policies import POLICIES, PagePool, PrefixPool, Reserved, make_policy
from impls.spec import ModelSpec

OPT_13B = ModelSpec(
    name="opt-13b", num_layers=40, num_query_heads=40, num_kv_heads=40, head_dim=128, dtype="float16", max_seq_len=2048
)


def test_12_gib_of_opt_13b_are_15728_slots() -> None:
    policy = make_policy("reserved_max", model=OPT_13B, budget_bytes=12 * 2**30, page_size=16)
    assert isinstance(policy, Reserved)
    assert policy.num_slots == 15728
    paged = make_policy("paged", model=OPT_13B, budget_bytes=12 * 2**30, page_size=16)
    assert isinstance(paged, PagePool)
    assert paged.num_pages == 983
    assert isinstance(make_policy("prefix", model=OPT_13B, budget_bytes=2**30, page_size=16), PrefixPool)


@pytest.mark.parametrize("name", POLICIES)
def test_a_sequence_lives_and_leaves(name: str) -> None:
    policy = make_policy(name, model=OPT_13B, budget_bytes=12 * 2**30, page_size=16)
    assert policy.can_admit(30, 100) is Admission.NOW
    policy.admit(7, 30, 100)
    for _ in range(70):
        assert policy.can_append(7)
        assert not policy.append(7)
    assert policy.seq_len(7) == 100
    assert len(set(policy.slots(7, 0, 100))) == 100
    usage = policy.usage()
    assert usage.live_bytes == 100 * OPT_13B.token_bytes
    assert usage.pool_bytes == policy.pool_bytes
    policy.free(7)
    assert policy.num_seqs == 0
    with pytest.raises(KeyError, match="sequence 7"):
        policy.free(7)


@pytest.mark.parametrize("name", POLICIES)
def test_too_long_is_never(name: str) -> None:
    policy = make_policy(name, model=OPT_13B, budget_bytes=2**30, page_size=16)
    assert policy.can_admit(2049, 2049) is Admission.NEVER
    with pytest.raises(PoolExhausted, match="sequence 1"):
        policy.admit(1, 2049, 2049)
    assert policy.num_seqs == 0


@pytest.mark.parametrize("name", POLICIES)
def test_a_budget_below_one_unit_is_an_error(name: str) -> None:
    with pytest.raises(ValueError, match="memory_budget=100 bytes must be at least"):
        make_policy(name, model=OPT_13B, budget_bytes=100, page_size=16)


@pytest.mark.parametrize("page_size", [0, -16])
def test_a_page_size_below_one_is_an_error(page_size: int) -> None:
    with pytest.raises(ValueError, match=f"page_size={page_size} must be at least 1"):
        make_policy("paged", model=OPT_13B, budget_bytes=2**30, page_size=page_size)


def test_an_unknown_name_is_an_error() -> None:
    with pytest.raises(ValueError, match="policy='papered' must be one of reserved_max"):
        make_policy("papered", model=OPT_13B, budget_bytes=2**30, page_size=16)


def test_bookkeeping_needs_nothing_but_python() -> None:
    blocked = dict.fromkeys(("torch", "triton", "pynvml", "numpy", "hydra", "bench"))
    script = f"import sys; sys.modules.update({blocked}); import impls.policies"
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run([sys.executable, "-c", script], cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def make_target(target: str, kind: str) -> Policy:
    return make_policy("mine", model=OPT_13B, budget_bytes=2**30, page_size=16, target=target, kind=kind)


@pytest.mark.parametrize(
    ("target", "kind", "cls"),
    [
        ("impls.policies.pages.PagePool", "paged", PagePool),
        ("impls.policies.prefix.PrefixPool", "prefix", PrefixPool),
        ("impls.policies.reserved.Reserved", "reserved", Reserved),
    ],
)
def test_a_policy_by_its_target_has_the_budget_of_its_kind(target: str, kind: str, cls: type) -> None:
    policy = make_target(target, kind)
    assert type(policy) is cls
    name = {"paged": "paged", "prefix": "prefix", "reserved": "reserved_max"}[kind]
    assert policy.pool_bytes == make_policy(name, model=OPT_13B, budget_bytes=2**30, page_size=16).pool_bytes


@pytest.mark.parametrize(
    ("target", "kind", "sentence"),
    [
        (
            "impls.policies.pages.PagePool",
            "prefix",
            "policy.kind=prefix must be paged, the kind of impls.policies.pages",
        ),
        ("impls.policies.pages.Lost", "paged", "policy.target=impls.policies.pages.Lost must be package.module.Class"),
        ("nowhere.Lost", "paged", "policy.target=nowhere.Lost must be package.module.Class"),
        ("Lost", "paged", "policy.target=Lost must be package.module.Class"),
    ],
)
def test_a_wrong_target_is_an_error(target: str, kind: str, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        make_target(target, kind)
