"""One run from overrides to exit code: expand, check, plan, launch, collect."""

from __future__ import annotations

import dataclasses
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from hydra.core.config_loader import ConfigLoader
from hydra.plugins.launcher import Launcher
from omegaconf import DictConfig, OmegaConf

from bench.cli import EXIT_INTERRUPTED
from bench.collect import collect
from bench.config import build
from bench.environment import probe_device, record_environment
from bench.execute import server_environment
from bench.expand import expand
from bench.isolation import Server
from bench.plan import Plan, extend_import_path, make_plan, needs_tensors
from bench.record import write_json
from bench.run_folder import create_run_folder, point_latest_at, write_environment


class Job(NamedTuple):
    """What a launcher is handed, as overrides."""

    run_dir: Path
    name: str


def sweep(
    *,
    loader: ConfigLoader,
    master: DictConfig,
    params: Mapping[str, str],
    arguments: Sequence[str],
    launcher: Launcher,
) -> int:
    """Run a sweep; returns its exit code.

    Args:
        loader: Hydra's configuration loader.
        master: the configuration that Hydra composed for the sweep.
        params: default axes (``hydra.sweeper.params``).
        arguments: task overrides of the command line.
        launcher: whoever runs the jobs.

    Raises:
        ValueError: bad input; no folder has been made.
    """
    config_dirs = tuple(
        source.path.removeprefix("file://") for source in loader.get_sources() if source.provider == "command-line"
    )
    extend_import_path(config_dirs)
    composed = expand(loader, master, params, arguments)
    configs = [build(point.values) for point in composed]
    server = Server(server_environment(config_dirs)) if needs_tensors(configs) else None
    try:
        facts = _device_facts(server)
        if any(config.device == "cuda" for config in configs) and not facts.get("gpu"):
            raise ValueError("device=cuda, but torch finds no CUDA device here; use device=cpu or device=auto")
        device = "cuda" if facts.get("gpu") else "cpu"
        plan = dataclasses.replace(make_plan(composed, configs, device), config_dirs=config_dirs)
        run_dir = _start(plan, configs[0].run_dir, master, facts)
        if hasattr(launcher, "server"):
            launcher.server, server = server, None
        return _launch(plan, run_dir, launcher)
    finally:
        if server is not None:
            server.close()


def _device_facts(server: Server | None) -> Mapping[str, Any]:
    if server is None:
        return {}
    call = f"{probe_device.__module__}:{probe_device.__name__}"
    outcome = server.run(call, {}, log=Path(os.devnull), timeout_s=300)
    if outcome.answer.status != "ok":
        raise ValueError(f"the device could not be probed: {outcome.answer.status_reason}")
    return outcome.answer.values


def _start(plan: Plan, run_dir: str | None, master: DictConfig, facts: Mapping[str, Any]) -> Path:
    """Write all that is known before anything runs; only then may ``latest`` move."""
    folder = create_run_folder(run_dir)
    write_environment(folder, record_environment(facts, sys.argv))
    resolved = OmegaConf.create({**OmegaConf.to_container(master), "hydra": {}})  # type: ignore[dict-item]
    resolved.hydra = {"sweeper": {"params": master.hydra.sweeper.params}, "overrides": master.hydra.overrides}
    (folder / "config.yaml").write_text(OmegaConf.to_yaml(resolved, resolve=True), encoding="utf-8")
    write_json(folder / "plan.json", plan.to_json())
    point_latest_at(folder)
    return folder


def _launch(plan: Plan, run_dir: Path, launcher: Launcher) -> int:
    jobs = [
        job_overrides(point.overrides, Job(run_dir, f"{point.key}-{replicate}")) for point, replicate in plan.jobs()
    ]
    try:
        launcher.launch(jobs, initial_job_idx=0)
    except KeyboardInterrupt:
        collect(run_dir)
        return EXIT_INTERRUPTED
    return collect(run_dir)


def job_overrides(overrides: Sequence[str], job: Job) -> list[str]:
    """A point's overrides with the run folder and the job in them, quoted for Hydra's grammar."""
    kept = [override for override in overrides if override.partition("=")[0] not in ("run_dir", "job")]
    quoted = str(job.run_dir).replace("\\", "\\\\").replace("'", "\\'")
    return [*kept, f"run_dir='{quoted}'", f"job={job.name}"]


def parse_job(overrides: Sequence[str]) -> Job:
    """The inverse of ``job_overrides``."""
    values = dict(override.split("=", 1) for override in overrides)
    run_dir = values["run_dir"][1:-1].replace("\\'", "'").replace("\\\\", "\\")
    return Job(Path(run_dir), values["job"])
