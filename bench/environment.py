"""The record of where and with what a run was made: ``environment.json`` and its fingerprint."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import re
import subprocess
import sys
from collections.abc import Iterable, Mapping
from functools import lru_cache
from importlib import metadata
from pathlib import Path
from typing import Any

import psutil

from bench.answer import Answer
from bench.config import Config
from bench.predict import module_file

ROOT = Path(__file__).resolve().parent.parent

ALLOWED_VARIABLES = re.compile(r"(PYTORCH|CUDA|NVIDIA|TRITON|OMP|MKL)_[A-Z0-9_]+|PYTHONHASHSEED")
"""Environment variables that may be recorded; all others may hold secrets."""

BLOCKING = ("machine", "system", "cpu_model", "cpu_affinity", "python", "torch", "triton", "cuda", "driver", "gpu",
            "gpu_uuid_hash", "threads")  # fmt: skip
"""Facts that must agree before two times may be compared."""

ANSWERING_SOURCES = ("impls", "bench/scenarios", "bench/measure", "bench/workload")


def probe_device(argument: Mapping[str, Any]) -> Answer:
    """Inside a child: what torch sees here. The only place that asks for CUDA before the points do."""
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
        facts |= {
            "gpu": properties.name,
            "gpu_uuid_hash": _hashed(str(properties.uuid)),
            "compute_capability": f"{properties.major}.{properties.minor}",
            "gpu_memory_bytes": properties.total_memory,
            "l2_cache_bytes": properties.L2_cache_size,
            "multiprocessors": properties.multi_processor_count,
            "driver": _driver_version(),
        }
    return Answer(values=facts)


def _driver_version() -> str | None:
    try:
        import pynvml

        pynvml.nvmlInit()
        return str(pynvml.nvmlSystemGetDriverVersion())
    except Exception:
        return None  # no NVML library or no permission: the record has a null here


def record_environment(device_facts: Mapping[str, Any], argv: Iterable[str]) -> dict[str, Any]:
    """Everything about the machine, the software and the checkout, secrets and names left out.

    Args:
        device_facts: what ``probe_device`` found; empty where no point has tensors.
        argv: the command line.
    """
    facts: dict[str, Any] = {
        "argv": list(argv),
        "git": _git_state(),
        "python": platform.python_version(),
        "machine": platform.machine(),
        "system": f"{platform.system()} {platform.release()}",
        "host_hash": _hashed(platform.node()),
        "cpu_model": _cpu_model(),
        "cpu_count": os.cpu_count(),
        "cpu_affinity": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None,
        "cpu_governor": _read("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
        "load_average": list(os.getloadavg()),
        "memory_bytes": psutil.virtual_memory().total,
        "variables": {name: value for name, value in os.environ.items() if ALLOWED_VARIABLES.fullmatch(name)},
        "child_hash_seed": "0",
        "packages": {d.name: d.version for d in sorted(metadata.distributions(), key=lambda d: d.name.lower())},
        **device_facts,
    }
    return {**facts, "fingerprint": fingerprint(facts)}


def fingerprint(facts: Mapping[str, Any]) -> str:
    """Hash of the blocking facts."""
    return _hashed(json.dumps({name: facts.get(name) for name in BLOCKING}, sort_keys=True))


@lru_cache
def code_hash(target: str) -> str:
    """Hash of the sources that decide an answer: ours, and an implementation from elsewhere.

    Args:
        target: ``impl.target`` of the point; empty without tensors.
    """
    files = sorted(path for folder in ANSWERING_SOURCES for path in (ROOT / folder).rglob("*.py"))
    foreign = module_file(target) if target else None
    if foreign is not None and ROOT not in foreign.parents:
        files.append(foreign)
    digest = hashlib.sha256()
    for path in files:
        digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()[:12]


def point_code_hash(config: Config) -> str:
    """``code_hash`` of one point."""
    return code_hash(config.impl.target if config.scenario.tensors else "")


def _git_state() -> dict[str, Any]:
    commit = _git("rev-parse", "HEAD")
    patch = _git("diff", "HEAD")
    return {
        "commit": commit,
        "dirty": bool(patch) if commit else None,
        "patch_hash": _hashed(patch) if patch else None,
    }


def _git(*arguments: str) -> str | None:
    try:
        done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def _cpu_model() -> str:
    for line in (_read("/proc/cpuinfo") or "").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _read(path: str) -> str | None:
    try:
        return Path(path).read_text().strip()
    except OSError:
        return None


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _hashed(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def python_command() -> list[str]:
    """The interpreter as a user would type it."""
    return [Path(sys.executable).name if "VIRTUAL_ENV" in os.environ else sys.executable]
