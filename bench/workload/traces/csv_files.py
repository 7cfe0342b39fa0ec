"""Traces published as CSV: Azure, Vidur, ShareGPT lengths, paper-matched lengths, BurstGPT."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import compress
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from bench.workload.request_columns import Requests
from bench.workload.traces.cells import CellColumn, blank, seconds, tokens, utc_times
from bench.workload.traces.files import NumberedLines, TraceError, bad_line


@dataclass(frozen=True, kw_only=True)
class CsvSchema:
    """One published format. Columns are found by name, and further columns are ignored.

    Attributes:
        name: name in errors and reports.
        prompt: tokens of the prompt.
        output: tokens generated.
        arrival: arrival of a request. ``None`` if the format has no arrivals.
        arrival_may_be_blank: a file whose first arrival is blank has no arrivals.
        zero_output_failed: a row without output is a failed request, which is dropped and counted.
    """

    name: str
    prompt: CellColumn
    output: CellColumn
    arrival: CellColumn | None = None
    arrival_may_be_blank: bool = False
    zero_output_failed: bool = False

    @property
    def column_names(self) -> list[str]:
        """Names of the columns that a header must have."""
        return [column.name for column in (self.arrival, self.prompt, self.output) if column is not None]


# No published file has an output of 0 except BurstGPT, where it marks a failure. Elsewhere an output of 0 is a
# request that ends with its prompt.
CSV_SCHEMAS: Final = (
    CsvSchema(
        name="Azure",
        arrival=utc_times("TIMESTAMP"),
        prompt=tokens("ContextTokens", least=1),
        output=tokens("GeneratedTokens", least=0),
    ),
    CsvSchema(
        name="Vidur",
        arrival=seconds("arrived_at"),
        prompt=tokens("num_prefill_tokens", least=1),
        output=tokens("num_decode_tokens", least=0),
    ),
    CsvSchema(
        name="ShareGPT lengths",
        prompt=tokens("num_prefill_tokens", least=1),
        output=tokens("num_decode_tokens", least=0),
    ),
    CsvSchema(
        name="paper-matched lengths",
        arrival=seconds("arrival_s"),
        prompt=tokens("prompt_len", least=1),
        output=tokens("output_len", least=0),
        arrival_may_be_blank=True,
    ),
    CsvSchema(
        name="BurstGPT",
        arrival=seconds("Timestamp"),
        prompt=tokens("Request tokens", least=1),
        output=tokens("Response tokens", least=0),
        zero_output_failed=True,
    ),
)


@dataclass(frozen=True, kw_only=True)
class _Part:
    """The requests of one chunk of lines."""

    prompts: NDArray[np.int64]
    outputs: NDArray[np.int64]
    arrivals: NDArray[Any] | None
    failed: int


def read_csv(
    path: str, schema: CsvSchema, header: Sequence[str], chunks: Iterable[NumberedLines]
) -> tuple[Requests, int]:
    """Return the requests of a CSV trace, and the number of dropped failed ones.

    Args:
        path: path of the trace, for errors.
        schema: the format.
        header: names of all columns, in the file's order.
        chunks: the lines after the header.

    Raises:
        TraceError: a bad line, or no request at all.
    """
    parts: list[_Part] = []
    for numbers, lines in chunks:
        cells = _cells(path, header, numbers, lines)
        if not parts:
            schema = _without_blank_arrivals(schema, cells)
        parts.append(_read_part(path, schema, numbers, cells))
    failed = sum(part.failed for part in parts)
    if not any(len(part.prompts) for part in parts):
        raise TraceError(f"workload.path={path} has no requests ({failed} failed ones are left out)")
    requests = Requests(
        prompt_lens=np.concatenate([part.prompts for part in parts]),
        output_lens=np.concatenate([part.outputs for part in parts]),
        arrivals_s=_arrivals_s([part.arrivals for part in parts if part.arrivals is not None]),
    )
    return requests, failed


def _cells(
    path: str, header: Sequence[str], numbers: Sequence[int], lines: Sequence[str]
) -> Mapping[str, Sequence[str]]:
    """Return the text of every column, by name."""
    width = len(header)
    for number, line in zip(numbers, lines, strict=True):
        if line.count(",") != width - 1:
            raise bad_line(path, number, f"has {line.count(',') + 1} fields where the header names {width} columns")
    cells = ",".join(lines).split(",")  # one list, not one per row: a trace can have tens of millions
    return {name: cells[position::width] for position, name in enumerate(header)}


def _without_blank_arrivals(schema: CsvSchema, cells: Mapping[str, Sequence[str]]) -> CsvSchema:
    """The schema as this file uses it, judged by the first request."""
    column = schema.arrival
    if column is None or not schema.arrival_may_be_blank or cells[column.name][0]:
        return schema
    return replace(schema, arrival=blank(column.name))


def _read_part(path: str, schema: CsvSchema, numbers: Sequence[int], cells: Mapping[str, Sequence[str]]) -> _Part:
    outputs = schema.output.read(path, numbers, cells[schema.output.name])
    served = outputs > 0 if schema.zero_output_failed else np.ones(len(outputs), dtype=bool)

    def read(column: CellColumn) -> NDArray[Any]:
        # Failed requests have a prompt of 0 too, which is an error in any other row.
        kept = list(compress(cells[column.name], served.tolist()))
        return column.read(path, list(compress(numbers, served.tolist())), kept)

    return _Part(
        prompts=read(schema.prompt),
        outputs=outputs[served],
        arrivals=None if schema.arrival is None else read(schema.arrival),
        failed=int(np.count_nonzero(~served)),
    )


def _arrivals_s(parts: Sequence[NDArray[Any]]) -> NDArray[np.float64] | None:
    """Return seconds since the trace began. Time stamps count from the earliest."""
    if not parts:
        return None
    arrivals = np.concatenate(parts)
    if arrivals.dtype.kind == "M":
        return np.asarray((arrivals - arrivals.min()) / np.timedelta64(1, "s"), dtype=np.float64)
    return None if np.isnan(arrivals).any() else arrivals
