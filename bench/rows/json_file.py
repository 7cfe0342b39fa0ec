"""Write a file whole or not at all. Every process of a point imports this module, so it imports few others."""

from __future__ import annotations

import contextlib
import json
import os
import re
import secrets
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bench.rows.owner import is_dead, owner_token
from bench.rows.redact import redacted

_LEFTOVER = re.compile(r"\..+\.([0-9a-f]{8}-\d+-\d+)-[0-9a-f]{8}\.tmp")
OLD_S = 3600.0
"""A temporary file of a process that cannot be seen from here is removed after this many seconds."""


def write_json(path: Path, content: Any, *, allow_nan: bool = False) -> None:
    """Write JSON whole or not at all, without private data. The folder must exist.

    Args:
        path: path of the file.
        content: plain containers.
        allow_nan: whether NaN and infinities are written by their Python names, which only Python reads.

    Raises:
        ValueError: the content contains NaN or an infinity, and ``allow_nan`` is false.
        OSError: the file cannot be written, for example on a full disk. The old file remains.
    """
    write_text(path, json.dumps(content, indent=1, ensure_ascii=False, allow_nan=allow_nan))


def write_text(path: Path, text: str) -> None:
    """Write a text whole or not at all, without private data. The folder must exist.

    Raises:
        OSError: the file cannot be written. The old file remains.
    """
    with replacing(path) as fresh:
        fresh.write_bytes(redacted(text).encode("utf-8", "backslashreplace"))


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path in the same folder. The file there is synced and replaces ``path`` after the block.

    Its name is unique, so two processes never write the same one. It names this process, so that ``remove_leftovers``
    recognises it if this process is killed.
    """
    fresh = path.with_name(f".{path.name}.{owner_token()}-{secrets.token_hex(4)}.tmp")
    try:
        yield fresh
        handle = os.open(fresh, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
        os.replace(fresh, path)
    except BaseException:
        fresh.unlink(missing_ok=True)
        raise


def remove_leftovers(*folders: Path) -> None:
    """Remove temporary files of processes that were killed while they wrote to these folders."""
    for folder in folders:
        for path in folder.glob(".*.tmp"):
            match = _LEFTOVER.fullmatch(path.name)
            with contextlib.suppress(OSError):
                if match is not None and (is_dead(match[1]) or time.time() - path.stat().st_mtime > OLD_S):
                    path.unlink()
