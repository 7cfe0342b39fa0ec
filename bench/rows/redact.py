"""Remove private data from a record: hash names, leave secrets out, replace home folders, remove credentials."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from pathlib import Path

ALLOWED_VARIABLES = re.compile(r"(PYTORCH|CUDA|NVIDIA|TRITON|OMP|MKL)_[A-Z0-9_]+|PYTHONHASHSEED")
"""Environment variables that may be recorded. Others can contain secrets."""

SECRET_WORDS = re.compile(r"KEY|TOKEN|SECRET|PASS|CREDENTIAL|AUTH", re.IGNORECASE)
"""Variables with an allowed prefix that are not recorded (``NVIDIA_API_KEY``)."""

_CREDENTIALS = re.compile(r"(?<=://)[^/@\s]+@")


def hashed(text: str) -> str:
    """Return twelve hexadecimal digits that identify a text without revealing it."""
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def redacted(text: str) -> str:
    """Return a text without credentials in URLs and with ``~`` for the home folder.

    >>> redacted("https://me:secret@example.org/x.git")
    'https://example.org/x.git'
    """
    home = str(Path.home())
    return _CREDENTIALS.sub("", text.replace(home, "~") if len(home) > 1 else text)


def recorded_variables(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the environment variables that may be recorded."""
    return {
        name: redacted(value)
        for name, value in sorted(environ.items())
        if ALLOWED_VARIABLES.fullmatch(name) and not SECRET_WORDS.search(name)
    }
