"""Which timer a point gets: from bytes alone, the same again every time."""

from __future__ import annotations

import doctest

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.measure.timers import choice, cupti
from bench.measure.timers.choice import MAX_COPIES, choose_on_cuda, choose_on_host, copies_needed, is_cold, one_digit
from impls.interface import Unsupported

L2 = 50 * 2**20
AT_3_TB_PER_S = {"ceiling_gbps": 3000.0, "l2_bytes": L2}


def choose(
    asked: str = "auto", moved: int = 10**6, storage: int | None = None, **changes: object
) -> choice.TimerChoice:
    arguments = {"moved_bytes": moved, "storage_bytes": storage or moved, **AT_3_TB_PER_S, **changes}
    return choose_on_cuda(asked, **arguments)  # type: ignore[arg-type]


@pytest.mark.parametrize(("moved", "timer"), [(149_000_000, "graph"), (150_000_000, "events"), (10**9, "events")])
def test_auto_takes_a_graph_below_fifty_microseconds(moved: int, timer: str) -> None:
    chosen = choose(moved=moved)
    assert chosen.timer == timer
    assert chosen.predicted_us == pytest.approx(moved / 3000 / 1000)
    assert f"{moved:,} bytes / 3000 GB/s" in chosen.reason


def test_the_noise_of_the_ceiling_does_not_change_the_choice() -> None:
    chosen = {choose(moved=149_000_000, ceiling_gbps=gbps) for gbps in (2700.0, 2950.0, 3111.0, 3400.0)}
    assert len(chosen) == 1


def test_without_a_ceiling_there_is_no_prediction() -> None:
    chosen = choose(ceiling_gbps=None)
    assert (chosen.timer, chosen.predicted_us) == ("events", None)
    assert choose("graph", ceiling_gbps=None).graph_calls > 0


def test_auto_takes_events_where_cold_copies_would_not_fit() -> None:
    assert "copies of" in choose(moved=1000).reason
    assert choose(moved=1000).timer == "events", f"more than {MAX_COPIES} copies"
    assert choose(moved=10**6, storage=10**10).timer == "events", "a large pool that is nearly empty"


@pytest.mark.parametrize("timer", ["events", "graph", "cupti"])
def test_a_named_timer_is_taken(timer: str) -> None:
    chosen = choose(timer)
    assert (chosen.timer, chosen.reason) == (timer, "configured")


def test_a_timer_that_cannot_work_here_is_refused() -> None:
    with pytest.raises(Unsupported, match="perf_counter cannot time on cuda"):
        choose("perf_counter")
    with pytest.raises(Unsupported, match="graph needs 262144 copies of 1,000 bytes"):
        choose("graph", moved=1000)
    for asked in ("events", "graph", "cupti"):
        with pytest.raises(Unsupported, match=f"{asked} cannot time on a CPU"):
            choose_on_host(asked)
    assert choose_on_host("auto").timer == choose_on_host("perf_counter").timer == "perf_counter"


@given(st.integers(1, 10**12), st.integers(1, 10**9))
def test_the_fewest_copies_that_are_cold(bytes_per_call: int, l2_bytes: int) -> None:
    copies = copies_needed(bytes_per_call, l2_bytes)
    assert is_cold(copies, bytes_per_call, l2_bytes)
    assert copies == 1 or not is_cold(copies - 1, bytes_per_call, l2_bytes)


@given(st.integers(200_000, 10**8))
def test_a_graph_takes_every_copy_equally_often(moved: int) -> None:
    chosen = choose("graph", moved=moved)
    assert chosen.graph_calls % chosen.copies == 0
    assert chosen.graph_calls >= chosen.copies


def test_heavier_work_gets_fewer_calls_in_a_graph_and_lighter_work_no_more() -> None:
    chosen = choose("graph", moved=21_000_000)  # a prompt of 512 tokens of OPT-13B beside its layer's weights
    calls = chosen.graph_calls
    assert (chosen.graph_calls_of(21_000_000, chosen.copies), chosen.graph_calls_of(1000, chosen.copies)) == (
        calls,
    ) * 2
    assert chosen.graph_calls_of(30 * 21_000_000, 1) == calls // 30
    assert chosen.graph_calls_of(10**12, 1) == 1
    assert chosen.graph_calls_of(30 * 21_000_000, 13) == 13, "each copy at least once"
    assert choose("graph", ceiling_gbps=None).graph_calls_of(10**12, 1) >= 1


@given(st.floats(1e-3, 1e6))
def test_one_digit_is_near(value: float) -> None:
    assert abs(one_digit(value) - value) <= value / 2
    assert one_digit(one_digit(value)) == pytest.approx(one_digit(value))


def test_the_examples_in_the_documentation() -> None:
    for module in (choice, cupti):
        assert doctest.testmod(module).failed == 0
