"""Quote values for Hydra's grammar of overrides."""

from __future__ import annotations

import re
from pathlib import Path

PATHS = ("workload.path", "cost.rows")
"""Keys whose values are paths."""


def hydra_quoted(value: str) -> str:
    """Return a value in Hydra's grammar. It is quoted if it contains other than a few plain characters.

    >>> hydra_quoted("runs/date=2026-06-01")
    "'runs/date=2026-06-01'"
    """
    plain = value.isascii() and all(character.isalnum() or character in "/-_.:+" for character in value)
    return value if plain else "'" + _BEFORE_QUOTE.sub(_escaped, value) + "'"


def _escaped(match: re.Match[str]) -> str:
    """Return backslashes doubled, and a quote escaped. Hydra keeps backslashes as they are in other places."""
    return match[1] * 2 + ("\\'" if match[2] else "")


_BEFORE_QUOTE = re.compile(r"(\\*)('|\Z)")


def absolute_path(key: str, value: str) -> str:
    """Return the override of a path with its absolute path, because jobs and repro commands run in other folders.

    Args:
        key: the key of the override.
        value: the path without quotes. ``~`` is the home folder.
    """
    return f"{key}={hydra_quoted(str(Path(value).expanduser().absolute()))}"
