"""Time stamps of traces: nothing wraps, and every published form loads."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from bench.workload.traces.reader import TraceError, load_trace

AZURE = "TIMESTAMP,ContextTokens,GeneratedTokens"


def load(tmp_path: Path, text: str, block_tokens: int | None = None) -> Any:
    path = tmp_path / "trace"
    path.write_text(text, encoding="utf-8")
    return load_trace(str(path), block_tokens)


def azure(*stamps: str) -> str:
    return "\n".join([AZURE, *(f"{stamp},100,20" for stamp in stamps)])


@pytest.mark.parametrize(
    "stamps",
    [
        ("1700000000", "1700000001.5"),
        ("1700000000000", "1700000001500"),
        ("1700000000000000", "1700000001500000"),
        ("1700000000000000000", "1700000001500000000"),
        ("2023-11-16 18:15:46.6805900", "2023-11-16 18:15:48.1805900"),
        ("2024-05-12 00:00:00.500000+00:00", "2024-05-12 00:00:02+00:00"),
        ("2025-01-31T23:59:59Z", "2025-02-01T00:00:00.5Z"),
        ("2025-01-31 23:59:59.000000Z", "2025-02-01 00:00:00.500000Z"),
    ],
)
def test_stamps_of_every_form_are_read(tmp_path: Path, stamps: tuple[str, str]) -> None:
    assert load(tmp_path, azure(*stamps)).requests.arrivals_s.tolist() == [0.0, 1.5]


@pytest.mark.parametrize(
    "stamp",
    ["0001-01-01 00:00:00", "1970-01-01 00:00:00", "9999-12-31 23:59:59", "2300-01-01 00:00:00", "now", "today", "NaT",
     "2023", "0", "-1700000000", "1e400", "nan", "", "2023-11-16", "2023-13-16 00:00:00", "2023-02-30 00:00:00",
     "2023-11-16 18:15:46+01:00", "２０２３-11-16 18:15:46", "1700000000"],
)  # fmt: skip
def test_another_stamp_is_refused_with_its_line(tmp_path: Path, stamp: str) -> None:
    with pytest.raises(TraceError, match=r"line 3: TIMESTAMP=.* must be a time in UTC"):
        load(tmp_path, azure("2023-11-16 18:15:46", stamp, "2023-11-16 18:15:47"))


@pytest.mark.parametrize("cell", ["1_000", "１００", "0x10", "1e2", "1.0", "+5", "", "9" * 400, "9" * 5000])
def test_a_count_is_plain_digits(tmp_path: Path, cell: str) -> None:
    with pytest.raises(TraceError, match=r"line 2: ContextTokens=.* must be a whole number"):
        load(tmp_path, f"{AZURE}\n2023-11-16 18:15:46,{cell},20\n")


@pytest.mark.parametrize("cell", ["1_0", "nan", "inf", "-1", "1e99", "５", "1700000000000", "9" * 500])
def test_seconds_are_plain_and_end_in_2100(tmp_path: Path, cell: str) -> None:
    with pytest.raises(TraceError, match=r"line 2: arrived_at=.* must be a number of seconds"):
        load(tmp_path, f"arrived_at,num_prefill_tokens,num_decode_tokens\n{cell},10,5\n")


def test_vidurs_arrivals_are_read(tmp_path: Path) -> None:
    text = "arrived_at,num_prefill_tokens,num_decode_tokens\n0.0,374,44\n4.314579,396,109\n5.0,120,12\n"
    trace = load(tmp_path, text)
    assert trace.schema == "Vidur"
    assert trace.requests.arrivals_s.tolist() == [0.0, 4.314579, 5.0]


def test_a_column_that_is_named_twice_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TraceError, match=r"line 1: names the column ContextTokens 2 times"):
        load(tmp_path, f"{AZURE},ContextTokens\n2023-11-16 18:15:46,1,2,3\n")


def test_a_key_that_is_named_twice_is_refused(tmp_path: Path) -> None:
    line = '{"timestamp": 0, "input_length": 5, "input_length": 6, "output_length": 1, "hash_ids": [1]}'
    with pytest.raises(TraceError, match=r"line 1: has the key input_length twice"):
        load(tmp_path, line)


def test_other_block_sizes_load_and_a_wrong_one_is_refused(tmp_path: Path) -> None:
    line = json.dumps({"timestamp": 0, "input_length": 40, "output_length": 5, "hash_ids": [1, 2, 3]})
    assert load(tmp_path, line, 16).requests.hash_block_tokens == 16
    with pytest.raises(TraceError, match=r"line 1: hash_ids has 3 entries where input_length=40 in blocks of 32"):
        load(tmp_path, line, 32)
    with pytest.raises(TraceError, match=r"block_tokens=16 must be null: .* has no hash_ids"):
        load(tmp_path, azure("2023-11-16 18:15:46"), 16)


def test_calls_of_sessions_are_requests(tmp_path: Path) -> None:
    def call(second: int, prompt: int) -> dict[str, Any]:
        return {
            "timestamp": f"2026-06-01T00:00:0{second}Z",
            "tokens": {"prompt": prompt, "completion": 15, "cached": 0},
        }

    sessions = [{"session_id": "a", "turns": [{"llm_calls": [call(1, 100), call(3, 200)]}, {"llm_calls": []}]},
                {"session_id": "b", "turns": [{"llm_calls": [call(2, 50)]}]}]  # fmt: skip
    trace = load(tmp_path, "\n".join(map(json.dumps, sessions)))
    assert trace.requests.prompt_lens.tolist() == [100, 200, 50]
    assert trace.requests.arrivals_s.tolist() == [0.0, 2.0, 1.0]
    sessions[1]["turns"] = [{"llm_calls": [{"timestamp": "now", "tokens": {"prompt": 1, "completion": 1}}]}]
    with pytest.raises(TraceError, match=r"line 2: timestamp='now'"):
        load(tmp_path, "\n".join(map(json.dumps, sessions)))
    sessions[1]["turns"] = 5
    with pytest.raises(TraceError, match=r"line 2: turns, llm_calls and tokens must be"):
        load(tmp_path, "\n".join(map(json.dumps, sessions)))
