"""One sweep per GPU: real processes, real locks, devices named by the real NVML binding."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.support.nvml import UnderNvml

ONE = {"devices": 1, "0.uuid": "GPU-aaaa"}
TWO = {"devices": 2, "0.uuid": "GPU-bbbb", "1.uuid": "GPU-aaaa"}

SWEEPS = """
import signal, subprocess, sys, time
from bench.runner.machine.gpu_lock import hold_gpu, visible_gpus

HOLD = '''
import sys, time
from pathlib import Path
from bench.runner.machine.gpu_lock import hold_gpu, visible_gpus
with hold_gpu(visible_gpus(), Path(sys.argv[1])) as uuid:
    print(uuid, flush=True)
    sys.stdin.readline()
'''

def sweep(run_dir):
    pipes = dict(stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    return subprocess.Popen([sys.executable, "-c", HOLD, run_dir], **pipes)

def end(process):
    process.communicate("\\n", timeout=60)

first = sweep("runs/first")
held = first.stdout.readline().strip()
second = sweep("runs/second")
"""


@pytest.fixture
def env(tmp_path: Path) -> dict[str, str]:
    """Locks of this test alone."""
    return {"TMPDIR": str(tmp_path)}


def answer(under_nvml: UnderNvml, code: str, script: dict[str, Any], env: dict[str, str]) -> Any:
    return under_nvml(f"{SWEEPS}\n{code}", script, env=env)


def test_the_second_sweep_prints_which_sweep_holds_the_gpu_and_continues(
    under_nvml: UnderNvml, env: dict[str, str]
) -> None:
    code = """
waiting = second.stderr.readline().strip()
end(first)
answer = [held, first.pid, waiting, second.stdout.readline().strip()]
end(second)
"""
    held, pid, waiting, then = answer(under_nvml, code, ONE, env)
    assert held == then == "GPU-aaaa"
    assert waiting == f"waiting for the run in runs/first (process {pid}) on GPU-aaaa"


def test_a_killed_sweep_releases_the_gpu(under_nvml: UnderNvml, env: dict[str, str]) -> None:
    code = """
second.stderr.readline()
first.send_signal(signal.SIGKILL)
answer = second.stdout.readline().strip()
end(second)
end(first)
"""
    assert answer(under_nvml, code, ONE, env) == "GPU-aaaa"


def test_two_sweeps_take_two_gpus(under_nvml: UnderNvml, env: dict[str, str]) -> None:
    code = """
answer = [held, second.stdout.readline().strip()]
end(first)
end(second)
"""
    assert answer(under_nvml, code, TWO, env) == ["GPU-bbbb", "GPU-aaaa"]


def test_only_a_visible_gpu_is_taken(under_nvml: UnderNvml, env: dict[str, str]) -> None:
    code = """
answer = [held, second.stderr.readline().strip().rpartition(" ")[2]]
end(first)
end(second)
"""
    assert answer(under_nvml, code, TWO, {**env, "CUDA_VISIBLE_DEVICES": "1"}) == ["GPU-aaaa", "GPU-aaaa"]


def test_without_a_driver_no_lock_is_taken(under_nvml: UnderNvml, env: dict[str, str]) -> None:
    code = """
from pathlib import Path
with hold_gpu(visible_gpus(), Path("runs/first")) as uuid:
    answer = uuid
"""
    assert (
        under_nvml(
            f"from bench.runner.machine.gpu_lock import hold_gpu, visible_gpus\n{code}", ONE, env=env, driver=None
        )
        is None
    )
