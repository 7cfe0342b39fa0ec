"""Run planned jobs on this machine: rounds of replicates, a fork server per round, a row per job."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.answer import Answer
from bench.assemble import make_row, repro_command
from bench.config import Config
from bench.display import Progress
from bench.environment import point_code_hash
from bench.isolation import Server, ServerLost
from bench.plan import Plan, Point, read_plan
from bench.record import write_json, write_row
from bench.run_folder import read_environment

CEILING = "bench.measure.ceiling:measure_ceiling"


def run_single_job(config: Config) -> None:
    """What the worker of a launcher that is not ours does: one job of the run folder's plan.

    Raises:
        ValueError: started without ``run_dir`` and ``job``.
    """
    if config.run_dir is None or config.job is None:
        raise ValueError("job is set by the sweep; start a run with: python bench/run.py -m page_size=4,16,64")
    run_jobs(Path(config.run_dir), [config.job])


def run_jobs(run_dir: Path, names: Sequence[str], server: Server | None = None) -> None:
    """Run the named jobs of a plan, one after the other, round by round.

    Args:
        run_dir: holds ``plan.json`` and ``environment.json``.
        names: ``<key>-<replicate>``.
        server: a fork server that runs already, for the first round.
    """
    plan = read_plan(run_dir)
    wanted = set(names)
    jobs = [(point, replicate) for point, replicate in plan.jobs() if f"{point.key}-{replicate}" in wanted]
    with Progress(len(jobs)) as progress:
        for replicate in sorted({replicate for _, replicate in jobs}):
            with Round(run_dir, plan, server) as this_round:
                for point in [point for point, of in jobs if of == replicate]:
                    progress.begin(point)
                    progress.end(point, this_round.run(point, replicate))
            server = None


def server_environment(plan_config_dirs: Sequence[str]) -> dict[str, str]:
    """Environment of a fork server: implementations may lie beside their YAML."""
    inherited = os.environ.get("PYTHONPATH", "")
    return {"PYTHONPATH": os.pathsep.join([path for path in (inherited, *plan_config_dirs) if path])}


class Round:
    """One replicate round: its fork server, and what is measured once for all of its points."""

    def __init__(self, run_dir: Path, plan: Plan, server: Server | None) -> None:
        self.run_dir = run_dir
        self.plan = plan
        self.fingerprint = str(read_environment(run_dir)["fingerprint"])
        self.servers = {True: server} if server is not None else {}  # by "needs tensors"
        self.ceilings: dict[str, float | None] = {}  # by device

    def __enter__(self) -> Round:
        return self

    def __exit__(self, *exc_info: object) -> None:
        for server in self.servers.values():
            server.close()

    def run(self, point: Point, replicate: int) -> str:
        """Run one job and store its row; returns the row's status."""
        config = point.config
        measured_s, answer = 0.0, Answer(status="unsupported", status_reason=point.unsupported)
        log = Path("logs") / f"{point.key}-{replicate}.log"
        if point.unsupported is None and config.scenario.tensors:
            self._measure_ceiling(config, self.run_dir / log)
        started = time.perf_counter()
        if point.unsupported is None:
            answer, measured_s = self._run_phases(config, self.run_dir / log)
        facts: dict[str, Any] = {
            "server_id": self._server(config).server_id if point.unsupported is None else None,
            "code_hash": point_code_hash(config),
            "fingerprint": self.fingerprint,
            "harness_s": time.perf_counter() - started - measured_s,
            "measured_s": measured_s,
            "log": str(log) if point.unsupported is None else None,
            "repro_command": repro_command(point, config, self.plan.config_dirs),
        }
        for name, content in answer.artifacts.items():
            write_json(self.run_dir / self._artifact_name(name, point), content)
        write_row(self.run_dir, make_row(point, config, replicate, answer, facts), answer.samples)
        return answer.status

    def _artifact_name(self, name: str, point: Point) -> str:
        """The bare name where only one point of the run makes such a file."""
        scenarios = [other.question["scenario"]["name"] for other in self.plan.points]
        alone = scenarios.count(point.question["scenario"]["name"]) == 1
        return f"{name}.json" if alone else f"{name}-{point.key}.json"

    def _run_phases(self, config: Config, log: Path) -> tuple[Answer, float]:
        answers, measured_s = [], 0.0
        try:
            argument = {"config": config.to_json(), "ceiling_gbps": self.ceilings.get(config.device)}
            for call in config.scenario.processes:
                outcome = self._server(config).run(call, argument, log=log, timeout_s=config.timeout_s)
                answers.append(outcome.answer)
                measured_s += outcome.measured_s
                if outcome.answer.status != "ok":
                    break
        except ServerLost as error:
            self.servers.pop(config.scenario.tensors).close()
            answers.append(Answer(status="crashed", status_reason=str(error)))
        return Answer.merged(answers), measured_s

    def _measure_ceiling(self, config: Config, log: Path) -> None:
        """Read bandwidth of this round, measured once, before its first point on the device."""
        if config.device in self.ceilings:
            return
        with contextlib.suppress(ServerLost):  # the point itself will meet, and tell, the same trouble
            outcome = self._server(config).run(
                CEILING, {"config": config.to_json()}, log=log, timeout_s=config.timeout_s
            )
            self.ceilings[config.device] = outcome.answer.values.get("ceiling_gbps")

    def _server(self, config: Config) -> Server:
        """The round's server for this kind of point; one without tensors imports no torch."""
        tensors = config.scenario.tensors
        if tensors not in self.servers:
            self.servers[tensors] = Server(server_environment(self.plan.config_dirs), tensors=tensors)
        return self.servers[tensors]
