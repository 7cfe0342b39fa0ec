"""Read sizes with a unit, such as ``4GiB``."""

from __future__ import annotations

import re

_UNITS = {"": 1, "B": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40,
          "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}  # fmt: skip
_SIZE = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([A-Za-z]*)\s*")


def parse_bytes(text: str | int, field: str) -> int:
    """Return the bytes of a size such as ``4GiB``, ``1.5 GB`` or ``4096``.

    Raises:
        ValueError: the text is not a size, or it is below one byte. The message names ``field``.

    >>> parse_bytes("1.5KiB", "memory_budget")
    1536
    """
    match = _SIZE.fullmatch(str(text))
    if match is None or match[2] not in _UNITS:
        raise ValueError(
            f"{field}={text} is not a size. Write a number and one of B, KiB, MiB, GiB, TiB, KB, MB, GB, TB, "
            "such as 4GiB"
        )
    size = int(float(match[1]) * _UNITS[match[2]]) if "." in match[1] else int(match[1]) * _UNITS[match[2]]
    if size < 1:
        raise ValueError(f"{field}={text} must be at least one byte")
    return size
