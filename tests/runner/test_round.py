"""One round without a device: what it measures once, and the points without a memory process."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from bench.plan.points import Plan
from bench.rows.columns import NAMES
from bench.rows.record import read_row
from bench.rows.result import Answer
from bench.runner import round as module
from bench.runner.process.server import Outcome
from bench.runner.round import NOT_WEIGHED, WEIGHED, Measured, Round, processes_to_run
from bench.runner.session import Session
from tests.support.points import Composed, plan_of


class StandIn:
    """A server whose children answer at once. It records the calls."""

    server_id = "of the test"

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.closed = False

    def await_ready(self) -> None:
        """Ready."""

    def run(self, call: str, argument: Any, **how: Any) -> Outcome:
        self.calls.append(call.rpartition(":")[2])
        values = {"ceiling_gbps": 20.0} if "ceiling" in call else {}
        reasons = dict.fromkeys((name for name in NAMES if name not in WEIGHED), "of the test")
        return Outcome(answer=Answer(values=values, null_reasons=reasons), measured_s=0.0, wall_s=0.0)

    def close(self) -> None:
        self.closed = True


@pytest.fixture(autouse=True)
def _no_probe(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "probe", lambda server: {"gpu": None})


def plan(*overrides: str) -> Plan:
    return plan_of(Composed("impl=contiguous", "measure=quick", *overrides))


def run(folder: Path, plan: Plan, measured: Measured | None = None) -> tuple[StandIn, Round]:
    for part in ("points", "samples", "logs"):
        (folder / part).mkdir(parents=True)
    server = StandIn()
    made = Round(Session(run_dir=folder, plan=plan, interleaved=True), server=server, measured=measured)  # type: ignore[arg-type]
    with made:
        assert made.run(plan.points[0], 0) == "ok"
    return server, made


def test_a_point_has_its_memory_process(tmp_path: Path) -> None:
    server, _ = run(tmp_path, plan())
    assert server.calls == ["measure_ceiling", "time_point", "weigh_point"]
    assert server.closed


def test_without_the_memory_process_its_columns_are_null_with_a_reason(tmp_path: Path) -> None:
    point = plan("measure.weigh=false")
    server, _ = run(tmp_path, point)
    assert server.calls == ["measure_ceiling", "time_point"]
    row = read_row(tmp_path / "points" / f"{point.points[0].key}-0.json")
    assert {row["null_reasons"][name] for name in WEIGHED} == {NOT_WEIGHED}


def test_weighing_is_part_of_the_question_only_where_it_is_left_out() -> None:
    weighed, not_weighed = plan().points[0], plan("measure.weigh=false").points[0]
    assert "weigh" not in weighed.question["measure"]
    assert not_weighed.question["measure"]["weigh"] is False
    assert weighed.key != not_weighed.key


def test_a_scenario_whose_only_process_measures_time_keeps_it() -> None:
    swap = Composed("scenario=swap", "impl=paged_torch", "measure=quick", "measure.weigh=false")
    (point,) = plan_of(swap).points
    assert processes_to_run(point.config) == point.config.scenario.processes


def test_sweeps_of_one_visit_share_what_is_measured_once(tmp_path: Path) -> None:
    measured = Measured()
    first, _ = run(tmp_path / "a", plan(), measured)
    second, _ = run(tmp_path / "b", plan(), measured)
    assert first.calls.count("measure_ceiling") == 1
    assert second.calls.count("measure_ceiling") == 0
    assert measured.ceilings == {"cpu": 20.0}
    assert set(measured.fingerprints) == {True}


def test_a_released_server_is_left_open(tmp_path: Path) -> None:
    server = StandIn()
    session = Session(run_dir=tmp_path, plan=plan(), interleaved=True)
    with Round(session, server=server) as made:  # type: ignore[arg-type]
        assert made.release_server() is server
        assert made.release_server() is None
    assert not server.closed
