"""The hash of the code that answers a point."""

from __future__ import annotations

import hashlib
import importlib.util
from functools import lru_cache
from pathlib import Path

from bench.config import Config

ROOT = Path(__file__).resolve().parents[2]

ANSWERING_SOURCES = ("impls", "bench/scenarios", "bench/measure", "bench/workload")


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


def module_file(target: str) -> Path | None:
    """Source file of ``package.module.Class``, without importing it."""
    try:
        spec = importlib.util.find_spec(target.rpartition(".")[0])
    except ModuleNotFoundError:
        return None
    return Path(spec.origin) if spec is not None and spec.origin else None
