"""Download published traces. Files are verified by SHA-256, resumed, and never overwritten silently."""

from __future__ import annotations

import http.client
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, Literal

import filelock

from bench.workload.published.catalogue import PublishedTrace
from bench.workload.traces.files import TraceError, file_sha256

TIMEOUT_S: Final = 60.0
_BLOCK_BYTES: Final = 2**16

FetchOutcome = Literal["there already", "downloaded", "resumed", "replaced"]


class FetchError(Exception):
    """A trace could not be downloaded. The message gives the reason and what to do."""


def fetch(trace: PublishedTrace, folder: Path, *, replace: bool = False, timeout_s: float = TIMEOUT_S) -> FetchOutcome:
    """Download one trace into a folder.

    Received bytes go to ``<name>.part``. The file gets the name of the trace only when its SHA-256 is right. A part
    from an earlier attempt is continued where it ended. If the result is wrong, it is downloaded once more from the
    start. An existing file of the same content, plain or gzip, is kept.

    Args:
        trace: the trace.
        folder: target folder. It is created if absent.
        replace: overwrite a file of that name with other content.
        timeout_s: longest silence of the server.

    Raises:
        FetchError: the server cannot be reached or does not have the file, the content is not the published one, or
            another file has its name.
    """
    folder.mkdir(parents=True, exist_ok=True)
    target, part = folder / trace.name, folder / f"{trace.name}.part"
    with filelock.FileLock(folder / f".{trace.name}.lock"):
        there = [path for path in (target, target.with_name(f"{target.name}.gz")) if path.exists()]
        if any(_has(path, trace) for path in there):
            return "there already"
        if target in there and not replace:
            raise FetchError(
                f"{target} is not the published file ({trace.sha256[:12]}…). Move it away, or use --replace"
            )
        outcome: FetchOutcome = "resumed" if _download(trace, part, timeout_s) else "downloaded"
        if not _has(part, trace) and outcome == "resumed":
            part.unlink()  # probably of another version
            _download(trace, part, timeout_s)
            outcome = "downloaded"
        _check(part, trace)
        part.replace(target)
    return "replaced" if target in there else outcome


def _has(path: Path, trace: PublishedTrace) -> bool:
    try:
        return file_sha256(str(path)) == trace.sha256
    except TraceError:  # a broken archive has other content
        return False


def _check(part: Path, trace: PublishedTrace) -> None:
    if not _has(part, trace):
        found = f"{part.stat().st_size} bytes, {file_sha256(str(part))[:12]}…"
        part.unlink()
        raise FetchError(
            f"{trace.url} gave {found} where {trace.size_bytes} bytes, {trace.sha256[:12]}… were published. "
            "Nothing was kept"
        )


def _download(trace: PublishedTrace, part: Path, timeout_s: float) -> bool:
    """Append the missing bytes to the part. Return whether existing bytes of it were kept."""
    kept = part.stat().st_size if part.exists() else 0
    if kept >= trace.size_bytes:
        return True  # complete or wrong, and the caller checks it
    with _opened(trace, kept, timeout_s) as response:
        continues = kept > 0 and response.status == http.client.PARTIAL_CONTENT
        with part.open("ab" if continues else "wb") as file:
            for block in _blocks(response, trace, kept if continues else 0):
                file.write(block)
    return continues


@contextmanager
def _opened(trace: PublishedTrace, start: int, timeout_s: float) -> Iterator[http.client.HTTPResponse]:
    request = urllib.request.Request(trace.url, headers={"Range": f"bytes={start}-"} if start else {})
    try:
        with urllib.request.urlopen(request, timeout=timeout_s) as response:
            yield response
    except urllib.error.HTTPError as error:
        error.close()
        raise FetchError(f"{trace.url} answered {error.code} {error.reason}") from None
    except (OSError, http.client.HTTPException, ValueError) as error:
        reason = getattr(error, "reason", None) or error or type(error).__name__
        raise FetchError(f"{trace.url} could not be fetched: {reason}. The same command resumes it") from error


def _blocks(response: http.client.HTTPResponse, trace: PublishedTrace, received: int) -> Iterator[bytes]:
    """Yield the body, and check that it is as long as the published file."""
    while block := response.read(_BLOCK_BYTES):
        received += len(block)
        yield block
        if received > trace.size_bytes:  # not the file, and the check of its hash will fail
            return
    if received < trace.size_bytes:
        raise ConnectionError(f"the connection ended after {received} of {trace.size_bytes} bytes")
