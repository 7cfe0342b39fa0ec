"""Copies of the inputs: a call that does not take turns on them is found out before it is timed."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from bench.measure.stopping import StoppingRule
from bench.measure.timers.graph import time_with_graph
from bench.measure.timers.work import RotationDefeated, Work, check_rotation
from tests.support.fake_cuda import FakeCuda


def copies_of(count: int) -> list[tuple[Tensor, Tensor]]:
    first = torch.randn(6, 4), torch.randn(6, 4)
    return [(first[0].clone(), first[1].clone()) for _ in range(count)]


def work_of(call: object, copies: list[tuple[Tensor, Tensor]]) -> Work:
    return Work(call=call, copies=copies, bytes_per_call=192)  # type: ignore[arg-type]


def test_calls_that_read_their_copy_pass_and_leave_it_unchanged() -> None:
    copies = copies_of(3)
    before = copies[0][0].clone()
    check_rotation(work_of(lambda index: copies[index][0] @ copies[index][1].T, copies))
    assert all(torch.equal(first, before) for first, _ in copies)


def test_calls_that_write_their_copy_pass() -> None:
    copies = copies_of(3)
    check_rotation(work_of(lambda index: (copies[index][0][2].fill_(1.0), None)[1], copies))


def test_reading_a_few_rows_is_enough() -> None:
    copies = copies_of(2)
    check_rotation(work_of(lambda index: copies[index][1][5].sum(), copies))


def test_a_closure_over_one_copy_is_refused() -> None:
    copies = copies_of(3)
    keys, values = copies[0]
    with pytest.raises(RotationDefeated, match=r"call\(1\) neither reads nor writes copy 1 of 3"):
        check_rotation(work_of(lambda index: keys @ values.T, copies))
    with pytest.raises(RotationDefeated, match="call"):
        check_rotation(work_of(lambda index: (keys.fill_(1.0), None)[1], copies))


def test_a_call_that_is_one_copy_off_is_refused() -> None:
    copies = copies_of(3)
    with pytest.raises(RotationDefeated, match=r"call\(0\)"):
        check_rotation(work_of(lambda index: copies[(index + 1) % 3][0].sum(), copies))


def test_copies_that_share_memory_are_refused() -> None:
    (keys, values), _ = copies_of(2)
    with pytest.raises(RotationDefeated, match="copies 0 and 1 share memory"):
        check_rotation(work_of(lambda index: keys.sum(), [(keys, values), (keys, values)]))


def test_copies_keep_their_strides() -> None:
    strided, packed = torch.randn(4, 6).T, torch.randn(6, 4)
    with pytest.raises(RotationDefeated, match="copy 1 has other shapes or strides"):
        check_rotation(work_of(lambda index: None, [(strided,), (packed,)]))  # type: ignore[list-item]


def test_a_defeated_rotation_is_refused_before_timing() -> None:
    cuda, copies = FakeCuda(), copies_of(2)
    rule = StoppingRule(min_samples=5, max_s=0, rel_half_width=0.01)
    with pytest.raises(RotationDefeated):
        time_with_graph(work_of(lambda index: copies[0][0].sum(), copies), rule, warmup_ms=0, calls=4, l2_mode="cold",
                        cuda=cuda)  # fmt: skip
    assert cuda.replays == 0
