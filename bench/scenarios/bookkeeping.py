"""Compute columns from a policy, exact on any machine. No torch."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from bench.scenarios.filling import Filled
from impls.interface import CacheUsage

PARTS = ("live", "reserved", "internal_fragmentation", "external_fragmentation", "cached", "free")
"""The six parts of a pool."""


def bookkeeping(filled: Filled) -> dict[str, Any]:
    """Return the columns of a filled policy, with external fragmentation for the request at the queue's head."""
    head, lens = filled.head, filled.seq_lens
    usage = filled.policy.usage(int(filled.requests.prompt_lens[head]), int(filled.requests.final_lens[head]))
    return {
        "admitted_seqs": len(lens),
        "refused_seqs": filled.refused,
        "skipped_requests": filled.requests.skipped,
        "live_tokens": int(lens.sum()),
        **split_columns(usage),
        "batch_digest": digest(lens),
    }


def split_columns(usage: CacheUsage) -> dict[str, Any]:
    """Return the columns of a pool at one instant."""
    return {
        "pool_bytes": usage.pool_bytes,
        **{f"{part}_bytes": getattr(usage, f"{part}_bytes") for part in (*PARTS, "shared_saved")},
        "largest_free_ratio": usage.largest_free_ratio,
    }


def digest(lens: ArrayLike) -> str:
    """Return the hash of whole numbers. Equal work has equal digests."""
    return hashlib.sha256(np.asarray(lens, dtype="<i8").tobytes()).hexdigest()[:12]
