"""All sweeps of a visit in one process: one fork server, one ceiling, a run folder per step.

``python -m scripts.visit.sweeps`` reads one JSON object per line, ``{"name", "sweeps", "budget_s",
"done"}``, runs its points until the budget is spent, and answers with one JSON line.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import sys
import time
import traceback
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from bench import ROOT
from bench.cli.request import to_plain
from bench.config import build
from bench.plan.expand import expand
from bench.plan.points import Composed, Plan, Point, make_plan
from bench.plan.predict import extend_import_path
from bench.rows.json_file import write_json
from bench.rows.record import RETRYABLE, is_pending, read_row, row_path
from bench.rows.run_folder import create_run_folder, write_environment
from bench.runner.machine.environment import record_environment
from bench.runner.process.server import Server
from bench.runner.progress import label, show_plan
from bench.runner.round import TENSOR_MODULES, Measured, Round, probe, server_environment
from bench.runner.session import Session

PRELOADED = (
    "triton",
    *(f"impls.caches.{name}" for name in ("paged_triton", "triton_contiguous", "contiguous", "paged_torch")),
    *(f"impls.kernels.{name}" for name in ("decode", "merge", "prefill", "write", "copy_pages", "runtime")),
    *(f"bench.scenarios.tensors.{name}" for name in ("decode", "prefill", "swap")),
    "bench.measure.ceiling",
    *(f"bench.measure.timers.{name}" for name in ("graph", "events")),
)
"""Modules that every child would import. None of them touches a device."""
ASSUMED_BYTES: Mapping[str, int] = {"h100": 85_017_493_504, "h200": 150_754_820_096}
"""Memory of the device that a dry run assumes."""


def preloadable(names: Iterable[str]) -> list[str]:
    """Return the modules that are here. The others are printed, because the server would end at one that is not."""
    found = []
    for name in names:
        try:
            spec = importlib.util.find_spec(name)
        except ModuleNotFoundError:  # its package is not here either
            spec = None
        if spec is None:
            print(f"not preloaded, because there is no module {name}", file=sys.stderr)
        else:
            found.append(name)
    return found


class SweepPlanner:
    """Composes and plans the sweeps of the configuration in ``conf/``."""

    def __init__(self) -> None:
        sys.path[:0] = [str(ROOT / "bench" / "cli" / "plugins")]
        from hydra import initialize_config_dir
        from hydra.core.global_hydra import GlobalHydra

        initialize_config_dir(str(ROOT / "conf"), version_base="1.3")
        self.loader = GlobalHydra.instance().config_loader()

    def compose(self, arguments: Sequence[str]) -> tuple[list[Composed], dict[Any, Any]]:
        """Every point of one sweep, and the configuration without its axes.

        Raises:
            ValueError: an unknown key, or a value out of range.
        """
        from hydra.core.override_parser.overrides_parser import OverridesParser
        from hydra.types import RunMode

        parsed = OverridesParser.create(config_loader=self.loader).parse_overrides(list(arguments))
        single = [o.input_line or "" for o in parsed if not o.is_sweep_override()]
        master = self.loader.load_configuration("config", overrides=single, run_mode=RunMode.MULTIRUN)
        return expand(self.loader, master, dict(master.hydra.sweeper.params), arguments), to_plain(master)

    def plan(self, sweeps: Iterable[Sequence[str]], device: str, device_memory: int | None) -> tuple[Plan, Any]:
        """The points of some sweeps as one plan."""
        composed: list[Composed] = []
        masters = []
        for arguments in sweeps:
            more, master = self.compose([*arguments, f"device={device}"])
            composed += more
            masters.append({**master, "sweep": {"overrides": list(arguments)}})
        configs = [build(point.values) for point in composed]
        return make_plan(composed, configs, device, device_memory), masters[0]


class SweepRunner:
    """Runs the sweeps of a visit on this machine. Use as a context manager.

    Args:
        work: gets a run folder per sweep.
        device: ``cuda`` or ``cpu``.
    """

    def __init__(self, work: Path, device: str) -> None:
        self.work, self.device = work, device
        self.planner = SweepPlanner()
        extend_import_path(())
        self.server: Server | None = None
        self.measured = Measured()
        self.facts: Mapping[str, Any] = {}
        self.environment: dict[str, Any] = {}

    def __enter__(self) -> SweepRunner:
        self.facts = probe(self._server())
        self.environment = record_environment(self.facts, sys.argv)
        self.measured.fingerprints[True] = str(self.environment["fingerprint"])
        return self

    def __exit__(self, *exc_info: object) -> None:
        if self.server is not None:
            self.server.close()

    def _server(self) -> Server:
        if self.server is None:
            self.server = Server(server_environment(()), preload=(*TENSOR_MODULES, *preloadable(PRELOADED)))
        return self.server

    @property
    def memory_bytes(self) -> int | None:
        """Memory of the device."""
        return int(self.facts["gpu_memory_bytes"]) if self.facts.get("gpu") else None

    def run(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Run the points of one request until its budget is spent.

        Args:
            request: ``name``, ``sweeps``, ``budget_s``, and ``done``, names of jobs that an earlier visit finished.
        """
        deadline = time.monotonic() + float(request["budget_s"])
        plan, master = self.planner.plan(request["sweeps"], self.device, self.memory_bytes)
        folder = self.work / "sweeps" / str(request["name"])
        if not (folder / "plan.json").exists():
            create_run_folder(str(folder))
            write_environment(folder, self.environment)
            (folder / "config.yaml").write_text(_yaml(master), encoding="utf-8")
            write_json(folder / "plan.json", plan.to_json())
        earlier = set(request.get("done", ()))
        jobs = [(point, n) for point, n in plan.jobs() if f"{point.key}-{n}" not in earlier]
        jobs = [(point, n) for point, n in jobs if is_pending(folder, f"{point.key}-{n}")]
        session = Session(run_dir=folder, plan=plan, interleaved=True)
        left = self._run_jobs(session, jobs, deadline)
        finished = earlier | {f"{p.key}-{n}" for p, n in plan.jobs() if _is_done(folder, p.key, n)}
        return {"name": request["name"], "points": len(plan.points), "left": left, "done": sorted(finished),
                "statuses": _statuses(folder)}  # fmt: skip

    def _run_jobs(self, session: Session, jobs: Sequence[tuple[Point, int]], deadline: float) -> int:
        """Run jobs until the deadline. Returns how many are left."""
        with Round(session, server=self._server(), measured=self.measured) as this_round:
            try:
                return _run_until(deadline, this_round, jobs)
            finally:
                self.server = this_round.release_server()


def _run_until(deadline: float, this_round: Round, jobs: Sequence[tuple[Point, int]]) -> int:
    """Run jobs in order. Returns how many are left."""
    for index, (point, replicate) in enumerate(jobs):
        if time.monotonic() >= deadline:
            return len(jobs) - index
        began = time.monotonic()
        status = this_round.run(point, replicate)
        took_s = time.monotonic() - began
        print(f"[{index + 1}/{len(jobs)}] {label(point.question)}: {status} in {took_s:.1f} s",
              file=sys.stderr, flush=True)  # fmt: skip
    return 0


def _yaml(content: Any) -> str:
    from omegaconf import OmegaConf

    return OmegaConf.to_yaml(OmegaConf.create(content))


def _is_done(folder: Path, key: str, replicate: int) -> bool:
    path = row_path(folder, key, replicate)
    return path.exists() and read_row(path)["status"] not in RETRYABLE


def _statuses(folder: Path) -> dict[str, int]:
    counts: dict[str, int] = {}
    for path in sorted((folder / "points").glob("*.json")):
        status = read_row(path)["status"]
        counts[status] = counts.get(status, 0) + 1
    return counts


def serve(work: Path, device: str) -> None:
    """Answer requests until the standard input ends. An exception is an answer too."""
    answers = sys.stdout
    sys.stdout = sys.stderr  # what the sweeps print goes to the log
    with SweepRunner(work, device) as visit:
        for line in sys.stdin:
            try:
                answer = visit.run(json.loads(line))
            except Exception as error:
                traceback.print_exc()
                answer = {"error": f"{type(error).__name__}: {error}"}
            answers.write(json.dumps(answer) + "\n")
            answers.flush()


def dry_run(device: str, requests: Iterable[Mapping[str, Any]], assume: str | None) -> int:
    """Print the plan of every sweep. No device is needed. Returns the number of points."""
    planner, points = SweepPlanner(), 0
    memory = ASSUMED_BYTES[assume] if assume else None
    for request in requests:
        plan, _ = planner.plan(request["sweeps"], device, memory)
        print(f"{request['name']}:")
        show_plan(plan)
        points += sum(point.skip_status is None for point in plan.points)
    return points


def main() -> None:
    """Serve, or print plans with ``--dry-run``."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--dry-run", action="store_true", help="plan the requests on the standard input")
    parser.add_argument("--assume", choices=sorted(ASSUMED_BYTES))
    arguments = parser.parse_args()
    if arguments.dry_run:
        points = dry_run(arguments.device, (json.loads(line) for line in sys.stdin), arguments.assume)
        print(f"{points} points to run")
    else:
        serve(arguments.work, arguments.device)


if __name__ == "__main__":
    main()
