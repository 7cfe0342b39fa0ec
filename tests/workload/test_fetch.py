"""Downloads against a real server on this machine: whole, broken off, resumed, changed, refused."""

from __future__ import annotations

import gzip
import hashlib
import http.server
import re
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from bench.workload.published.catalogue import TRACES, PublishedTrace
from bench.workload.published.fetch import FetchError, fetch
from bench.workload.published.matched import first_turns, match_paper, matching_weights
from bench.workload.request_columns import Requests
from scripts import fetch_traces
from tests.support.commands import script_in_process

CONTENT = np.random.default_rng(0).bytes(300_000)


class Server(http.server.ThreadingHTTPServer):
    """Serves ``content`` at every path except /absent, and records the requests."""

    content = CONTENT
    honours_ranges = True
    breaks_after: int | None = None  # bytes of the body that it sends before it hangs up

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.ranges: list[str | None] = []

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class Handler(http.server.BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        if self.path == "/absent":
            return self.send_error(404)
        wanted = self.headers.get("Range")
        self.server.ranges.append(wanted)
        start = int(re.fullmatch(r"bytes=(\d+)-", wanted)[1]) if wanted and self.server.honours_ranges else 0
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(self.server.content) - start))
        self.end_headers()
        end = None if self.server.breaks_after is None else start + self.server.breaks_after
        self.wfile.write(self.server.content[start:end])
        return None

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as serving:
        threading.Thread(target=serving.serve_forever, daemon=True).start()
        yield serving
        serving.shutdown()


def trace(server: Server, name: str = "trace.csv", content: bytes = CONTENT) -> PublishedTrace:
    return PublishedTrace(name=name, url=f"{server.address}/{name}", sha256=hashlib.sha256(content).hexdigest(),
                          size_bytes=len(content), licence="own", cite="own")  # fmt: skip


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))


def test_a_trace_is_downloaded_once(server: Server, tmp_path: Path) -> None:
    assert fetch(trace(server), tmp_path / "new") == "downloaded"
    assert (tmp_path / "new" / "trace.csv").read_bytes() == CONTENT
    assert fetch(trace(server), tmp_path / "new") == "there already"
    assert server.ranges == [None], "the second call asked nothing"
    assert names(tmp_path / "new") == ["trace.csv"]


def test_a_compressed_copy_counts_as_present(server: Server, tmp_path: Path) -> None:
    (tmp_path / "trace.csv.gz").write_bytes(gzip.compress(CONTENT))
    assert fetch(trace(server), tmp_path) == "there already"


@pytest.mark.parametrize("honours_ranges", [True, False])
def test_a_broken_download_is_resumed(server: Server, tmp_path: Path, honours_ranges: bool) -> None:
    server.honours_ranges, server.breaks_after = honours_ranges, 100_000
    with pytest.raises(FetchError, match="The same command resumes it"):
        fetch(trace(server), tmp_path)
    assert names(tmp_path) == ["trace.csv.part"], "nothing half has the trace's name"
    server.breaks_after = None
    assert fetch(trace(server), tmp_path) == ("resumed" if honours_ranges else "downloaded")
    assert server.ranges[1:] == ["bytes=100000-"]
    assert (tmp_path / "trace.csv").read_bytes() == CONTENT
    assert names(tmp_path) == ["trace.csv"]


def test_a_part_of_something_else_is_fetched_again(server: Server, tmp_path: Path) -> None:
    (tmp_path / "trace.csv.part").write_bytes(b"x" * 1000)
    assert fetch(trace(server), tmp_path) == "downloaded"
    assert server.ranges == ["bytes=1000-", None]
    assert (tmp_path / "trace.csv").read_bytes() == CONTENT


@pytest.mark.parametrize("served", [CONTENT[:-1] + b"?", CONTENT + b"more"])
def test_different_content_is_not_kept(server: Server, tmp_path: Path, served: bytes) -> None:
    server.content = served
    with pytest.raises(FetchError, match=r"were published\. Nothing was kept"):
        fetch(trace(server), tmp_path)
    assert names(tmp_path) == []


def test_a_file_is_replaced_on_request_only(server: Server, tmp_path: Path) -> None:
    (tmp_path / "trace.csv").write_bytes(b"mine")
    with pytest.raises(FetchError, match="is not the published file"):
        fetch(trace(server), tmp_path)
    assert (tmp_path / "trace.csv").read_bytes() == b"mine"
    assert server.ranges == []
    assert fetch(trace(server), tmp_path, replace=True) == "replaced"
    assert (tmp_path / "trace.csv").read_bytes() == CONTENT


def test_a_missing_file_or_server_is_an_error(server: Server, tmp_path: Path) -> None:
    with pytest.raises(FetchError, match="404"):
        fetch(trace(server, "absent"), tmp_path)
    server.shutdown()
    server.server_close()
    with pytest.raises(FetchError, match="could not be fetched: "):
        fetch(trace(server), tmp_path, timeout_s=2)


def test_the_command_fetches_from_a_mirror_and_verifies(server: Server, tmp_path: Path) -> None:
    server.content = bytes(TRACES[0].size_bytes)
    into = ("--dir", str(tmp_path))
    done = script_in_process(fetch_traces, *into, "--mirror", server.address, "--only", TRACES[0].name)
    assert done.returncode == 4, "the mirror's content is another"
    assert "were published" in done.stderr
    unknown = script_in_process(fetch_traces, *into, "--only", "no.csv")
    assert (unknown.returncode, unknown.stdout) == (2, "")
    assert "AzureLLMInferenceTrace_conv.csv" in unknown.stderr


def test_the_known_addresses_are_of_fixed_revisions() -> None:
    for known in TRACES:
        assert re.search(r"/[0-9a-f]{40}/", known.url), known.url
        assert known.url.endswith(f"/{known.name}")


def test_published_copies_have_the_known_digest(published_trace) -> None:
    from bench.workload.traces.reader import file_sha256

    for known in TRACES:
        assert file_sha256(published_trace(f"{known.name}.gz")) == known.sha256


def test_first_turns_open_conversations() -> None:
    requests = Requests(prompt_lens=np.array([5, 12, 30, 4, 9]), output_lens=np.array([5, 10, 5, 5, 5]))
    assert first_turns(requests).tolist() == [0, 3]


def test_weights_give_the_requested_means() -> None:
    lens = np.random.default_rng(1).integers(1, 900, size=(4000, 2))
    weights = matching_weights(lens, (300.0, 600.0))
    assert weights.sum() == pytest.approx(1)
    assert (weights @ lens).tolist() == pytest.approx([300, 600], rel=1e-3)
    with pytest.raises(ValueError, match="cannot be weighted"):
        matching_weights(lens, (2000.0, 600.0))


def test_sharegpt_is_matched_to_the_paper(published_trace) -> None:
    lens = match_paper(published_trace("sharegpt_8k_filtered_stats_llama2_tokenizer.csv.gz"), number=20_000)
    assert lens.mean(axis=0).tolist() == pytest.approx([161.31, 337.99], rel=0.03)
    assert lens.sum(axis=1).max() < 2048
