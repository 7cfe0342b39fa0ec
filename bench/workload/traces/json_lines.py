"""Traces published as JSON lines, with the prefix hashes of every prompt: Mooncake and Qwen-Bailian."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from bench.workload.request_columns import Requests
from bench.workload.traces.cells import MAX_SECONDS, MAX_TOKENS
from bench.workload.traces.files import NumberedLines, bad_line
from impls.spec import ceil_div


@dataclass(frozen=True, kw_only=True)
class JsonlSchema:
    """One published format. All have the same fields for lengths, arrival and hashes.

    Attributes:
        name: name in errors and reports.
        keys: keys that identify the format. Further keys are ignored.
        ticks_per_s: units of ``timestamp`` in a second.
        block_tokens: tokens per entry of ``hash_ids``. A partial last block is hashed too.
    """

    name: str
    keys: tuple[str, ...]
    ticks_per_s: int
    block_tokens: int


_REQUEST_KEYS: Final = ("timestamp", "input_length", "output_length", "hash_ids")

# The most specific format first: Qwen-Bailian has all of Mooncake's keys.
JSONL_SCHEMAS: Final = (
    JsonlSchema(name="Qwen-Bailian", keys=("chat_id", *_REQUEST_KEYS), ticks_per_s=1, block_tokens=16),
    JsonlSchema(name="Mooncake", keys=_REQUEST_KEYS, ticks_per_s=1000, block_tokens=512),
)


def read_jsonl(path: str, schema: JsonlSchema, chunks: Iterable[NumberedLines]) -> Requests:
    """Return the requests of a JSON lines trace.

    Args:
        path: path of the trace, for errors.
        schema: the format.
        chunks: all lines of the file.

    Raises:
        TraceError: a bad line.
    """
    rows = []
    for numbers, lines in chunks:
        rows += [_row(path, number, line, schema) for number, line in zip(numbers, lines, strict=True)]
    prompts, outputs, timestamps, hash_ids = zip(*rows, strict=True)
    return Requests(
        prompt_lens=np.array(prompts, dtype=np.int64),
        output_lens=np.array(outputs, dtype=np.int64),
        arrivals_s=np.array(timestamps, dtype=np.float64) / schema.ticks_per_s,
        hash_ids=list(hash_ids),
        hash_block_tokens=schema.block_tokens,
    )


def parse_object(path: str, number: int, line: str) -> Mapping[str, Any]:
    """Return the JSON object of one line.

    Raises:
        TraceError: the line is no JSON object.
    """
    try:
        record = json.loads(line, object_pairs_hook=_once)
    except _Twice as error:
        raise bad_line(path, number, f"has the key {error} twice") from None
    except RecursionError:
        raise bad_line(path, number, "is nested too deep") from None
    except ValueError as error:
        raise bad_line(path, number, f"is not JSON: {error}") from None
    if not isinstance(record, dict):
        raise bad_line(path, number, "must be a JSON object in braces")
    return record


class _Twice(Exception):
    """A key that one JSON object contains twice. Python would keep the last value without a warning."""


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) < len(pairs):
        names = [name for name, _ in pairs]
        raise _Twice(next(name for name in names if names.count(name) > 1))
    return content


def _row(path: str, number: int, line: str, schema: JsonlSchema) -> tuple[int, int, float, list[int]]:
    """Return prompt tokens, output tokens, time stamp as published, hash ids."""
    record = parse_object(path, number, line)
    try:
        prompt_len = token_count(record, "input_length", least=1)
        output_len = token_count(record, "output_length", least=0)
        return (
            prompt_len,
            output_len,
            _timestamp(record, schema.ticks_per_s),
            _hash_ids(record, prompt_len, schema.block_tokens),
        )
    except KeyError as error:
        raise bad_line(path, number, f"has no {error.args[0]}") from None
    except ValueError as error:
        raise bad_line(path, number, str(error)) from None


def token_count(record: Mapping[str, Any], key: str, *, least: int) -> int:
    """Return a number of tokens of one request.

    Raises:
        KeyError: the record has no such key.
        ValueError: the value is no whole number of tokens, or below ``least``.
    """
    value = record[key]
    if type(value) is not int or not least <= value <= MAX_TOKENS:  # a bool is not a count
        raise ValueError(f"{key}={value!r} must be a whole number of tokens, at least {least}")
    return value


def _timestamp(record: Mapping[str, Any], ticks_per_s: int) -> float:
    value, most = record["timestamp"], MAX_SECONDS * ticks_per_s
    if type(value) not in (int, float) or not 0 <= value <= most:
        raise ValueError(f"timestamp={repr(value)[:40]} must be a number from 0 to {most}, of which {ticks_per_s} "
                         "are a second")  # fmt: skip
    return float(value)


def _hash_ids(record: Mapping[str, Any], prompt_len: int, block_tokens: int) -> list[int]:
    value = record["hash_ids"]
    if not isinstance(value, list) or set(map(type, value)) - {int}:
        raise ValueError(f"hash_ids={str(value)[:40]!r} must be a list of whole numbers")
    if len(value) != ceil_div(prompt_len, block_tokens):
        raise ValueError(
            f"hash_ids has {len(value)} entries where input_length={prompt_len} in blocks of {block_tokens} tokens "
            f"needs {ceil_div(prompt_len, block_tokens)}"
        )
    return value
