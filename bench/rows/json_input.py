"""Read a JSON file that may be wrong or hostile. Every error is one sentence that names the file.

A run folder can come from another person, or from a process that was killed. No field of it is used before
``check_shape`` has accepted it.
"""

from __future__ import annotations

import io
import json
import os
import re
import reprlib
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

MAX_BYTES = 2**28
"""Largest file that is read. A plan of 100,000 points is smaller."""
MAX_DIGITS = 40
"""Most digits of a number. The largest counters have fewer than 25."""
MAX_SHOWN = 80
"""Most characters of a wrong value in a message."""

NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
"""A key: it is part of file names, so it must contain no path separator."""


class NotAFile(ValueError):
    """A path that is no regular file."""


def read_bytes(path: Path, max_bytes: int = MAX_BYTES) -> bytes:
    """Return the content of a regular file.

    A pipe or a device is refused before it is read, because its content may never end.

    Raises:
        ValueError: the path is no regular file, or the file has more than ``max_bytes`` bytes.
        OSError: the file cannot be opened.
    """
    with open_regular(path) as file:
        content = file.read(max_bytes + 1)
    if len(content) > max_bytes:
        raise ValueError(f"{path} must have at most {max_bytes:,} bytes")
    return content


def open_regular(path: Path) -> io.BufferedReader:
    """Open a regular file for reading bytes.

    Raises:
        NotAFile: the path is a folder, a pipe, a device or a socket.
        OSError: the file cannot be opened.
    """
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)  # a pipe without a writer must not block
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise NotAFile(f"{path} must be a regular file, not a folder, a pipe or a device")
    return os.fdopen(handle, "rb")


def read_json(path: Path, noun: str = "JSON file") -> Any:
    """Return the content of a JSON file.

    Args:
        path: the file.
        noun: what the file should be, for the message.

    Raises:
        ValueError: it is no whole JSON file, is too deep, or contains a name twice, NaN, an infinity or a number with
            more than ``MAX_DIGITS`` digits.
        OSError: the file cannot be opened.
    """
    data = read_bytes(path)
    try:
        return json.loads(
            data.decode("utf-8"),
            parse_constant=_refuse_constant,
            parse_int=_whole_number,
            parse_float=_number,
            object_pairs_hook=_once,
        )
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not a whole {noun}: {error}") from error
    except RecursionError:
        raise ValueError(f"{path} is not a whole {noun}: it is nested too deeply") from None
    except _Refused as error:
        raise ValueError(f"{path} holds {error}") from error


def check_shape(content: Any, shape: Any, path: Path | str, field: str = "") -> None:
    """Check that plain containers have a shape.

    Args:
        content: the containers.
        shape: a type, a tuple of types (``None`` for null), ``[shape]`` for a list, a compiled pattern for text that
            must match, or a mapping from names to shapes. A name that ends with ``?`` may be absent. Other names are
            allowed.
        path: the file, for the message.
        field: place in the file, for the message.

    Raises:
        ValueError: a value has another shape. The message names file, field, value and what is required.

    >>> check_shape({"points": [{"key": 5}]}, {"points": [{"key": str}]}, "plan.json")
    Traceback (most recent call last):
    ValueError: plan.json: points[0].key=5 must be text
    """
    if isinstance(shape, Mapping):
        _require(isinstance(content, Mapping), content, "an object with names", path, field)
        for name, inner in shape.items():
            wanted = name.removesuffix("?")
            if wanted in content:
                check_shape(content[wanted], inner, path, f"{field}.{wanted}" if field else wanted)
            elif wanted == name:
                raise ValueError(f"{path}: {field + ' has' if field else 'it has'} no {wanted}")
    elif isinstance(shape, list):
        _require(isinstance(content, list), content, "a list", path, field)
        for index, item in enumerate(content):
            check_shape(item, shape[0], path, f"{field}[{index}]")
    elif isinstance(shape, re.Pattern):
        matches = isinstance(content, str) and shape.fullmatch(content) is not None
        _require(matches, content, f"text that matches {shape.pattern}", path, field)
    else:
        types = shape if isinstance(shape, tuple) else (shape,)
        _require(any(_is(content, kind) for kind in types), content, " or ".join(map(_noun, types)), path, field)


def _require(holds: bool, value: Any, required: str, path: Path | str, field: str) -> None:
    if holds:
        return
    shown = shorten(_repr(value), MAX_SHOWN)
    raise ValueError(f"{path}: {field}={shown} must be {required}" if field else f"{path} must hold {required}")


def _repr(value: Any) -> str:
    """Return the beginning of a value. A YAML file of a few lines can be a value whose full text has no end."""
    short = reprlib.Repr()
    short.maxlevel, short.maxstring, short.maxlong, short.maxother = 3, MAX_SHOWN, MAX_DIGITS, MAX_SHOWN
    return short.repr(value)


def shorten(text: str, most: int = MAX_SHOWN) -> str:
    """Return a text that is cut to at most ``most`` characters.

    >>> shorten("abcdef", 4)
    'abc…'
    """
    return text if len(text) <= most else text[: most - 1] + "…"


def _is(value: Any, kind: Any) -> bool:
    if kind is None:
        return value is None
    if kind in (int, float) and isinstance(value, bool):
        return False
    return isinstance(value, (int, float) if kind is float else kind)


def _noun(kind: Any) -> str:
    if kind is None:
        return "null"
    return {
        int: "a whole number",
        float: "a number",
        bool: "true or false",
        str: "text",
        dict: "an object",
        list: "a list",
    }[kind]


class _Refused(Exception):
    """A value that JSON allows, or that Python's reader accepts, and that no file of ours contains."""


def _refuse_constant(name: str) -> Any:
    raise _Refused(f"{name}: a value that was not measured is null")


def _whole_number(text: str) -> int:
    if len(text) > MAX_DIGITS:
        raise _Refused(f"a number with {len(text)} digits. At most {MAX_DIGITS} are allowed")
    return int(text)


def _number(text: str) -> float:
    value = float(text)
    if value in (float("inf"), float("-inf")):
        raise _Refused(f"{shorten(text)}, which is larger than a number may be")
    return value


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return the object. Python would keep the last value of a name without a warning."""
    content = dict(pairs)
    if len(content) < len(pairs):
        names = [name for name, _ in pairs]
        raise _Refused(f"{next(name for name in names if names.count(name) > 1)} twice")
    return content
