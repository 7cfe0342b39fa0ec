"""One round of replicates: it starts fork servers, measures what its points share, and writes a row for each job."""

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
from bench.measure.machine.fitness import with_memory_doubt
from bench.measure.turns import Visit, visit
from bench.plan.code_hash import CEILING
from bench.plan.points import Plan, Point
from bench.rows.columns import COLUMNS
from bench.rows.json_file import write_json, write_text
from bench.rows.record import is_pending, read_row, row_path, write_row
from bench.rows.redact import redacted
from bench.rows.result import Answer
from bench.runner.dominance import Dominance
from bench.runner.machine.environment import record_environment
from bench.runner.process.server import Outcome, Server, ServerLost
from bench.runner.row import make_row, repro_command
from bench.runner.session import Session

PROBE = "bench.runner.machine.environment:probe_device"
PROBE_TIMEOUT_S = 300.0
MEMORY_PROCESS = ":weigh_point"
MAX_LOG_BYTES = 2**24
NOT_WEIGHED = "measure.weigh=false: the memory process did not run"
WEIGHED = tuple(column.name for column in COLUMNS if column.source == "memory")
"""Columns that only the memory process fills."""


@dataclass(kw_only=True)
class Measured:
    """Facts that a round measures once for all of its points. Several sweeps on one machine can share them.

    Attributes:
        fingerprints: fingerprint of the machine, by whether a point has tensors.
        ceilings: read bandwidth in 10⁹ bytes/s by device, ``None`` if it could not be measured.
    """

    fingerprints: dict[bool, str] = field(default_factory=dict)
    ceilings: dict[str, float | None] = field(default_factory=dict)


class Round:
    """Runs jobs with its own fork servers. Use it as a context manager.

    Args:
        session: the run to which the jobs belong.
        env: environment variables of its processes, for instance ``CUDA_VISIBLE_DEVICES``.
        server: a tensor server that is already running. The round closes it.
        measured: facts from an earlier round on this machine. If ``None``, the round measures them.
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
        self.servers = {True: server} if server is not None else {}  # by whether a point has tensors
        measured = measured or Measured()
        self.fingerprints, self.ceilings = measured.fingerprints, measured.ceilings
        self.dominance = Dominance()
        self.num_points = Counter(point.question["scenario"]["name"] for point in self.plan.points)  # by scenario

    def __enter__(self) -> Round:
        return self

    def __exit__(self, *exc_info: object) -> None:
        for server in self.servers.values():
            server.close()

    def release_server(self) -> Server | None:
        """Return the tensor server and leave it open. ``None`` if there is none, or if it was lost."""
        return self.servers.pop(True, None)

    def run(self, point: Point, replicate: int) -> str:
        """Run one job, write its row, and return the status of the row."""
        log = Path("logs") / f"{point.key}-{replicate}.log"
        facts: dict[str, Any] = {"harness_s": 0.0, "measured_s": 0.0}
        answer = self._skipped(point)
        if answer is None:
            answer, facts = self._run_point(point, log)
            _redact_log(self.session.run_dir / log)
        for name, content in answer.artifacts.items():
            write_json(self.session.run_dir / self._artifact_name(name, point), content)
        status = self._store(point, replicate, answer, facts)
        self.dominance.record(point, status)
        return status

    def _run_point(self, point: Point, log: Path) -> tuple[Answer, dict[str, Any]]:
        """Run the processes of a point during its A/B turn. Return the result and the facts about the run."""
        config = point.config
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
        """Wait for this side's turn, if there are A/B turns.

        The server must be ready before. Its start would disturb the measurements of the other side.
        """
        with contextlib.suppress(ServerLost):  # the point will get the same error and report it
            self._server(config).await_ready()
        with visit(name, os.environ | self.env) as visited:
            yield visited

    def write_crashed(self, point: Point, replicate: int, reason: str) -> None:
        """Write the row of a job that could not be started."""
        answer = Answer(status="crashed", status_reason=reason)
        self._store(point, replicate, answer, {"harness_s": 0.0, "measured_s": 0.0})

    def _store(self, point: Point, replicate: int, answer: Answer, facts: Mapping[str, Any]) -> str:
        """Write the row from the result, these facts, and the facts that all rows share. Return its status."""
        facts = {
            **facts,
            "code_hash": point.code_hash,
            "rounds_interleaved": self.session.interleaved,
            "mixed": self.session.mixed,
            "repro_command": repro_command(point, self.plan.config_dirs),
        }
        if not is_pending(self.session.run_dir, f"{point.key}-{replicate}"):  # a finished row is never overwritten
            return str(read_row(row_path(self.session.run_dir, point.key, replicate))["status"])
        return write_row(self.session.run_dir, make_row(point, replicate, answer, facts), answer.samples)

    def _skipped(self, point: Point) -> Answer | None:
        """Return the result of a point that is skipped by the plan or after an out-of-memory error, else ``None``."""
        if point.skip_status is not None:
            return Answer(status=point.skip_status, status_reason=point.skip_reason)
        if reason := self.dominance.reason(point):
            return Answer(status="skipped_dominated", status_reason=reason)
        return None

    def _artifact_name(self, name: str, point: Point) -> str:
        """Return the file name. It contains the key if several points of the run write such a file."""
        is_only_one = self.num_points[point.question["scenario"]["name"]] == 1
        return f"{name}.json" if is_only_one else f"{name}-{point.key}.json"

    def _run_processes(self, config: Config, log: Path, visited: Visit) -> tuple[Answer, float]:
        answers, measured_s = [], 0.0
        argument = {"config": config.to_json(), "ceiling_gbps": self.ceilings.get(config.device)}
        try:
            for call in processes_to_run(config):
                outcome = self._run(config, call, argument, log, visited)
                answers.append(outcome.answer)
                measured_s += outcome.measured_s
                if outcome.answer.status != "ok":
                    break
        except ServerLost as error:
            self.servers.pop(config.scenario.tensors).close()
            answers.append(Answer(status="crashed", status_reason=str(error)))
        whole = Answer.merged(answers)
        if processes_to_run(config) != config.scenario.processes:
            whole.null_reasons |= {name: NOT_WEIGHED for name in WEIGHED if name not in whole.values}
        return with_memory_doubt(whole), measured_s

    def _run(self, config: Config, call: str, argument: Mapping[str, Any], log: Path, visited: Visit) -> Outcome:
        timeout_s = self.session.timeout_s or config.timeout_s
        return self._server(config).run(call, argument, log=log, timeout_s=timeout_s, waited_s=visited.waited_s)

    def _measure_ceiling(self, config: Config, log: Path) -> None:
        """Measure the read bandwidth once per round and device, before the first point that uses the device."""
        if config.device in self.ceilings or "measure" in config.scenario.ignores:
            return
        with contextlib.suppress(ServerLost), self._visit(config, f"ceiling of {config.device}") as visited:
            answer = self._run(config, CEILING, {"config": config.to_json()}, log, visited).answer
            self.ceilings[config.device] = answer.values.get("ceiling_gbps")

    def _fingerprint(self, config: Config) -> str | None:
        """Return the fingerprint of this machine. The plan may come from another one."""
        tensors = config.scenario.tensors
        if tensors not in self.fingerprints:
            facts: Mapping[str, Any] = {}
            if tensors:
                with contextlib.suppress(ServerLost):
                    facts = probe(self._server(config))
            self.fingerprints[tensors] = str(record_environment(facts, sys.argv)["fingerprint"])
        return self.fingerprints[tensors]

    def _server(self, config: Config) -> Server:
        """Return the server for this kind of point, and start it if needed. Without tensors it imports no torch."""
        tensors = config.scenario.tensors
        if tensors not in self.servers:
            self.servers[tensors] = Server(self.env, preload=preload(self.plan, tensors))
        return self.servers[tensors]


def _redact_log(path: Path) -> None:
    """Remove private data from the output of a point's processes. Tracebacks contain paths, for example."""
    if not path.is_file() or not 0 < path.stat().st_size <= MAX_LOG_BYTES:
        return
    text = path.read_text(encoding="utf-8", errors="replace")
    if redacted(text) != text:
        write_text(path, text)


def processes_to_run(config: Config) -> tuple[str, ...]:
    """Return the processes of a point, in order. With ``measure.weigh=false`` the memory process is left out."""
    processes = config.scenario.processes
    return processes if config.measure.weigh else tuple(call for call in processes if not call.endswith(MEMORY_PROCESS))


def probe(server: Server) -> Mapping[str, Any]:
    """Return the facts that torch reports about the device, read in a child process. Empty if torch cannot start."""
    outcome = server.run(PROBE, {}, log=Path(os.devnull), timeout_s=PROBE_TIMEOUT_S)
    return outcome.answer.values


def server_environment(config_dirs: Sequence[str]) -> dict[str, str]:
    """Return the environment of fork servers: ``--config-dir`` folders are on the import path."""
    inherited = os.environ.get("PYTHONPATH", "")
    return {"PYTHONPATH": os.pathsep.join([path for path in (inherited, *config_dirs) if path])}


def preload(plan: Plan, tensors: bool) -> tuple[str, ...]:
    """Return the modules that a server imports once for all of its children."""
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
