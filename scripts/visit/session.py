"""Runs the steps of a visit within its time, and leaves its two files after each of them. No torch, no Hydra."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from bench.cli.exits import EXIT_OK, EXIT_TOOL_ABSENT
from scripts.visit.archive import pack, write_session
from scripts.visit.steps import Step
from scripts.visit.sweep_process import GRACE_S, ROOT, SweepProcess, kill_group
from scripts.visit.table import as_text, compared

PACK_EVERY_S = 15.0
"""Seconds between two archives within a long step."""
HANG_S = 75.0
"""Seconds after a sweep's budget until its process is killed: a point's time limit, and some room."""
BACKGROUND_S = 60.0
"""Seconds that a step waits for its background command."""
LOG_END = 3000
"""Characters of a failed step's log that session.json holds."""


@dataclass(kw_only=True)
class StepOutcome:
    """The result of a step.

    Its status is one of

    - ``ok``, ``failed``
    - ``cut``: it was stopped, and what it wrote is whole. A sweep's answer gives the reason
    - ``absent``: a tool or package that it needs is not installed
    - ``done earlier``, ``not run``: an earlier visit finished it, or no time was left
    """

    name: str
    status: str = "not run"
    wall_s: float = 0.0
    exit_code: int | None = None
    answer: dict[str, Any] = field(default_factory=dict)
    log_end: str = ""


@dataclass(kw_only=True)
class State:
    """What earlier visits finished.

    Attributes:
        finished: names of steps.
        done: names of finished jobs, by sweep.
    """

    finished: list[str] = field(default_factory=list)
    done: dict[str, list[str]] = field(default_factory=dict)

    @classmethod
    def read(cls, path: Path) -> State:
        """The state in a ``session.json``.

        Raises:
            ValueError: it is no such file.
        """
        try:
            state = json.loads(path.read_text(encoding="utf-8"))["state"]
            return cls(finished=list(state["finished"]), done={k: list(v) for k, v in state["done"].items()})
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"--state {path} is no session.json of a visit: {error}") from error


class VisitSession:
    """One visit.

    Args:
        steps: what to run, in order.
        work: temporary folder. Everything under it goes into the archive.
        out: gets ``visit.tar.gz`` and ``session.json``.
        device: ``cuda`` or ``cpu``.
        deadline: of ``time.monotonic``.
        env: of all processes.
        state: what earlier visits finished.
        small: every step in its small form.
        overrides: of every sweep, such as ``measure=visit``.
        repeat: also run steps that are finished in the state. Of a sweep, only points without a final row run.
    """

    def __init__(
        self, steps: Sequence[Step], *, work: Path, out: Path, device: str, deadline: float, env: Mapping[str, str],
        state: State, small: bool, overrides: Sequence[str], repeat: bool = False,
    ) -> None:  # fmt: skip
        self.steps, self.work, self.out, self.device = list(steps), work, out, device
        self.deadline, self.env, self.state, self.small = deadline, dict(env), state, small
        self.overrides, self.repeat = list(overrides), repeat
        self.outcomes = {step.name: StepOutcome(name=step.name) for step in steps}
        self.began, self.packed_at, self.packed = time.monotonic(), 0.0, dict[str, Any]()
        self.logs = work / "logs"
        self.logs.mkdir(parents=True, exist_ok=True)
        self.sweeps = SweepProcess(work, device, env, self.logs / "sweeps.log")
        self.background: dict[str, subprocess.Popen[bytes]] = {}

    @property
    def left_s(self) -> float:
        """Seconds until the deadline."""
        return self.deadline - time.monotonic()

    def request(self, step: Step) -> dict[str, Any]:
        """What the sweep process is sent for a step."""
        small = step.small if self.small else ()
        sweeps = [[*_without(sweep, small), *_without(self.overrides, small), *small] for sweep in step.sweeps]
        return {"name": step.name, "sweeps": sweeps, "done": self.state.done.get(step.name, [])}

    def run(self) -> dict[str, StepOutcome]:
        """Run every step that the time allows."""
        try:
            if any(step.sweeps for step in self.steps):
                self.sweeps.start()  # its imports overlap with the first steps
            for step in self.steps:
                self._step(step)
                self.save()
        finally:
            self.sweeps.kill()
            for process in self.background.values():
                kill_group(process)
            (self.work / "table.txt").write_text(as_text(compared(self.rows())), encoding="utf-8")
            self.save()
        return self.outcomes

    def rows(self) -> list[tuple[str, dict[str, Any]]]:
        """Every row that is there, with the name of its sweep."""
        paths = sorted((self.work / "sweeps").glob("*/points/*.json"))
        return [(path.parts[-3], json.loads(path.read_text(encoding="utf-8"))) for path in paths]

    def start_background(self, name: str, command: Sequence[str]) -> None:
        """Run a command beside the steps that time nothing. The step of that name waits for its end."""
        with (self.logs / f"{name}-background.log").open("wb") as log:
            self.background[name] = subprocess.Popen(
                ["nice", "-n", "10", *command], cwd=ROOT, env=self.env, stdout=log, stderr=subprocess.STDOUT,
                start_new_session=True,
            )  # fmt: skip

    def save(self) -> None:
        """Write both files. A failure to write one is printed and does not end the visit."""
        try:
            self.packed = pack(self.work, self.out / "visit.tar.gz")
        except (OSError, ValueError) as error:
            self.packed = {"error": str(error)}
            print(f"visit.tar.gz was not written: {error}", flush=True)
        try:
            write_session(self.out / "session.json", self.to_json())
        except OSError as error:
            print(f"session.json was not written: {error}", flush=True)
        self.packed_at = time.monotonic()

    def to_json(self) -> dict[str, Any]:
        """What ``session.json`` holds."""
        return {
            "schema_version": 1,
            "device": self.device,
            "small": self.small,
            "wall_s": round(time.monotonic() - self.began, 1),
            "archive": self.packed,
            "steps": [asdict(outcome) for outcome in self.outcomes.values()],
            "state": asdict(self.state),
        }

    def _pause(self, paused: bool) -> None:
        """Stop or continue the background commands: nothing else may compute while a step takes times."""
        for process in self.background.values():
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGSTOP if paused else signal.SIGCONT)

    def _await_background(self, name: str) -> None:
        """Wait for the background command of a step, at most ``BACKGROUND_S``."""
        process = self.background.get(name)
        if process is None:
            return
        self._pause(False)
        with contextlib.suppress(subprocess.TimeoutExpired):
            code = process.wait(min(BACKGROUND_S, max(0.0, self.left_s - 20)))
            print(f"{name}: its background command ended with exit code {code}", flush=True)

    def _step(self, step: Step) -> None:
        outcome, began = self.outcomes[step.name], time.monotonic()
        if step.name in self.state.finished and not (step.first or self.repeat):
            outcome.status = "done earlier"
            return
        if self.left_s < step.min_s:
            return
        print(f"{step.name} … ({self.left_s:.0f} s left)", flush=True)
        try:
            self._await_background(step.name)
            self._pause(step.takes_times)
            budget_s = min(step.max_s, self.left_s - 2)
            if step.sweeps:
                self._sweep(step, outcome, budget_s)
            else:
                self._command(step, outcome, budget_s)
        except Exception as error:  # no step may end the visit
            outcome.status, outcome.log_end = "failed", f"{type(error).__name__}: {error}"
        outcome.wall_s = round(time.monotonic() - began, 1)
        if outcome.status in ("ok", "absent", "failed") and step.name not in self.state.finished:
            self.state.finished.append(step.name)
        print(f"{step.name}: {outcome.status} after {outcome.wall_s:.1f} s {_brief(outcome)}", flush=True)

    def _sweep(self, step: Step, outcome: StepOutcome, budget_s: float) -> None:
        request = {**self.request(step), "budget_s": budget_s}
        before = self._size(self.logs / "sweeps.log")
        answer = self.sweeps.run(request, min(budget_s + HANG_S, self.left_s), self._meanwhile)
        finished = set(self.state.done.get(step.name, [])) | set(answer.get("done", self._rows(step.name)))
        self.state.done[step.name] = sorted(finished)
        outcome.answer = {name: value for name, value in answer.items() if name != "done"}
        if answer.get("cut"):
            why = "the visit's time is up" if self.left_s < 1 else "a point hangs"
            outcome.answer |= {"error": f"{answer['error']}: {why}. Finished points: {len(finished)}"}
        if "error" in answer:
            outcome.status = "cut" if answer.get("cut") else "failed"
        else:
            statuses = answer.get("statuses", {})
            bad = sum(statuses.get(status, 0) for status in ("incorrect", "crashed", "timeout", "oom"))
            outcome.status = "cut" if answer["left"] else "failed" if bad else "ok"
        if outcome.status == "failed":
            outcome.log_end = self._log_end(self.logs / "sweeps.log", before) + self._point_logs(step.name)

    def _command(self, step: Step, outcome: StepOutcome, budget_s: float) -> None:
        folder, log = self.work / step.name, self.logs / f"{step.name}.log"
        folder.mkdir(exist_ok=True)
        extra = ["--small"] if self.small else []
        if step.name == "check":
            extra += ["--requests", json.dumps([self.request(s) for s in self.steps if s.sweeps])]
        command = [sys.executable, "-m", *step.command, "--out", str(folder), "--device", self.device,
                   "--budget-s", f"{max(1.0, budget_s - GRACE_S):.0f}", *extra]  # fmt: skip
        with log.open("wb") as file:
            process = subprocess.Popen(command, cwd=ROOT, env=self.env, stdout=file, stderr=subprocess.STDOUT,
                                       start_new_session=True)  # fmt: skip
        deadline = time.monotonic() + budget_s
        while process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.2)
            self._meanwhile()
        if process.poll() is None:
            outcome.status = "cut"
        kill_group(process)
        outcome.exit_code = process.returncode
        if outcome.status != "cut":
            outcome.status = {EXIT_OK: "ok", EXIT_TOOL_ABSENT: "absent"}.get(process.returncode or 0, "failed")
        outcome.log_end = self._log_end(log, 0) if outcome.status != "ok" else ""

    def _meanwhile(self) -> None:
        if time.monotonic() - self.packed_at > PACK_EVERY_S:
            self.save()

    def _rows(self, name: str) -> list[str]:
        return [path.stem for path in (self.work / "sweeps" / name / "points").glob("*.json")]

    def _size(self, log: Path) -> int:
        return log.stat().st_size if log.exists() else 0

    def _log_end(self, log: Path, start: int) -> str:
        return log.read_bytes()[start:].decode(errors="replace")[-LOG_END:] if log.exists() else ""

    def _point_logs(self, name: str) -> str:
        """Ends of the logs of some points: the tracebacks of those that crashed."""
        logs = sorted((self.work / "sweeps" / name / "logs").glob("*.log"))
        ends = [f"\n--- {log.name}\n{log.read_text(errors='replace')[-700:]}" for log in logs if log.stat().st_size]
        return "".join(ends[:4])


def _without(sweep: Sequence[str], replaced: Sequence[str]) -> list[str]:
    """Overrides whose keys are not given again: Hydra takes each key once."""
    keys = {override.partition("=")[0] for override in replaced}
    return [override for override in sweep if override.partition("=")[0] not in keys]


def _brief(outcome: StepOutcome) -> str:
    if outcome.answer:
        return json.dumps({name: value for name, value in outcome.answer.items() if name != "name"})
    return outcome.log_end[-600:] if outcome.status in ("failed", "cut") else ""
