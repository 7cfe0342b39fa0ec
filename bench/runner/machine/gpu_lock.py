"""One lock per GPU, so that two sweeps never measure on one GPU at the same time.

The lock is a file in the temporary folder of the machine. Its name contains a hash of the GPU's UUID. The first free
GPU is locked before any process of a point starts CUDA.
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
    """Return the UUIDs of the GPUs in ``CUDA_VISIBLE_DEVICES``, read with NVML. Empty if NVML finds none."""
    try:
        import pynvml

        pynvml.nvmlInit()
    except Exception:
        return []  # no library or no driver: the point itself will report it
    count = pynvml.nvmlDeviceGetCount()
    uuids = [str(pynvml.nvmlDeviceGetUUID(pynvml.nvmlDeviceGetHandleByIndex(index))) for index in range(count)]
    chosen = os.environ.get("CUDA_VISIBLE_DEVICES")
    return uuids if chosen is None else select(uuids, chosen)


def select(uuids: Sequence[str], visible: str) -> list[str]:
    """Return the devices that a value of ``CUDA_VISIBLE_DEVICES`` selects, in its order.

    Like CUDA, it stops at the first entry that selects no device.

    >>> select(["GPU-aa", "GPU-bb"], "1,GPU-a,7,0")
    ['GPU-bb', 'GPU-aa']
    """
    selected: list[str] = []
    for entry in (part.strip() for part in visible.split(",")):
        named = [uuid for uuid in uuids if uuid.startswith(entry)] if entry.startswith(("GPU-", "MIG-")) else []
        if entry.isdigit() and int(entry) < len(uuids):
            named = [uuids[int(entry)]]
        if len(named) != 1:
            break
        selected += [uuid for uuid in named if uuid not in selected]
    return selected


@contextlib.contextmanager
def hold_gpu(uuids: Sequence[str], run_dir: Path) -> Iterator[str | None]:
    """Hold the lock of the first free GPU during the block, and yield its UUID.

    While all GPUs are locked, it waits and prints which runs hold them.

    Args:
        uuids: the GPUs to choose from. Empty on a machine without NVML: then no GPU is locked.
        run_dir: run folder that is printed to other runs that wait.
    """
    if not uuids:
        yield None
        return
    lock, uuid = _acquire(uuids)
    with contextlib.suppress(OSError):  # the file of another user may be left: the note is not required
        _note(uuid).write_text(json.dumps({"pid": os.getpid(), "run_dir": str(run_dir)}), encoding="utf-8")
    try:
        yield uuid
    finally:
        with contextlib.suppress(OSError):
            _note(uuid).unlink(missing_ok=True)
        lock.release()


def _acquire(uuids: Sequence[str]) -> tuple[filelock.BaseFileLock, str]:
    is_announced = False
    while True:
        for uuid in uuids:
            lock = filelock.FileLock(_path(uuid, "lock"), mode=0o666)  # all users of the machine share it
            with contextlib.suppress(filelock.Timeout):
                lock.acquire(timeout=0)
                return lock, uuid
        if not is_announced:
            print(f"waiting for {' or '.join(_holder(uuid) for uuid in uuids)}", file=sys.stderr, flush=True)
            is_announced = True
        time.sleep(POLL_S)


def _holder(uuid: str) -> str:
    try:
        note = json.loads(_note(uuid).read_text(encoding="utf-8"))
    except (OSError, json.JSONDecodeError):
        return f"another run on {uuid}"
    return f"the run in {note['run_dir']} (process {note['pid']}) on {uuid}"


def _note(uuid: str) -> Path:
    return Path(_path(uuid, "json"))


def _path(uuid: str, suffix: str) -> str:
    name = hashlib.sha256(uuid.encode()).hexdigest()[:12]
    return str(Path(tempfile.gettempdir()) / f"paged-attention-bench-{name}.{suffix}")
