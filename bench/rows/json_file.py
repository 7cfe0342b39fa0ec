"""Write a JSON file whole or not at all. Every process of a point imports this module, so it imports none of ours."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path
from typing import Any


def write_json(path: Path, content: Any, *, allow_nan: bool = False) -> None:
    """Write JSON whole or not at all. The folder must exist.

    Args:
        path: path of the file.
        content: plain containers.
        allow_nan: whether NaN and infinities are written by their Python names, which only Python reads.

    Raises:
        ValueError: the content contains NaN or an infinity, and ``allow_nan`` is false.
        OSError: the file cannot be written, for example on a full disk. The old file remains.
    """
    data = json.dumps(content, indent=1, ensure_ascii=False, allow_nan=allow_nan).encode()
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
