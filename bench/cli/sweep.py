"""One run from overrides to exit code: expand, check, plan (or resume), launch, collect."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import psutil
from omegaconf import OmegaConf

from bench.cli.exits import EXIT_INTERRUPTED, EXIT_OK, EXIT_POINTS_FAILED
from bench.cli.launchers import launch_foreign
from bench.cli.request import SweepRequest, to_plain
from bench.cli.resume import check_same, check_unchanged, resumed_folder
from bench.config import Config, build
from bench.plan.expand import expand
from bench.plan.points import Plan, make_plan
from bench.plan.predict import extend_import_path
from bench.plan.warnings import last_cache_bytes, warnings
from bench.rows.json_file import write_json
from bench.rows.run_folder import create_run_folder, point_latest_at, write_environment
from bench.runner.execute import Job, pending_jobs
from bench.runner.job import LauncherJob, resume_command
from bench.runner.machine.environment import record_environment
from bench.runner.process.server import Server
from bench.runner.progress import show_plan
from bench.runner.round import TENSOR_MODULES, probe, server_environment
from bench.runner.session import Session


def sweep(request: SweepRequest) -> int:
    """Run a sweep; returns its exit code.

    Raises:
        ValueError: bad input; no folder has been made, and none was changed.
    """
    extend_import_path(request.config_dirs)
    if request.master.resume is not None:
        return _resume(request)
    composed = expand(request.loader, request.master, request.params, request.arguments)
    configs = [build(point.values) for point in composed]
    with _Machine(request, configs) as machine:
        plan = make_plan(composed, configs, machine.device, machine.memory_bytes(configs[0]))
        told = warnings(plan.points, last_cache_bytes(machine.facts))
        plan = dataclasses.replace(plan, config_dirs=request.config_dirs, warnings=told)
        for sentence in told:
            print(f"note: {sentence}", file=sys.stderr)
        if configs[0].dry_run:
            show_plan(plan)
            return EXIT_OK
        run_dir = _start(plan, request, machine.facts)
        return _launch(plan, run_dir, request, machine)


def _resume(request: SweepRequest) -> int:
    """Go on with a run folder: its own plan, without what is finished."""
    asked = request.without_axes
    assert asked.resume is not None
    run_dir, plan = resumed_folder(asked.resume, asked.run_dir)
    configs = [point.config for point in plan.points]
    with _Machine(request, configs) as machine:
        control = check_same(plan, request, machine.device)
        mixed = check_unchanged(run_dir, plan, machine.facts, allow=asked.resume_mixed)
        if mixed:
            plan = plan.with_present_code()
        if asked.dry_run:
            show_plan(plan, run_dir)
            return EXIT_OK
        return _launch(plan, run_dir, request, machine, {**control, "resume_mixed": mixed})


class _Machine:
    """The device at hand, asked through a fork server that the first round then uses."""

    def __init__(self, request: SweepRequest, configs: Sequence[Config]) -> None:
        self.server: Server | None = None
        self.facts: Mapping[str, Any] = {}
        tensors = [config for config in configs if config.scenario.tensors]
        if tensors and request.launcher.leaves_the_machine:
            if any(config.device == "auto" for config in tensors):
                raise ValueError("device=auto cannot be resolved for jobs that run elsewhere; give device=cuda or cpu")
        elif tensors:
            self.server = Server(server_environment(request.config_dirs), preload=TENSOR_MODULES)
            self.facts = self._probe(tensors)

    def _probe(self, tensors: Sequence[Config]) -> Mapping[str, Any]:
        assert self.server is not None
        try:
            facts = probe(self.server)
            if not facts:
                raise ValueError("the device could not be probed; does `python -c 'import torch'` work?")
            if not facts["gpu"] and any(config.device == "cuda" and not _is_assumed(config) for config in tensors):
                raise ValueError(
                    "device=cuda, but torch finds no CUDA device here; use device=cpu or device=auto, "
                    "or plan for a GPU that is not here with dry_run=true hardware=h100-80gb"
                )
        except BaseException:
            self.server.close()
            raise
        return facts

    @property
    def device(self) -> str:
        """What ``device=auto`` means."""
        return "cuda" if self.facts.get("gpu") else "cpu"

    def memory_bytes(self, config: Config) -> int | None:
        """Memory of the device: told by ``hardware``, else the machine's own."""
        if config.hardware.device_memory_bytes is not None:
            return config.hardware.device_memory_bytes
        if not self.facts:
            return None
        return int(self.facts["gpu_memory_bytes"] if self.facts["gpu"] else psutil.virtual_memory().total)

    def __enter__(self) -> _Machine:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def close(self) -> None:
        """End the server, if nobody took it."""
        if self.server is not None:
            self.server.close()
            self.server = None


def _is_assumed(config: Config) -> bool:
    """Whether the point is only planned, for a device whose memory is given."""
    return config.dry_run and config.hardware.device_memory_bytes is not None


def _start(plan: Plan, request: SweepRequest, facts: Mapping[str, Any]) -> Path:
    """Write all that is known before anything runs; only then may ``latest`` move."""
    folder = create_run_folder(request.without_axes.run_dir)
    try:
        _write_start(folder, plan, request, facts)
    except OSError as error:
        raise ValueError(f"run_dir={folder} cannot be written: {error.strerror}") from error
    point_latest_at(folder)
    return folder


def _write_start(folder: Path, plan: Plan, request: SweepRequest, facts: Mapping[str, Any]) -> None:
    write_environment(folder, record_environment(facts, sys.argv))
    axes = {"axes": dict(request.params), "overrides": list(request.arguments)}
    text = OmegaConf.to_yaml(OmegaConf.create({**to_plain(request.master), "sweep": axes}))
    (folder / "config.yaml").write_text(text, encoding="utf-8")
    write_json(folder / "plan.json", plan.to_json())


def _launch(
    plan: Plan, run_dir: Path, request: SweepRequest, machine: _Machine, control: Mapping[str, Any] | None = None
) -> int:
    """Hand every job that still needs to run to the launcher, then collect."""
    from bench.cli.collect import collect  # tables and figures take seconds to import: not before bad input is told

    jobs, control = pending_jobs(plan, run_dir), control or {}
    gave_up, draw = None, request.without_axes.draw
    try:
        if jobs and request.launcher.is_ours:
            launcher: Any = request.launcher.make(run_dir)
            server, machine.server = machine.server, None
            launcher.run(_session(plan, run_dir, control), jobs, server)
        elif jobs:
            machine.close()
            overrides = [_launcher_job(run_dir, job, control).overrides(job.point.overrides) for job in jobs]
            gave_up = launch_foreign(request.launcher, run_dir, [job.name for job in jobs], overrides)
    except KeyboardInterrupt:
        collect(run_dir, draw=draw)
        print(f"interrupted; go on with: {resume_command(run_dir)}", flush=True)
        return EXIT_INTERRUPTED
    except OSError as error:  # a full disk, say: what was finished is whole
        print(f"error: {error}; make room and go on with: {resume_command(run_dir)}", file=sys.stderr)
        return EXIT_POINTS_FAILED
    code = collect(run_dir, draw=draw)
    if gave_up:
        print(f"error: the launcher gave up: {gave_up}; go on with: {resume_command(run_dir)}", file=sys.stderr)
    return code


def _session(plan: Plan, run_dir: Path, control: Mapping[str, Any]) -> Session:
    """This process's part, if the launcher is ours: all of it."""
    return Session(
        run_dir=run_dir,
        plan=plan,
        interleaved=True,
        timeout_s=control.get("timeout_s"),
        mixed=control.get("resume_mixed", False),
    )


def _launcher_job(run_dir: Path, job: Job, control: Mapping[str, Any]) -> LauncherJob:
    """Another process must not find another device than the plan's."""
    config = job.point.config
    device = {"device": config.device} if config.scenario.tensors else {}
    return LauncherJob(run_dir=run_dir, name=job.name, control={**control, **device})
