"""One run from overrides to exit code: expand, check, plan (or resume), launch and collect."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from bench.cli.exits import EXIT_INTERRUPTED, EXIT_OK, EXIT_POINTS_FAILED
from bench.cli.launchers import launch_with_plugin
from bench.cli.request import SweepRequest, to_plain
from bench.cli.resume import check_same_points, check_unchanged, find_resumed_run
from bench.config import Config, build
from bench.measure.memory.available import host_memory_bytes
from bench.plan.expand import expand
from bench.plan.points import Plan, make_plan
from bench.plan.predict import extend_import_path
from bench.plan.warnings import idle_options, last_level_cache_bytes, warnings
from bench.rows.json_file import remove_leftovers, write_json, write_text
from bench.rows.run_folder import FOLDERS, create_run_folder, point_latest_at, write_environment
from bench.runner.execute import Job, pending_jobs
from bench.runner.job import LauncherJob, resume_command
from bench.runner.machine.environment import record_environment
from bench.runner.process.server import Server, remove_left_folders
from bench.runner.progress import show_plan
from bench.runner.round import TENSOR_MODULES, probe, server_environment
from bench.runner.session import Session


def sweep(request: SweepRequest) -> int:
    """Run a sweep and return its exit code.

    Raises:
        ValueError: the input is wrong. No folder was created or changed.
    """
    extend_import_path(request.config_dirs)
    remove_left_folders()
    if request.master.job is not None:
        raise ValueError(f"job={request.master.job} must not be set: a sweep sets it for its workers. Remove it")
    if request.master.resume is not None:
        return _resume(request)
    composed = expand(request.loader, request.master, request.params, request.arguments)
    configs = [build(point.values) for point in composed]
    with _LocalDevice(request, configs) as local:
        plan = make_plan(composed, configs, local.device, local.memory_bytes(configs[0]))
        notes = idle_options(configs) + warnings(plan.points, last_level_cache_bytes(local.facts))
        plan = dataclasses.replace(plan, config_dirs=request.config_dirs, warnings=notes)
        for sentence in notes:
            print(f"note: {sentence}", file=sys.stderr)
        if configs[0].dry_run:
            show_plan(plan)
            return EXIT_OK
        import bench.cli.collect  # noqa: F401  takes seconds: only after all checks, but before a folder is made

        run_dir = _create_folder(plan, request, local.facts)
        return _launch(plan, run_dir, request, local)


def _resume(request: SweepRequest) -> int:
    """Run the jobs of an existing run folder that are not finished."""
    config = request.without_axes
    run_dir, plan = find_resumed_run(str(config.resume), config.run_dir, request.config_dirs, to_plain(request.master))
    with _LocalDevice(request, [point.config for point in plan.points]) as local:
        control = check_same_points(plan, request, local.device)
        mixed = check_unchanged(run_dir, plan, local.facts, allow=config.resume_mixed)
        if mixed:
            plan = plan.with_present_code()
        if config.dry_run:
            show_plan(plan, run_dir)
            return EXIT_OK
        return _launch(plan, run_dir, request, local, {**control, "resume_mixed": mixed})


class _LocalDevice:
    """Facts about the device of this machine, read in a fork server that the first round then uses.

    Without tensors there is no server, and ``facts`` is empty.

    Raises:
        ValueError: the device cannot be used, or it cannot be known because the jobs run on other machines.
    """

    def __init__(self, request: SweepRequest, configs: Sequence[Config]) -> None:
        self.server: Server | None = None
        self.facts: Mapping[str, Any] = {}
        tensors = [config for config in configs if config.scenario.tensors]
        if tensors and request.launcher.is_remote:
            if any(config.device == "auto" for config in tensors):
                raise ValueError(
                    "device=auto must be device=cuda or device=cpu for jobs that run on other machines: "
                    "their devices are not known here"
                )
        elif tensors:
            self.server = Server(server_environment(request.config_dirs), preload=TENSOR_MODULES)
            self.facts = self._probe(tensors)

    def _probe(self, tensors: Sequence[Config]) -> Mapping[str, Any]:
        assert self.server is not None
        try:
            facts = probe(self.server)
            if not facts:
                raise ValueError("torch could not read the device. Check that `python -c 'import torch'` works")
            if not facts["gpu"] and any(config.device == "cuda" and not _is_assumed(config) for config in tensors):
                raise ValueError(
                    "device=cuda, but torch finds no CUDA device here. Use device=cpu or device=auto. To plan for a "
                    "GPU of another machine, use dry_run=true hardware=h100-80gb"
                )
        except BaseException:
            self.server.close()
            raise
        return facts

    @property
    def device(self) -> str:
        """The device that replaces ``device=auto``."""
        return "cuda" if self.facts.get("gpu") else "cpu"

    def memory_bytes(self, config: Config) -> int | None:
        """Return the memory of the device: that of the group ``hardware``, else that of this machine.

        ``None`` if neither is known.
        """
        if config.hardware.device_memory_bytes is not None:
            return config.hardware.device_memory_bytes
        if not self.facts:
            return None
        return int(self.facts["gpu_memory_bytes"] if self.facts["gpu"] else host_memory_bytes())

    def __enter__(self) -> _LocalDevice:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def close(self) -> None:
        """End the server if no launcher has taken it over."""
        if self.server is not None:
            self.server.close()
            self.server = None


def _is_assumed(config: Config) -> bool:
    """Return whether the point is only planned, for a device whose memory is given."""
    return config.dry_run and config.hardware.device_memory_bytes is not None


def _create_folder(plan: Plan, request: SweepRequest, facts: Mapping[str, Any]) -> Path:
    """Create the run folder, write plan and environment, and let ``latest`` point to it."""
    folder = create_run_folder(request.without_axes.run_dir)
    try:
        _write_plan(folder, plan, request, facts)
    except OSError as error:
        raise ValueError(f"run_dir={folder} cannot be written: {error.strerror}. Choose another folder") from error
    point_latest_at(folder)
    return folder


def _write_plan(folder: Path, plan: Plan, request: SweepRequest, facts: Mapping[str, Any]) -> None:
    write_environment(folder, record_environment(facts, sys.argv))
    axes = {"axes": dict(request.params), "overrides": list(request.arguments)}
    text = OmegaConf.to_yaml(OmegaConf.create({**to_plain(request.master), "sweep": axes}))
    write_text(folder / "config.yaml", text)
    write_json(folder / "plan.json", plan.to_json())


def _launch(
    plan: Plan, run_dir: Path, request: SweepRequest, local: _LocalDevice, control: Mapping[str, Any] | None = None
) -> int:
    """Run every pending job with the launcher, then write table and figures."""
    from bench.cli.collect import collect

    remove_leftovers(run_dir, *(run_dir / part for part in FOLDERS))
    jobs, control = pending_jobs(plan, run_dir), control or {}
    resume = resume_command(run_dir, plan.config_dirs)
    launcher_error, draw = None, request.without_axes.draw
    try:
        if jobs and request.launcher.is_ours:
            launcher: Any = request.launcher.make(run_dir)
            server, local.server = local.server, None
            launcher.run(_session(plan, run_dir, control), jobs, server)
        elif jobs:
            local.close()
            overrides = [_launcher_job(run_dir, job, control).overrides(job.point.overrides) for job in jobs]
            launcher_error = launch_with_plugin(request.launcher, run_dir, [job.name for job in jobs], overrides)
    except KeyboardInterrupt:
        collect(run_dir, draw=draw)
        print(f"interrupted. Resume with: {resume}", flush=True)
        return EXIT_INTERRUPTED
    except OSError as error:  # for instance a full disk: finished rows are complete
        print(
            f"error: {error}. Free some space and resume with: {resume}",
            file=sys.stderr,
        )
        return EXIT_POINTS_FAILED
    code = collect(run_dir, draw=draw)
    if launcher_error:
        print(
            f"error: the launcher stopped: {launcher_error}. Resume with: {resume}",
            file=sys.stderr,
        )
    return code


def _session(plan: Plan, run_dir: Path, control: Mapping[str, Any]) -> Session:
    """Return the session of this process if it runs all jobs itself."""
    return Session(
        run_dir=run_dir,
        plan=plan,
        interleaved=True,
        timeout_s=control.get("timeout_s"),
        mixed=control.get("resume_mixed", False),
    )


def _launcher_job(run_dir: Path, job: Job, control: Mapping[str, Any]) -> LauncherJob:
    """Return a job for a launcher plugin, with the device of the plan: its worker might choose another one."""
    config = job.point.config
    device = {"device": config.device} if config.scenario.tensors else {}
    return LauncherJob(run_dir=run_dir, name=job.name, control={**control, **device})
