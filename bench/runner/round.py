"""One replicate round: its fork servers, what is measured once for all of its points, and a row per job."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

from bench.config import Config
from bench.measure.turns import Visit, visit
from bench.plan.code_hash import CEILING
from bench.plan.points import Plan, Point
from bench.rows.columns import COLUMNS
from bench.rows.json_file import write_json
from bench.rows.record import write_row
from bench.rows.result import Answer
from bench.runner.dominance import Dominance
from bench.runner.machine.environment import record_environment
from bench.runner.process.server import Outcome, Server, ServerLost
from bench.runner.row import make_row, repro_command
from bench.runner.session import Session

PROBE = "bench.runner.machine.environment:probe_device"
PROBE_TIMEOUT_S = 300.0
MEMORY_PROCESS = ":weigh_point"
NOT_WEIGHED = "measure.weigh=false: the memory process did not run"
WEIGHED = tuple(column.name for column in COLUMNS if column.source == "memory")
"""Columns that only the memory process fills."""


@dataclass(kw_only=True)
class Measured:
    """What a round measures once for all of its points; a visit to a machine shares it among its sweeps.

    Attributes:
        fingerprints: of the machine, by "the point needs tensors".
        ceilings: read bandwidth in 10⁹ bytes/s by device; ``None`` where it could not be measured.
    """

    fingerprints: dict[bool, str] = field(default_factory=dict)
    ceilings: dict[str, float | None] = field(default_factory=dict)


class Round:
    """Runs jobs under servers of its own; use as a context manager.

    Args:
        session: what holds for the whole sweep.
        env: environment of its processes (``CUDA_VISIBLE_DEVICES``, say).
        server: a tensor server that runs already.
        measured: what an earlier round on this machine found; ``None``: the round measures it itself.
    """

    def __init__(
        self,
        session: Session,
        *,
        env: Mapping[str, str] = MappingProxyType({}),
        server: Server | None = None,
        measured: Measured | None = None,
    ) -> None:
        self.session, self.plan = session, session.plan
        self.env = {**server_environment(self.plan.config_dirs), **env}
        self.servers = {True: server} if server is not None else {}  # by "needs tensors"
        measured = measured or Measured()
        self.fingerprints, self.ceilings = measured.fingerprints, measured.ceilings
        self.dominance = Dominance()
        self.points_of = Counter(point.question["scenario"]["name"] for point in self.plan.points)  # by scenario

    def __enter__(self) -> Round:
        return self

    def __exit__(self, *exc_info: object) -> None:
        for server in self.servers.values():
            server.close()

    def release_server(self) -> Server | None:
        """Return the tensor server and leave it open; ``None`` if there is none, or if it was lost."""
        return self.servers.pop(True, None)

    def run(self, point: Point, replicate: int) -> str:
        """Run one job and store its row; returns the row's status."""
        config, log = point.config, Path("logs") / f"{point.key}-{replicate}.log"
        facts: dict[str, Any] = {"harness_s": 0.0, "measured_s": 0.0}
        answer = self._without_running(point)
        if answer is None:
            answer, facts = self._run_point(point, config, log)
        self.dominance.note(point, answer.status)
        for name, content in answer.artifacts.items():
            write_json(self.session.run_dir / self._artifact_name(name, point), content)
        self._store(point, replicate, answer, facts)
        return answer.status

    def _run_point(self, point: Point, config: Config, log: Path) -> tuple[Answer, dict[str, Any]]:
        """The point's answer, and what is known of how it was found; in turn with the other side, if there is one."""
        fingerprint, server_id = self._fingerprint(config), self._server(config).server_id
        if config.scenario.tensors:
            self._measure_ceiling(config, self.session.run_dir / log)
        with self._visit(config, point.key) as visited:
            started = time.perf_counter()
            answer, measured_s = self._run_processes(config, self.session.run_dir / log, visited)
            harness_s = time.perf_counter() - started - measured_s
        return answer, {
            "server_id": server_id,
            "fingerprint": fingerprint,
            "took_turns": visited.together,
            "harness_s": harness_s,
            "measured_s": measured_s,
            "log": str(log),
        }

    @contextlib.contextmanager
    def _visit(self, config: Config, name: str) -> Iterator[Visit]:
        """In turn with the other side, if there is one, whose measurements no server of ours may disturb."""
        with contextlib.suppress(ServerLost):  # the point itself will meet, and tell, the same trouble
            self._server(config).await_ready()
        with visit(name, os.environ | self.env) as visited:
            yield visited

    def refuse(self, point: Point, replicate: int, reason: str) -> None:
        """Store the row of a job that could not even be started."""
        answer = Answer(status="crashed", status_reason=reason)
        self._store(point, replicate, answer, {"harness_s": 0.0, "measured_s": 0.0})

    def _store(self, point: Point, replicate: int, answer: Answer, facts: Mapping[str, Any]) -> None:
        """Write the row: the answer, these facts, and those that hold for every row of the session."""
        facts = {
            **facts,
            "code_hash": point.code_hash,
            "rounds_interleaved": self.session.interleaved,
            "mixed": self.session.mixed,
            "repro_command": repro_command(point, point.config, self.plan.config_dirs),
        }
        write_row(self.session.run_dir, make_row(point, point.config, replicate, answer, facts), answer.samples)

    def _without_running(self, point: Point) -> Answer | None:
        """The answer of a point that the plan or an earlier out-of-memory rules out."""
        if point.skip_status is not None:
            return Answer(status=point.skip_status, status_reason=point.skip_reason)
        if reason := self.dominance.reason(point):
            return Answer(status="skipped_dominated", status_reason=reason)
        return None

    def _artifact_name(self, name: str, point: Point) -> str:
        """The bare name where only one point of the run makes such a file."""
        alone = self.points_of[point.question["scenario"]["name"]] == 1
        return f"{name}.json" if alone else f"{name}-{point.key}.json"

    def _run_processes(self, config: Config, log: Path, visited: Visit) -> tuple[Answer, float]:
        answers, measured_s = [], 0.0
        argument = {"config": config.to_json(), "ceiling_gbps": self.ceilings.get(config.device)}
        try:
            for call in wanted_processes(config):
                outcome = self._run(config, call, argument, log, visited)
                answers.append(outcome.answer)
                measured_s += outcome.measured_s
                if outcome.answer.status != "ok":
                    break
        except ServerLost as error:
            self.servers.pop(config.scenario.tensors).close()
            answers.append(Answer(status="crashed", status_reason=str(error)))
        whole = Answer.merged(answers)
        if wanted_processes(config) != config.scenario.processes:
            whole.null_reasons |= {name: NOT_WEIGHED for name in WEIGHED if name not in whole.values}
        return whole, measured_s

    def _run(self, config: Config, call: str, argument: Mapping[str, Any], log: Path, visited: Visit) -> Outcome:
        timeout_s = self.session.timeout_s or config.timeout_s
        return self._server(config).run(call, argument, log=log, timeout_s=timeout_s, waited_s=visited.waited_s)

    def _measure_ceiling(self, config: Config, log: Path) -> None:
        """Read bandwidth of this round, measured once, before its first point on the device."""
        if config.device in self.ceilings or "measure" in config.scenario.ignores:
            return
        with contextlib.suppress(ServerLost), self._visit(config, f"ceiling of {config.device}") as visited:
            answer = self._run(config, CEILING, {"config": config.to_json()}, log, visited).answer
            self.ceilings[config.device] = answer.values.get("ceiling_gbps")

    def _fingerprint(self, config: Config) -> str | None:
        """Of the machine that really runs the point, which need not be the one that planned it."""
        tensors = config.scenario.tensors
        if tensors not in self.fingerprints:
            facts: Mapping[str, Any] = {}
            if tensors:
                with contextlib.suppress(ServerLost):
                    facts = probe(self._server(config))
            self.fingerprints[tensors] = str(record_environment(facts, sys.argv)["fingerprint"])
        return self.fingerprints[tensors]

    def _server(self, config: Config) -> Server:
        """The round's server for this kind of point; one without tensors imports no torch."""
        tensors = config.scenario.tensors
        if tensors not in self.servers:
            self.servers[tensors] = Server(self.env, preload=preload(self.plan, tensors))
        return self.servers[tensors]


def wanted_processes(config: Config) -> tuple[str, ...]:
    """Return the processes of a point, in order, without its memory process where ``measure.weigh=false``."""
    processes = config.scenario.processes
    return processes if config.measure.weigh else tuple(call for call in processes if not call.endswith(MEMORY_PROCESS))


def probe(server: Server) -> Mapping[str, Any]:
    """What torch sees on this machine, asked in a child; empty if it cannot even say that."""
    outcome = server.run(PROBE, {}, log=Path(os.devnull), timeout_s=PROBE_TIMEOUT_S)
    return outcome.answer.values


def server_environment(config_dirs: Sequence[str]) -> dict[str, str]:
    """Environment of fork servers: implementations may lie beside their YAML."""
    inherited = os.environ.get("PYTHONPATH", "")
    return {"PYTHONPATH": os.pathsep.join([path for path in (inherited, *config_dirs) if path])}


def preload(plan: Plan, tensors: bool) -> tuple[str, ...]:
    """Modules that the server imports once, so that its children need not."""
    if tensors:
        return TENSOR_MODULES
    scenarios = {
        call.partition(":")[0]
        for point in plan.points
        if not point.config.scenario.tensors
        for call in point.config.scenario.processes
    }
    return ("bench.runner.process.child", *sorted(scenarios))


TENSOR_MODULES = ("torch", "scipy.stats", "psutil", "bench.runner.process.child")
