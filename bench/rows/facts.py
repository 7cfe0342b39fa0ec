"""The facts of a machine that must agree before two times may be compared, and their fingerprint."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from bench.rows.redact import hashed

BLOCKING = ("machine", "system", "cpu_model", "cpu_affinity", "python", "torch", "triton", "cuda", "driver", "gpu",
            "gpu_uuid_hash", "gpu_ecc", "gpu_mig", "gpu_power_limit_w", "threads")  # fmt: skip
"""Facts that must agree before two times may be compared."""


def fingerprint(facts: Mapping[str, Any]) -> str:
    """Return the hash of the blocking facts."""
    return hashed(json.dumps({name: facts.get(name) for name in BLOCKING}, sort_keys=True))
