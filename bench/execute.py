"""Run planned jobs on this machine: rounds of replicates, a fork server per round, a row per job."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.answer import Answer
from bench.assemble import make_row, repro_command
from bench.config import Config
from bench.display import Progress
from bench.environment import point_code_hash
from bench.isolation import Server, ServerLost
from bench.plan import Plan, Point, read_plan
from bench.record import write_row
from bench.run_folder import read_environment

PHASES: Mapping[str, tuple[str, ...]] = {
    "decode": ("bench.scenarios.decode:time_point", "bench.scenarios.decode:weigh_point"),
}
"""The processes of one point of each scenario, in order; a later one runs only if the earlier was ok."""

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
        self.server = server
        self.ceilings: dict[str, float | None] = {}  # by device

    def __enter__(self) -> Round:
        return self

    def __exit__(self, *exc_info: object) -> None:
        if self.server is not None:
            self.server.close()

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
            "server_id": self.server.server_id if self.server and point.unsupported is None else None,
            "code_hash": point_code_hash(config),
            "fingerprint": self.fingerprint,
            "harness_s": time.perf_counter() - started - measured_s,
            "measured_s": measured_s,
            "log": str(log) if point.unsupported is None else None,
            "repro_command": repro_command(point, config, self.plan.config_dirs),
        }
        write_row(self.run_dir, make_row(point, config, replicate, answer, facts), answer.samples)
        return answer.status

    def _run_phases(self, config: Config, log: Path) -> tuple[Answer, float]:
        answers, measured_s = [], 0.0
        try:
            argument = {"config": config.to_json(), "ceiling_gbps": self.ceilings.get(config.device)}
            for call in PHASES[config.scenario.name]:
                outcome = self._server().run(call, argument, log=log, timeout_s=config.timeout_s)
                answers.append(outcome.answer)
                measured_s += outcome.measured_s
                if outcome.answer.status != "ok":
                    break
        except ServerLost as error:
            self._drop_server()
            answers.append(Answer(status="crashed", status_reason=str(error)))
        return Answer.merged(answers), measured_s

    def _measure_ceiling(self, config: Config, log: Path) -> None:
        """Read bandwidth of this round, measured once, before its first point on the device."""
        if config.device in self.ceilings:
            return
        with contextlib.suppress(ServerLost):  # the point itself will meet, and tell, the same trouble
            outcome = self._server().run(CEILING, {"config": config.to_json()}, log=log, timeout_s=config.timeout_s)
            self.ceilings[config.device] = outcome.answer.values.get("ceiling_gbps")

    def _server(self) -> Server:
        if self.server is None:
            self.server = Server(server_environment(self.plan.config_dirs))
        return self.server

    def _drop_server(self) -> None:
        if self.server is not None:
            self.server.close()
            self.server = None
