"""What may be written into a record: names hashed, secrets left out, home folders and credentials removed."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from pathlib import Path

ALLOWED_VARIABLES = re.compile(r"(PYTORCH|CUDA|NVIDIA|TRITON|OMP|MKL)_[A-Z0-9_]+|PYTHONHASHSEED")
"""Environment variables that may be recorded; all others may hold secrets."""

SECRET_WORDS = re.compile(r"KEY|TOKEN|SECRET|PASS|CREDENTIAL|AUTH", re.IGNORECASE)
"""Variables of an allowed prefix that are still not recorded (``NVIDIA_API_KEY``, say)."""

_CREDENTIALS = re.compile(r"(?<=://)[^/@\s]+@")


def hashed(text: str) -> str:
    """Twelve hexadecimal digits that identify a text without telling it."""
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def redacted(text: str) -> str:
    """A text without a URL's credentials and with ``~`` for the home folder.

    >>> redacted("https://me:secret@example.org/x.git")
    'https://example.org/x.git'
    """
    home = str(Path.home())
    return _CREDENTIALS.sub("", text.replace(home, "~") if len(home) > 1 else text)


def recorded_variables(environ: Mapping[str, str]) -> dict[str, str]:
    """The environment variables that may be recorded."""
    return {
        name: redacted(value)
        for name, value in sorted(environ.items())
        if ALLOWED_VARIABLES.fullmatch(name) and not SECRET_WORDS.search(name)
    }
