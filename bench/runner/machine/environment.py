"""Record machine, software and checkout of a run for ``environment.json``, with a fingerprint."""

from __future__ import annotations

import hashlib
import os
import platform
import re
from collections.abc import Iterable, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import psutil

from bench import ROOT
from bench.measure.machine.gpu_state import gpu_facts
from bench.measure.machine.host_state import governor, host_state, usable_cores
from bench.measure.machine.nvml import Nvml, NvmlProblem
from bench.plan.code_hash import sources_hash
from bench.rows.facts import fingerprint
from bench.rows.record import SCHEMA_VERSION
from bench.rows.redact import hashed, recorded_variables, redacted
from bench.rows.result import Answer
from bench.runner.machine.checkout import git_state

CALIBRATIONS = ROOT / "results" / "calibration"
"""Folder to which ``scripts/calibrate.py`` writes one file per fingerprint."""


def probe_device(argument: Mapping[str, Any]) -> Answer:
    """Return the facts that torch reports about the device. It must run in a child process, because it starts CUDA."""
    import torch

    facts: dict[str, Any] = {
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "triton": _version("triton"),
        "cuda": torch.version.cuda,
        "gpu": None,
    }
    if torch.cuda.is_available():
        properties = torch.cuda.get_device_properties(0)
        uuid = str(properties.uuid)
        facts |= {
            "gpu": properties.name,
            "gpu_uuid_hash": hashed(uuid),
            "compute_capability": f"{properties.major}.{properties.minor}",
            "gpu_memory_bytes": properties.total_memory,
            "l2_cache_bytes": properties.L2_cache_size,
            "multiprocessors": properties.multi_processor_count,
            **_settings(uuid),
        }
    return Answer(values=facts)


def _settings(uuid: str) -> dict[str, Any]:
    """Return driver, ECC, MIG, power limit, clocks and processes of the GPU from NVML, or why NVML failed."""
    try:
        nvml = Nvml()
        return gpu_facts(nvml, nvml.device(uuid))
    except NvmlProblem as problem:
        return {"nvml_problem": str(problem)}


def record_environment(device_facts: Mapping[str, Any], argv: Iterable[str]) -> dict[str, Any]:
    """Return all facts about machine, software and checkout, without secrets and names.

    Args:
        device_facts: result of ``probe_device``. Empty if no point has tensors.
        argv: the command line.
    """
    facts: dict[str, Any] = {
        "tool_version": _tool_version(),
        "schema_version": SCHEMA_VERSION,
        "argv": [redacted(argument) for argument in argv],
        "git": git_state(ROOT),
        "sources_hash": sources_hash(),
        "python": platform.python_version(),
        **_host_facts(),
        "variables": recorded_variables(os.environ),
        "child_hash_seed": "0",
        "packages": {d.name: d.version for d in sorted(metadata.distributions(), key=lambda d: d.name.lower())},
        **device_facts,
    }
    whole = {**facts, "fingerprint": fingerprint(facts)}
    return {**whole, "calibration": find_calibration(whole["fingerprint"])}


def _host_facts() -> dict[str, Any]:
    return {
        "machine": platform.machine(),
        "system": f"{platform.system()} {platform.release()}",
        "host_hash": hashed(platform.node()),
        "cpu_model": _cpu_model(),
        "cpu_count": os.cpu_count(),
        "cpu_cores": psutil.cpu_count(logical=False),
        "cpu_affinity": usable_cores(),
        "cpu_governor": governor(),
        "cpu_frequency_mhz": host_state()["frequency_mhz"],
        "load_average": list(os.getloadavg()),
        "memory_bytes": psutil.virtual_memory().total,
    }


def find_calibration(of_fingerprint: str, folder: Path = CALIBRATIONS) -> dict[str, str] | None:
    """Return file name and hash of the calibration with this fingerprint, or ``None`` if there is none."""
    path = folder / f"{of_fingerprint}.json"
    if not path.is_file():
        return None
    return {"file": path.name, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}


def _tool_version() -> str | None:
    """Return the version in ``pyproject.toml``, because the checkout need not be installed."""
    match = re.search(r'^version = "(.+)"$', _read(str(ROOT / "pyproject.toml")) or "", re.MULTILINE)
    return match[1] if match else None


def _cpu_model() -> str:
    for line in (_read("/proc/cpuinfo") or "").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _read(path: str) -> str | None:
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return None


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
