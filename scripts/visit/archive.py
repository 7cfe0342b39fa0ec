"""The two files that a visit leaves, each replaced whole: ``visit.tar.gz`` and ``session.json``."""

from __future__ import annotations

import json
import os
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

MAX_BYTES = 16 * 2**20 - 2**16
"""Size of a file that returns, with some room."""
LEFT_OUT = ((), ("samples",), ("samples", "logs"))
"""Folders of a run that are left out, in turn, until the archive is small enough."""


def pack(work: Path, archive: Path, max_bytes: int = MAX_BYTES) -> dict[str, Any]:
    """Write everything under ``work`` to a compressed archive, replaced whole.

    Args:
        work: the folder of the visit.
        archive: ``visit.tar.gz``.
        max_bytes: folders of lesser worth are left out above this size.

    Returns:
        ``bytes`` of the archive and the names of the folders ``left_out``.

    Raises:
        ValueError: it is too large even so. The old archive stays.
    """
    fresh = archive.with_name(f".{archive.name}.tmp")
    for left_out in LEFT_OUT:
        _write(work, fresh, left_out)
        size = fresh.stat().st_size
        if size <= max_bytes:
            os.replace(fresh, archive)
            return {"bytes": size, "left_out": list(left_out)}
    fresh.unlink()
    raise ValueError(f"the archive has {size:,} bytes without samples and logs; at most {max_bytes:,} return")


def _write(work: Path, fresh: Path, left_out: tuple[str, ...]) -> None:
    with tarfile.open(fresh, "w:gz", compresslevel=5) as tar:
        for path in sorted(work.rglob("*")):
            parts = path.relative_to(work).parts
            if path.is_symlink() or not path.is_file() or path.name.endswith((".tmp", ".lock")):
                continue
            if "leases" in parts or set(left_out) & set(parts):
                continue
            try:
                tar.add(path, arcname="/".join(("visit", *parts)), recursive=False, filter=_anonymous)
            except FileNotFoundError:  # a temporary file that was renamed meanwhile
                continue


def _anonymous(member: tarfile.TarInfo) -> tarfile.TarInfo:
    member.uid = member.gid = 0
    member.uname = member.gname = ""
    return member


def write_session(path: Path, session: Mapping[str, Any]) -> None:
    """Write ``session.json``, replaced whole."""
    fresh = path.with_name(f".{path.name}.tmp")
    fresh.write_text(json.dumps(session, indent=1), encoding="utf-8")
    os.replace(fresh, path)
