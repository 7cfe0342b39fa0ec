"""Turns: one side computes at a time, both meet at common points, and no side waits for an ended one."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from multiprocessing.connection import Client, Connection
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.ab import sweeps
from bench.ab.sweeps import Arm, one_at_a_time
from bench.ab.turn_keeper import TurnKeeper, handed_out
from bench.measure.machine.host_state import cores_of_others, elsewhere, host_state
from bench.measure.stopping import StoppingRule
from bench.measure.timers.in_turn import BLOCK_S, collect_in_turn
from bench.measure.turns import VARIABLE, Turns, TurnsLost, variable, visit
from tests.conftest import ROOT

SIDES = ("base", "candidate")
LIMIT_S = 60.0


class Stage:
    """Two fake sweeps under one keeper. Each block is recorded, and checked to be the only computing one."""

    def __init__(self, keeper: TurnKeeper, address: str) -> None:
        self.keeper, self.address = keeper, address
        self.blocks: list[tuple[str, str]] = []  # side, point
        self.together: dict[tuple[str, str], bool] = {}
        self._computing = threading.Lock()

    def sweep(self, side: str, points: Sequence[tuple[str, int]]) -> None:
        """Points and how many blocks each of them needs."""
        for key, needed in points:
            with visit(key, variable(side, self.address)) as visited:
                self.together[side, key] = visited.together
                self.point(side, key, needed)
                assert visited.waited_s() < LIMIT_S
        self.keeper.end(side)

    def point(self, side: str, key: str, needed: int) -> None:
        with _connected(self.address, side) as connection:
            turns, taken, stop = Turns(connection), 0, False
            while not stop:
                assert self._computing.acquire(blocking=False), "the other side computes"
                self.blocks.append((side, key))
                taken += 1
                self._computing.release()
                stop = turns.give(enough=taken >= needed)
            assert taken >= needed


def _connected(address: str, side: str) -> Connection:
    connection: Connection = Client(address)
    connection.send({"side": side, "pid": SIDES.index(side)})
    return connection


def played(sweeps: dict[str, list[tuple[str, int]]], order: Sequence[str] = "abcdef") -> Stage:
    """Both sweeps, played to their end."""
    keys = [[key for key, _ in points] for points in sweeps.values()]
    keeper = TurnKeeper(SIDES, lambda key: order.index(key) if all(key in side for side in keys) else -1)
    with handed_out(keeper) as address, ThreadPoolExecutor(len(SIDES)) as threads:
        stage = Stage(keeper, address)
        ends: list[Future[None]] = [threads.submit(stage.sweep, side, sweeps[side]) for side in SIDES]
        for end in ends:
            end.result(LIMIT_S)
    return stage


def test_blocks_alternate_and_both_stop_when_both_have_enough() -> None:
    stage = played({"base": [("a", 2), ("b", 3)], "candidate": [("a", 4), ("b", 1)]})
    assert stage.blocks == [(side, "a") for side in SIDES * 4] + [(side, "b") for side in SIDES * 3]
    assert all(stage.together.values())


def test_a_point_that_one_side_lacks_is_run_alone() -> None:
    stage = played({"base": [("a", 1), ("c", 2)], "candidate": [("a", 1), ("b", 2), ("c", 2)]})
    assert [block for block in stage.blocks if block[1] == "b"] == [("candidate", "b")] * 2
    assert stage.together == {(side, key): True for side in SIDES for key in "ac"} | {("candidate", "b"): False}


@settings(max_examples=40)  # each plays two sweeps in threads
@given(st.data())
def test_all_blocks_are_taken_whatever_the_sides_have(data: st.DataObject) -> None:
    point = st.tuples(st.sampled_from("abcdef"), st.integers(1, 3))
    points = st.lists(point, max_size=4, unique_by=lambda point: point[0]).map(sorted)
    sweeps = {side: data.draw(points) for side in SIDES}
    stage = played(sweeps)
    common = {key for key, _ in sweeps["base"]} & {key for key, _ in sweeps["candidate"]}
    assert {key for (_, key), together in stage.together.items() if together} == common
    for side, requested in sweeps.items():
        other = dict(sweeps[SIDES[1 - SIDES.index(side)]])
        for key, needed in requested:
            assert stage.blocks.count((side, key)) == max(needed, other.get(key, 0))


def test_a_side_does_not_wait_for_one_that_has_ended() -> None:
    keeper = TurnKeeper(SIDES, lambda _: 0)
    with ThreadPoolExecutor(1) as threads:
        entering = threads.submit(keeper.enter, "base", "a")
        time.sleep(0.05)
        assert not entering.done(), "the candidate is on its way"
        keeper.end("candidate")
        assert entering.result(LIMIT_S) is False
        assert 0.05 <= keeper.waited_s("base") < LIMIT_S
        assert keeper.enter("candidate", "a") is False, "it has ended"
        assert keeper.give("base", enough=False, pid=1) == (False, None)
        assert keeper.give("base", enough=True, pid=1) == (True, None)
        keeper.leave("base")


def test_a_process_killed_while_waiting_does_not_block_the_other() -> None:
    keeper = TurnKeeper(SIDES, lambda _: 0)
    with handed_out(keeper) as address, ThreadPoolExecutor(4) as threads:
        Client(address).close()  # killed before it identified itself
        entering = [threads.submit(keeper.enter, side, "a") for side in SIDES]
        assert entering[0].result(LIMIT_S)
        giving = threads.submit(keeper.give, "base", enough=False, pid=1)
        assert entering[1].result(LIMIT_S), "now it is the candidate's turn"
        leaving = threads.submit(keeper.leave, "base")  # its point timed out
        giving.result(LIMIT_S)
        assert keeper.give("candidate", enough=True, pid=2)[0], "alone, and not forever"
        keeper.leave("candidate")
        leaving.result(LIMIT_S)
        with _connected(address, "base") as connection:
            connection.send(True)
            assert connection.recv() == (True, None), "outside of a point there is no other side to wait for"


def test_an_address_without_a_turn_server_is_bad_input(tmp_path: Path) -> None:
    gone = variable("base", str(tmp_path / "gone"))
    with pytest.raises(TurnsLost, match="gone must name a running turn server"), visit("a", gone):
        pass
    with pytest.raises(TurnsLost, match="=nonsense must name a running"), visit("a", {VARIABLE: "nonsense"}):
        pass
    with visit("a", {}) as visited:
        assert (visited.together, visited.waited_s()) == (False, 0)


class Peer:
    """The other side, which has enough after so many blocks."""

    def __init__(self, blocks: int) -> None:
        self.left = blocks
        self.received: list[bool] = []

    def give(self, *, enough: bool) -> bool:
        self.left -= 1
        self.received.append(enough)
        return enough and self.left <= 0


@pytest.mark.parametrize(("others", "blocks"), [(1, 3), (5, 5)])
def test_blocks_are_taken_until_both_sides_have_enough(others: int, blocks: int) -> None:
    def take() -> list[float]:
        time.sleep(BLOCK_S)
        return [1.0]

    peer = Peer(others)
    taken = collect_in_turn(take, StoppingRule(min_samples=3, max_s=3600, rel_half_width=0.01), peer)  # type: ignore[arg-type]
    assert peer.received == [False, False, True, True, True][:blocks]
    assert (taken.values, taken.stop) == ([1.0] * blocks, "converged")


def test_a_block_is_as_long_as_many_short_samples() -> None:
    peer, rule = Peer(2), StoppingRule(min_samples=1, max_s=0, rel_half_width=0.01)
    began = time.perf_counter()
    taken = collect_in_turn(lambda: [1.0], rule, peer)  # type: ignore[arg-type]
    assert time.perf_counter() - began > 2 * BLOCK_S
    assert len(taken.values) > len(peer.received) == 2


def test_time_spent_in_a_turn_of_the_other_side_is_not_counted_as_load(monkeypatch: pytest.MonkeyPatch) -> None:
    clocks = iter([{"time_s": now, "busy_s": 2 * now, "own_s": now / 2} for now in (10.0, 11.0, 15.0, 16.5)])
    monkeypatch.setattr("bench.measure.machine.host_state._clocks", lambda: next(clocks))
    before = host_state()
    with elsewhere():
        pass
    after = host_state()
    assert [after[name] - before[name] for name in ("time_s", "busy_s", "own_s")] == [2.5, 5.0, 1.25]
    assert cores_of_others(before, after) == 1.5


def test_the_host_state_excludes_time_elsewhere() -> None:
    """Delays by a busy machine only make the difference larger."""
    began = time.monotonic()
    before = host_state()
    with elsewhere():
        time.sleep(0.1)
    after = host_state()
    assert (time.monotonic() - began) - (after["time_s"] - before["time_s"]) >= 0.1


@pytest.mark.parametrize(
    ("overrides", "gpus", "reason"),
    [
        (["page_size=4"], [], None),
        (["page_size=4"], ["GPU-1"], "GPU's memory"),
        (["device=cpu"], ["GPU-1"], None),
        (["device=cpu,cuda"], ["GPU-1"], "unless device=cpu"),
        (["device=cpu", "hydra/launcher=joblib"], [], "launcher"),
    ],
)
def test_sides_that_cannot_take_turns_run_one_after_the_other(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, overrides: list[str], gpus: list[str], reason: str | None
) -> None:
    monkeypatch.setattr(sweeps, "visible_gpus", lambda: gpus)
    new, old = Arm(name="candidate", root=ROOT), Arm(name="base", root=tmp_path)
    told = one_at_a_time([new, new], [overrides])
    assert told is None if reason is None else reason in str(told)
    if gpus:
        assert one_at_a_time([new, new], [["device=cpu"], ["device=cuda"]]) is not None
    assert one_at_a_time([old, new], [["device=cpu"]]) == "the code of base cannot take turns yet"


def test_points_of_one_side_only_come_first(tmp_path: Path) -> None:
    for name, keys in (("base", "abc"), ("candidate", "acd")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "plan.json").write_text(json.dumps({"points": [_planned(key) for key in keys]}))
    folders = [tmp_path / "base", tmp_path / "candidate"]
    assert [sweeps._place_in_plan(folders, key) for key in "abcd"] == [1, -1, 0, -1], (
        "what needs no tensors is run first"
    )


def _planned(key: str) -> dict[str, object]:
    return {"key": key, "values": {"scenario": {"tensors": key < "c"}}}
