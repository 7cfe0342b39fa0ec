"""One lock per GPU, so that two sweeps never time on one device together.

The lock lies in the machine's temporary folder, named by the GPU's UUID; the device is chosen by
taking a free lock, before any process of the point sees CUDA.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import filelock

POLL_S = 0.5


def visible_gpus() -> list[str]:
    """UUIDs of the GPUs that ``CUDA_VISIBLE_DEVICES`` leaves, from NVML; empty without one."""
    try:
        import pynvml

        pynvml.nvmlInit()
    except Exception:
        return []  # no library or no driver: torch will say so in the point itself
    count = pynvml.nvmlDeviceGetCount()
    uuids = [str(pynvml.nvmlDeviceGetUUID(pynvml.nvmlDeviceGetHandleByIndex(index))) for index in range(count)]
    chosen = os.environ.get("CUDA_VISIBLE_DEVICES")
    return uuids if chosen is None else select(uuids, chosen)


def select(uuids: Sequence[str], visible: str) -> list[str]:
    """What a value of ``CUDA_VISIBLE_DEVICES`` leaves of the devices, in its order.

    As CUDA does, it stops at the first entry that names no device.

    >>> select(["GPU-aa", "GPU-bb"], "1,GPU-a,7,0")
    ['GPU-bb', 'GPU-aa']
    """
    left: list[str] = []
    for entry in (part.strip() for part in visible.split(",")):
        named = [uuid for uuid in uuids if uuid.startswith(entry)] if entry.startswith(("GPU-", "MIG-")) else []
        if entry.isdigit() and int(entry) < len(uuids):
            named = [uuids[int(entry)]]
        if len(named) != 1:
            break
        left += [uuid for uuid in named if uuid not in left]
    return left


@contextlib.contextmanager
def one_gpu(uuids: Sequence[str], run_dir: Path) -> Iterator[str | None]:
    """Hold the first free GPU of those; waits, and says for whom, while all are taken.

    Args:
        uuids: candidates; empty on a machine without NVML, where nothing is locked.
        run_dir: told to whoever waits for us.
    """
    if not uuids:
        yield None
        return
    lock, uuid = _acquire(uuids)
    with contextlib.suppress(OSError):  # a leftover of another user: the note is a courtesy
        _note(uuid).write_text(json.dumps({"pid": os.getpid(), "run_dir": str(run_dir)}), encoding="utf-8")
    try:
        yield uuid
    finally:
        with contextlib.suppress(OSError):
            _note(uuid).unlink(missing_ok=True)
        lock.release()


def _acquire(uuids: Sequence[str]) -> tuple[filelock.BaseFileLock, str]:
    told = False
    while True:
        for uuid in uuids:
            lock = filelock.FileLock(_path(uuid, "lock"), mode=0o666)  # of all users of the machine
            with contextlib.suppress(filelock.Timeout):
                lock.acquire(timeout=0)
                return lock, uuid
        if not told:
            print(f"waiting for {' or '.join(_holder(uuid) for uuid in uuids)}", file=sys.stderr, flush=True)
            told = True
        time.sleep(POLL_S)


def _holder(uuid: str) -> str:
    try:
        note = json.loads(_note(uuid).read_text(encoding="utf-8"))
    except (OSError, json.JSONDecodeError):
        return f"another run on {uuid}"
    return f"the run in {note['run_dir']} (process {note['pid']}) on {uuid}"


def _note(uuid: str) -> Path:
    return Path(_path(uuid, "json"))


def _path(uuid: str, ending: str) -> str:
    name = hashlib.sha256(uuid.encode()).hexdigest()[:12]
    return str(Path(tempfile.gettempdir()) / f"paged-attention-bench-{name}.{ending}")
