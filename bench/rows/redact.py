"""Remove private data from everything that is written: secrets, credentials, home folders, and names.

``bench.rows.json_file`` calls ``redacted`` for every file of a run, so no writer has to remember it. Every process of
a point imports this module, so it imports none of ours.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

ALLOWED_VARIABLES = re.compile(
    r"CUDA_(CACHE_DISABLE|CACHE_PATH|DEVICE_MAX_CONNECTIONS|DEVICE_ORDER|HOME|LAUNCH_BLOCKING|MODULE_LOADING)|"
    r"CUDA_VISIBLE_DEVICES|GOMP_CPU_AFFINITY|KMP_(AFFINITY|BLOCKTIME)|MKL_(CBWR|DYNAMIC|NUM_THREADS)|"
    r"NVIDIA_(DRIVER_CAPABILITIES|TF32_OVERRIDE|VISIBLE_DEVICES)|OPENBLAS_(CORETYPE|NUM_THREADS)|PYTHONHASHSEED|"
    r"OMP_(DYNAMIC|NUM_THREADS|PLACES|PROC_BIND|SCHEDULE|WAIT_POLICY)|PYTORCH_(CUDA_)?ALLOC_CONF|"
    r"PYTORCH_(NO_CUDA_MEMORY_CACHING|NVML_BASED_CUDA_CHECK)|"
    r"TRITON_(ALWAYS_COMPILE|CACHE_DIR|DEBUG|DEFAULT_FP_FUSION|DISABLE_LINE_INFO|INTERPRET|PTXAS_PATH)"
)
"""Environment variables that are recorded, because they can change a result. Others can contain secrets."""

REMOVED = "***"
# No pattern matches a quote or a backslash, so that a JSON text remains valid.
_CREDENTIALS = re.compile(r"(?<=://)[^\s\"'<>\\]*@")  # up to the last @, because a password may contain / or @
_SECRET_WORD = r"(?:token|secret|passwd|password|pass|pwd|credentials?|auth|signature|sig|api_?key|access_?key|key)"
_SECRET_PARAMETER = re.compile(rf"([?&;][\w.-]*{_SECRET_WORD}=)[^\s\"'&;\\]+", re.IGNORECASE)
_SECRET_ARGUMENT = re.compile(
    r"((?<![A-Za-z])(?:token|secret|passwd|password|credentials?|api_?key|access_?key)=)[^\s\"'&\\]+", re.IGNORECASE
)
_TOKENS = re.compile(
    r"\b(?:gh[opsur]_|github_pat_|glpat-|hf_|sk-|xox[abprs]-|AKIA|AIza|eyJ[\w-]+\.eyJ)[A-Za-z0-9_.-]{12,}"
)
_OTHER_HOME = re.compile(r"(?<![\w.~-])/(?:home|Users)/[^/\s\"':,;\\]+")


def hashed(text: str) -> str:
    """Return twelve hexadecimal digits that identify a text without revealing it."""
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:12]


def redacted(text: str) -> str:
    """Return a text without credentials, tokens and secret parameters, and with ``~`` for the home folder.

    >>> redacted("https://me:pa/ss@word@example.org/x.git?token=abc&page=2")
    'https://example.org/x.git?token=***&page=2'
    """
    if "://" in text:
        text = _SECRET_PARAMETER.sub(rf"\1{REMOVED}", _CREDENTIALS.sub("", text))
    text = _TOKENS.sub(REMOVED, _SECRET_ARGUMENT.sub(rf"\1{REMOVED}", text))
    for pattern in _home_patterns():
        text = pattern.sub("~", text)
    return text


def restored(content: Any) -> Any:
    """Return plain containers with the home folder of this user for each ``~`` that ``redacted`` wrote."""
    if isinstance(content, str):
        home = _homes()[0] if _homes() else None
        return re.sub(r"(^|=['\"]?)~(?=/|$)", lambda match: match[1] + str(home), content) if home else content
    if isinstance(content, Mapping):
        return {name: restored(value) for name, value in content.items()}
    return [restored(item) for item in content] if isinstance(content, list) else content


def recorded_variables(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the environment variables that may be recorded. Home folders of other users are left out, too."""
    return {
        name: _OTHER_HOME.sub("~other", redacted(value))
        for name, value in sorted(environ.items())
        if ALLOWED_VARIABLES.fullmatch(name)
    }


def redacted_remote(url: str) -> str:
    """Return the address of a git remote without credentials, query and fragment.

    >>> redacted_remote("https://example.org/x.git?private=abc#def")
    'https://example.org/x.git'
    """
    return _OTHER_HOME.sub("~other", redacted(re.split(r"[?#]", re.sub(r"(?<=://).*@", "", url))[0]))


def _homes() -> tuple[str, ...]:
    """Return the home folder of this user as it is named, and as it is on disk. Empty if the user has none."""
    return _homes_of(os.environ.get("HOME"))


@lru_cache
def _homes_of(variable: str | None) -> tuple[str, ...]:
    try:
        home = Path(variable) if variable else Path.home()
    except RuntimeError:  # HOME is not set, and the number of the user has no entry in the password file
        return ()
    names = dict.fromkeys((str(home), str(home.resolve())))
    return tuple(name for name in names if len(Path(name).parts) > 1)


def _home_patterns() -> list[re.Pattern[str]]:
    return [_home_pattern(home) for home in _homes()]


@lru_cache
def _home_pattern(home: str) -> re.Pattern[str]:
    return re.compile(rf"(?<![\w.-]){re.escape(home)}(?![\w.-])")
