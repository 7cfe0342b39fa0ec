"""Writes a JSON file whole or not at all. Imports nothing of the project: every process of a point uses it."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path
from typing import Any


def write_json(path: Path, content: Any) -> None:
    """Write JSON whole or not at all; the folder must exist.

    Raises:
        OSError: the disk is full, say; nothing of the old file is lost.
    """
    data = json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False).encode()
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(name, 0o644)
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
