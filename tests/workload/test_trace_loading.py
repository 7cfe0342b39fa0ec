"""Traces: every known format, every way in which a line can be bad, and the published files."""

from __future__ import annotations

import gzip
import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from bench.workload.traces.reader import Trace, TraceError, file_sha256, load_trace

AZURE = "TIMESTAMP,ContextTokens,GeneratedTokens"
MATCHED = "arrival_s,prompt_len,output_len"
BURST = "Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type"
MOONCAKE = '{"timestamp": 0, "input_length": 600, "output_length": 5, "hash_ids": [1, 2]}'


def columns(trace: Trace) -> tuple[str, list[int], list[int], list[float] | None]:
    requests = trace.requests
    arrivals = None if requests.arrivals_s is None else requests.arrivals_s.tolist()
    return trace.schema, requests.prompt_lens.tolist(), requests.output_lens.tolist(), arrivals


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("azure_2023.csv", ("Azure", [374, 396, 5], [44, 109, 0], [0.0, 4.314579, 4.3145791])),
        ("azure_2024.csv", ("Azure", [1452, 584], [3, 30], [0.0, 1.5])),
        ("mooncake.jsonl", ("Mooncake", [1025, 512, 3], [500, 1, 7], [0.0, 0.0, 2.999])),
        ("qwen_bailian.jsonl", ("Qwen-Bailian", [33, 48], [132, 9], [0.25, 61.114])),
        ("sharegpt_lengths.csv", ("ShareGPT lengths", [74, 290], [918, 905], None)),
        ("matched_without_arrivals.csv", ("paper-matched lengths", [14, 169], [466, 20], None)),
        ("matched_with_arrivals.csv", ("paper-matched lengths", [14, 169], [466, 20], [0.5, 1.25])),
        ("burstgpt_1.csv", ("BurstGPT", [472, 417], [18, 276], [5.0, 118.0])),
        ("burstgpt_3.csv", ("BurstGPT", [472], [18], [7.5])),
    ],
)
def test_every_format_is_recognised_and_read(
    fixture_trace: Callable[[str], str], name: str, expected: tuple[str, list[int], list[int], list[float] | None]
) -> None:
    assert columns(load_trace(fixture_trace(name))) == expected


def test_prefix_hashes_come_with_their_block_size(fixture_trace: Callable[[str], str]) -> None:
    mooncake = load_trace(fixture_trace("mooncake.jsonl")).requests
    assert (mooncake.hash_ids, mooncake.hash_block_tokens) == ([[0, 1, 2], [0], [4]], 512)
    qwen = load_trace(fixture_trace("qwen_bailian.jsonl")).requests
    assert (qwen.hash_ids, qwen.hash_block_tokens) == ([[10, 11, 12], [10, 11, 13]], 16)


def test_failed_requests_are_dropped_and_counted(fixture_trace: Callable[[str], str]) -> None:
    assert load_trace(fixture_trace("burstgpt_1.csv")).failed == 1
    assert load_trace(fixture_trace("azure_2023.csv")).failed == 0


def test_gzip_is_detected_by_content(fixture_trace: Callable[[str], str], tmp_path: Path) -> None:
    plain = Path(fixture_trace("azure_2023.csv"))
    packed = tmp_path / "packed.csv"
    packed.write_bytes(gzip.compress(plain.read_bytes()))
    misnamed = tmp_path / "plain.csv.gz"
    misnamed.write_bytes(plain.read_bytes())
    assert columns(load_trace(str(packed))) == columns(load_trace(str(misnamed))) == columns(load_trace(str(plain)))
    expected = hashlib.sha256(plain.read_bytes()).hexdigest()
    assert {file_sha256(str(path)) for path in (plain, packed, misnamed)} == {expected}


def test_blank_lines_and_a_byte_order_mark_do_no_harm(tmp_path: Path) -> None:
    trace = tmp_path / "trace.csv"
    trace.write_bytes(b"\xef\xbb\xbf\r\n" + MATCHED.encode() + b"\r\n\r\n,1,2\r\n\n,3,4\r\n\r\n")
    assert columns(load_trace(str(trace))) == ("paper-matched lengths", [1, 3], [2, 4], None)
    trace.write_bytes(trace.read_bytes() + b",0,4\n")
    with pytest.raises(TraceError, match="line 8: prompt_len"):
        load_trace(str(trace))


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (
            f"{AZURE}\r\n2023-11-16 18:15:46.68,3,4\r\n2023-11-16 18:15:47,x,4\r\n",
            "line 3: ContextTokens='x' must be a whole",
        ),
        (
            f"{AZURE}\n2023-11-16 18:15:46.68,0,4\n",
            "line 2: ContextTokens='0' must be a whole number of tokens, at least 1",
        ),
        (f"{AZURE}\n2023-11-16 18:15:46.68,7,-1\n", "line 2: GeneratedTokens='-1'"),
        (f"{AZURE}\n2023-11-16 18:15:46.68,7.5,1\n", "line 2: ContextTokens='7.5'"),
        (f"{AZURE}\n2023-11-16 18:15:46.68,7,{10**30}\n", "line 2: GeneratedTokens='1000"),
        (f"{AZURE}\n2023-11-16 18:15:46.68,{2**31},7\n", "line 2: ContextTokens='2147483648'"),
        (f"{AZURE}\n2023-11-16 18:15:46.68,7,1\n2023-11-16 18:15:46.68,7\n", "line 3: has 2 fields where .* 3 columns"),
        (f"{AZURE}\nyesterday,7,1\n", "line 2: TIMESTAMP='yesterday' must be a time in UTC"),
        (f"{AZURE}\n,7,1\n", "line 2: TIMESTAMP='' must be a time"),
        (f"{AZURE}\n2024-05-12 00:00:00+02:00,7,1\n", r"line 2: TIMESTAMP='2024-05-12 00:00:00\+02:00'"),
        (f"{MATCHED}\n,1,2\n0.5,1,2\n", "line 3: arrival_s='0.5' must be blank"),
        (f"{MATCHED}\n0.5,1,2\n,1,2\n", "line 3: arrival_s='' must be a number of seconds"),
        (f"{MATCHED}\n-1,1,2\n", "line 2: arrival_s='-1'"),
        (f"{MATCHED}\nnan,1,2\n", "line 2: arrival_s='nan'"),
        (f"{BURST}\n5,ChatGPT,0,0,0,API log\n6,ChatGPT,0,3,3,API log\n", "line 3: Request tokens='0'"),
        (f"{BURST}\n5,ChatGPT,0,0,0,API log\n", r"has no requests \(1 failed"),
        (f"{AZURE}\n", "has no requests"),
        ("", "is empty"),
        ("\n \n", "is empty"),
        ("a,b,c\n1,2,3\n", "begins with 'a,b,c', which is no known format. The known formats are Azure .* Mooncake"),
        ('{"a": 1}\n', "no known format"),
        ("{broken\n", "line 1: is not JSON"),
        (f"{MOONCAKE}\n[]\n", "line 2: must be a JSON object"),
        (f"{MOONCAKE}\n{MOONCAKE[:-9]}\n", "line 2: is not JSON"),
        (f"{MOONCAKE}\n{{}}\n", "line 2: has no input_length"),
        (MOONCAKE.replace("600", "0"), "line 1: input_length=0 must be a whole number of tokens, at least 1"),
        (MOONCAKE.replace("600", "true"), "line 1: input_length=True"),
        (MOONCAKE.replace("600", '"600"'), "line 1: input_length='600'"),
        (MOONCAKE.replace("5,", "-5,"), "line 1: output_length=-5"),
        (MOONCAKE.replace(": 0,", ": -1,"), "line 1: timestamp=-1"),
        (MOONCAKE.replace(": 0,", ": NaN,"), "line 1: timestamp=nan"),
        (MOONCAKE.replace("600", "500"), "line 1: hash_ids has 2 entries where input_length=500 .* 512 tokens needs 1"),
        (MOONCAKE.replace("1, 2", "1.5, 2"), "line 1: hash_ids='.1.5, 2.' must be a list of whole numbers"),
        (MOONCAKE.replace("[1, 2]", "null"), "line 1: hash_ids='None'"),
    ],
)
def test_a_bad_file_is_one_sentence_with_file_and_line(tmp_path: Path, text: str, problem: str) -> None:
    trace = tmp_path / "bad"
    trace.write_bytes(text.encode())
    with pytest.raises(TraceError, match=f"workload.path=.*bad.*{problem}") as caught:
        load_trace(str(trace))
    assert "\n" not in str(caught.value)


def test_a_bad_line_is_found_beyond_the_first_chunk(tmp_path: Path) -> None:
    trace = tmp_path / "long.csv.gz"
    rows = [MATCHED, "", *[",1,2"] * 139_999, ",1,two", *[",1,2"] * 10]
    trace.write_bytes(gzip.compress("\n".join(rows).encode(), compresslevel=1))
    with pytest.raises(TraceError, match="line 140002: output_len='two'"):
        load_trace(str(trace))


def test_a_missing_file_a_folder_and_a_torn_archive_are_named(
    fixture_trace: Callable[[str], str], tmp_path: Path
) -> None:
    for read in (load_trace, file_sha256):
        with pytest.raises(TraceError, match=r"workload.path=missing.csv does not exist"):
            read("missing.csv")
        with pytest.raises(TraceError, match=r"must be a regular file"):
            read(str(tmp_path))
    torn = tmp_path / "torn.csv.gz"
    torn.write_bytes(gzip.compress(Path(fixture_trace("mooncake.jsonl")).read_bytes())[:-12])
    with pytest.raises(TraceError, match="cannot be read"):
        load_trace(str(torn))


def test_a_binary_file_is_refused(tmp_path: Path) -> None:
    binary = tmp_path / "trace.parquet"
    binary.write_bytes(b"PAR1" + bytes(range(256)))
    with pytest.raises(TraceError, match="no known format"):
        load_trace(str(binary))


@pytest.mark.parametrize(
    ("name", "rows", "sha256", "prompt_tokens", "output_tokens"),
    [
        ("AzureLLMInferenceTrace_conv.csv.gz", 19_366, "2f1e5b666d4e", 22_361_870, 4_088_665),
        ("AzureLLMInferenceTrace_code.csv.gz", 8_819, "54e9a6d2a4bd", 18_059_974, 245_896),
        ("conversation_trace.jsonl.gz", 12_031, "b8cbb061a852", 144_793_823, 4_122_048),
        ("synthetic_trace.jsonl.gz", 3_993, "bd070915a98f", 61_194_628, 595_432),
        ("sharegpt_8k_filtered_stats_llama2_tokenizer.csv.gz", 30_731, "6d6c296302a8", 71_911_571, 13_481_988),
        ("derived_sharegpt_papermatched5000.csv.gz", 5_000, "626e102d66b1", 798_869, 1_690_806),
    ],
)
def test_published_traces_have_their_rows_and_sums(
    published_trace: Callable[[str], str], name: str, rows: int, sha256: str, prompt_tokens: int, output_tokens: int
) -> None:
    path = published_trace(name)
    requests = load_trace(path).requests
    assert len(requests) == rows
    assert file_sha256(path).startswith(sha256)
    assert requests.prompt_lens.sum() == prompt_tokens
    assert requests.output_lens.sum() == output_tokens
    assert requests.output_lens.min() >= 1  # no published trace here has an output of 0


def test_the_code_trace_has_its_silences(published_trace: Callable[[str], str]) -> None:
    arrivals_s = load_trace(published_trace("AzureLLMInferenceTrace_code.csv.gz")).requests.arrivals_s
    assert arrivals_s is not None
    gaps_s = np.diff(arrivals_s)
    assert 216 < gaps_s.max() < 218
    assert gaps_s.std() / gaps_s.mean() == pytest.approx(13, abs=0.5)


@pytest.mark.parametrize(
    ("name", "occurrences", "seen_ratio"),
    [("conversation_trace.jsonl.gz", 288_500, 0.3664), ("synthetic_trace.jsonl.gz", 121_877, 0.6396)],
)
def test_mooncake_blocks_repeat_as_published(
    published_trace: Callable[[str], str], name: str, occurrences: int, seen_ratio: float
) -> None:
    hash_ids = load_trace(published_trace(name)).requests.hash_ids
    assert hash_ids is not None
    assert sum(map(len, hash_ids)) == occurrences
    distinct = len({block for blocks in hash_ids for block in blocks})
    assert 1 - distinct / occurrences == pytest.approx(seen_ratio, abs=5e-5)
